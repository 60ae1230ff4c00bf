//! Memory that behaves like a mapping of the file, over any other memory: a page of it is resident only while the file's
//! folios are, and its faults are resolved from the file, which needs its inode lock.
//!
//! The pager, without its mappings: small and deterministic, so that everything that can happen to such a buffer can be
//! tried. The memory shows a copy, so a store to it does not change the file.

#![deny(unsafe_code)]

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::ops::Range;

use faultin::Scalar;
use faultin::memory::{ReadMemory, ReadNoWait, WriteMemory, WriteNoWait};
use faultin::{Access, Cause, Fault, Granularity, Short};
use faultin_cache::Error;
use faultin_cache::lock::Deadlock;

use super::operation::{self, Layout, Opened, Operation, check_buffer, check_file, read, write};
use crate::axes::Variant;
use crate::caller::{Code, Ended, Halt};
use crate::log::{Log, Stuck};
use crate::scenario::Pages;
use crate::user::{Object, Registers, Scale, User};

/// An operation whose buffer is memory of this kind.
pub(super) struct Served {
    pub(super) operation: Operation,
    pub(super) pages: Pages,
}

impl Layout {
    /// Makes a file that contains all of the buffer: where the read or write begins, or a block after its end.
    fn with_buffer(self, pages: Pages, len: usize) -> (Layout, Range<usize>) {
        let start = match pages {
            Pages::Same => self.pos,
            Pages::Other => self.pos + len + self.block,
        };
        (Layout { end: start + len + self.block / 4, ..self }, start..start + len)
    }
}

impl Code for Served {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        // The mapping shows the file's contents.
        operation::object(Operation::BufferedWrite, scale)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let shown = user.contents()?;
        let (layout, range) = Layout::of(self.operation, user.scale()).with_buffer(self.pages, shown.len());
        let mut before = layout.contents();
        before[range.clone()].copy_from_slice(&shown);
        let opened = layout.open(&before)?;
        let pager = Pager { opened: &opened, range, user, circle: RefCell::new(None) };
        // Pages are resident at first because the file has them in memory.
        opened.file.will_need(pager.shown()).map_err(std::io::Error::from)?;
        let moved = match self.operation.writes() {
            true => {
                let buffer = Buffer { memory: user.source()?, pager: &pager };
                write(self.operation, variant, &opened.file, buffer, layout.pos, log, &mut ())
            }
            false => {
                let buffer = Buffer { memory: user.dest()?, pager: &pager };
                read(self.operation, variant, &opened.file, buffer, layout.pos, log, &mut ())
            }
        };
        if let (Err(Halt::Stuck(Stuck::Deadlock)), Some(circle)) = (&moved, pager.circle.take()) {
            log.decide(circle.to_string());
        }
        let (moved, buffer) = (moved?, user.contents()?);
        let product = if self.operation.writes() {
            check_file(&opened, before, layout.pos, &buffer[..moved.done])
        } else {
            check_buffer(&buffer, &before[layout.pos..], &shown, moved.done)
                .and_then(|()| check_file(&opened, before, layout.pos, &[]))
        };
        Ok(moved.ended(product))
    }

    /// One whose copy moves nothing, and one that finds pages that were revoked meanwhile.
    fn attempts_per_event(&self) -> usize {
        2
    }
}

/// Resolves the faults of a buffer.
struct Pager<'a, U> {
    opened: &'a Opened,
    /// The range that the buffer maps.
    range: Range<usize>,
    user: &'a U,
    /// The circle of waits of the last fault that could not be resolved because of it.
    circle: RefCell<Option<Deadlock>>,
}

