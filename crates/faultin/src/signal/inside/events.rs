//! What is recorded of a fault: a count, and an entry in a ring of the last ones. [`events`](crate::events) reads both.
//!
//! A handler resolves nothing. It records the address, the thread's pointer and the kernel's coarse time; which file was mapped
//! there is determined later, by the reader, or by the owner of the mapping before it unmaps it.

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::registry::{Registry, own};
use super::ring::{Cell, Ring};
use crate::arch;
use crate::fault::outcome::FaultCode;
use crate::fault::{Cause, Fault};

/// Number of events that are kept.
pub(crate) const KEPT: usize = 256;

/// Words of an event: the code with the outcome, address, program counter, thread pointer, and nanoseconds since 1970.
const WORDS: usize = 5;

/// Position of the outcome in the first word: where a code has the progress.
const OUTCOME_SHIFT: u32 = 44;

/// Number of counters of an outcome: for each of 16 causes, loads, then stores.
pub(crate) const COUNTERS: usize = 32;

const _: () = assert!(Cause::COUNT <= COUNTERS / 2);

/// What became of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// An access of this crate became a short result.
    Recovered,
    /// The instruction of other code got a page of zeros, under [`FileMap::with_slice`](crate::FileMap::with_slice), which
    /// reports that.
    Substituted,
    /// The address has a guard or a [pager](crate::pager) that did not resolve the fault. If an instruction of other code
    /// faulted, its signal went to the handler that was installed before ours; otherwise `fault_in` returned an error.
    Refused,
    /// The kernel reported it without a signal, for an access that it made in place of this crate: see
    /// [`signal_free`](crate::signal_free).
    Reported,
}

impl Outcome {
    /// The number of outcomes.
    pub(crate) const COUNT: usize = 4;

    /// Every outcome.
    pub const ALL: [Outcome; Self::COUNT] =
        [Outcome::Recovered, Outcome::Substituted, Outcome::Refused, Outcome::Reported];

    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn at(index: u64) -> Option<Outcome> {
        Self::ALL.get(usize::try_from(index).ok()?).copied()
    }

    /// Returns the outcome in one word.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Recovered => "recovered",
            Outcome::Substituted => "substituted",
            Outcome::Refused => "refused",
            Outcome::Reported => "reported",
        }
    }
}

/// A byte of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FilePosition {
    /// The file's device, as `st_dev` of `stat(2)`.
    pub device: u64,
    /// The file's inode.
    pub inode: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
}

/// Numbers of faults by outcome, cause and access.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Counts([[AtomicU64; COUNTERS]; Outcome::COUNT]);

impl Counts {
    pub(crate) const fn new() -> Self {
        Counts([const { [const { AtomicU64::new(0) }; COUNTERS] }; Outcome::COUNT])
    }

    #[inline(always)]
    fn add(&self, outcome: Outcome, code: FaultCode) {
        self.0[outcome.index()][index(code)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns all of them, each exact.
    pub(crate) fn load(&self) -> [[u64; COUNTERS]; Outcome::COUNT] {
        core::array::from_fn(|outcome| core::array::from_fn(|i| self.0[outcome][i].load(Ordering::Relaxed)))
    }
}

/// Returns the position of a fault's counter: by cause, then by access.
#[inline(always)]
fn index(code: FaultCode) -> usize {
    usize::from(code.cause_index() & 15) + ((code.0 >> 33 & 1) as usize) * (COUNTERS / 2)
}

/// The last events of a process.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Events {
    /// The kernel's `clock_gettime` that needs no system call, if it has one.
    clock: AtomicPtr<()>,
    ring: Ring<WORDS, KEPT>,
    /// The positions in files of the events in the same place, of mappings that were unmapped since: device, inode, offset.
    files: [Cell<3>; KEPT],
}

/// An event as it was recorded.
pub(crate) struct Recorded {
    pub(crate) ticket: u64,
    pub(crate) code: FaultCode,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) address: usize,
    pub(crate) pc: usize,
    pub(crate) thread: u64,
    pub(crate) nanoseconds: u64,
}

impl Events {
    pub(crate) const fn new() -> Self {
        Events { clock: AtomicPtr::new(core::ptr::null_mut()), ring: Ring::new(), files: [const { Cell::new() }; KEPT] }
    }

    /// Sets the function that handlers read the clock by.
    pub(crate) fn set_clock(&self, clock: *mut ()) {
        self.clock.store(clock, Ordering::Relaxed);
    }

    /// Returns the number of events so far.
    pub(crate) fn count(&self) -> u64 {
        self.ring.count()
    }

