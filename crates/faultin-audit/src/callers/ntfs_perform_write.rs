//! Row 12, `ntfs_perform_write` (ntfs): row 8 over clusters: the pages of a cluster are prepared together. Removed in 6.9 with the old
//! driver.
//!
//! Real code of `faultin_cache`, configured to do this; the checks are in `written`.

#![forbid(unsafe_code)]

use super::Variant::{AsFound, Fixed};
use super::kernel_loops;
use super::written::{self, EFAULT, SHORT, WRITTEN};
use super::{Caller, Code, Ended, Halt, Need, Variant};
use crate::expect::Ends::{OneOf, With};
use crate::expect::{Expectation, Moved, expect};
use crate::log::Log;
use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 12,
    name: "ntfs_perform_write",
    place: "ntfs",
    need: Need::Any,
    finding: "like 8",
    job: Some(&NtfsPerformWrite),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct NtfsPerformWrite;

impl Code for NtfsPerformWrite {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        written::object(scale)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let how = match variant {
            AsFound => kernel_loops::NTFS_PERFORM_WRITE_5_18,
            Fixed => kernel_loops::NTFS_PERFORM_WRITE,
        };
        written::write(how, user, log)
    }

    fn origin(&self, variant: Variant) -> &'static str {
        match variant {
            AsFound => "caller of the old driver with row 8's loop of 5.18, helper from 5.18 (some is enough)",
            Fixed => "the same with row 8's loop of 6.14, helper: faultin's fault_in",
        }
    }

    fn expectations(&self) -> &'static [Expectation] {
        &EXPECTED
    }

    /// One that `write_end` rejects, and one that copies nothing.
    fn attempts_per_event(&self) -> usize {
        2
    }
}

const FINE: &str = "the mail: like row 8";
const BEFORE: &str = "5.18: each attempt faults its piece in first";
const AFTER: &str = "6.14: an attempt that copies nothing faults its piece in; a copy that ends at the next page is refused and \
     asked for again";
const NOTHING: &str = "5.18 and 6.14: EFAULT if not a byte could be faulted in and nothing was written before";
const EXACT: &str = "measured on 6.18 (ext4, xfs, tmpfs): short, exact to the byte; write_end refuses what ends within a page \
     that is not up to date, and the next attempt asks for that much";
const LOADS: &str = "5.18 and 6.14: the buffer is only read";
const AGAIN: &str = "5.18 and 6.14: what is evicted in front of the copy takes another attempt";
const GRANULE: &str = "the thread: short up to the granule, then a fault-in that loads there fails";
const SURPRISE: &str = "any prefix may be written; the file has it, and no more";
const OWN: &str = "since 2.6.20 (08291429cfa6) the copy waits for no fault while the page is locked";

const EXPECTED: [Expectation; 22] = [
    expect(AsFound, AllResident, With(WRITTEN, Moved::All), FINE),
    expect(AsFound, Cold, With(WRITTEN, Moved::All), BEFORE),
    expect(AsFound, FirstPageBad, With(EFAULT, Moved::Nothing), NOTHING),
    expect(AsFound, SecondPageBad, With(SHORT, Moved::FirstPage), EXACT),
    expect(AsFound, ReadOnly, With(WRITTEN, Moved::All), LOADS),
    expect(AsFound, Evicted, With(WRITTEN, Moved::All), AGAIN).in_attempts(2),
    expect(AsFound, Poisoned, With(SHORT, Moved::FirstPage), EXACT),
    expect(AsFound, InaccessibleTail, With(SHORT, Moved::BeforeTail), GRANULE).in_attempts(2),
    expect(AsFound, RestartGranuleBad, With(SHORT, Moved::BeforeRestart), EXACT),
    expect(AsFound, Remapping, OneOf(&[WRITTEN, SHORT, EFAULT]), SURPRISE),
    expect(AsFound, OwnFolio, With(WRITTEN, Moved::All), OWN),
    expect(Fixed, AllResident, With(WRITTEN, Moved::All), FINE),
    expect(Fixed, Cold, With(WRITTEN, Moved::All), AFTER).in_attempts(2),
    expect(Fixed, FirstPageBad, With(EFAULT, Moved::Nothing), NOTHING),
    expect(Fixed, SecondPageBad, With(SHORT, Moved::FirstPage), EXACT),
    expect(Fixed, ReadOnly, With(WRITTEN, Moved::All), LOADS),
    expect(Fixed, Evicted, With(WRITTEN, Moved::All), AGAIN).in_attempts(4),
    expect(Fixed, Poisoned, With(SHORT, Moved::FirstPage), EXACT),
    expect(Fixed, InaccessibleTail, With(SHORT, Moved::BeforeTail), GRANULE).in_attempts(2),
    expect(Fixed, RestartGranuleBad, With(SHORT, Moved::BeforeRestart), EXACT),
    expect(Fixed, Remapping, OneOf(&[WRITTEN, SHORT, EFAULT]), SURPRISE),
    expect(Fixed, OwnFolio, With(WRITTEN, Moved::All), OWN).in_attempts(2),
];
