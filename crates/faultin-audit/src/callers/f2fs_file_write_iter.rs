//! Row 9, `f2fs_file_write_iter` (f2fs): allocates disk blocks in advance if the whole buffer can be faulted in, then
//! writes as row 8. Whatever the result of the fault-in, only blocks are at stake: unused ones are freed.
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
    row: 9,
    name: "f2fs_file_write_iter",
    place: "f2fs",
    need: Need::Either,
    finding: "preallocation heuristic; correct either way",
    job: Some(&F2fsFileWriteIter),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct F2fsFileWriteIter;

impl Code for F2fsFileWriteIter {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        written::object(scale)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let how = match variant {
            AsFound => kernel_loops::F2FS_FILE_WRITE_ITER_5_18,
            Fixed => kernel_loops::F2FS_FILE_WRITE_ITER,
        };
        written::write(how, user, log)
    }

    fn origin(&self, variant: Variant) -> &'static str {
        match variant {
            AsFound => {
                "caller from 5.18, helper from 5.18 (fault_in_iov_iter_readable: the whole request, or no allocation)"
            }
            Fixed => "caller that allocates without asking and gives back what is not used, over row 8's fixed loop",
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

const FINE: &str = "the mail: correct either way";
const BEFORE: &str = "5.18: each attempt faults its piece in first";
const AFTER: &str = "6.14: an attempt that copies nothing faults its piece in; a copy that ends at the next page is refused and \
     asked for again";
const NOTHING: &str = "5.18: nothing is allocated if it cannot all be faulted in, and nothing is written: EFAULT";
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
    expect(AsFound, SecondPageBad, With(SHORT, Moved::FirstPage), EXACT).in_attempts(2),
    expect(AsFound, ReadOnly, With(WRITTEN, Moved::All), LOADS),
    expect(AsFound, Evicted, With(WRITTEN, Moved::All), AGAIN),
    expect(AsFound, Poisoned, With(SHORT, Moved::FirstPage), EXACT).in_attempts(2),
    expect(AsFound, InaccessibleTail, With(SHORT, Moved::BeforeTail), GRANULE).in_attempts(2),
    expect(AsFound, RestartGranuleBad, With(SHORT, Moved::BeforeRestart), EXACT).in_attempts(2),
    expect(AsFound, Remapping, OneOf(&[WRITTEN, SHORT, EFAULT]), SURPRISE),
    expect(AsFound, OwnFolio, With(WRITTEN, Moved::All), OWN),
    expect(Fixed, AllResident, With(WRITTEN, Moved::All), FINE),
    expect(Fixed, Cold, With(WRITTEN, Moved::All), AFTER).in_attempts(4),
    expect(Fixed, FirstPageBad, With(EFAULT, Moved::Nothing), NOTHING),
    expect(Fixed, SecondPageBad, With(SHORT, Moved::FirstPage), EXACT).in_attempts(2),
    expect(Fixed, ReadOnly, With(WRITTEN, Moved::All), LOADS),
    expect(Fixed, Evicted, With(WRITTEN, Moved::All), AGAIN).in_attempts(5),
    expect(Fixed, Poisoned, With(SHORT, Moved::FirstPage), EXACT).in_attempts(2),
    expect(Fixed, InaccessibleTail, With(SHORT, Moved::BeforeTail), GRANULE).in_attempts(2),
    expect(Fixed, RestartGranuleBad, With(SHORT, Moved::BeforeRestart), EXACT).in_attempts(2),
    expect(Fixed, Remapping, OneOf(&[WRITTEN, SHORT, EFAULT]), SURPRISE),
    expect(Fixed, OwnFolio, With(WRITTEN, Moved::All), OWN).in_attempts(4),
];