    /// Returns the events that are kept, in no order.
    pub(crate) fn recorded(&self) -> impl Iterator<Item = Recorded> {
        self.ring.records().map(|(ticket, [code, address, pc, thread, nanoseconds])| Recorded {
            ticket,
            code: FaultCode(code & ((1 << OUTCOME_SHIFT) - 1)),
            outcome: Outcome::at(code >> OUTCOME_SHIFT),
            address: address as usize,
            pc: pc as usize,
            thread,
            nanoseconds,
        })
    }

    /// Keeps the position in a file of the event with this ticket.
    pub(crate) fn attribute(&self, ticket: u64, file: FilePosition) {
        self.files[Ring::<WORDS, KEPT>::place(ticket)].write(ticket, [file.device, file.inode, file.offset]);
    }

    /// Returns the position in a file that was kept for the event with this ticket.
    pub(crate) fn attributed(&self, ticket: u64) -> Option<FilePosition> {
        let (of, [device, inode, offset]) = self.files[Ring::<WORDS, KEPT>::place(ticket)].read()?;
        (of == ticket).then_some(FilePosition { device, inode, offset })
    }
}

/// The events of the registry that this object offers.
pub(crate) static EVENTS: Events = Events::new();

/// Counts a fault, and adds it to the events. Async-signal-safe.
#[inline(never)]
pub(crate) fn record(registry: &Registry, outcome: Outcome, code: FaultCode, address: usize, pc: usize) {
    registry.counts.add(outcome, code);
    let events = registry.events;
    let time = now(events.clock.load(Ordering::Relaxed));
    let first = code.0 & ((1 << OUTCOME_SHIFT) - 1) | (outcome.index() as u64) << OUTCOME_SHIFT;
    let thread = arch::context::thread_pointer() as u64;
    events.ring.push([first, address as u64, pc as u64, thread, time]);
}

/// Records a fault that no signal reported. Async-signal-safe.
#[cold]
pub(crate) fn record_without_signal(outcome: Outcome, fault: &Fault, address: usize) {
    let registry = own();
    record(registry, outcome, FaultCode::of(fault), address, 0);
}

/// Returns the time in nanoseconds since 1970, by the clock of the kernel's last tick: it needs no counter of the CPU, which
/// a process can be forbidden to read. 0 without a `clock`: a system call is slow, and a filter may end the process for
/// it.
#[inline]
fn now(clock: *mut ()) -> u64 {
    type ClockGettime = unsafe extern "C" fn(libc::clockid_t, *mut [isize; 2]) -> core::ffi::c_int;
    if clock.is_null() {
        return 0;
    }
    // The kernel's `timespec` of this machine.
    let mut time = [0_isize; 2];
    // SAFETY: `set_clock` stored the address of this function of the kernel.
    let clock = unsafe { core::mem::transmute::<*mut (), ClockGettime>(clock) };
    // SAFETY: it writes a `timespec`. It is a leaf that uses neither the C library nor thread-local variables.
    unsafe { clock(libc::CLOCK_REALTIME_COARSE, &mut time) };
    let [seconds, nanoseconds] = time;
    (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanoseconds as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Access;

    #[test]
    fn counters_of_an_access_and_a_cause_are_apart() {
        let counts = Counts::new();
        let code = |code, access| FaultCode::new(libc::SIGBUS as u8, code, 0, access, 0xfffff);
        counts.add(Outcome::Recovered, code(2, Access::Read));
        counts.add(Outcome::Recovered, code(2, Access::Write));
        counts.add(Outcome::Recovered, code(2, Access::Write));
        counts.add(Outcome::Refused, code(4, Access::Read));
        let all = counts.load();
        let backing = Cause::Backing.index();
        assert_eq!((all[0][backing], all[0][backing + 16]), (1, 2));
        assert_eq!(all[Outcome::Refused.index()][Cause::Poison { extent: 0 }.index()], 1);
        assert_eq!(all.iter().flatten().sum::<u64>(), 4);
    }

    #[test]
    fn the_clock_tells_the_time() {
        assert_eq!(now(core::ptr::null_mut()), 0, "unknown");
        let clock = crate::registry::vdso_clock();
        if clock.is_null() {
            return faultin_test::skipped("vdso", "the kernel or the emulator offers no clock without a system call");
        }
        let wall = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("it is later than 1970").as_nanos() as u64;
        // A tick is at most 10 ms; this thread may be interrupted for long in between.
        assert!(wall.abs_diff(now(clock)) < 60_000_000_000);
    }
}
