//! Memory for folios: the limit, and which folios are evicted for a new one.

#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::Error;
use crate::folio::queue::{Candidate, MAX_CANDIDATES};
use crate::folio::{Key, MAX_USES, Space, Table};
use crate::inode::{Inode, Shared, Use};
use crate::signals::without_signals;

/// Number of folios of one block that a file may always have, even beyond the limit, so that an operation makes
/// progress: the folio that it copies to or from, and the next one. An access across a page boundary needs both at
/// once.
const MIN_FOLIOS: usize = 2;

/// Maximum number of attempts to allocate a block after other threads have taken the memory that this thread freed.
/// Then the block is exchanged for another one of the same file.
const MAX_RETRIES: u32 = 8;

/// Number of bytes of dirty folios that are written and freed at once; less if that is more than an eighth of the
/// limit.
const RECLAIM_BATCH: usize = 2 << 20;

/// Number of blocks of clean folios that are freed at once; less if that is more than a 256th of the limit. A batch
/// takes fewer locks per folio, and leaves little memory unused.
const CLEAN_BATCH: usize = 16;

/// Which folios of one file may be evicted.
pub(super) struct EvictionScope {
    /// Also dirty folios, which are written first.
    pub(super) dirty: bool,
    /// Also folios that were faulted in and are about to be used.
    pub(super) kept: bool,
    /// Also folios that an operation has requested so recently that its next round may still need them.
    pub(super) wanted: bool,
}

impl Shared {
    /// Returns a part of the limit for a folio of at most `want` bytes, for a file whose inode lock the caller holds.
    ///
    /// # Errors
    /// [`Error::Full`] if nothing can be freed within the limit; [`Error::Memory`] if the kernel has no memory.
    pub(crate) fn space_for(
        &self,
        inode: &Inode,
        table: &mut Table,
        want: usize,
        what_for: Use,
    ) -> Result<Space, Error> {
        // One folio gets at most half of the limit, so that it does not displace all others.
        let most = (self.arena.limit() / 2).max(inode.geometry().block);
        let mut len = want.min(1 << most.ilog2());
        let mut failed = None;
        while len >= inode.geometry().block {
            for _ in 0..if len == inode.geometry().block { MAX_RETRIES } else { 1 } {
                if let Some(space) = self.alloc(table, len, 0)? {
                    return Ok(space);
                }
                let before = table.len();
                let freed = self.reclaim(inode, table, len);
                if let Some(space) = self.alloc(table, len, 0)? {
                    return Ok(space);
                }
                let has_freed = freed.is_ok() || table.len() < before;
                failed = failed.or(freed.err().flatten());
                if !has_freed {
                    break;
                }
                // Another thread has taken the memory that this thread freed.
            }
            len /= 2;
        }
        self.last_block(inode, table, what_for, failed)
    }

    /// Returns a part of the limit for a folio of at most `want` bytes that is available without waiting: what is free, or
    /// what clean folios have that no operation wants.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory.
    pub(crate) fn space_at_once(&self, inode: &Inode, table: &mut Table, want: usize) -> Result<Option<Space>, Error> {
        let most = (self.arena.limit() / 2).max(inode.geometry().block);
        let mut len = want.min(1 << most.ilog2());
        while len >= inode.geometry().block {
            if let Some(space) = self.alloc(table, len, 0)? {
                return Ok(Some(space));
            }
            Pass::new(self, inode, self.clean_goal(len)).evict_clean(table);
            if let Some(space) = self.alloc(table, len, 0)? {
                return Ok(Some(space));
            }
            len /= 2;
        }
        Ok(None)
    }

    /// Changes the limit, and shrinks to it as far as that is possible now.
    pub(crate) fn set_limit(&self, limit: usize) {
        // In a child of `fork` the folios are the parent's.
        if !self.is_ours() {
            return;
        }
        self.arena.set_limit(limit);
        let is_too_large = || self.arena.used() > self.arena.limit();
        // First in the order of eviction, then whatever can be evicted.
        for wanted in [false, true] {
            if !is_too_large() {
                break;
            }
            for inode in self.snapshot().iter().filter(|_| is_too_large()) {
                let Some(mut table) = inode.table().try_exclusive() else { continue };
                let what = EvictionScope { dirty: true, kept: false, wanted };
                // A store that does not take its blocks reports that to the next sync.
                let _ = match wanted {
                    false => self.reclaim(inode, &mut table, 0).is_ok(),
                    true => {
                        inode.evict(&mut table, self.arena.used().saturating_sub(self.arena.limit()), &what).is_ok()
                    }
                };
            }
        }
        // It has the arena's lock, and no lock of a file, which a pager thread would see.
        without_signals(|| self.arena.trim());
    }

