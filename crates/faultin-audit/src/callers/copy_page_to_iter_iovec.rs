//! Row 16, `copy_page_to_iter_iovec`: the other direction of row 7, from a page to a user's segments, in the same two ways.
//!
//! As found its fault-in stores a zero at the first segment's start. The copy is about to overwrite it, unless that byte's
//! page is unmapped in between: then it stays, although nothing was counted.
//!
//! The product is the user's memory: the bytes that moved, in their segments, and nothing else; and the position, moved by
//! the same number.

#![forbid(unsafe_code)]

use faultin::iov::{IovDest, WriteSegment};
use faultin::memory::{WriteMemory, WriteNoWait};

use super::copy_page_from_iter_iovec::step;
use super::product::STRADDLING;
use super::segments::{object, segments};
use crate::axes::Variant::{self, AsFound, Fixed};
use crate::bug::Bug;
use crate::caller::{Caller, Code, Ended, Halt, Need};
use crate::expect::Ends::With;
use crate::expect::{Expected, Moved};
use crate::helpers::fault_in_pages_writeable;
use crate::log::{Log, Stuck};
use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 16,
    name: "copy_page_to_iter_iovec",
    place: "iov_iter",
    need: Need::Either,
    finding: "either semantics works",
    origins: [
        "caller from 5.14 with HIGHMEM, helper from 5.14 (fault_in_pages_writeable)",
        "caller from 6.1, where only the second way is left; no helper",
    ],
    expected: &EXPECTED,
    stores: true,
    job: Some(&CopyPageToIterIovec),
    ..Caller::NOT_YET
};

/// The caller.
struct CopyPageToIterIovec;

/// Size of the page in bytes.
const PAGE: usize = 512;
/// Offset of the bytes for the user in it.
const OFFSET: usize = 24;
/// The previous contents of the user's memory.
const STALE: u8 = 0x77;

const COPIED: &str = "ok";
const SHORT: &str = "short";

fn page() -> Vec<u8> {
    (0..PAGE).map(|at| (at % 101) as u8 + 0x80).collect()
}

fn as_found<M: WriteMemory + WriteNoWait>(
    page: &[u8],
    to: &mut IovDest<'_, '_, M>,
    first: &M,
    log: &mut Log,
) -> Result<(), Stuck> {
    if fault_in_pages_writeable(first, log).is_ok() {
        let wanted = to.count();
        let copied = to.copy_to_iter_nowait(&page[OFFSET..OFFSET + wanted]);
        log.copied("map the page for the moment, copy with page faults disabled", wanted, &copied.map(drop));
    }
    if to.is_empty() {
        return Ok(());
    }
    log.decide("too bad: map the page for longer");
    rest(page, to, log)
}

/// Copies the rest to its place, segment by segment and part by part, with page faults enabled.
fn rest<M: WriteMemory>(page: &[u8], to: &mut IovDest<'_, '_, M>, log: &mut Log) -> Result<(), Stuck> {
    let (before, mut at) = (to.moved(), OFFSET + to.moved());
    while !to.is_empty() {
        let piece = step(at, to.moved(), to.count(), to.single_seg_count(), log);
        let mut mapped = page[at..at + piece.mapped].to_vec();
        mapped.resize(piece.wanted, 0);
        let copied = to.copy_page_to_iter(&mapped, 0, piece.wanted);
        log.copied("copy with page faults enabled", piece.wanted, &copied.map(drop));
        let Ok(copied) = copied else { break };
        if copied == 0 {
            log.again()?;
        }
        at += if log.has(Bug::CumulativeCount) { to.moved() - before } else { copied };
    }
    Ok(())
}

impl Code for CopyPageToIterIovec {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        object(scale, |_| STALE)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let buffer = user.dest()?;
        let [first, empty, last] =
            segments(buffer.len()).map(|range| buffer.subslice(range).expect("within the buffer"));
        let mut segments = [first.clone(), empty, last].map(WriteSegment::Memory);
        let (mut to, page) = (IovDest::new(&mut segments), page());
        match variant {
            AsFound => as_found(&page, &mut to, &first, log),
            Fixed => rest(&page, &mut to, log),
        }?;
        let (left, moved) = (to.count(), buffer.len() - to.count());
        let status = if left == 0 { COPIED } else { SHORT };
        let product = if !user.surroundings_intact()? {
            Err("bytes outside the buffer changed".into())
        } else {
            check(&user.contents()?, &page[OFFSET..OFFSET + buffer.len()], moved, variant)
        };
        Ok(Ended { status, moved, product })
    }
}

/// Checks that the first `moved` of the bytes `wanted`, and nothing else, have been written, except for the helper's zero,
/// as found.
fn check(buffer: &[u8], wanted: &[u8], moved: usize, variant: Variant) -> Result<(), String> {
    if buffer[..moved] != wanted[..moved] {
        return Err(format!("not the {moved} bytes that were to move"));
    }
    let zeroed = |at| variant == AsFound && at == 0 && moved == 0 && buffer[at] == 0;
    let straddling = |at| at < moved + STRADDLING && buffer[at] == wanted[at];
    let others = (moved..buffer.len()).filter(|&at| buffer[at] != STALE && !zeroed(at) && !straddling(at)).count();
    if others == 0 { Ok(()) } else { Err(format!("{others} bytes more than the {moved} counted")) }
}

const FINE: &str = "the mail: either semantics works";
const SHORT_COPY: &str = "the mail: either works; 5.14: counts what was copied, up to the byte that cannot be written";
const SECOND_WAY: &str = "5.14: what the first way leaves, the second copies, and that may fault";
const STORES: &str = "nothing can be stored there";
const SURPRISE: &str = "any prefix may have moved; the user has it, and no more";

const FIXED: Expected =
    Expected::whole_or((With(COPIED, Moved::All), FINE), (With(SHORT, Moved::Accessible), SHORT_COPY))
        .races(&[COPIED, SHORT], SURPRISE)
        .at(ReadOnly, STORES);

const EXPECTED: [Expected; 2] = [
    FIXED
        .races(&[COPIED, SHORT], "as fixed; a zero of the helper's may stay at the start")
        .at(Cold, SECOND_WAY)
        .at(Evicted, SECOND_WAY),
    FIXED,
];
