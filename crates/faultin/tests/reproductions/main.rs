//! Bug reports of programs that map files, reproduced with [`faultin::map`], a hundred times each: the process continues,
//! its output was in the file, and the error names the file, the position and the change.
//!
//! Each test first shows that the fault is real: the same code over a plain mapping, in a separate process, dies.

mod file;
mod grep;
mod hash;
mod naive;
mod python;
mod tac;
