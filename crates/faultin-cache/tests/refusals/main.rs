//! Refusals by the environment: each system call in turn, and files beyond the size limit; and what errors keep of them.

mod calls;
mod errors;
mod file_size;
mod filter;
mod list;
mod program;
