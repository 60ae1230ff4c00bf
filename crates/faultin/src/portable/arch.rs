//! Replaces `arch` on systems other than Linux: vectors of ordinary bytes, to search copies. It has no assembly and
//! makes no access that may fault.

#[path = "../arch/vector.rs"]
mod vector;
#[path = "../arch/syscall/wide.rs"]
mod wide;

pub(crate) use vector::Vector;
pub(crate) use wide::Block;