    /// Returns the number of bytes of clean folios to free at once, if `want` are needed.
    fn clean_goal(&self, want: usize) -> usize {
        want.max((CLEAN_BATCH * self.block).min(self.arena.limit() / 256))
    }

    /// Returns memory for one block after reclaim has failed: the remaining folios are about to be used, or cannot be
    /// written.
    ///
    /// The evicted folio may be one that the caller is about to use as well. For a copy this is bounded by its loop. An
    /// access through a mapping has no bound, so for that a file always keeps [`MIN_FOLIOS`] that can be evicted, the
    /// youngest ones, one of which is the requested one.
    ///
    /// # Errors
    /// [`Error::Full`] if no folio can be exchanged.
    fn last_block(
        &self,
        inode: &Inode,
        table: &mut Table,
        what_for: Use,
        mut failed: Option<Arc<io::Error>>,
    ) -> Result<Space, Error> {
        let block = inode.geometry().block;
        let exchange = |table: &mut Table| self.alloc(table, block, usize::MAX);
        if table.len() < MIN_FOLIOS
            && let Some(space) = exchange(table)?
        {
            return Ok(space);
        }
        // The number of evictable folios that a file must have, for one to be evicted.
        let (of_this, of_others) = match what_for {
            Use::Copy => (1, 1),
            Use::Access => (MIN_FOLIOS, MIN_FOLIOS + 1),
        };
        if inode.evict_oldest(table, of_this, &mut failed)
            && let Some(space) = exchange(table)?
        {
            return Ok(space);
        }
        let files = self.snapshot();
        // Folios that cannot be written do not count among those that a file may always have for its accesses, up to a
        // bound.
        let beyond = if what_for == Use::Access { 2 * MIN_FOLIOS * files.len() * block } else { 0 };
        if let Some(space) = self.alloc(table, block, beyond)? {
            return Ok(space);
        }
        for other in files.iter().filter(|other| other.number() != inode.number()) {
            let Some(mut others) = other.table().try_exclusive() else { continue };
            while other.evict_oldest(&mut others, of_others, &mut failed) {
                // This is no exchange: afterwards the other file may allocate its missing folio beyond the limit.
                if let Some(space) = self.alloc(table, block, beyond)? {
                    return Ok(space);
                }
            }
        }
        if failed.is_some() {
            let mut last = self.refusals.last.lock();
            self.refusals.count.fetch_add(1, Ordering::Relaxed);
            last.clone_from(&failed);
        }
        Err(self.full(failed))
    }

    /// Takes a part of the limit: for a mapped file, or with memory of the arena. `None` if that would exceed the limit by
    /// more than `beyond` bytes.
    fn alloc(&self, table: &Table, len: usize, beyond: usize) -> Result<Option<Space>, Error> {
        match table.mapped() {
            Some(mapped) => {
                let taken = self.arena.take(len, beyond);
                Ok(taken.map(|taken| Space::Shared(Arc::clone(&mapped.backing), taken)))
            }
            None => Ok(self.arena.alloc(len, beyond)?.map(Space::Frames)),
        }
    }

    /// Moves a folio to memory that mappings show.
    ///
    /// # Errors
    /// [`Error::Memory`] if the kernel has no memory.
    pub(crate) fn make_shared(&self, table: &mut Table, key: Key) -> Result<(), Error> {
        let folio = table.get(key);
        if folio.is_shared() {
            return Ok(());
        }
        // May exceed the limit: its old memory is freed right after.
        let start = folio.start();
        match self.alloc(table, folio.len(), usize::MAX)? {
            Some(space) => table.get_mut(key).move_to(space.into_memory(start)),
            None => Ok(()),
        }
    }

