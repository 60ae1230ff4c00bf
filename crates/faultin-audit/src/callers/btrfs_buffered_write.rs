//! Row 11, `btrfs_buffered_write` (btrfs): reserves space for several pages, locks them and copies to all of them. As found
//! the whole chunk must be faulted in, so it is lost if one byte is bad. Space that was reserved and not written is
//! released in each round; after a short copy it proceeds page by page, and reads pages from the store that a copy may not
//! fill.
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
    row: 11,
    name: "btrfs_buffered_write",
    place: "btrfs",
    need: Need::Any,
    finding: "after a short copy goes page by page and brings destination pages up to date",
    job: Some(&BtrfsBufferedWrite),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct BtrfsBufferedWrite;

impl Code for BtrfsBufferedWrite {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        written::object(scale)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let how = match variant {
            AsFound => kernel_loops::BTRFS_BUFFERED_WRITE_5_16,
            Fixed => kernel_loops::BTRFS_BUFFERED_WRITE,
        };
        written::write(how, user, log)
    }

    fn origin(&self, variant: Variant) -> &'static str {
        match variant {
            AsFound => "caller from 5.16 to 6.15, helper from 5.16 (any byte missing of a chunk is an error)",
            Fixed => {
                "caller as the mail would have it (some is enough, and only after nothing was copied), helper: faultin's fault_in"
            }
        }
    }

    fn expectations(&self) -> &'static [Expectation] {
        &EXPECTED
    }
}

const FINE: &str = "the mail: ANY is enough";
const BEFORE: &str = "5.16: each chunk is faulted in first";
const AFTER: &str =
    "6.14's rule: an attempt that copies nothing faults in; from the first short copy on it goes page by page";
const NOTHING: &str = "5.16: EFAULT if nothing was written before";
const EXACT: &str = "the mail: ANY is enough, so every byte in front of the bad one can be written";
const LOADS: &str = "5.16: the buffer is only read";
const AGAIN: &str =
    "5.16: what is evicted in front of the copy: page by page, pages brought up to date, another attempt";
const GRANULE: &str = "5.16: the helper touches a byte of each page and so passes the granule by; a partial copy, then page by \
     page, then EFAULT";
const SURPRISE: &str = "any prefix may be written; the file has it, and no more";
const OWN: &str = "since 2011 (914ee295af, b1bf862e9dad) the copy waits for no fault while pages are locked";
const CHUNK: &str = "measured on 6.18: 100 good bytes and 100 bad ones are EFAULT, with nothing written; before 6.16 the whole \
     chunk is lost";

const EXPECTED: [Expectation; 22] = [
    expect(AsFound, AllResident, With(WRITTEN, Moved::All), FINE),
    expect(AsFound, Cold, With(WRITTEN, Moved::All), BEFORE),
    expect(AsFound, FirstPageBad, With(EFAULT, Moved::Nothing), NOTHING),
    expect(AsFound, SecondPageBad, With(EFAULT, Moved::Nothing), CHUNK),
    expect(AsFound, ReadOnly, With(WRITTEN, Moved::All), LOADS),
    expect(AsFound, Evicted, With(WRITTEN, Moved::All), AGAIN).in_attempts(2),
    expect(AsFound, Poisoned, With(EFAULT, Moved::Nothing), CHUNK),
    expect(AsFound, InaccessibleTail, With(SHORT, Moved::BeforeTail), GRANULE),
    expect(AsFound, RestartGranuleBad, With(EFAULT, Moved::Nothing), CHUNK),
    expect(AsFound, Remapping, OneOf(&[WRITTEN, SHORT, EFAULT]), SURPRISE),
    expect(AsFound, OwnFolio, With(WRITTEN, Moved::All), OWN),
    expect(Fixed, AllResident, With(WRITTEN, Moved::All), FINE),
    expect(Fixed, Cold, With(WRITTEN, Moved::All), AFTER).in_attempts(2),
    expect(Fixed, FirstPageBad, With(EFAULT, Moved::Nothing), NOTHING),
    expect(Fixed, SecondPageBad, With(SHORT, Moved::FirstPage), EXACT),
    expect(Fixed, ReadOnly, With(WRITTEN, Moved::All), LOADS),
    expect(Fixed, Evicted, With(WRITTEN, Moved::All), AGAIN).in_attempts(4),
    expect(Fixed, Poisoned, With(SHORT, Moved::FirstPage), EXACT),
    expect(Fixed, InaccessibleTail, With(SHORT, Moved::BeforeTail), GRANULE),
    expect(Fixed, RestartGranuleBad, With(SHORT, Moved::BeforeRestart), EXACT),
    expect(Fixed, Remapping, OneOf(&[WRITTEN, SHORT, EFAULT]), SURPRISE),
    expect(Fixed, OwnFolio, With(WRITTEN, Moved::All), OWN).in_attempts(2),
];
