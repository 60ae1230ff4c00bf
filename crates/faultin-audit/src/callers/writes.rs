//! Rows 8 to 13: a write of the user's segments to a cached file, by one of the loops of `faultin_cache`, which is set to do
//! what the row's loop does.
//!
//! The file begins with the bytes of the buffer: a buffer that is a mapping of the written folio shows these. Other bytes
//! follow up to the file's end, across which the write goes; the store has both, the cache nothing yet. Its blocks are
//! small, so that a buffer of 200 bytes spans several of them.
//!
//! The product is the file: the bytes that were counted, at their place, and everything else unchanged; in the cache, and
//! in the store once it is written back; with the right length; and no space reserved or allocated that no byte needs.

#![forbid(unsafe_code)]

use std::sync::Arc;

use faultin::iov::{IovSource, ReadSegment};
use faultin::memory::ReadMemory;
use faultin_cache::copy::{MayWait, NoWait};
use faultin_cache::mutation::{Bug as WriteBug, Mutated};
use faultin_cache::store::MemoryStore;
use faultin_cache::write::WriteLoop;
use faultin_cache::{CacheOptions, CachedFile, Error, FileOptions, Partial};

use super::kernel_loops;
use super::looker::Looker;
use super::product::compare;
use super::segments::{self, segments};
use crate::axes::Variant;
use crate::bug::{Bug, Loops};
use crate::caller::{Caller, Code, Ended, Halt, Need};
use crate::expect::Ends::With;
use crate::expect::{Ends, Expected, Moved};
use crate::log::{Log, Stuck};
use crate::scenario::Scenario::{Cold, Evicted, InaccessibleTail, OwnFolio, ReadOnly};
use crate::user::{Object, Registers, Scale, User};

/// Row 8: the loop of most file systems: a part of one page at a time, faulted in before, copied with page faults disabled
/// while the page is locked. `write_end` rejects a short copy to a page that is not uptodate; then the next attempt
/// requests the number of bytes that was copied.
pub(super) const GENERIC_PERFORM_WRITE: Caller = Caller {
    row: 8,
    name: "generic_perform_write",
    place: "mm",
    finding: "a short copy without progress shortens the next chunk; zero copied relies on fault-in to refuse",
    origins: [
        "caller from 5.18, helper from 5.18 (fault_in_iov_iter_readable: some is enough)",
        "caller from 6.14 (faults in after nothing was copied), helper: faultin's fault_in",
    ],
    expected: &expected(&SAYS, [BY_PAGE, BY_PAGE_AFTER]),
    job: Some(&Writes {
        loops: [kernel_loops::GENERIC_PERFORM_WRITE_5_18, kernel_loops::GENERIC_PERFORM_WRITE],
        attempts_per_event: REJECTS,
    }),
    ..WRITE
};

/// Row 9: allocates disk blocks in advance if the whole buffer can be faulted in, then writes as row 8. Whatever the result
/// of the fault-in, only blocks are at stake: unused ones are freed.
pub(super) const F2FS_FILE_WRITE_ITER: Caller = Caller {
    row: 9,
    name: "f2fs_file_write_iter",
    place: "f2fs",
    need: Need::Either,
    finding: "preallocation heuristic; correct either way",
    origins: [
        "caller from 5.18, helper from 5.18 (fault_in_iov_iter_readable: the whole request, or no allocation)",
        "caller that allocates without asking and gives back what is not used, over row 8's fixed loop",
    ],
    expected: &expected(
        &Says {
            fine: "the mail: correct either way",
            nothing: "5.18: nothing is allocated if it cannot all be faulted in, and nothing is written: EFAULT",
            ..SAYS
        },
        // Evicted after the fault-in for the whole buffer: the one of the first piece brings it in again.
        [Attempts { evicted: 1, ..BY_PAGE }, BY_PAGE_AFTER],
    ),
    job: Some(&Writes {
        loops: [kernel_loops::F2FS_FILE_WRITE_ITER_5_18, kernel_loops::F2FS_FILE_WRITE_ITER],
        attempts_per_event: REJECTS,
    }),
    ..WRITE
};

