//! Rows 17 to 20: reads and writes that hold a lock which page faults of the same file take, buffered and direct.
//!
//! Three kinds of buffers: any user's memory ([`operation`]), memory that is [served] like a mapping of the file, and, in
//! this process, [mappings](pager) of the file.

#![deny(unsafe_code)]

mod disk;
mod operation;
mod pager;
mod served;

use crate::caller::{Caller, Mapped, Need};
use crate::expect::Ends::{Deadlock, With};
use crate::expect::{DEADLOCK, Ends, Expected, Moved};
use crate::scenario::Pages;
use crate::scenario::Scenario::{
    BadGranule, Cold, Evicted, InaccessibleTail, OwnFolio, ReadOnly, SamePages, StoreErrorMidway, TwoFiles,
    UnmappedMidway,
};
use operation::{EFAULT, OK, Operation, SHORT};
use served::Served;

/// A write. As found its copy faults under the lock; fixed, the copy is made with page faults disabled under the lock, the
/// lock is dropped, the buffer faulted in, and the copy continues; with a block when nothing moves.
pub(super) const BUFFERED_WRITE: Caller = Caller {
    row: 17,
    name: "gfs2 buffered write",
    finding: "copy with faults disabled under the lock, drop it, fault in, retry; one page when nothing moves",
    origins: [
        "caller from 5.15 (gfs2_file_write_iter: the glock is held across iomap_file_buffered_write), faults served by the kernel",
        "caller from 5.16 (gfs2_file_buffered_write), without its fault-in before the first attempt; helper: faultin's fault_in",
    ],
    expected: &buffered(LOADS),
    mapped: Some(&Mapped {
        expected: &mapped(
            "the series: the fault waits for the lock of its own file, which the buffered write holds",
            SAME,
            TAG,
        ),
        simulated: [&same(Operation::BufferedWrite), &other(Operation::BufferedWrite)],
        on_host: |variant, scenario, each| pager::run(Operation::BufferedWrite, variant, scenario, each),
    }),
    job: Some(&Operation::BufferedWrite),
    ..GFS2
};

/// The other direction. Its fault-in is for stores, and must not destroy the contents of the buffer, which may be the file.
pub(super) const BUFFERED_READ: Caller = Caller {
    row: 18,
    name: "gfs2 buffered read",
    finding: "same, faulting in for writing without destroying the buffer",
    origins: [
        "caller from 5.15 (gfs2_file_read_iter: the glock is held across generic_file_read_iter), faults served by the kernel",
        "caller from 5.16 (gfs2_file_read_iter), helper: faultin's fault_in for stores, with a real access at its first byte",
    ],
    expected: &buffered(STORES),
    stores: true,
    mapped: Some(&Mapped {
        expected: &mapped(
            "the series: the fault waits for the lock of its own file, which the buffered read holds",
            SAME,
            "the thread: page tables do not show a bad granule; a fault-in that really accesses it ends it (gfs2 itself livelocks)",
        ),
        simulated: [&same(Operation::BufferedRead), &other(Operation::BufferedRead)],
        on_host: |variant, scenario, each| pager::run(Operation::BufferedRead, variant, scenario, each),
    }),
    job: Some(&Operation::BufferedRead),
    ..GFS2
};

/// Past the cache, under the same lock. As found an error is returned whatever was read before it; fixed, it continues where
/// it stopped, and a part counts.
pub(super) const DIRECT_READ: Caller = Caller {
    row: 19,
    name: "gfs2 direct read",
    finding: "same, resumable: goes on where it stopped",
    origins: [
        "caller from 5.15 (gfs2_file_direct_read: the glock is held across iomap_dio_rw), the error in place of the count",
        "caller from 5.16 (IOMAP_DIO_PARTIAL, done_before), but that a part counts; helper: faultin's fault_in for stores",
    ],
    expected: &direct(STORES, "the mail: goes on where it stopped; so a part counts (gfs2 drops it up to this day)", 4),
    stores: true,
    mapped: Some(&Mapped {
        expected: &mapped(
            "the series: the fault waits for the lock of its own file, which the direct read holds",
            "the series: as any buffer (gfs2 itself livelocks here, up to 7.2: the read takes the pages away that are its buffer)",
            TAG,
        ),
        simulated: [&same(Operation::DirectRead), &other(Operation::DirectRead)],
        on_host: |variant, scenario, each| pager::run(Operation::DirectRead, variant, scenario, each),
    }),
    job: Some(&Operation::DirectRead),
    ..GFS2
};

/// Past the cache, in units of the store. The rest where no whole unit is accessible, and a write that would invalidate its
/// own source repeatedly, go through the cache.
pub(super) const DIRECT_WRITE: Caller = Caller {
    row: 20,
    name: "gfs2 direct write",
    finding: "same; falls back to buffered when the write invalidates its own source",
    origins: [
        "caller from 5.15 (gfs2_file_direct_write: the glock is held across iomap_dio_rw), the error in place of the count",
        "caller from 5.16 (with its fallback after enough retries), but that a part counts; helper: faultin's fault_in",
    ],
    expected: &direct(
        LOADS,
        "5.16: partial direct I/O counts; what no unit of the store can be had of goes through the cache",
        3,
    ),
    mapped: Some(&Mapped {
        expected: &mapped(
            "the series: the fault waits for the lock of its own file, which the direct write holds",
            "the series: goes through the cache after enough retries, where it would take its own source away for ever",
            TAG,
        ),
        simulated: [&same(Operation::DirectWrite), &other(Operation::DirectWrite)],
        on_host: |variant, scenario, each| pager::run(Operation::DirectWrite, variant, scenario, each),
    }),
    job: Some(&Operation::DirectWrite),
    ..GFS2
};

