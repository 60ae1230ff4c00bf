//! Row 20, gfs2 direct write: past the cache, in units of the store. The rest where no whole unit is accessible, and a
//! write that would invalidate its own source repeatedly, go through the cache.
//!
//! Real code of `faultin_cache`; the checks are in `gfs2`.

#![forbid(unsafe_code)]

use super::Variant::{AsFound, Fixed};
use super::gfs2::{self, EFAULT, OK, Operation, SHORT};
use super::{Caller, Code, Ended, Halt, Mapped, Need, Variant};
use crate::expect::Ends::{Deadlock, OneOf, With};
use crate::expect::{self, Expectation, Moved, expect};
use crate::log::Log;
use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 20,
    name: "gfs2 direct write",
    place: "gfs2",
    need: Need::Any,
    finding: "same; falls back to buffered when the write invalidates its own source",
    job: Some(&Gfs2DirectWrite),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct Gfs2DirectWrite;

const OPERATION: Operation = Operation::DirectWrite;

static MAPPED: Mapped = Mapped::new(OPERATION, &EXPECTED, &MAPPING_EXPECTED);

impl Code for Gfs2DirectWrite {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        gfs2::object(OPERATION, scale)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        gfs2::run(OPERATION, variant, user, log)
    }

    fn origin(&self, variant: Variant) -> &'static str {
        match variant {
            AsFound => {
                "caller from 5.15 (gfs2_file_direct_write: the glock is held across iomap_dio_rw), the error in place of the count"
            }
            Fixed => {
                "caller from 5.16 (with its fallback after enough retries), but that a part counts; helper: faultin's fault_in"
            }
        }
    }

    fn expectations(&self) -> &'static [Expectation] {
        &EXPECTED
    }

    fn mapped(&self) -> Option<&'static Mapped> {
        Some(&MAPPED)
    }
}

const FINE: &str = "the mail: ANY is enough";
const UNDER: &str = "5.15: what is not there is brought in under the lock, which plain memory's faults do not want";
const WITHOUT: &str = "5.16: the lock is dropped, the buffer faulted in, and the copy goes on where it stopped";
const NOTHING: &str = "5.15 and 5.16: EFAULT if nothing was moved before";
const DROPPED: &str = "iomap before IOMAP_DIO_PARTIAL, and measured of ext4 and xfs: EFAULT, although a part was moved";
const RESUMED: &str = "5.16: partial direct I/O counts; what no unit of the store can be had of goes through the cache";
const LOADS: &str = "5.15 and 5.16: the buffer is only read";
const GRANULE: &str =
    "up to the granule: bytes are copied through the user's mapping (the kernel's direct I/O does not see tags)";
const SURPRISE: &str = "any prefix may be moved, and no more";
const OWN: &str = "the series: page faults of the file want the lock that is held";

const EXPECTED: [Expectation; 22] = [
    expect(AsFound, AllResident, With(OK, Moved::All), FINE),
    expect(AsFound, Cold, With(OK, Moved::All), UNDER).in_attempts(2),
    expect(AsFound, FirstPageBad, With(EFAULT, Moved::Nothing), NOTHING),
    expect(AsFound, SecondPageBad, With(EFAULT, Moved::Nothing), DROPPED),
    expect(AsFound, ReadOnly, With(OK, Moved::All), LOADS),
    expect(AsFound, Evicted, With(OK, Moved::All), UNDER).in_attempts(3),
    expect(AsFound, Poisoned, With(EFAULT, Moved::Nothing), DROPPED),
    expect(AsFound, InaccessibleTail, With(EFAULT, Moved::Nothing), DROPPED),
    expect(AsFound, RestartGranuleBad, With(EFAULT, Moved::Nothing), DROPPED),
    expect(AsFound, Remapping, OneOf(&[OK, EFAULT]), SURPRISE),
    expect(AsFound, OwnFolio, Deadlock, OWN),
    expect(Fixed, AllResident, With(OK, Moved::All), FINE),
    expect(Fixed, Cold, With(OK, Moved::All), WITHOUT).in_attempts(2),
    expect(Fixed, FirstPageBad, With(EFAULT, Moved::Nothing), NOTHING),
    expect(Fixed, SecondPageBad, With(SHORT, Moved::FirstPage), RESUMED),
    expect(Fixed, ReadOnly, With(OK, Moved::All), LOADS),
    expect(Fixed, Evicted, With(OK, Moved::All), WITHOUT).in_attempts(3),
    expect(Fixed, Poisoned, With(SHORT, Moved::FirstPage), RESUMED),
    expect(Fixed, InaccessibleTail, With(SHORT, Moved::BeforeTail), GRANULE),
    expect(Fixed, RestartGranuleBad, With(SHORT, Moved::BeforeRestart), RESUMED),
    expect(Fixed, Remapping, OneOf(&[OK, SHORT, EFAULT]), SURPRISE),
    expect(Fixed, OwnFolio, With(OK, Moved::All), WITHOUT).in_attempts(2),
];

const CIRCLE: &str = "the series: the fault waits for the lock of its own file, which the direct write holds";
const CROSSED: &str = "the series: each fault waits for the lock of the other file, which the other thread holds";
const NO_LOCK: &str = "the series: nobody holds a lock while a buffer is faulted in";
const SAME: &str =
    "the series: goes through the cache after enough retries, where it would take its own source away for ever";
const TAG: &str = "the thread: a fault-in that really accesses the granule ends it";
const GONE: &str = "what was moved before the pages went counts";
const STORE: &str = "what the store has given counts; the rest is a fault of the buffer";

/// Expectations where the buffer is a mapping of a file of the cache.
const MAPPING_EXPECTED: [Expectation; 14] = [
    expect(AsFound, SamePages, Deadlock, CIRCLE),
    expect(AsFound, OtherPages, Deadlock, CIRCLE),
    expect(AsFound, TwoFiles, OneOf(&[expect::DEADLOCK]), CROSSED),
    expect(AsFound, EvictionStorm, OneOf(&[expect::DEADLOCK]), CIRCLE),
    expect(AsFound, BadGranule, Deadlock, CIRCLE),
    expect(AsFound, UnmappedMidway, Deadlock, CIRCLE),
    expect(AsFound, StoreErrorMidway, Deadlock, CIRCLE),
    expect(Fixed, SamePages, With(OK, Moved::All), SAME).in_attempts(2),
    expect(Fixed, OtherPages, With(OK, Moved::All), NO_LOCK).in_attempts(2),
    expect(Fixed, TwoFiles, OneOf(&[OK]), NO_LOCK),
    expect(Fixed, EvictionStorm, OneOf(&[OK]), NO_LOCK),
    expect(Fixed, BadGranule, With(SHORT, Moved::BeforeRestart), TAG).in_attempts(2),
    expect(Fixed, UnmappedMidway, With(SHORT, Moved::FirstPage), GONE).in_attempts(2),
    expect(Fixed, StoreErrorMidway, With(SHORT, Moved::FirstPage), STORE).in_attempts(2),
];
