//! What the surroundings of a program refuse: each of its system calls in turn, and files beyond the limit on their size;
//! and what errors keep of it.

mod calls;
mod errors;
mod file_size;
mod filter;
mod list;
mod program;
