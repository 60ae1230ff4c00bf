//! Loads and stores of a thread's own bytes, through mappings: by views, by plain instructions, by system calls.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering::Relaxed;

use faultin::{Cause, Fault, Short};
use faultin_cache::pager::Mode;

use super::buffers::{UNTOUCHED, read_part, write_part};
use super::schedule::Since;
use super::tally::Kind;
use super::worker::{Checked, Worker};
use super::world::Mapped;

/// Number of attempts of one access, each after its page was faulted in.
const ATTEMPTS: u32 = 100_000;

impl Worker<'_> {
    /// Accesses `len` bytes, faulting in missing ones: returns how many were accessible.
    pub fn by_view(
        &self,
        len: usize,
        since: Since,
        mut access: impl FnMut(usize) -> Result<(), Short>,
        fault_in: impl Fn(usize, NonZeroUsize) -> Result<NonZeroUsize, Fault>,
    ) -> Checked<usize> {
        let (mut done, mut idle) = (0, 0);
        for _ in 0..ATTEMPTS {
            let Err(short) = access(done) else { return Ok(len) };
            done += short.done;
            idle = if short.done > 0 { 0 } else { idle + 1 };
            let Some(rest) = NonZeroUsize::new(len - done) else {
                return Err(format!("a short result of all {len} bytes: {short}"));
            };
            if short.done > 0 {
                continue;
            }
            // More than there is room for would evict the first page again.
            let most = NonZeroUsize::new(if idle > 2 { 1 } else { 4 * self.world.page });
            let rest = most.map_or(rest, |most| rest.min(most));
            match fault_in(done, rest) {
                Ok(good) if good <= rest => {}
                Ok(good) => return Err(format!("{good} of {rest} bytes were faulted in")),
                Err(fault) if fault.cause() == Cause::Backing && self.world.schedule.excuses(since) => {
                    self.world.tally.excused.fetch_add(1, Relaxed);
                    return Ok(done);
                }
                Err(fault) => return Err(format!("{done} of {len} bytes, then: {fault}")),
            }
        }
        Err(format!("{done} of {len} bytes, and no more in {ATTEMPTS} attempts"))
    }

    /// Reads through a mapping: returns how many bytes were accessible.
    pub fn view_read(&self, mapped: &Mapped, range: &Range<usize>, to: &mut [u8], since: Since) -> Checked<usize> {
        let view = read_part(mapped, range)?;
        let access = |done: usize| view.read(&mut to[done..], done);
        self.by_view(range.len(), since, access, |at, len| view.fault_in(at, len))
    }

    /// Writes through a mapping: returns how many bytes were accessible.
    pub fn view_write(&self, mapped: &Mapped, range: &Range<usize>, from: &[u8], since: Since) -> Checked<usize> {
        let view = write_part(mapped, range)?;
        let access = |done: usize| view.write(&from[done..], done);
        self.by_view(range.len(), since, access, |at, len| view.fault_in(at, len))
    }

    pub fn load_by_view(&self, file: usize) -> Checked {
        let range = self.own(file, 6 * self.world.page);
        let opened = self.opened([file]);
        let since = self.world.schedule.since();
        let mapped = self.mapping(file, opened.get(file), &range, false, None)?;
        self.begin(Kind::ViewRead, file, &range, &format!("{:?}", mapped.mapping.mode()));
        let mut bytes = vec![UNTOUCHED; range.len()];
        let done = self.view_read(&mapped, &range, &mut bytes, since)?;
        self.check(file, range.start, &bytes[..done])
    }

    pub fn store_by_view(&self, file: usize) -> Checked {
        let range = self.own(file, 6 * self.world.page);
        let opened = self.opened([file]);
        let since = self.world.schedule.since();
        let mapped = self.mapping(file, opened.get(file), &range, true, None)?;
        self.begin(Kind::ViewWrite, file, &range, &format!("{:?}", mapped.mapping.mode()));
        let bytes = self.random.bytes(range.len());
        let done = self.view_write(&mapped, &range, &bytes, since)?;
        self.file(file).model.set(range.start, &bytes[..done]);
        Ok(())
    }

    pub fn load_by_instructions(&self, file: usize) -> Checked {
        let range = self.own(file, 300);
        let opened = self.opened([file]);
        let mapped = self.mapping(file, opened.get(file), &range, false, None)?;
        let Some(_quiet) = self.world.schedule.quiet() else { return Ok(()) };
        self.begin(Kind::Load, file, &range, &format!("{:?}", mapped.mapping.mode()));
        self.check(file, range.start, &load(&mapped, &range))
    }

    pub fn store_by_instructions(&self, file: usize) -> Checked {
        let range = self.own(file, 300);
        let opened = self.opened([file]);
        let mapped = self.mapping(file, opened.get(file), &range, true, None)?;
        let Some(_quiet) = self.world.schedule.quiet() else { return Ok(()) };
        self.begin(Kind::Store, file, &range, &format!("{:?}", mapped.mapping.mode()));
        let bytes = self.random.bytes(range.len());
        store(&mapped, &range, &bytes);
        self.file(file).model.set(range.start, &bytes);
        Ok(())
    }

    /// Makes the kernel copy from a mapping, or to it.
    pub fn system_call(&self, file: usize) -> Checked {
        if !self.world.setup.modes.contains(&Mode::Thread) {
            return self.load_by_view(file);
        }
        let range = self.own(file, 3 * self.world.page);
        let opened = self.opened([file]);
        let mapped = self.mapping(file, opened.get(file), &range, true, Some(Mode::Thread))?;
        let Some(_quiet) = self.world.schedule.quiet() else { return Ok(()) };
        let write = self.random.once_in(2);
        self.begin(Kind::Syscall, file, &range, if write { "read(2) to it" } else { "write(2) from it" });
        let view = write_part(&mapped, &range)?;
        let mut plain = self.random.bytes(range.len());
        let kernels = self.kernels.as_raw_fd();
        if write {
            self.kernels.write_all_at(&plain, 0).map_err(|error| error.to_string())?;
        }
        let mut done = 0;
        for attempt in 0.. {
            let (at, rest) = (view.as_ptr().wrapping_add(done), range.len() - done);
            // SAFETY: our own mapping; the kernel reports faults.
            let moved = unsafe {
                match write {
                    true => libc::pread(kernels, at.cast(), rest, done as i64),
                    false => libc::pwrite(kernels, at.cast(), rest, done as i64),
                }
            };
            done += usize::try_from(moved).unwrap_or(0);
            if done == range.len() {
                break;
            }
            if attempt == ATTEMPTS {
                return Err(format!("{done} of {} bytes, again and again", range.len()));
            }
            // Pages that have failed while a store did fail until they are faulted in.
            for at in (done..range.len()).step_by(self.world.page).chain([range.len() - 1]) {
                view.fault_in(at, NonZeroUsize::MIN).map_err(|fault| fault.to_string())?;
            }
            self.world.tally.repeated.fetch_add(1, Relaxed);
        }
        if write {
            self.file(file).model.set(range.start, &plain);
            return Ok(());
        }
        self.kernels.read_exact_at(&mut plain, 0).map_err(|error| error.to_string())?;
        self.check(file, range.start, &plain)
    }

    /// Reads bytes that other threads are changing: their values are unknown, but the count has bounds.
    pub fn wander(&self, file: usize) -> Checked {
        let (page, base) = (self.world.page, self.file(file).base);
        let range = self.random.part(0..base, 8 * page);
        let range = range.start..range.end + self.random.below(4 * page);
        let opened = self.opened([file]);
        let (open, since) = (opened.get(file), self.world.schedule.since());
        self.begin(Kind::Wander, file, &range, "");
        let ought = range.end.min(base) - range.start;
        let mut bytes = vec![UNTOUCHED; range.len()];
        if self.random.once_in(2) {
            return match open.read_at(&mut bytes, range.start as u64) {
                Ok(done) if done >= ought => Ok(()),
                Ok(done) => Err(format!("{done} bytes, where there are {ought} at least")),
                Err(partial) => self.count(Err(partial), range.len(), since).map(drop),
            };
        }
        // Pages of the tail may be missing, or change meanwhile.
        let mapped = self.mapping(file, open, &range, false, None)?;
        self.view_read(&mapped, &(range.start..range.start + ought), &mut bytes[..ought], since)?;
        let _ = read_part(&mapped, &range)?.read(&mut bytes[ought..], ought);
        Ok(())
    }
}

/// Loads bytes by plain instructions.
pub fn load(mapped: &Mapped, range: &Range<usize>) -> Vec<u8> {
    assert!(mapped.covers(range));
    let at = |pos: usize| mapped.mapping.as_ptr().wrapping_add(pos - mapped.start);
    // SAFETY: within the mapping, whose faults are resolved.
    range.clone().map(|pos| unsafe { at(pos).read_volatile() }).collect()
}

/// Stores bytes by plain instructions.
pub fn store(mapped: &Mapped, range: &Range<usize>, bytes: &[u8]) {
    assert!(mapped.covers(range) && mapped.writable);
    for (pos, byte) in range.clone().zip(bytes) {
        let at = mapped.mapping.as_ptr().wrapping_add(pos - mapped.start);
        // SAFETY: as in `load`.
        unsafe { at.write_volatile(*byte) };
    }
}
