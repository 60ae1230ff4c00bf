//! The audit: the callers of the kernel's two fault-in helpers, as they were found in August 2021 and as they should be,
//! run on memory that really faults.
//!
//! The callers run on two kinds of [memory](user): pages of this process, and simulated ones, on which every scenario
//! exists on every machine.
//!
//! A [caller](callers) is one loop around a user copy, with its own assumption of what a fault-in promises. A [scenario] is
//! a fault of the user's memory. A *cell* is one caller, in one [`Variant`], in one scenario: it is [executed](run), its
//! steps are written to its [log], its result, the product, is checked, and both are compared with an [expectation](expect)
//! that was written by hand.
//!
//! The question behind every row is which of two things the caller needs from a fault-in:
//!
//! * **ANY**: some progress is possible. The caller continues at the first byte that was not copied.
//! * **ALL**: every byte can be accessed. The caller starts from scratch, so a part is of no use to it, and taking a part
//!   for success makes it start from scratch forever.
//!
//! Such a livelock is a repeated state with no outside event in between; a table shows it as ∞. A *deadlock* is a fault
//! that needs a lock which its own caller holds, or a thread that waits for that caller: it is reported, and nothing hangs.
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

pub mod axes;
#[doc(hidden)]
pub mod bug;
pub mod caller;
pub mod callers;
pub mod environment;
pub mod expect;
pub mod explore;
pub mod helpers;
pub mod kernel;
pub mod log;
pub mod model;
pub mod render;
pub mod run;
pub mod scenario;
pub mod user;

pub use axes::{Memory, Variant};
pub use caller::{Caller, Need};
pub use model::Model;
pub use run::{Cell, Report, Selection};
pub use scenario::Scenario;
