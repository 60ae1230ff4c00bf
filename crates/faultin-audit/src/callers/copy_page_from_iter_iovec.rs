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

use super::Variant::{AsFound, Fixed};
use super::{Caller, Code, Ended, Halt, Need, Variant};
use crate::bug::Bug;
use crate::expect::Ends::{OneOf, With};
use crate::expect::{Expectation, Moved, expect};
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
    job: Some(&CopyPageFromIterIovec),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct CopyPageFromIterIovec;

/// Size of the page in bytes.
const PAGE: usize = 512;
/// Offset of the user's bytes in it.
const OFFSET: usize = 24;
/// Its other contents.
const STALE: u8 = 0x77;

const COPIED: &str = "ok";
const SHORT: &str = "short";

/// Three segments: a short one, an empty one, and the rest.
pub(super) fn segments(len: usize) -> [std::ops::Range<usize>; 3] {
    let first = len / 3;
    [0..first, first..first, first..len]
}

/// Makes an object of which nothing is in the middle segment, and the last one crosses into the second page.
pub(super) fn object(scale: Scale, byte: impl Fn(u8) -> u8) -> Object {
    match scale {
        // 100 bytes on each page. The second way starts at the second page.
        Scale::Full => Object::new((1..=200).map(byte).collect(), 100).with_tail(132).with_restart(100),
        Scale::Small => Object::new((1..=14).map(byte).collect(), 6).with_tail(10).with_restart(6),
    }
}

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

fn fixed<M: ReadMemory>(page: &mut [u8], from: &mut IovSource<'_, '_, M>, log: &mut Log) -> Result<(), Stuck> {
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
            Fixed => fixed(&mut page, &mut from, log),
        }?;
        let moved = buffer.len() - from.count();
        let status = if from.is_empty() { COPIED } else { SHORT };
        Ok(Ended { status, moved, product: check(&page, &user.contents()?[..moved]) })
    }

    fn origin(&self, variant: Variant) -> &'static str {
        match variant {
            AsFound => "caller from 5.14 with HIGHMEM, helper from 5.14 (fault_in_pages_readable)",
            Fixed => "caller from 6.1, where only the second way is left; no helper",
        }
    }

    fn expectations(&self) -> &'static [Expectation] {
        &EXPECTED
    }
}

/// Checks that `moved`, and nothing else, is in the page.
fn check(page: &[u8], moved: &[u8]) -> Result<(), String> {
    let (before, rest) = page.split_at(OFFSET);
    let (landed, after) = rest.split_at(moved.len());
    if landed != moved {
        return Err(format!("not the {} bytes that were to move", moved.len()));
    }
    match before.iter().chain(after).filter(|&&byte| byte != STALE).count() {
        0 => Ok(()),
        others => Err(format!("{others} bytes more than the {} counted", moved.len())),
    }
}

const FINE: &str = "the mail: either semantics works";
const SHORT_COPY: &str =
    "the mail: right on any short copy; 5.14: counts what was copied, up to the byte that cannot be read";
const SECOND_WAY: &str = "5.14: what the first way leaves, the second copies, and that may fault";
const SURPRISE: &str = "any prefix may have moved; the page has it, and no more";

const EXPECTED: [Expectation; 20] = [
    expect(AsFound, AllResident, With(COPIED, Moved::All), FINE),
    expect(AsFound, Cold, With(COPIED, Moved::All), SECOND_WAY),
    expect(AsFound, FirstPageBad, With(SHORT, Moved::Nothing), SHORT_COPY),
    expect(AsFound, SecondPageBad, With(SHORT, Moved::FirstPage), SHORT_COPY),
    expect(AsFound, ReadOnly, With(COPIED, Moved::All), FINE),
    expect(AsFound, Evicted, With(COPIED, Moved::All), SECOND_WAY),
    expect(AsFound, Poisoned, With(SHORT, Moved::FirstPage), SHORT_COPY),
    expect(AsFound, InaccessibleTail, With(SHORT, Moved::BeforeTail), SHORT_COPY),
    expect(AsFound, RestartGranuleBad, With(SHORT, Moved::BeforeRestart), SHORT_COPY),
    expect(AsFound, Remapping, OneOf(&[COPIED, SHORT]), SURPRISE),
    expect(Fixed, AllResident, With(COPIED, Moved::All), FINE),
    expect(Fixed, Cold, With(COPIED, Moved::All), FINE),
    expect(Fixed, FirstPageBad, With(SHORT, Moved::Nothing), SHORT_COPY),
    expect(Fixed, SecondPageBad, With(SHORT, Moved::FirstPage), SHORT_COPY),
    expect(Fixed, ReadOnly, With(COPIED, Moved::All), FINE),
    expect(Fixed, Evicted, With(COPIED, Moved::All), FINE),
    expect(Fixed, Poisoned, With(SHORT, Moved::FirstPage), SHORT_COPY),
    expect(Fixed, InaccessibleTail, With(SHORT, Moved::BeforeTail), SHORT_COPY),
    expect(Fixed, RestartGranuleBad, With(SHORT, Moved::BeforeRestart), SHORT_COPY),
    expect(Fixed, Remapping, OneOf(&[COPIED, SHORT]), SURPRISE),
];
