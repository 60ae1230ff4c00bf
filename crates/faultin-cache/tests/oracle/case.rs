//! Cases and their generation.

use std::fmt;

use faultin::page_size;
use faultin_cache::write::WriteLoop;
use proptest::prelude::*;
use proptest::sample::select;

use crate::kernel;
use crate::kernel_loops;
use crate::ours::{self, Way};
use crate::region::{Kind, PAGES, Region};

/// A region, a file in some cache, and the operations on both.
#[derive(Clone)]
pub struct Case {
    pub kinds: [Kind; PAGES],
    pub setting: Setting,
    /// The file's initial length in bytes.
    pub len: usize,
    pub steps: Vec<Step>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}\n{:?}, {} bytes in the file", self.kinds, self.setting, self.len)?;
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{number}: {step:?}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub struct Setting {
    pub kernel: kernel::Home,
    pub store: ours::Home,
    pub block: usize,
    pub max_folio: usize,
    pub limit: usize,
    pub write_loop: &'static str,
}

/// A part of the region: its `start` and its length in bytes.
#[derive(Clone, Copy)]
pub struct Segment {
    pub start: usize,
    pub len: usize,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start, self.len)
    }
}

/// A position in the file.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    At(u64),
    /// Relative to the end of the file at that moment.
    FromEnd(i64),
}

