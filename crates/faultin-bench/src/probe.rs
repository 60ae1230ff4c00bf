//! Proving that every byte can be loaded or stored, at each granularity.

use faultin::Granularity;

use super::case::{Bound, Case};
use super::measure::Bench;
use super::memory::{Kind, Memory, huge_page_size};
use super::peers::{kernel, touch};
use super::report::Goal;
use super::sample::{cold, hot, opaque, opaque_ptr};

const TOUCH: &str = "touch loop";
const POPULATE: &str = "MADV_POPULATE_WRITE";

pub fn run(bench: &mut Bench) -> Result<(), String> {
    let page = faultin::page_size();
    let pages: &[usize] = if bench.quick { &[1, 256, 1024] } else { &[1, 16, 256, 4096, 16384] };
    let largest = pages.iter().max().map_or(page, |n| n * page);
    right_answers(bench)?;
    for kind in [Kind::Anon, Kind::Huge, Kind::Memfd] {
        let memory = Memory::resident(kind, largest)?;
        if kind == Kind::Huge && !memory.is_huge() {
            bench.skip("probe, huge", "asked for transparent huge pages, and got others");
            continue;
        }
        let smallest = if kind == Kind::Huge { huge_page_size()? } else { 0 };
        for size in pages.iter().map(|n| n * page).filter(|size| *size >= smallest) {
            stores(bench, kind, &memory, size);
            memory.touch();
            units(bench, kind, &memory, size);
        }
    }
    let goal = "store probe by page, against MADV_POPULATE_WRITE";
    let goal = Goal::worst(goal, 1.2, &bench.rows, |row| row.bound.is_some());
    bench.goals.extend(goal);
    Ok(())
}

/// Measures store probes by page.
fn stores(bench: &mut Bench, kind: Kind, memory: &Memory, size: usize) {
    let page = faultin::page_size();
    let ptr = memory.ptr();
    // SAFETY: our own memory.
    let ours = move || unsafe { faultin::raw::probe_write(opaque_ptr(ptr), opaque(size), Granularity::Page).is_ok() };
    let touches = move || {
        touch::write(opaque_ptr(ptr), opaque(size), page);
        true
    };
    let populates = move || kernel::populate_write(opaque_ptr(ptr), opaque(size));
    let bound = Some(Bound::times(1.2));
    let name = format!("write by page, {}", kind.name());
    let prepare = || memory.make_cold(size);
    let case = Case::new(format!("{name}, cold"), size, cold(prepare, ours))
        .peer(POPULATE, bound, cold(prepare, populates))
        .peer(TOUCH, None, cold(prepare, touches));
    bench.run(verified(case, memory, size));
    memory.touch();
    let case = Case::new(format!("{name}, resident"), size, hot(ours)).peer(POPULATE, bound, hot(populates)).peer(
        TOUCH,
        None,
        hot(touches),
    );
    bench.run(verified(case, memory, size));
}

fn verified<'a>(case: Case<'a>, memory: &'a Memory, size: usize) -> Case<'a> {
    let pages = size.div_ceil(faultin::page_size());
    case.verified(
        1,
        || {},
        move || match memory.present(size)? {
            present if present == pages => Ok(()),
            present => Err(format!("{present} of {pages} pages are mapped afterwards")),
        },
    )
}

/// Measures probes of resident memory against loops that make the same accesses.
fn units(bench: &mut Bench, kind: Kind, memory: &Memory, size: usize) {
    let page = faultin::page_size();
    let ptr = memory.ptr();
    // The loops are bound by memory long before this size.
    if size > 16 << 20 {
        return;
    }
    for (granularity, word, stride) in
        [(Granularity::Page, "page", page), (Granularity::Line, "64 B", 64), (Granularity::Tag, "16 B", 16)]
    {
        // SAFETY: our own memory.
        let ours = move || unsafe { faultin::raw::probe_read(opaque_ptr(ptr), opaque(size), granularity).is_ok() };
        let touches = move || {
            touch::read(opaque_ptr(ptr), opaque(size), stride);
            true
        };
        let name = format!("read by {word}, {}", kind.name());
        bench.run(Case::new(name, size, hot(ours)).peer(TOUCH, None, hot(touches)));
        if granularity == Granularity::Page {
            continue;
        }
        // SAFETY: our own memory.
        let ours = move || unsafe { faultin::raw::probe_write(opaque_ptr(ptr), opaque(size), granularity).is_ok() };
        let touches = move || {
            for offset in (0..opaque(size)).step_by(page) {
                let page_ptr = ptr.wrapping_add(offset);
                touch::write(page_ptr, 1, 1);
                touch::read(page_ptr, page.min(size - offset), stride);
            }
            true
        };
        let name = format!("write by {word}, {}", kind.name());
        bench.run(Case::new(name, size, hot(ours)).peer(TOUCH, None, hot(touches)));
    }
}

/// Checks the result, because a probe that is fast and wrong would be worthless: a read-only page in the middle is found at
/// its position.
fn right_answers(bench: &mut Bench) -> Result<(), String> {
    let page = faultin::page_size();
    let (pages, bad) = (64, 37 * page);
    let memory = Memory::resident(Kind::Anon, pages * page)?;
    memory.make_read_only(bad, page)?;
    for granularity in [Granularity::Page, Granularity::Line, Granularity::Tag] {
        // SAFETY: our own memory.
        let (read, write) = unsafe {
            let (ptr, len) = (memory.ptr(), pages * page);
            (faultin::raw::probe_read(ptr, len, granularity), faultin::raw::probe_write(ptr, len, granularity))
        };
        if read.is_err() || write.map_err(|short| short.done) != Err(bad) {
            bench.missing.push(format!("probe by {granularity:?}: a read-only page at {bad}: {read:?}, {write:?}"));
        }
    }
    Ok(())
}
