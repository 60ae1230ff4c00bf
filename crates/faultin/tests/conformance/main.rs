//! One suite of guarantees for the host's memory, for the same memory accessed only by the kernel, and for simulated memory
//! of many page sizes: the same cases, and the same expected results in units of pages. Any difference fails.

mod cases;
#[path = "../filters/mod.rs"]
mod filters;
mod host;
mod kernel;
mod layout;
mod promises;
mod random;
mod sim;

use std::sync::{Mutex, MutexGuard, PoisonError};

use faultin_sim::Geometry;

/// One test at a time: another test's allocation may fill a hole of the host's memory.
fn serial() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Page size and granule of simulated memory.
const GEOMETRIES: [(usize, usize); 7] = [(4, 1), (4, 2), (16, 2), (64, 16), (4096, 16), (16384, 64), (65536, 16)];

macro_rules! suite {
    ($($promise:ident)* ; of_atomics: $($atomic:ident)*) => {
        mod by_kernel {
            $(#[test]
            fn $promise() {
                let _serial = crate::serial();
                crate::kernel::by_each_way(crate::promises::$promise);
            })*
        }
        suite!(@both $($promise)* $($atomic)*);
    };
    (@both $($promise:ident)*) => {
        mod on_host {
            $(#[test]
            fn $promise() {
                let _serial = crate::serial();
                crate::promises::$promise(&crate::host::Host);
            })*
        }
        mod on_sim {
            use super::{GEOMETRIES, Geometry};
            $(#[test]
            fn $promise() {
                let _serial = crate::serial();
                crate::promises::$promise(&crate::sim::Simulated(Geometry::host()));
                for (page, granule) in GEOMETRIES {
                    crate::promises::$promise(&crate::sim::Simulated(Geometry::new(page, granule)));
                }
            })*
        }
    };
}
suite! {
    reads_move_an_exact_prefix
    writes_move_an_exact_prefix
    fills_move_an_exact_prefix
    loads_give_the_whole_value_or_a_fault
    stores_change_the_whole_value_or_nothing
    fault_in_returns_the_accessible_prefix
    probes_prove_the_accessible_prefix
    what_leaves_the_range_is_refused
    no_bytes_need_no_access
    parts_are_ranges_of_their_own
    a_loop_by_the_restart_rule_moves_everything_accessible
    ; of_atomics:
    atomics_change_the_whole_value_or_nothing
    misaligned_atomics_are_refused
    orderings_that_cannot_be_are_refused
}
