//! In the place of `arch`: vectors of plain bytes, to look through copies. No assembly, and no access that may fault.

#[path = "../arch/vector.rs"]
mod vector;
#[path = "../arch/syscall/wide.rs"]
mod wide;

pub(crate) use vector::Vector;
pub(crate) use wide::Block;