/// Row 10: fills the pages of a request, which is then sent. As found each page's part must be faulted in as a whole, so a
/// part that contains the first bad byte is lost; fixed, every byte before it is sent.
pub(super) const FUSE_FILL_WRITE_PAGES: Caller = Caller {
    row: 10,
    name: "fuse_fill_write_pages",
    place: "fuse",
    finding: "like 8, simpler: no write_end",
    origins: [
        "caller from 5.16 to 6.15, helper from 5.16 (any byte missing of a page's part is an error)",
        "caller from 6.16 (faults in after nothing was copied), helper: faultin's fault_in",
    ],
    expected: &expected(
        &Says {
            before: "5.16: each page's part is faulted in first",
            after: "6.16: an attempt that copies nothing faults the rest in, and the next copies all of it",
            nothing: "5.16 and 6.16: EFAULT if nothing was filled",
            exact: "6.16: every byte that was copied is sent",
            lost: Some((
                With(SHORT, Moved::Bytes(60)),
                "5.16 to 6.15: a page's part that cannot all be faulted in is lost, and ends the request",
            )),
            loads: "5.16 and 6.16: the buffer is only read",
            again: "5.16 and 6.16: what is evicted in front of the copy takes another attempt",
            granule: "5.16 to 6.16: the helper touches a byte of each page and so passes the granule by; the copy stops there, and \
                      a fault-in that loads there fails",
            own: "the copy waits for no fault while the page is locked",
            ..SAYS
        },
        [BY_CHUNK, BY_CHUNK_AFTER],
    ),
    job: Some(&Writes {
        loops: [kernel_loops::FUSE_FILL_WRITE_PAGES_5_16, kernel_loops::FUSE_FILL_WRITE_PAGES],
        attempts_per_event: 1,
    }),
    ..WRITE
};

/// Row 11: reserves space for several pages, locks them and copies to all of them. As found the whole chunk must be faulted
/// in, so it is lost if one byte is bad. Space that was reserved and not written is released in each round; after a short
/// copy it proceeds page by page, and reads pages from the store that a copy may not fill.
pub(super) const BTRFS_BUFFERED_WRITE: Caller = Caller {
    row: 11,
    name: "btrfs_buffered_write",
    place: "btrfs",
    finding: "after a short copy goes page by page and brings destination pages up to date",
    origins: [
        "caller from 5.16 to 6.15, helper from 5.16 (any byte missing of a chunk is an error)",
        "caller as the mail would have it (some is enough, and only after nothing was copied), helper: faultin's fault_in",
    ],
    expected: &expected(
        &Says {
            before: "5.16: each chunk is faulted in first",
            after: "6.14's rule: an attempt that copies nothing faults in; from the first short copy on it goes page by page",
            nothing: "5.16: EFAULT if nothing was written before",
            exact: "the mail: ANY is enough, so every byte in front of the bad one can be written",
            lost: Some((
                With(EFAULT, Moved::Nothing),
                "measured on 6.18: 100 good bytes and 100 bad ones are EFAULT, with nothing written; before 6.16 the whole \
                 chunk is lost",
            )),
            loads: "5.16: the buffer is only read",
            again: "5.16: what is evicted in front of the copy: page by page, pages brought up to date, another attempt",
            granule: "5.16: the helper touches a byte of each page and so passes the granule by; a partial copy, then page by \
                      page, then EFAULT",
            own: "since 2011 (914ee295af, b1bf862e9dad) the copy waits for no fault while pages are locked",
            ..SAYS
        },
        [BY_CHUNK, BY_CHUNK_AFTER],
    ),
    job: Some(&Writes {
        loops: [kernel_loops::BTRFS_BUFFERED_WRITE_5_16, kernel_loops::BTRFS_BUFFERED_WRITE],
        attempts_per_event: 1,
    }),
    ..WRITE
};

