//! Random operations on two cached files of a few tiny blocks, compared with vectors of the expected bytes.
//!
//! Any bytes given to [`run`] decode to a sequence of operations, so that a fuzzer can generate them; the same bytes always
//! decode to the same sequence. The buffers are simulated memory with faults. The stores check the callers' part of their
//! contract, and return short counts and errors.

mod memory;
mod operations;
mod source;
mod store;

use std::ops::Range;
use std::sync::Arc;

use faultin_cache::write::WriteLoop;
use faultin_cache::{Cache, CacheOptions, Error, FileOptions};

use memory::Memory;
use operations::{Doing, Operation, Party};
pub use source::Source;
use store::{Manners, Picky};

use crate::kernel_loops;

/// The maximum number of operations in a sequence.
const LONGEST: usize = 60;

/// All loops.
const LOOPS: [WriteLoop; 13] = [
    WriteLoop::DEFAULT,
    kernel_loops::GENERIC_PERFORM_WRITE,
    kernel_loops::GENERIC_PERFORM_WRITE_5_18,
    kernel_loops::IOMAP_WRITE_ITER_5_18,
    kernel_loops::IOMAP_WRITE_ITER,
    kernel_loops::NTFS_PERFORM_WRITE_5_18,
    kernel_loops::NTFS_PERFORM_WRITE,
    kernel_loops::FUSE_FILL_WRITE_PAGES,
    kernel_loops::FUSE_FILL_WRITE_PAGES_5_16,
    kernel_loops::BTRFS_BUFFERED_WRITE,
    kernel_loops::BTRFS_BUFFERED_WRITE_5_16,
    kernel_loops::F2FS_FILE_WRITE_ITER_5_18,
    kernel_loops::F2FS_FILE_WRITE_ITER,
];

/// Counts of the outcomes of operations: a test that never reaches one of them tests nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub whole: u64,
    pub short: u64,
    pub nothing: u64,
    /// Operations during which a store failed.
    pub failed: u64,
}

impl Tally {
    fn count(&mut self, moved: usize, wanted: usize) {
        match moved {
            _ if moved == wanted => self.whole += 1,
            0 => self.nothing += 1,
            _ => self.short += 1,
        }
    }
}

/// The whole state.
struct World {
    cache: Cache,
    block: usize,
    options: FileOptions,
    write_loop: WriteLoop,
    memory: Memory,
    files: [Party; 2],
}

/// Runs the sequence that `bytes` decode to.
///
/// # Errors
/// The operation with a wrong result, and the whole sequence.
pub fn run(bytes: &[u8]) -> Result<Tally, String> {
    let mut source = Source::new(bytes);
    let mut story = Vec::new();
    let mut world = World::new(&mut source, &mut story);
    let mut tally = Tally::default();
    for _ in 0..LONGEST {
        if source.is_empty() {
            break;
        }
        let index = source.below(2);
        let operation = Operation::new(&mut source, world.files[index].model.len());
        let good_calls = if source.once_in(8) { Some(source.below(4) as u32) } else { None };
        let failing = good_calls.map(|calls| format!(", all but {calls} calls of the stores fail"));
        story.push(format!("file {index}: {operation:?}{}", failing.unwrap_or_default()));
        world.memory.beset(&mut source);
        world.fail_after(good_calls);
        let result = Doing::new(&mut world, index).run(&operation, &mut source, &mut tally);
        world.fail_after(None);
        result.and_then(|()| world.check()).map_err(|what| format!("{what}\nafter:\n{}", story.join("\n")))?;
    }
    world.end().map_err(|what| format!("{what}\nat the end of:\n{}", story.join("\n")))?;
    Ok(tally)
}

impl World {
    fn new(source: &mut Source<'_>, story: &mut Vec<String>) -> World {
        let block = 1 << source.below(5);
        let max_folio = block << source.below(5);
        let limit = source.below(9) * block;
        let which = source.below(LOOPS.len());
        let write_loop = LOOPS[which].clone();
        let cache = CacheOptions::new().block(block).limit(limit).build();
        let options = FileOptions::new().max_folio(max_folio).write_loop(write_loop.clone());
        story.push(format!("blocks of {block}, folios of {max_folio}, a limit of {limit}, {write_loop:?}"));
        let files = [0, 1].map(|index| {
            let unit = block >> source.below(5).min(block.ilog2() as usize);
            let manners =
                Manners { unit, most: 1 + source.below(64), interrupts: source.once_in(2), holes: !source.once_in(3) };
            let model: Vec<u8> = (0..source.below(100)).map(|at| (at as u8).wrapping_mul(5) | 1).collect();
            story.push(format!("file {index}: {manners:?}, {} bytes", model.len()));
            let store = Arc::new(Picky::new(manners, model.clone()));
            let file = cache.open_with(Arc::clone(&store), options.clone()).expect("a store that opens");
            Party { file, store, model, failures_seen: 0 }
        });
        World { cache, block, options, write_loop, memory: Memory::new(source), files }
    }