impl Place {
    pub fn resolve(self, len: u64) -> u64 {
        match self {
            Place::At(pos) => pos,
            Place::FromEnd(distance) => len.saturating_add_signed(distance),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    /// The twin uses this way.
    Write(Vec<Segment>, Place, Way),
    Read(Vec<Segment>, Place, Way),
    SetLen(Place),
    Punch(Place, u64),
    Sync,
    DropClean,
    /// Reads the whole file through the cache.
    Look,
}

/// The loops whose counts are as exact as the kernel's: those that do not insist on a whole batch.
pub const LOOPS: [(&str, WriteLoop); 7] = [
    ("default", WriteLoop::DEFAULT),
    ("generic_perform_write", kernel_loops::GENERIC_PERFORM_WRITE),
    ("generic_perform_write 5.18", kernel_loops::GENERIC_PERFORM_WRITE_5_18),
    ("ntfs_perform_write", kernel_loops::NTFS_PERFORM_WRITE),
    ("fuse_fill_write_pages", kernel_loops::FUSE_FILL_WRITE_PAGES),
    ("btrfs_buffered_write", kernel_loops::BTRFS_BUFFERED_WRITE),
    ("f2fs_file_write_iter", kernel_loops::F2FS_FILE_WRITE_ITER),
];

impl Setting {
    pub fn write_loop(&self) -> WriteLoop {
        let known = LOOPS.iter().find(|(name, _)| *name == self.write_loop);
        known.map(|(_, write_loop)| write_loop.clone()).expect("a loop of the list")
    }
}

/// All cases that are possible here: with poisoned pages if those are available, with direct I/O if it has an `alignment`.
pub fn cases(poison: bool, alignment: Option<usize>) -> impl Strategy<Value = Case> {
    let len = prop_oneof![Just(0), 1..200_usize, near_page(3), 0..4 * page_size()];
    let steps = prop::collection::vec(step(), 1..10);
    (prop::array::uniform8(kind(poison)), setting(alignment), len, steps)
        .prop_map(|(kinds, setting, len, steps)| Case { kinds: with_small_holes(kinds), setting, len, steps })
}

/// No hole is larger than a page, so that other mappings of the process do not fit.
fn with_small_holes(mut kinds: [Kind; PAGES]) -> [Kind; PAGES] {
    for index in 1..PAGES {
        if kinds[index] == Kind::Unmapped && kinds[index - 1] == Kind::Unmapped {
            kinds[index] = Kind::NoAccess;
        }
    }
    kinds
}

fn kind(poison: bool) -> impl Strategy<Value = Kind> {
    let bad = if poison { &Kind::ALL[2..] } else { &Kind::ALL[2..Kind::ALL.len() - 1] };
    prop_oneof![6 => Just(Kind::Good), 2 => Just(Kind::Cold), 4 => select(bad)]
}

fn setting(alignment: Option<usize>) -> impl Strategy<Value = Setting> {
    use ours::Home;
    let kernel = prop_oneof![2 => Just(kernel::Home::Memfd), 1 => Just(kernel::Home::Disk)];
    let mut homes = vec![Home::Memory; 9];
    homes.extend([Home::Memfd, Home::Memfd, Home::Memfd, Home::Memfd, Home::Disk, Home::Disk]);
    homes.extend(alignment.map(|_| Home::Direct));
    let block = prop_oneof![
        1 => Just(16_usize),
        3 => Just(64),
        3 => Just(512),
        1 => Just(1024),
        5 => Just(4096),
        1 => Just(16384),
    ];
    let limit = prop_oneof![1 => Just(0_usize), 2 => Just(1), 2 => Just(3), 2 => Just(16), 3 => Just(4096)];
    let write_loop = prop_oneof![4 => Just(LOOPS[0].0), 1 => select(&LOOPS[1..]).prop_map(|(name, _)| name)];
    (kernel, select(homes), block, 0..6_u32, limit, write_loop).prop_map(
        move |(kernel, store, block, order, limit, write_loop)| {
            let least = if store == Home::Direct { alignment.unwrap_or(1) } else { 1 };
            let block = block.max(least);
            // Loops other than the default need store operations that only the store in memory has.
            let write_loop = if store == Home::Memory { write_loop } else { LOOPS[0].0 };
            Setting { kernel, store, block, max_folio: block << order, limit: limit * block, write_loop }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let way = || prop_oneof![2 => Just(Way::Direct), 1 => Just(Way::Buffered)];
    prop_oneof![
        9 => (segments(), place(), way()).prop_map(|(segments, place, way)| Step::Write(segments, place, way)),
        1 => segments().prop_map(|segments| Step::Write(segments, Place::FromEnd(0), Way::Append)),
        6 => (segments(), place(), way()).prop_map(|(segments, place, way)| Step::Read(segments, place, way)),
        1 => place().prop_map(Step::SetLen),
        1 => (place(), near_page(2)).prop_map(|(place, len)| Step::Punch(place, len as u64 + 1)),
        1 => Just(Step::Sync),
        1 => Just(Step::DropClean),
        1 => Just(Step::Look),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    let page = page_size() as u64;
    prop_oneof![
        3 => near_page(5).prop_map(|pos| Place::At(pos as u64)),
        1 => (0..6 * page).prop_map(Place::At),
        3 => Just(Place::FromEnd(0)),
        2 => (-300..300_i64).prop_map(Place::FromEnd),
        1 => (0..3 * page as i64).prop_map(Place::FromEnd),
    ]
}

fn segments() -> impl Strategy<Value = Vec<Segment>> {
    prop_oneof![
        2 => segment().prop_map(|segment| vec![segment]),
        3 => prop::collection::vec(segment(), 0..7),
    ]
}

/// Most begin or end near a page boundary. None exceeds the region.
fn segment() -> impl Strategy<Value = Segment> {
    let page = page_size();
    let start = prop_oneof![4 => near_page(PAGES - 1), 1 => 0..Region::len()];
    let len = prop_oneof![
        1 => Just(0),
        3 => 1..300_usize,
        2 => near_page(2),
        2 => near_page(4),
        1 => 0..3 * page,
        1 => Just(page),
    ];
    (start, len).prop_map(|(start, len)| Segment { start, len: len.min(Region::len() - start) })
}

/// A number near one of the first `pages` multiples of the page size.
fn near_page(pages: usize) -> impl Strategy<Value = usize> {
    let edge = prop_oneof![Just(0), -130..130_isize, -2..3_isize];
    (0..=pages, edge).prop_map(|(index, edge)| (index * page_size()).saturating_add_signed(edge))
}