/// What these rows have in common.
const GFS2: Caller = Caller { place: "gfs2", need: Need::Any, has_file: true, ..Caller::NOT_YET };

const fn same(operation: Operation) -> Served {
    Served { operation, pages: Pages::Same }
}

const fn other(operation: Operation) -> Served {
    Served { operation, pages: Pages::Other }
}

const PART: Ends = With(SHORT, Moved::Accessible);

const LOADS: &str = "5.15 and 5.16: the buffer is only read";
const STORES: &str = "nothing can be stored there";
const SURPRISE: &str = "any prefix may be moved, and no more";
const SAME: &str = "the series: as any buffer";
const TAG: &str = "the thread: a fault-in that really accesses the granule ends it";

/// Returns the expectations of buffered I/O with any buffer; `read_only` is the source where nothing can be stored.
const fn buffered(read_only: &'static str) -> [Expected; 2] {
    const EXACT: &str = "5.15 and 5.16: what was moved before the fault counts";
    const GRANULE: &str = "up to the granule, where a fault-in that really accesses it fails";
    let rule = any_buffer((PART, EXACT), read_only).at(InaccessibleTail, GRANULE);
    let under = "5.15: the copy faults under the lock, which plain memory's faults do not want";
    [under_the_lock(rule.at(Cold, under).at(Evicted, under)), without_the_lock(rule, 4)]
}

/// Returns the expectations of direct I/O with any buffer. `resumed` is the source where it has moved a part; `evicted` the
/// number of attempts where pages are evicted.
const fn direct(read_only: &'static str, resumed: &'static str, evicted: u32) -> [Expected; 2] {
    const DROPPED: &str =
        "iomap before IOMAP_DIO_PARTIAL, and measured of ext4 and xfs: EFAULT, although a part was moved";
    const GRANULE: &str =
        "up to the granule: bytes are copied through the user's mapping (the kernel's direct I/O does not see tags)";
    let under = "5.15: what is not there is brought in under the lock, which plain memory's faults do not want";
    let found = any_buffer((With(EFAULT, Moved::Nothing), DROPPED), read_only).races(&[OK, EFAULT], SURPRISE);
    let fixed = any_buffer((PART, resumed), read_only).at(InaccessibleTail, GRANULE);
    [under_the_lock(found.at_in(Cold, 2, under).at_in(Evicted, evicted, under)), without_the_lock(fixed, evicted)]
}

const fn any_buffer(part: (Ends, &'static str), read_only: &'static str) -> Expected {
    const FINE: &str = "the mail: ANY is enough";
    const NOTHING: &str = "5.15 and 5.16: EFAULT if nothing was moved before";
    Expected::new([(With(OK, Moved::All), FINE), part, (With(EFAULT, Moved::Nothing), NOTHING)])
        .races(&[OK, SHORT, EFAULT], SURPRISE)
        .at(ReadOnly, read_only)
}

const fn under_the_lock(rule: Expected) -> Expected {
    rule.but(OwnFolio, Deadlock, "the series: page faults of the file want the lock that is held")
}

const fn without_the_lock(rule: Expected, evicted: u32) -> Expected {
    const WITHOUT: &str = "5.16: the lock is dropped, the buffer faulted in, and the copy goes on where it stopped";
    rule.at_in(Cold, 2, WITHOUT).at_in(Evicted, evicted, WITHOUT).at_in(OwnFolio, 2, WITHOUT)
}

/// Returns the expectations where the buffer is a mapping of a file of the cache; the sources as found, of the same pages
/// fixed, and of a bad granule fixed.
const fn mapped(circle: &'static str, same: &'static str, tag: &'static str) -> [Expected; 2] {
    const CROSSED: &str = "the series: each fault waits for the lock of the other file, which the other thread holds";
    const NO_LOCK: &str = "the series: nobody holds a lock while a buffer is faulted in";
    let found = Expected::new([(Deadlock, circle); 3]).races(&[DEADLOCK], circle).at(TwoFiles, CROSSED);
    let fixed =
        Expected::new([(With(OK, Moved::All), NO_LOCK), (PART, NO_LOCK), (With(EFAULT, Moved::Nothing), NO_LOCK)])
            .races(&[OK], NO_LOCK)
            .in_attempts(2, 2)
            .at_in(SamePages, 2, same)
            .at_in(BadGranule, 2, tag)
            .at_in(UnmappedMidway, 2, "what was moved before the pages went counts")
            .at_in(StoreErrorMidway, 2, "what the store has given counts; the rest is a fault of the buffer");
    [found, fixed]
}
