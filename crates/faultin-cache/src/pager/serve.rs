//! Resolving a fault as an ordinary function, which may wait: for `fault_in`, and by the pager's threads.
//!
//! The folio and the page's state determine the meaning of a fault, never the kind of fault: a page that is missing, one
//! that is present and not mapped, and one that may not be stored to all look the same.

#![forbid(unsafe_code)]

use faultin::Access;
use rustix::io::Errno;

use super::bug::{self, Bug};
use super::inside::map::{MAX_PAGES_AT_ONCE, Map};
use super::inside::mode::Mode;
use super::inside::place::PageRequest;
use super::inside::states::State;
use super::step::{Step, step};
use crate::error::Error;
use crate::folio::Table;
use crate::inode::Inode;
use crate::inode::Use;

/// The reason why a fault is not resolved.
#[derive(Clone, Debug)]
pub(super) enum Rejection {
    /// A store, through a mapping for reading.
    Protection,
    /// Past the page in which the file ends.
    PastEnd,
    /// The store is needed, and must not be called.
    NeedsStore,
    Failed(Error),
}

/// What may be done to resolve a fault. The page is made accessible if the function returns true, under the inode lock: some
/// thread still waits for it. Otherwise it could become dirty after its thread has gone on and its file was synced.
#[derive(Clone, Copy)]
pub(super) enum Effort<'a> {
    /// What is in memory is made accessible.
    InMemory(&'a dyn Fn() -> bool),
    /// The store is called.
    Store(&'a dyn Fn() -> bool),
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Rejection {
        Rejection::Failed(error)
    }
}

impl Inode {
    /// Makes a page of a mapping accessible, the first of `count` that are wanted.
    ///
    /// # Errors
    /// [`Rejection`] if the access is not allowed there, or the store or the cache fails.
    pub(super) fn serve(&self, map: &Map, page: usize, count: usize, access: Option<Access>) -> Result<(), Rejection> {
        self.serve_with(map, page, count, access, Effort::Store(&|| true))
    }

    /// Makes a page accessible as [`serve`](Self::serve) does, with this effort.
    ///
    /// # Errors
    /// As for `serve`; [`Rejection::NeedsStore`] with [`Effort::InMemory`] alone.
    pub(super) fn serve_with(
        &self,
        map: &Map,
        page: usize,
        count: usize,
        access: Option<Access>,
        effort: Effort<'_>,
    ) -> Result<(), Rejection> {
        let mut table = self.table().exclusive().map_err(Error::from)?;
        // Space in the store is reserved block by block.
        let count = if self.how().reserve { 1 } else { count };
        // No more at once than can stay until it is used.
        let most = (self.cache().share() / faultin::page_size()).clamp(1, MAX_PAGES_AT_ONCE);
        let count = count.min(most);
        let wanted = PageRequest { count, ..PageRequest::by(map, page, access).ok_or(Rejection::Protection)? };
        let pos = map.pos(page);
        if pos >= table.size() {
            return Err(Rejection::PastEnd);
        }
        if bug::has(Bug::KeepsPoison) && map.state(page) == State::Poisoned {
            return Err(Rejection::PastEnd);
        }
        table.make_ready_for(pos);
        if let Some(key) = table.find(pos) {
            table.get(key).want();
        }
        let is_in_memory = is_valid(&table, pos) && !(wanted.write && self.needs_space(&table, pos));
        if matches!(effort, Effort::InMemory(_)) && !is_in_memory {
            return Err(Rejection::NeedsStore);
        }
        let window = map.window(page).min(most).max(count);
        if bug::has(Bug::TrustsThePageCache) && !wanted.write && map.install(page, page, page + 1).is_ok() {
            return Ok(());
        }
        let mut space = Space { inode: self, bytes: 0 };
        if !is_in_memory {
            loop {
                if !is_valid(&table, pos) {
                    // The store is read without the lock, and the page is placed under the one under which its bytes are
                    // valid.
                    drop(table);
                    (table, _) = self.filled(pos, 0, (window * faultin::page_size()) as u64, Use::Access)?;
                    if pos >= table.size() {
                        return Err(Rejection::PastEnd);
                    }
                }
                if space.bytes > 0 || !wanted.write || !self.needs_space(&table, pos) {
                    break;
                }
                drop(table);
                space.reserve(self.geometry().block as u64)?;
                table = self.table().exclusive().map_err(Error::from)?;
                if pos >= table.size() {
                    return Err(Rejection::PastEnd);
                }
            }
        }
        let (Effort::InMemory(is_wanted) | Effort::Store(is_wanted)) = effort;
        if !is_wanted() {
            return Ok(());
        }
        if let Some(key) = table.find(pos) {
            self.cache().make_shared(&mut table, key)?;
        }
        if wanted.write && self.needs_space(&table, pos) {
            // The block becomes dirty, and has it.
            space.bytes = 0;
        }
        let placed = match self.place(&mut table, map, wanted, window) {
            // The kernel has no room for one more boundary between pages with different rights.
            Err(Errno::NOMEM) => match map.remove_all().and_then(|()| self.place(&mut table, map, wanted, 1)) {
                // Not even for one around this page.
                Err(Errno::NOMEM) if matches!(effort, Effort::InMemory(_)) => return Err(Rejection::NeedsStore),
                Err(Errno::NOMEM) => {
                    drop(table);
                    let brought = self.bring_in_all(map);
                    table = self.table().exclusive().map_err(Error::from)?;
                    brought.and_then(|()| self.place_all(&mut table, map, wanted.write))
                }
                result => result,
            },
            result => result,
        };
        if wanted.write && bug::has(Bug::DirtyTooLate) {
            drop(table);
            step(Step::Unlocked);
            let mut table = self.table().exclusive().map_err(Error::from)?;
            if let Some(key) = table.find(pos) {
                self.add_dirty(table.get_mut(key).set_dirty(pos..pos + 1));
            }
        }
        match placed {
            // It may have been a store all the time.
            Ok(changed) if access.is_none() && map.is_stuck(changed) => Err(Rejection::Protection),
            Ok(_) => Ok(()),
            Err(error) => Err(Rejection::Failed(Error::of_page_table(error))),
        }
    }

    /// Makes the block with the byte at `pos` valid, in memory that mappings show, and about `window` bytes from there on, all
    /// under this lock.
    fn bring_in(&self, table: &mut Table, pos: u64, window: u64) -> Result<(), Error> {
        if let Some(key) = table.find(pos) {
            table.get(key).want();
            self.cache().make_shared(table, key)?;
        }
        self.fill_locked(table, pos, window, Use::Access)
    }

    /// Returns whether space in the store has to be reserved before the block at `pos` becomes dirty.
    fn needs_space(&self, table: &Table, pos: u64) -> bool {
        self.how().reserve && table.find(pos).is_none_or(|key| table.get(key).clean_bytes(pos..pos + 1) > 0)
    }

    /// Makes all blocks of a mapping valid, without the lock during calls of the store, for [`place_all`](Self::place_all): it
    /// finds most of them.
    fn bring_in_all(&self, map: &Map) -> Result<(), Errno> {
        let part = map.pos(0)..map.pos(0) + map.len() as u64;
        if map.mode() != Mode::Mprotect || map.len() > self.cache().limit() {
            return Err(Errno::NOMEM);
        }
        let mut next = part.start;
        while next < part.end {
            let pos = next;
            next = self.geometry().block_down(pos) + self.geometry().block as u64;
            match self.fill(pos, part.end - pos, part.end - pos) {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return Err(Errno::NOMEM),
            }
        }
        Ok(())
    }

    /// Makes a mapping accessible as a whole, where the kernel has no room for a boundary within it. All of its pages are
    /// brought in for that, and marked dirty if one is stored to; so they have to be in the file, and in the cache at once.
    fn place_all(&self, table: &mut Table, map: &Map, write: bool) -> Result<bool, Errno> {
        let part = map.pos(0)..map.pos(0) + map.len() as u64;
        let is_in_the_file = part.end <= table.size().next_multiple_of(faultin::page_size() as u64);
        if map.mode() != Mode::Mprotect || !is_in_the_file || write && self.how().reserve {
            return Err(Errno::NOMEM);
        }
        let mut pos = part.start;
        while pos < part.end {
            table.make_ready_for(pos);
            self.bring_in(table, pos, part.end - pos).map_err(|_| Errno::NOMEM)?;
            let until = table.find(pos).map_or(pos, |key| {
                let folio = table.get(key);
                folio.uptodate_until(pos..folio.end().min(part.end))
            });
            if until == pos {
                return Err(Errno::NOMEM);
            }
            pos = until;
        }
        // The first folios may have been evicted for the last ones.
        if self.ready_until(table, part.start, part.end) != part.end {
            return Err(Errno::NOMEM);
        }
        let mut pos = part.start;
        while let Some(key) = table.find(pos).filter(|_| write && pos < part.end) {
            let folio = table.get_mut(key);
            let until = folio.end().min(part.end);
            folio.set_stored_to();
            self.add_dirty(folio.set_dirty(pos..until));
            pos = until;
        }
        map.install_all(write)
    }
}

/// Returns whether the byte at `pos` is in memory.
fn is_valid(table: &Table, pos: u64) -> bool {
    table.find(pos).is_some_and(|key| table.get(key).is_uptodate(pos..pos + 1))
}

/// Space that the store has reserved for a block that is not dirty yet.
struct Space<'a> {
    inode: &'a Inode,
    bytes: u64,
}

impl Space<'_> {
    fn reserve(&mut self, bytes: u64) -> Result<(), Error> {
        self.inode.store().reserve(bytes)?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.inode.store().unreserve(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cache;
    use crate::store::MemoryStore;
    use faultin::map::Rights;

    /// Its thread may have stored to it, and the store may have been synced.
    #[test]
    fn a_page_in_memory_that_no_thread_waits_for_stays_as_it_is() {
        let file = Cache::new().open(MemoryStore::new([7; 100])).unwrap();
        let mapping = file.map(0..100, Rights::ReadWrite, Mode::Mprotect).unwrap();
        file.read_at(&mut [0], 0).unwrap();
        let (inode, map) = (file.inode(), mapping.inner());
        for effort in [Effort::InMemory(&|| false), Effort::Store(&|| false)] {
            inode.serve_with(map, 0, 1, Some(Access::Write), effort).unwrap();
            assert_eq!((map.state(0), file.dirty()), (State::Absent, 0));
        }
        inode.serve_with(map, 0, 1, Some(Access::Write), Effort::InMemory(&|| true)).unwrap();
        assert_eq!(map.state(0), State::Writable);
    }
}