    /// Evicts folios until `want` more bytes are within the limit, in this order: clean folios of any file that no
    /// thread is using at the moment, in the order of eviction; dirty folios of this file; dirty folios of other files,
    /// unless this file has fewer than it may always have (another file's store may hang).
    fn reclaim(&self, inode: &Inode, table: &mut Table, want: usize) -> Result<(), Option<Arc<io::Error>>> {
        let mut pass = Pass::new(self, inode, self.clean_goal(want));
        if pass.evict_clean(table) {
            return Ok(());
        }
        pass.goal = want.max(RECLAIM_BATCH.min(self.arena.limit() / 8));
        let what = EvictionScope { dirty: true, kept: false, wanted: false };
        let result = inode.evict(table, pass.missing(), &what);
        pass.failed = pass.failed.take().or(result.err());
        if pass.missing() > 0 && table.len() >= MIN_FOLIOS {
            pass.dirty = true;
            pass.round(table, false);
        }
        pass.goal = want;
        if pass.missing() == 0 { Ok(()) } else { Err(pass.failed) }
    }
}

/// A search for folios to evict, by the holder of a file's inode lock.
struct Pass<'a> {
    shared: &'a Shared,
    inode: &'a Inode,
    /// Number of bytes to make available within the limit.
    goal: usize,
    /// Whether dirty folios are written and evicted, too.
    dirty: bool,
    failed: Option<Arc<io::Error>>,
}

/// The decision about a candidate.
#[derive(PartialEq, Eq)]
enum Verdict {
    /// It was evicted.
    Evicted,
    /// It stays because it was used; otherwise it would be evicted.
    Used,
    /// It cannot be evicted now.
    Stays,
}

impl<'a> Pass<'a> {
    fn new(shared: &'a Shared, inode: &'a Inode, goal: usize) -> Pass<'a> {
        Pass { shared, inode, goal, dirty: false, failed: None }
    }

    /// Evicts clean folios until enough is free. Returns whether it is.
    fn evict_clean(&mut self, table: &mut Table) -> bool {
        // Each round removes one use of a folio, so a folio may need `MAX_USES` rounds. The last round ignores uses,
        // because other threads may add them as fast.
        for round in 0..=MAX_USES {
            let has_taken = self.round(table, round < MAX_USES);
            if self.missing() == 0 {
                return true;
            }
            if !has_taken {
                break;
            }
        }
        false
    }

    /// Returns the number of bytes that still have to be freed.
    fn missing(&self) -> usize {
        (self.shared.arena.used() + self.goal).saturating_sub(self.shared.arena.limit())
    }

    /// Walks once over all folios, in the order of eviction, until enough is free. Returns whether a folio has stayed
    /// only because it was used. Folios that an operation is about to use are skipped: they would be read again at
    /// once, and displace others that are about to be used. If there are no other folios, see [`Shared::last_block`].
    fn round(&mut self, table: &mut Table, by_use: bool) -> bool {
        let queue = self.shared.arena.queue();
        let mut round = queue.round();
        let mut picked = Vec::with_capacity(MAX_CANDIDATES);
        let mut has_used = false;
        let mut most = (self.missing() / self.shared.block).clamp(1, MAX_CANDIDATES);
        while self.missing() > 0 {
            queue.pick(&mut round, most, &mut picked);
            if picked.is_empty() {
                break;
            }
            let mut rest = &picked[..];
            let mut files = self.shared.files_of(&picked, self.inode.slot()).into_iter();
            let mut evicted = false;
            while let Some(first) = rest.first()
                && self.missing() > 0
            {
                // Candidates of one file are examined together, under one lock.
                let count = rest.iter().take_while(|candidate| candidate.file == first.file).count();
                let (these, others) = rest.split_at(count);
                rest = others;
                let mut examine = |pass: &mut Self, owner: &Inode, table: &mut Table| {
                    for (at, candidate) in these.iter().enumerate() {
                        if pass.missing() == 0 {
                            return &these[at..];
                        }
                        let verdict = pass.decide(owner, table, candidate, by_use);
                        evicted |= verdict == Verdict::Evicted;
                        has_used |= verdict == Verdict::Used;
                    }
                    &[]
                };
                let other = files.by_ref().take(count).last().flatten();
                let left: &[Candidate] = if first.file == self.inode.slot() {
                    examine(self, self.inode, table)
                } else {
                    match other.as_ref().and_then(|other| Some((other, other.table().try_exclusive()?))) {
                        Some((other, mut table)) => examine(self, other, &mut table),
                        None => &[],
                    }
                };
                queue.put_back(&mut round, left);
            }
            queue.put_back(&mut round, rest);
            // If none could be evicted, twice as many are examined next.
            most = if evicted { most } else { (2 * most).min(MAX_CANDIDATES) };
        }
        has_used
    }

    /// Evicts a candidate of this table, or lets it stay.
    fn decide(&mut self, owner: &Inode, table: &mut Table, candidate: &Candidate, by_use: bool) -> Verdict {
        let &Candidate { key, place, .. } = candidate;
        if !table.is_at(key, place) {
            return Verdict::Stays;
        }
        let folio = table.get(key);
        if by_use && candidate.is_new && folio.is_popular() {
            folio.forget_uses();
            self.shared.arena.queue().promote(place);
            return Verdict::Used;
        }
        let range = folio.start()..folio.end();
        if self.shared.is_wanted(folio) || table.is_kept(range) || folio.is_dirty() && !self.dirty {
            return Verdict::Stays;
        }
        if by_use && !candidate.is_new && folio.take_use() {
            return Verdict::Used;
        }
        if owner.made_clean(table, key, &mut self.failed) {
            owner.evict_folio(table, key);
            return Verdict::Evicted;
        }
        Verdict::Stays
    }
}

