//! Views of memory whose faults this process may resolve.
//!
//! A fault inside a copy is never resolved: the copy comes back short, the page is brought in, and the copy continues.
//! Where this process does not resolve the faults the kernel does, inside the copy, which needs none of the caller's locks.

#![deny(unsafe_code)]

use std::num::NonZeroUsize;
use std::ops::Range;

use faultin::Scalar;
use faultin::memory::{ReadMemory, ReadNoWait, WriteMemory, WriteNoWait};
use faultin::{Access, Fault, Granularity, ReadView, Short, WriteView};

use super::paging::Paging;

/// User memory to read from.
#[derive(Clone, Copy, Debug)]
pub struct HostRead<'a> {
    pub(super) view: ReadView<'a>,
    pub(super) paging: Option<&'a Paging>,
}

/// User memory to write to.
#[derive(Clone, Copy, Debug)]
pub struct HostWrite<'a> {
    pub(super) view: WriteView<'a>,
    pub(super) paging: Option<&'a Paging>,
}

/// The common part of both directions: an attempt is repeated where it stopped, for as long as pages are missing.
macro_rules! served {
    ($access:expr) => {
        fn address(&self, offset: usize) -> usize {
            self.view.as_ptr().addr() + offset
        }

        fn bring_in(&self, offset: usize) -> bool {
            self.paging.is_some_and(|paging| paging.bring_in(self.address(offset)))
        }

        /// `attempt` gets the number of bytes from `offset` that are done.
        fn in_steps(&self, offset: usize, mut attempt: impl FnMut(usize) -> Result<(), Short>) -> Result<(), Short> {
            let mut done = 0;
            while let Err(short) = attempt(done) {
                done += short.done;
                if !self.bring_in(offset + done) {
                    return Err(Short { done, fault: short.fault });
                }
            }
            Ok(())
        }

        /// Accesses `len` bytes, all or nothing.
        fn at_once<T>(
            &self,
            offset: usize,
            len: usize,
            mut attempt: impl FnMut() -> Result<T, Fault>,
        ) -> Result<T, Fault> {
            loop {
                match attempt() {
                    Err(_) if self.bring_in(offset) || self.bring_in(offset + len - 1) => {}
                    result => return result,
                }
            }
        }

        fn fault_in_served(
            &self,
            offset: usize,
            len: NonZeroUsize,
            attempt: impl Fn(usize, NonZeroUsize) -> Result<NonZeroUsize, Fault>,
        ) -> Result<NonZeroUsize, Fault> {
            let short = |done, fault| Short { done, fault };
            let all = self.in_steps(offset, |done| {
                let Some(left) = NonZeroUsize::new(len.get() - done) else { return Ok(()) };
                match attempt(offset + done, left) {
                    Ok(part) if part == left => Ok(()),
                    Ok(part) => Err(short(
                        part.get(),
                        Fault::rejected($access, faultin::Cause::Backing, self.address(offset + done + part.get())),
                    )),
                    Err(fault) => Err(short(0, fault)),
                }
            });
            match all {
                Ok(()) => Ok(len),
                Err(stopped) => NonZeroUsize::new(stopped.done).ok_or(stopped.fault),
            }
        }

        fn nofault(&self, offset: usize, short: Short) -> Short {
            let at = self.address(offset + short.done);
            let fault = self.paging.map_or(short.fault, |paging| paging.nofault($access, at, short.fault));
            Short { fault, ..short }
        }

        /// Returns the fault of an instruction that is all or nothing, at any of its bytes.
        pub(super) fn nofault_anywhere(&self, fault: Fault) -> Fault {
            let pages = (0..self.view.len()).step_by(faultin::page_size()).chain([self.view.len() - 1]);
            let seen = pages.map(|offset| self.nofault(offset, Short { done: 0, fault }).fault);
            seen.into_iter().find(|other| *other != fault).unwrap_or(fault)
        }
    };
}

impl HostRead<'_> {
    served!(Access::Read);
}

impl<'a> HostRead<'a> {
    /// Makes a view of memory whose faults other code resolves: a copy ends at a missing page, and only a fault-in brings
    /// it in.
    pub(crate) fn of(view: ReadView<'a>) -> HostRead<'a> {
        HostRead { view, paging: None }
    }
}

impl HostWrite<'_> {
    served!(Access::Write);
}

impl<'a> HostWrite<'a> {
    /// Makes a view as [`HostRead::of`] does.
    pub(crate) fn of(view: WriteView<'a>) -> HostWrite<'a> {
        HostWrite { view, paging: None }
    }
}

// SAFETY: the count is the sum of the counts of the view's consecutive copies.
#[allow(unsafe_code, reason = "a promise to who copies")]
unsafe impl ReadMemory for HostRead<'_> {
    fn len(&self) -> usize {
        self.view.len()
    }

    fn addr(&self) -> usize {
        self.address(0)
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        Some(HostRead { view: self.view.subslice(range)?, ..*self })
    }

    fn page_size(&self) -> usize {
        faultin::page_size()
    }

    fn to_page_end(&self, offset: usize) -> usize {
        self.view.to_page_end(offset)
    }

    fn read(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        self.in_steps(offset, |done| self.view.read(&mut dst[done..], offset + done))
    }

    fn load<T: Scalar>(&self, offset: usize) -> Result<T, Fault> {
        self.at_once(offset, size_of::<T>(), || self.view.load(offset))
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        self.fault_in_served(offset, len, |at, left| self.view.fault_in(at, left))
    }

    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        self.in_steps(range.start, |done| self.view.probe(range.start + done..range.end, granularity))
    }
}

// SAFETY: as above.
#[allow(unsafe_code, reason = "as above")]
unsafe impl ReadNoWait for HostRead<'_> {
    fn read_nowait(&self, dst: &mut [u8], offset: usize) -> Result<(), Short> {
        self.view.read(dst, offset).map_err(|short| self.nofault(offset, short))
    }
}

impl<'a> WriteMemory for HostWrite<'a> {
    type Read = HostRead<'a>;

    fn as_read(&self) -> HostRead<'a> {
        HostRead { view: self.view.as_read(), paging: self.paging }
    }

    fn len(&self) -> usize {
        self.view.len()
    }

    fn subslice(&self, range: Range<usize>) -> Option<Self> {
        Some(HostWrite { view: self.view.subslice(range)?, ..*self })
    }

    fn write(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        self.in_steps(offset, |done| self.view.write(&src[done..], offset + done))
    }

    fn fill(&self, range: Range<usize>, byte: u8) -> Result<(), Short> {
        self.in_steps(range.start, |done| self.view.fill(range.start + done..range.end, byte))
    }

    fn store<T: Scalar>(&self, offset: usize, value: T) -> Result<(), Fault> {
        self.at_once(offset, size_of::<T>(), || self.view.store(offset, value))
    }

    fn fault_in(&self, offset: usize, len: NonZeroUsize) -> Result<NonZeroUsize, Fault> {
        self.fault_in_served(offset, len, |at, left| self.view.fault_in(at, left))
    }

    fn probe(&self, range: Range<usize>, granularity: Granularity) -> Result<(), Short> {
        self.in_steps(range.start, |done| self.view.probe(range.start + done..range.end, granularity))
    }
}

impl WriteNoWait for HostWrite<'_> {
    fn write_nowait(&self, src: &[u8], offset: usize) -> Result<(), Short> {
        self.view.write(src, offset).map_err(|short| self.nofault(offset, short))
    }
}
