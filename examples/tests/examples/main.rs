//! The examples do what they say, also when another process interferes.

mod example;
mod gather;
mod hash;
mod library;
