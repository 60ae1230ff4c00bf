//! The examples do what they say, also when another process is in their way.

mod example;
mod gather;
mod hash;
mod library;