impl Inode {
    /// Evicts every folio of this file that can be evicted: also dirty ones if `dirty`.
    ///
    /// # Errors
    /// The store's error, if a dirty folio had to stay.
    #[cfg(test)]
    pub(crate) fn evict_all(&self, table: &mut Table, dirty: bool) -> Result<(), Arc<io::Error>> {
        self.evict(table, usize::MAX, &EvictionScope { dirty, kept: true, wanted: true })
    }

    /// Evicts a folio. Returns its size in bytes.
    fn evict_folio(&self, table: &mut Table, key: Key) -> usize {
        let freed = table.evict(key);
        self.cache().register.evicted(freed);
        freed
    }

    /// Evicts the folio that operations have requested least recently, if at least `least` folios can be evicted; a
    /// dirty one is written first. Returns whether it did. Sets `failed` to the first error of the store.
    fn evict_oldest(&self, table: &mut Table, least: usize, failed: &mut Option<Arc<io::Error>>) -> bool {
        let mut oldest = None;
        let mut count = 0;
        for key in table.by_age() {
            if !self.made_clean(table, key, failed) {
                continue;
            }
            let oldest = *oldest.get_or_insert(key);
            count += 1;
            if count == least {
                self.evict_folio(table, oldest);
                return true;
            }
        }
        false
    }

    /// Writes a folio if it is dirty, and returns whether it can be evicted. Sets `failed` to the first error of the
    /// store.
    fn made_clean(&self, table: &mut Table, key: Key, failed: &mut Option<Arc<io::Error>>) -> bool {
        if !table.get(key).is_dirty() {
            return true;
        }
        match self.write_folio(table, key) {
            Ok(()) => return true,
            Err(Error::Store(error)) => drop(failed.get_or_insert(error)),
            Err(_) => {}
        }
        false
    }

    /// Evicts folios of this file until `bytes` bytes were freed, or no more can be evicted.
    ///
    /// # Errors
    /// The store's error, if a dirty folio had to stay.
    pub(super) fn evict(&self, table: &mut Table, bytes: usize, what: &EvictionScope) -> Result<(), Arc<io::Error>> {
        let mut freed = 0;
        let mut failed = None;
        for _ in 0..table.len() {
            if freed >= bytes {
                break;
            }
            let Some(key) = table.next_victim() else { break };
            let folio = table.get(key);
            if !what.wanted && self.cache().is_wanted(folio) {
                continue;
            }
            if !what.kept && table.is_kept(folio.start()..folio.end()) {
                continue;
            }
            if folio.is_dirty() && !what.dirty || !self.made_clean(table, key, &mut failed) {
                continue;
            }
            freed += self.evict_folio(table, key);
        }
        failed.map_or(Ok(()), Err)
    }
}
