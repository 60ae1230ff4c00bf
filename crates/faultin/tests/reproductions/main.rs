//! What people reported of programs that map files, done again with [`faultin::map`], a hundred times each: the process
//! goes on, what it hands out was in the file, and the error names the file, the place and what happened to it.
//!
//! Each begins by showing that the fault is real: the same code over a plain mapping, in a process of its own, dies.

mod file;
mod grep;
mod hash;
mod naive;
mod python;
mod tac;