/// Row 12: row 8 over clusters: the pages of a cluster are prepared together. Removed in 6.9 with the old driver.
pub(super) const NTFS_PERFORM_WRITE: Caller = Caller {
    row: 12,
    name: "ntfs_perform_write",
    place: "ntfs",
    finding: "like 8",
    origins: [
        "caller of the old driver with row 8's loop of 5.18, helper from 5.18 (some is enough)",
        "the same with row 8's loop of 6.14, helper: faultin's fault_in",
    ],
    expected: &expected(
        &Says { fine: "the mail: like row 8", ..SAYS },
        [Attempts { tail: 2, ..BY_CHUNK }, Attempts { tail: 2, ..BY_CHUNK_AFTER }],
    ),
    job: Some(&Writes {
        loops: [kernel_loops::NTFS_PERFORM_WRITE_5_18, kernel_loops::NTFS_PERFORM_WRITE],
        attempts_per_event: REJECTS,
    }),
    ..WRITE
};

/// Row 13: row 8 over extents (`iomap_write_iter` today): a short copy to a page that is not uptodate is rejected, and the
/// piece is repeated with the number of bytes that was copied.
pub(super) const IOMAP_WRITE_ACTOR: Caller = Caller {
    row: 13,
    name: "iomap_write_actor",
    place: "iomap",
    finding: "like 8",
    origins: [
        "caller from 5.18 (iomap_write_iter), helper from 5.18 (some is enough)",
        "caller as proposed in 2025 (faults in after nothing was copied), helper: faultin's fault_in",
    ],
    expected: &expected(
        &Says {
            fine: "the mail: like row 8",
            after: "as proposed: an attempt that copies nothing faults its piece in; a copy that ends at the next page is \
                    refused and asked for again",
            exact: "measured on 6.18 (xfs): short, exact to the byte; a short copy to a block that is not up to date is done \
                    again with as many bytes as were copied",
            ..SAYS
        },
        [BY_PAGE, BY_PAGE_AFTER],
    ),
    job: Some(&Writes {
        loops: [kernel_loops::IOMAP_WRITE_ITER_5_18, kernel_loops::IOMAP_WRITE_ITER],
        attempts_per_event: REJECTS,
    }),
    ..WRITE
};

/// What these rows have in common.
const WRITE: Caller = Caller { need: Need::Any, has_file: true, ..Caller::NOT_YET };

/// Everything was written.
const WRITTEN: &str = "ok";
/// Some bytes were written.
const SHORT: &str = "short";
/// Nothing, because of the buffer.
const EFAULT: &str = "EFAULT";

