//! Row 19, gfs2 direct read: past the cache, under the same lock. As found an error is returned whatever was read before
//! it; fixed, it continues where it stopped, and a part counts.
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
    row: 19,
    name: "gfs2 direct read",
    place: "gfs2",
    need: Need::Any,
    finding: "same, resumable: goes on where it stopped",
    job: Some(&Gfs2DirectRead),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct Gfs2DirectRead;

const OPERATION: Operation = Operation::DirectRead;

static MAPPED: Mapped = Mapped::new(OPERATION, &EXPECTED, &MAPPING_EXPECTED);

impl Code for Gfs2DirectRead {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        gfs2::object(OPERATION, scale)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        gfs2::run(OPERATION, variant, user, log)
    }

    fn origin(&self, variant: Variant) -> &'static str {
        match variant {
            AsFound => {
                "caller from 5.15 (gfs2_file_direct_read: the glock is held across iomap_dio_rw), the error in place of the count"
            }
            Fixed => {
                "caller from 5.16 (IOMAP_DIO_PARTIAL, done_before), but that a part counts; helper: faultin's fault_in for stores"
            }
        }
    }

    fn expectations(&self) -> &'static [Expectation] {
        &EXPECTED
    }

    fn mapped(&self) -> Option<&'static Mapped> {
        Some(&MAPPED)
    }

    fn changes_the_object(&self) -> bool {
        true
    }
}

const FINE: &str = "the mail: ANY is enough";
const UNDER: &str = "5.15: what is not there is brought in under the lock, which plain memory's faults do not want";
const WITHOUT: &str = "5.16: the lock is dropped, the buffer faulted in, and the copy goes on where it stopped";
const NOTHING: &str = "5.15 and 5.16: EFAULT if nothing was moved before";
const DROPPED: &str = "iomap before IOMAP_DIO_PARTIAL, and measured of ext4 and xfs: EFAULT, although a part was moved";
const RESUMED: &str = "the mail: goes on where it stopped; so a part counts (gfs2 drops it up to this day)";
const STORES: &str = "nothing can be stored there";
const GRANULE: &str =
    "up to the granule: bytes are copied through the user's mapping (the kernel's direct I/O does not see tags)";
const SURPRISE: &str = "any prefix may be moved, and no more";
const OWN: &str = "the series: page faults of the file want the lock that is held";

const EXPECTED: [Expectation; 22] = [
    expect(AsFound, AllResident, With(OK, Moved::All), FINE),
    expect(AsFound, Cold, With(OK, Moved::All), UNDER).in_attempts(2),
    expect(AsFound, FirstPageBad, With(EFAULT, Moved::Nothing), NOTHING),
    expect(AsFound, SecondPageBad, With(EFAULT, Moved::Nothing), DROPPED),
    expect(AsFound, ReadOnly, With(EFAULT, Moved::Nothing), STORES),
    expect(AsFound, Evicted, With(OK, Moved::All), UNDER).in_attempts(4),
    expect(AsFound, Poisoned, With(EFAULT, Moved::Nothing), DROPPED),
    expect(AsFound, InaccessibleTail, With(EFAULT, Moved::Nothing), DROPPED),
    expect(AsFound, RestartGranuleBad, With(EFAULT, Moved::Nothing), DROPPED),
    expect(AsFound, Remapping, OneOf(&[OK, EFAULT]), SURPRISE),
    expect(AsFound, OwnFolio, Deadlock, OWN),
    expect(Fixed, AllResident, With(OK, Moved::All), FINE),
    expect(Fixed, Cold, With(OK, Moved::All), WITHOUT).in_attempts(2),
    expect(Fixed, FirstPageBad, With(EFAULT, Moved::Nothing), NOTHING),
    expect(Fixed, SecondPageBad, With(SHORT, Moved::FirstPage), RESUMED),
    expect(Fixed, ReadOnly, With(EFAULT, Moved::Nothing), STORES),
    expect(Fixed, Evicted, With(OK, Moved::All), WITHOUT).in_attempts(4),
    expect(Fixed, Poisoned, With(SHORT, Moved::FirstPage), RESUMED),
    expect(Fixed, InaccessibleTail, With(SHORT, Moved::BeforeTail), GRANULE),
    expect(Fixed, RestartGranuleBad, With(SHORT, Moved::BeforeRestart), RESUMED),
    expect(Fixed, Remapping, OneOf(&[OK, SHORT, EFAULT]), SURPRISE),
    expect(Fixed, OwnFolio, With(OK, Moved::All), WITHOUT).in_attempts(2),
];

const CIRCLE: &str = "the series: the fault waits for the lock of its own file, which the direct read holds";
const CROSSED: &str = "the series: each fault waits for the lock of the other file, which the other thread holds";
const NO_LOCK: &str = "the series: nobody holds a lock while a buffer is faulted in";
const SAME: &str = "the series: as any buffer (gfs2 itself livelocks here, up to 7.2: the read takes the pages away that are its buffer)";
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