impl<U: User> Pager<'_, U> {
    fn shown(&self) -> Range<u64> {
        self.range.start as u64..self.range.end as u64
    }

    /// Revokes the pages whose folios were evicted.
    fn follow(&self) {
        if self.opened.cache.used() == 0 {
            self.user.evict();
        }
    }

    /// Brings in the missing pages of a part of the buffer.
    fn serve(&self, access: Access, part: &impl ReadNoWait, offset: usize, len: usize) -> Result<(), Fault> {
        self.follow();
        let firsts = std::iter::successors(Some(offset), |&at| Some(at + part.to_page_end(at)));
        let missing = |at| part.read_nowait(&mut [0], at).is_err_and(|short| short.fault.cause() == Cause::NotResident);
        let Some(missing) = firsts.take_while(|&at| at < offset + len).find(|&at| missing(at)) else { return Ok(()) };
        let refused = |cause| Fault::rejected(access, cause, part.addr() + missing);
        match self.opened.file.will_need(self.shown()) {
            Ok(()) => Ok(()),
            Err(Error::Deadlock(circle)) => {
                *self.circle.borrow_mut() = Some(circle);
                Err(refused(Cause::Deadlock))
            }
            Err(_) => Err(refused(Cause::Backing)),
        }
    }
}

/// A buffer with a pager: no copy waits for a fault, and a fault-in calls the pager.
struct Buffer<'a, M, U> {
    memory: M,
    pager: &'a Pager<'a, U>,
}

impl<M: Clone, U> Clone for Buffer<'_, M, U> {
    fn clone(&self) -> Self {
        Buffer { memory: self.memory.clone(), pager: self.pager }
    }
}

// SAFETY: forwarded to the underlying memory.
#[allow(unsafe_code, reason = "a promise to who copies")]
unsafe impl<M: ReadMemory + ReadNoWait, U: User> ReadMemory for Buffer<'_, M, U> {
    fn len(&self) -> usize {
        self.memory.len()
    }

    fn addr(&self) -> usize {
        self.memory.addr()
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        Some(Buffer { memory: self.memory.subslice(range)?, pager: self.pager })
    }

    fn page_size(&self) -> usize {
        self.memory.page_size()
    }

    fn to_page_end(&self, offset: usize) -> usize {
        self.memory.to_page_end(offset)
    }

    fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        self.read_nowait(dst, offset)
    }

    fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault> {
        self.pager.follow();
        self.memory.load(offset)
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        self.pager.serve(Access::Read, &self.memory, offset, len.get())?;
        self.memory.fault_in(offset, len)
    }

    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        let served = self.pager.serve(Access::Read, &self.memory, offset, len);
        served.map_err(|fault| Short { done: 0, fault })?;
        self.memory.probe(range, granularity)
    }
}

// SAFETY: forwarded to the underlying memory.
#[allow(unsafe_code, reason = "as above")]
unsafe impl<M: ReadMemory + ReadNoWait, U: User> ReadNoWait for Buffer<'_, M, U> {
    fn read_nowait(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        self.pager.follow();
        self.memory.read_nowait(dst, offset)
    }
}

impl<M: WriteMemory<Read: ReadNoWait> + WriteNoWait, U: User> WriteMemory for Buffer<'_, M, U> {
    type Read = M::Read;

    fn as_read(&self) -> M::Read {
        self.memory.as_read()
    }

    fn len(&self) -> usize {
        self.memory.len()
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        Some(Buffer { memory: self.memory.subslice(range)?, pager: self.pager })
    }

    fn write(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        self.write_nowait(src, offset)
    }

    fn fill(&self, range: Range<usize>, byte: u8) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        self.write_nowait(&vec![byte; len], offset)
    }

    fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault> {
        self.pager.follow();
        self.memory.store(offset, value)
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        self.pager.serve(Access::Write, &self.as_read(), offset, len.get())?;
        self.memory.fault_in(offset, len)
    }

    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        let (offset, len) = (range.start, range.end.wrapping_sub(range.start));
        let served = self.pager.serve(Access::Write, &self.as_read(), offset, len);
        served.map_err(|fault| Short { done: 0, fault })?;
        self.memory.probe(range, granularity)
    }
}

impl<M: WriteMemory<Read: ReadNoWait> + WriteNoWait, U: User> WriteNoWait for Buffer<'_, M, U> {
    fn write_nowait(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        self.pager.follow();
        self.memory.write_nowait(src, offset)
    }
}
