//! Row 10, `fuse_fill_write_pages` (fuse): fills the pages of a request, which is then sent. As found each page's part must
//! be faulted in as a whole, so a part that contains the first bad byte is lost; fixed, every byte before it is sent.
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
    row: 10,
    name: "fuse_fill_write_pages",
    place: "fuse",
    need: Need::Any,
    finding: "like 8, simpler: no write_end",
    job: Some(&FuseFillWritePages),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct FuseFillWritePages;

impl Code for FuseFillWritePages {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        written::object(scale)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let how = match variant {
            AsFound => kernel_loops::FUSE_FILL_WRITE_PAGES_5_16,
            Fixed => kernel_loops::FUSE_FILL_WRITE_PAGES,
        };
        written::write(how, user, log)
    }

    fn origin(&self, variant: Variant) -> &'static str {
        match variant {
            AsFound => "caller from 5.16 to 6.15, helper from 5.16 (any byte missing of a page's part is an error)",
            Fixed => "caller from 6.16 (faults in after nothing was copied), helper: faultin's fault_in",
        }
    }

    fn expectations(&self) -> &'static [Expectation] {
        &EXPECTED
    }
}

const FINE: &str = "the mail: ANY is enough";
const BEFORE: &str = "5.16: each page's part is faulted in first";
const AFTER: &str = "6.16: an attempt that copies nothing faults the rest in, and the next copies all of it";
const NOTHING: &str = "5.16 and 6.16: EFAULT if nothing was filled";
const EXACT: &str = "6.16: every byte that was copied is sent";
const LOADS: &str = "5.16 and 6.16: the buffer is only read";
const AGAIN: &str = "5.16 and 6.16: what is evicted in front of the copy takes another attempt";
const GRANULE: &str = "5.16 to 6.16: the helper touches a byte of each page and so passes the granule by; the copy stops there, and \
     a fault-in that loads there fails";
const SURPRISE: &str = "any prefix may be written; the file has it, and no more";
const OWN: &str = "the copy waits for no fault while the page is locked";
const PIECE: &str = "5.16 to 6.15: a page's part that cannot all be faulted in is lost, and ends the request";

const EXPECTED: [Expectation; 22] = [
    expect(AsFound, AllResident, With(WRITTEN, Moved::All), FINE),
    expect(AsFound, Cold, With(WRITTEN, Moved::All), BEFORE),
    expect(AsFound, FirstPageBad, With(EFAULT, Moved::Nothing), NOTHING),
    expect(AsFound, SecondPageBad, With(SHORT, Moved::Bytes(60)), PIECE),
    expect(AsFound, ReadOnly, With(WRITTEN, Moved::All), LOADS),
    expect(AsFound, Evicted, With(WRITTEN, Moved::All), AGAIN).in_attempts(2),
    expect(AsFound, Poisoned, With(SHORT, Moved::Bytes(60)), PIECE),
    expect(AsFound, InaccessibleTail, With(SHORT, Moved::BeforeTail), GRANULE),
    expect(AsFound, RestartGranuleBad, With(SHORT, Moved::Bytes(60)), PIECE),
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
