//! What runs in signal handlers is in folders named `inside`: this one, `folio/inside`, `lock/inside` and `pager/inside`.
//! The rules are those of `faultin`'s folder of that name (`faultin/src/signal/inside/mod.rs`): no allocation, no lock, no
//! thread-local variable, no call of a library, nothing formatted, no panic; system calls by [`sys`] only, atomic operations by
//! [`sync`]. A signal handler never calls a [`Store`](crate::store::Store), which is foreign code: of a file it has the
//! [`Core`](core::Core), which has no store.
//!
//! The handler tries a file's inode lock, with all signals blocked, and uses the file under it; if the lock is taken it hands
//! over. Functions of these files that do not run in signals, such as those that make a value, have a comment
//! `// Outside signals`. A few functions of other files run in signals, too; `tests/inside.rs` lists them, and checks all of
//! this.

pub(crate) mod core;
pub(crate) mod sync;
pub(crate) mod sys;
