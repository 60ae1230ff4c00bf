//! What runs in a signal: all of it is in this folder.
//!
//! The handler interrupts any instruction of any thread, on any stack, with any lock held: by this crate, by the C library's
//! allocator, by anything. So code here
//!
//! * allocates and frees nothing, and takes no lock that an interrupted thread could hold;
//! * touches no thread-local variable: in a library that `dlopen` has loaded, the first use allocates;
//! * calls no function of the C library or of `std`: they may lock, allocate or change `errno`. Of `libc` it has types and
//!   constants; system calls are bare ([`syscall6`](crate::arch::context));
//! * formats nothing and does not panic. Arithmetic on what the kernel or another thread has provided wraps or saturates;
//! * uses little of the stack ([`stack`]), which may have 8 KiB in all;
//! * imports from this folder, and from four files that compile without `std` and have no state: `arch`, `table`, `fault`
//!   and `sync` (the atomic operations).
//!
//! `tests/inside.rs` checks what a text can show of this, here and in `faultin_cache`'s folder of the same name.
//!
//! What other code does with the same data (registration, which allocates; waiting; freeing) is in
//! [`outside`](super::outside), in files of the same names. Code that a *user's* handler may call as well, such as loads of
//! views and [`signal_free`](crate::signal_free), is elsewhere, and says "Async-signal-safe" where it is defined.

pub(crate) mod chain;
pub(crate) mod disposition;
pub(crate) mod epoch;
pub(crate) mod events;
pub(crate) mod guard;
pub(crate) mod handler;
pub(crate) mod pager;
pub(crate) mod process;
pub(crate) mod ranges;
pub(crate) mod registered;
pub(crate) mod registry;
pub(crate) mod reserve;
pub(crate) mod ring;
pub mod slots;
pub(crate) mod stack;
pub(crate) mod users;
