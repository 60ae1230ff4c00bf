//! Row 7, `copy_page_from_iter_iovec` (the kernel's vectors of segments): copies from a user's segments into a page.
//!
//! As found it is written for machines on which a page is mapped only temporarily, and nothing may fault meanwhile: it
//! faults the first segment in, copies with page faults disabled, and the rest with page faults enabled. A wrong result of
//! the fault-in only decides which of the two ways a byte takes. The fixed variant is the second way alone, as in later
//! kernels.
//!
//! The product is the page: the bytes that moved, at their place, and nothing else; and the position, moved by the same
//! number.

#![forbid(unsafe_code)]

use faultin::iov::{IovSource, ReadSegment};
use faultin::memory::{ReadMemory, ReadNoWait};

use super::product::landed;
use super::segments::{object, segments};
use crate::axes::Variant::{self, AsFound, Fixed};
use crate::bug::Bug;
use crate::caller::{Caller, Code, Ended, Halt, Need};
use crate::expect::Ends::With;
use crate::expect::{Expected, Moved};
use crate::helpers::fault_in_pages_readable;
use crate::log::{Log, Stuck};
use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 7,
    name: "copy_page_from_iter_iovec",
    place: "iov_iter",
    need: Need::Either,
    finding: "either semantics works; right on any short copy",
    origins: [
        "caller from 5.14 with HIGHMEM, helper from 5.14 (fault_in_pages_readable)",
        "caller from 6.1, where only the second way is left; no helper",
    ],
    expected: &EXPECTED,
    job: Some(&CopyPageFromIterIovec),
    ..Caller::NOT_YET
};

/// The caller.
struct CopyPageFromIterIovec;

/// Size of the page in bytes.
const PAGE: usize = 512;
/// Offset of the user's bytes in it.
const OFFSET: usize = 24;
/// Its other contents.
const STALE: u8 = 0x77;

const COPIED: &str = "ok";
const SHORT: &str = "short";

fn as_found<M: ReadMemory + ReadNoWait>(
    page: &mut [u8],
    from: &mut IovSource<'_, '_, M>,
    first: &M,
    log: &mut Log,
) -> Result<(), Stuck> {
    if fault_in_pages_readable(first, log).is_ok() {
        let wanted = from.count();
        let copied = from.copy_from_iter_nowait(&mut page[OFFSET..OFFSET + wanted]);
        log.copied("map the page for the moment, copy with page faults disabled", wanted, &copied.map(drop));
    }
    if from.is_empty() {
        return Ok(());
    }
    log.decide("too bad: map the page for longer");
    rest(page, from, log)
}

/// Copies the rest to its place, segment by segment and part by part, with page faults enabled.
fn rest<M: ReadMemory>(page: &mut [u8], from: &mut IovSource<'_, '_, M>, log: &mut Log) -> Result<(), Stuck> {
    let (before, mut at) = (from.moved(), OFFSET + from.moved());
    while !from.is_empty() {
        let piece = step(at, from.moved(), from.count(), from.single_seg_count(), log);
        let mut mapped = page[at..at + piece.mapped].to_vec();
        mapped.resize(piece.wanted, 0);
        let copied = from.copy_page_from_iter(&mut mapped, 0, piece.wanted);
        log.copied("copy with page faults enabled", piece.wanted, &copied.map(drop));
        page[at..at + piece.mapped].copy_from_slice(&mapped[..piece.mapped]);
        let Ok(copied) = copied else { break };
        if copied == 0 {
            log.again()?;
        }
        at += if log.has(Bug::CumulativeCount) { from.moved() - before } else { copied };
    }
    Ok(())
}

/// The next piece to copy: of one segment, and in one part of the page.
pub(super) struct Piece {
    /// Number of bytes to copy.
    pub(super) wanted: usize,
    /// Number of them that are mapped.
    pub(super) mapped: usize,
}

/// Number of bytes of a page that are mapped at a time.
const PART: usize = 32;

pub(super) fn step(at: usize, moved: usize, left: usize, segment: usize, log: &Log) -> Piece {
    let part = PART - at % PART;
    let on_the_empty_one = moved == segments(moved + left)[1].start;
    let segment = if log.has(Bug::RestsOnAnEmptySegment) && on_the_empty_one { 0 } else { segment };
    let wanted = if log.has(Bug::OverrunsTheMappedPart) { segment } else { segment.min(part) };
    Piece { wanted, mapped: wanted.min(part) }
}

impl Code for CopyPageFromIterIovec {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        object(scale, |byte| byte)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let buffer = user.source()?;
        let [first, empty, last] =
            segments(buffer.len()).map(|range| buffer.subslice(range).expect("within the buffer"));
        let segments = [first.clone(), empty, last].map(ReadSegment::Memory);
        let (mut from, mut page) = (IovSource::new(&segments), vec![STALE; PAGE]);
        match variant {
            AsFound => as_found(&mut page, &mut from, &first, log),
            Fixed => rest(&mut page, &mut from, log),
        }?;
        let moved = buffer.len() - from.count();
        let status = if from.is_empty() { COPIED } else { SHORT };
        Ok(Ended { status, moved, product: landed(&page, OFFSET, STALE, &user.contents()?[..moved]) })
    }
}

const FINE: &str = "the mail: either semantics works";
const SHORT_COPY: &str =
    "the mail: right on any short copy; 5.14: counts what was copied, up to the byte that cannot be read";
const SECOND_WAY: &str = "5.14: what the first way leaves, the second copies, and that may fault";
const SURPRISE: &str = "any prefix may have moved; the page has it, and no more";

const FIXED: Expected =
    Expected::whole_or((With(COPIED, Moved::All), FINE), (With(SHORT, Moved::Accessible), SHORT_COPY))
        .races(&[COPIED, SHORT], SURPRISE);

const EXPECTED: [Expected; 2] = [FIXED.at(Cold, SECOND_WAY).at(Evicted, SECOND_WAY), FIXED];
