//! The audit: the callers of the kernel's two fault-in helpers, as they were found in August 2021 and as they should be,
//! run on memory that really faults.
//!
//! It happens on two kinds of [memory](user): pages of this process, and simulated ones, on which every scenario exists on
//! every machine.
//!
//! A [caller](callers) is one loop around a user copy, with its own idea of what a fault-in promises. A
//! [scenario] is what is wrong with the user's memory. A *cell* is one caller, in one [`Variant`], in one
//! scenario: it is [executed](run), what it did is written to its [log], what came of it, the product, is
//! checked, and both are compared with an [expectation](expect) that was written by hand.
//!
//! The question behind every row is which of two things the caller needs from a fault-in:
//!
//! * **ANY**: some progress is possible. The caller goes on at the first byte that was not copied.
//! * **ALL**: every byte can be accessed. The caller starts from scratch, so a part is of no use to it, and taking a part
//!   for success makes it start from scratch for ever.
//!
//! Such a livelock is a repeated state with no outside event between; a table shows it as ∞. A *deadlock* is a fault that wants a
//! lock which its own caller holds, or one who waits for that caller: it is reported, and nothing hangs.
//!
//! # Example
//!
//! ```
//! use faultin_audit::{Memory, Scenario, Selection, Variant, callers, run};
//!
//! let report = run::report(&Selection {
//!     callers: callers::named("restore_fpregs_from_user"),
//!     scenarios: vec![Scenario::SecondPageBad],
//!     variants: vec![Variant::AsFound],
//!     memories: vec![Memory::Host],
//! });
//! assert_eq!(report.cells[0].actual(), "∞");
//! assert!(report.is_ok());
//! ```

#[doc(hidden)]
pub mod bug;
pub mod callers;
pub mod environment;
pub mod expect;
pub mod explore;
pub mod helpers;
pub mod html;
pub mod json;
pub mod kernel;
pub mod log;
pub mod markdown;
pub mod run;
pub mod scenario;
pub mod square;
pub mod table;
pub mod user;

pub use callers::{Caller, Need, Variant};
pub use run::{Cell, Report, Selection};
pub use scenario::Scenario;
pub use user::Memory;
