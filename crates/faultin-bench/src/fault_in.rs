//! Making memory accessible: cold and resident, 1 page to 64 MiB, on every kind of memory.
//!
//! *Cold* is memory whose pages are not in the page tables: pages of anonymous memory do not exist, those of a file are in
//! the page cache. `MADV_DONTNEED` makes a range cold again before each sample, untimed. *Resident* is memory that has just
//! been touched.

use core::num::NonZeroUsize;

use super::case::{Bound, Case};
use super::measure::Bench;
use super::memory::{Kind, Memory, huge_page_size};
use super::peers::{kernel, touch};
use super::report::{Goal, Row};
use super::sample::{Sampler, cold, hot, opaque, opaque_ptr};

const TOUCH: &str = "touch loop";
const BETTER: &str = "the better of both";

/// The number of pages from which huge pages must be far faster than a touch loop.
const HUGE_FROM: usize = 16 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Reading,
    Writing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Cold,
    Resident,
}

pub fn run(bench: &mut Bench) -> Result<(), String> {
    let page = faultin::page_size();
    let pages: &[usize] = if bench.quick { &[1, 16, 1024] } else { &[1, 2, 4, 8, 16, 64, 256, 1024, 4096, 16384] };
    let largest = pages.iter().max().map_or(page, |n| n * page);
    for kind in Kind::ALL {
        let memory = match memory_of(kind, largest) {
            Ok(memory) => memory,
            Err(why) => {
                bench.skip(&format!("fault-in, {}", kind.name()), &why);
                continue;
            }
        };
        // Within one huge page there is nothing to choose.
        let smallest = if kind == Kind::Huge { huge_page_size()? } else { 0 };
        for state in [State::Cold, State::Resident] {
            for access in [For::Reading, For::Writing] {
                for size in pages.iter().map(|n| n * page).filter(|size| *size >= smallest) {
                    one(bench, kind, &memory, state, access, size);
                }
            }
        }
    }
    goals(bench);
    Ok(())
}

fn memory_of(kind: Kind, len: usize) -> Result<Memory, String> {
    let memory = Memory::resident(kind, len)?;
    if kind == Kind::Huge && !memory.is_huge() {
        return Err("asked for transparent huge pages, and got others".to_owned());
    }
    Ok(memory)
}

fn one(bench: &mut Bench, kind: Kind, memory: &Memory, state: State, access: For, size: usize) {
    let (call, populate) = match access {
        For::Reading => ("readable", "MADV_POPULATE_READ"),
        For::Writing => ("writeable", "MADV_POPULATE_WRITE"),
    };
    let name = match state {
        State::Cold => format!("{call}, {}, cold", kind.name()),
        State::Resident => format!("{call}, {}, resident", kind.name()),
    };
    if !bench.wants(&name) {
        return;
    }
    let page = faultin::page_size();
    let ptr = memory.ptr();
    let len = NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
    let ours = sampler(memory, state, size, move || {
        // SAFETY: our own memory.
        let prefix = unsafe {
            match access {
                For::Reading => faultin::raw::fault_in_readable(opaque_ptr(ptr), len),
                For::Writing => faultin::raw::fault_in_writeable(opaque_ptr(ptr), len),
            }
        };
        prefix == Ok(len)
    });
    let touches = sampler(memory, state, size, move || {
        match access {
            For::Reading => touch::read(opaque_ptr(ptr), opaque(size), page),
            For::Writing => touch::write(opaque_ptr(ptr), opaque(size), page),
        }
        true
    });
    let populates = sampler(memory, state, size, move || match access {
        For::Reading => kernel::populate_read(opaque_ptr(ptr), opaque(size)),
        For::Writing => kernel::populate_write(opaque_ptr(ptr), opaque(size)),
    });
    let touch_bound = match state {
        State::Cold => None,
        State::Resident if kind == Kind::Huge && size >= HUGE_FROM => Some(Bound::times(0.05)),
        State::Resident => Some(Bound::times(1.3).plus_ns(50.0)),
    };
    if state == State::Resident {
        memory.touch();
    }
    let verify = move || match memory.present(size)? {
        present if present == size.div_ceil(page) => Ok(()),
        present => Err(format!("{present} of {} pages are mapped afterwards", size.div_ceil(page))),
    };
    let case = Case::new(name, size, ours).peer(TOUCH, touch_bound, touches).peer(populate, None, populates).verified(
        1,
        || {},
        verify,
    );
    bench.run(match state {
        State::Cold => case.better_of(BETTER, &[TOUCH, populate], Some(Bound::times(1.3).plus_ns(500.0))),
        State::Resident => case,
    });
}

fn sampler<'a>(memory: &'a Memory, state: State, size: usize, op: impl FnMut() -> bool + 'a) -> Sampler<'a> {
    match state {
        State::Cold => cold(move || memory.make_cold(size), op),
        State::Resident => hot(op),
    }
}

fn goals(bench: &mut Bench) {
    let resident = |row: &Row| row.name.ends_with("resident");
    let huge = |row: &Row| row.name.contains("huge") && row.size >= HUGE_FROM as u64;
    let rows = &bench.rows;
    let goals = [
        Goal::worst("resident huge pages, from 16 MiB, against a touch loop", 0.05, rows, |row| {
            resident(row) && huge(row) && row.peer == TOUCH
        }),
        Goal::within_bounds("cold: 1.3 of the better of touching and populating, plus 500 ns", rows, |row| {
            row.peer == BETTER
        }),
        Goal::within_bounds("resident: 1.3 of a touch loop, plus 50 ns", rows, |row| {
            resident(row) && !huge(row) && row.peer == TOUCH
        }),
    ];
    bench.goals.extend(goals.into_iter().flatten());
}