    fn fail_after(&self, good_calls: Option<u32>) {
        self.files.iter().for_each(|file| file.store.fail_after(good_calls));
    }

    /// Failed calls of the stores.
    fn failures(&self) -> u32 {
        self.files.iter().map(|file| file.store.failures()).sum()
    }

    /// Failed syncs.
    fn failed_syncs(&self) -> u32 {
        self.files.iter().map(|file| file.store.failed_syncs()).sum()
    }

    /// Closes a file and opens it again. The store gets at the next sync what it did not accept when the file was closed.
    fn reopen(&mut self, index: usize) -> Result<(), String> {
        let party = &mut self.files[index];
        // There is always a file, so another one takes its place meanwhile.
        let placeholder =
            self.cache.open(faultin_cache::store::MemoryStore::new([])).map_err(|error| error.to_string())?;
        drop(std::mem::replace(&mut party.file, placeholder));
        self.fail_after(None);
        match self.cache.sync() {
            Err(Error::Lost { .. }) if self.failed_syncs() > 0 => (),
            result => result.map_err(|error| error.to_string())?,
        }
        let party = &mut self.files[index];
        same("the store of a closed file", &party.store.contents(), &party.model)?;
        let reopened = self.cache.open_with(Arc::clone(&party.store), self.options.clone());
        party.file = reopened.map_err(|error| error.to_string())?;
        party.failures_seen = party.store.failures();
        Ok(())
    }

    /// Checks the invariants that hold while the stores work.
    fn check(&self) -> Result<(), String> {
        for (index, party) in self.files.iter().enumerate() {
            same(&format!("file {index}"), &party.contents()?, &party.model)?;
            let reserved = if self.write_loop.reserve { party.file.dirty() } else { 0 };
            if party.store.reserved() != reserved {
                return Err(format!("file {index}: {} bytes are reserved, not {reserved}", party.store.reserved()));
            }
        }
        // Each file may have two folios beyond the limit.
        let most = self.cache.limit() + 2 * self.files.len() * self.block;
        let dirty: u64 = self.files.iter().map(|party| party.file.dirty()).sum();
        if self.cache.used() > most || dirty as usize > self.cache.used() {
            return Err(format!("folios have {} bytes, {dirty} of them dirty; {most} are allowed", self.cache.used()));
        }
        Ok(())
    }

    /// Checks that everything reaches the stores and no memory is left.
    fn end(&self) -> Result<(), String> {
        for party in &self.files {
            // Earlier failures may be reported once; what a failed sync may have lost is reported until it is written
            // again.
            let _ = party.file.sync_all();
            let again = |error| format!("reported again: {error}");
            match party.file.sync_all() {
                Err(Error::Lost { ranges, .. }) if party.store.failed_syncs() > 0 => {
                    for Range { start, end } in ranges {
                        let bytes = party.model.get(start as usize..end as usize).ok_or("lost past the end")?;
                        party.file.write_at(bytes, start).map_err(|partial| again(partial.error))?;
                    }
                    party.file.sync_all().map_err(again)?;
                }
                result => result.map_err(again)?,
            }
            party.is_stored()?;
        }
        self.check()?;
        self.cache.drop_clean();
        if self.cache.used() == 0 { Ok(()) } else { Err(format!("{} bytes are clean and stay", self.cache.used())) }
    }
}

/// # Errors
/// The first byte that differs.
fn same(what: &str, ours: &[u8], expected: &[u8]) -> Result<(), String> {
    if ours == expected {
        return Ok(());
    }
    if ours.len() != expected.len() {
        return Err(format!("{what} has {} bytes, not {}", ours.len(), expected.len()));
    }
    let at = ours.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(0);
    Err(format!("{what} has {:#04x} at {at}, not {:#04x}", ours[at], expected[at]))
}