/// The sources of a row's expectations.
struct Says {
    fine: &'static str,
    /// A cold buffer, as found, and fixed.
    before: &'static str,
    after: &'static str,
    nothing: &'static str,
    /// A part of the buffer.
    exact: &'static str,
    /// The end as found of a part that does not count, and its source.
    lost: Option<(Ends, &'static str)>,
    loads: &'static str,
    again: &'static str,
    granule: &'static str,
    own: &'static str,
}

/// Those of row 8.
const SAYS: Says = Says {
    fine: "the mail: ANY is enough",
    before: "5.18: each attempt faults its piece in first",
    after: "6.14: an attempt that copies nothing faults its piece in; a copy that ends at the next page is refused and \
            asked for again",
    nothing: "5.18 and 6.14: EFAULT if not a byte could be faulted in and nothing was written before",
    exact: "measured on 6.18 (ext4, xfs, tmpfs): short, exact to the byte; write_end refuses what ends within a page \
            that is not up to date, and the next attempt asks for that much",
    lost: None,
    loads: "5.18 and 6.14: the buffer is only read",
    again: "5.18 and 6.14: what is evicted in front of the copy takes another attempt",
    granule: "the thread: short up to the granule, then a fault-in that loads there fails",
    own: "since 2.6.20 (08291429cfa6) the copy waits for no fault while the page is locked",
};

/// Numbers of attempts.
#[derive(Clone, Copy)]
struct Attempts {
    cold: u32,
    part: u32,
    tail: u32,
    evicted: u32,
    own: u32,
}

/// A page at a time, faulted in before each attempt: one more for bytes that `write_end` rejected.
const BY_PAGE: Attempts = Attempts { cold: 1, part: 2, tail: 2, evicted: 2, own: 1 };
/// A page at a time, faulted in after an attempt that moved nothing.
const BY_PAGE_AFTER: Attempts = Attempts { cold: 4, evicted: 5, own: 4, ..BY_PAGE };
/// Several pages at a time, faulted in before each attempt.
const BY_CHUNK: Attempts = Attempts { cold: 1, part: 1, tail: 1, evicted: 2, own: 1 };
/// Several pages at a time, faulted in after an attempt that moved nothing.
const BY_CHUNK_AFTER: Attempts = Attempts { cold: 2, evicted: 4, own: 2, ..BY_CHUNK };

/// Of loops that reject bytes one outside event justifies two attempts: one that `write_end` rejects, and one that copies
/// nothing.
const REJECTS: usize = 2;

/// Returns the expectations of a row.
const fn expected(says: &Says, [found, fixed]: [Attempts; 2]) -> [Expected; 2] {
    let exact = (With(SHORT, Moved::Accessible), says.exact);
    let found = match says.lost {
        // The helper as found does not see a granule, so the copy begins, and what it moved counts.
        Some(lost) => variant(says, lost, says.before, found),
        None => variant(says, exact, says.before, found),
    };
    [found, variant(says, exact, says.after, fixed)]
}

const fn variant(says: &Says, part: (Ends, &'static str), cold: &'static str, attempts: Attempts) -> Expected {
    Expected::new([(With(WRITTEN, Moved::All), says.fine), part, (With(EFAULT, Moved::Nothing), says.nothing)])
        .races(&[WRITTEN, SHORT, EFAULT], "any prefix may be written; the file has it, and no more")
        .in_attempts(1, attempts.part)
        .at_in(Cold, attempts.cold, cold)
        .at(ReadOnly, says.loads)
        .at_in(Evicted, attempts.evicted, says.again)
        .but_in(InaccessibleTail, attempts.tail, With(SHORT, Moved::Accessible), says.granule)
        .at_in(OwnFolio, attempts.own, says.own)
}

/// The loops of a row, as found and fixed.
struct Writes {
    loops: [WriteLoop; 2],
    attempts_per_event: usize,
}

impl Code for Writes {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        segments::object(scale, |byte| byte)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        write(self.loops[variant as usize].clone(), user, log)
    }

    fn attempts_per_event(&self) -> usize {
        self.attempts_per_event
    }
}

/// The contents of the file after the bytes of the buffer.
const BACKGROUND: u8 = 0x77;

/// Positions in bytes.
struct Layout {
    block: usize,
    /// The position of the write.
    pos: usize,
    /// The end of the file, within the write.
    end: usize,
}

impl Layout {
    /// The write begins `before` bytes before a block, and the file ends in the last but one of its blocks.
    fn of(scale: Scale) -> Layout {
        match scale {
            // Pieces of 60, 64, 64 and 12 bytes.
            Scale::Full => Layout { block: 64, pos: 5 * 64 - 60, end: 5 * 64 + 80 },
            // Pieces of 3, 4, 4 and 3.
            Scale::Small => Layout { block: 4, pos: 5 * 4 - 3, end: 5 * 4 + 5 },
        }
    }
}

/// Does the job by this loop.
fn write<U: User>(how: WriteLoop, user: &U, log: &mut Log) -> Result<Ended, Halt> {
    let layout = Layout::of(user.scale());
    let buffer = user.source()?;
    let parts = segments(buffer.len());
    let bug = log.write_bug().map(|bug| match bug {
        WriteBug::StepsBySegment(_) => WriteBug::StepsBySegment(parts.clone().map(|part| part.len())),
        other => other,
    });
    let before = before(&layout, user)?;
    let store = Arc::new(MemoryStore::new(before.clone()));
    let cache = CacheOptions::new().block(layout.block).limit(16 * layout.block).build();
    let options = FileOptions::new().max_folio(layout.block).write_loop(how);
    let file = cache.open_with(Arc::clone(&store), options)?;

    let [first, empty, last] = parts.map(|range| buffer.subslice(range).expect("within the buffer"));
    let parts = [first, empty, last].map(ReadSegment::Memory);
    let mut from = IovSource::new(&parts);
    let mut looker = Looker::new(log, "copy with page faults disabled", "fault-in (some is enough)");
    let loops = Mutated::new(&file, Loops(bug));
    let written = if looker.log.has(Bug::CopiesUnderTheLock) {
        loops.write_iter_with::<_, MayWait>(&mut from, layout.pos as u64, &mut looker)
    } else {
        loops.write_iter_with::<_, NoWait>(&mut from, layout.pos as u64, &mut looker)
    };
    if let Some(stuck) = looker.stuck {
        // An unfinished write is not checked, nor written back.
        return Err(Halt::Stuck(stuck));
    }
    let (moved, status) = match written {
        Ok(all) => (all, WRITTEN),
        Err(Partial { error: Error::Deadlock(_), .. }) => return Err(Halt::Stuck(Stuck::Deadlock)),
        Err(Partial { done: 0, error: Error::Fault(_) | Error::NoProgress(_) }) => (0, EFAULT),
        Err(Partial { done, error: Error::Fault(_) | Error::NoProgress(_) }) => (done, SHORT),
        Err(Partial { error, .. }) => return Err(Halt::Machine(error.into())),
    };
    let contents = user.contents()?;
    let mut product = check(&layout, &file, &store, before, contents.get(..moved).unwrap_or_default());
    if product.is_ok() && from.moved() != moved {
        product = Err(format!("the position moved by {} bytes, the count says {moved}", from.moved()));
    }
    Ok(Ended { status, moved, product })
}

/// Returns the initial contents of the file.
fn before(layout: &Layout, user: &impl User) -> Result<Vec<u8>, Halt> {
    let mut before = user.contents()?;
    before.truncate(layout.pos);
    before.resize(layout.end, BACKGROUND);
    Ok(before)
}

/// Checks that `moved`, and nothing else, is in the file.
fn check(
    layout: &Layout,
    file: &CachedFile,
    store: &MemoryStore,
    mut expected: Vec<u8>,
    moved: &[u8],
) -> Result<(), String> {
    let end = layout.pos + moved.len();
    expected.resize(expected.len().max(end), 0);
    expected[layout.pos..end].copy_from_slice(moved);
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let (reserved, dirty) = (store.reserved(), file.dirty());
    // A loop that does not reserve has nothing reserved.
    if reserved != dirty && reserved != 0 {
        return Err(format!("{reserved} bytes are reserved, {dirty} are dirty"));
    }
    let blocks = expected.len().next_multiple_of(layout.block) as u64;
    if store.allocated() > blocks {
        return Err(format!("allocated up to {}, where the file's last block ends at {blocks}", store.allocated()));
    }
    let mut cached = vec![0; expected.len() + 1];
    let read = file.read_at(&mut cached, 0).map_err(|error| said(&error))?;
    compare("in the cache", &cached[..read], &expected)?;
    file.sync_all().map_err(|error| said(&error))?;
    compare("in the store", &store.contents(), &expected)?;
    match (store.reserved(), file.dirty()) {
        (0, 0) => Ok(()),
        (reserved, dirty) => Err(format!("written back, and {reserved} bytes are reserved, {dirty} dirty")),
    }
}
