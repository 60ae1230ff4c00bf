//! A store whose results a test determines.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use faultin_cache::store::{MemoryStore, Store};
use faultin_cache::{CachedFile, Error};

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Read,
    Write,
    SetLen,
    Sync,
    PunchHole,
    Allocate,
    Trim,
    Reserve,
}

#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub what: What,
    pub pos: u64,
    pub len: u64,
    /// The number of earlier calls.
    pub before: u64,
}

/// The result of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Do,
    /// Does nothing and fails.
    Fail(i32),
    /// Does a part, if the kind of call allows that, and fails.
    FailHalfway(i32),
    /// Transfers at most this many bytes.
    Short(usize),
    /// Reports this many bytes more than were requested.
    Over(usize),
    Interrupted,
    Panic,
    /// Panics after what it does, or half of it.
    PanicAfterwards,
}

type Plan = Arc<dyn Fn(Call) -> Answer + Send + Sync>;

/// A store in memory whose results come from a plan. Clones share their state.
#[derive(Clone)]
pub struct Faulty {
    pub memory: Arc<MemoryStore>,
    plan: Arc<Mutex<Plan>>,
    calls: Arc<AtomicU64>,
    /// Failed syncs.
    failed_syncs: Arc<AtomicU64>,
}

impl Faulty {
    /// Everything succeeds until a plan is set.
    pub fn new(memory: MemoryStore) -> Faulty {
        let plan: Plan = Arc::new(|_| Answer::Do);
        Faulty {
            memory: Arc::new(memory),
            plan: Arc::new(Mutex::new(plan)),
            calls: Arc::default(),
            failed_syncs: Arc::default(),
        }
    }

    pub fn plan(&self, plan: impl Fn(Call) -> Answer + Send + Sync + 'static) {
        *self.plan.lock().unwrap() = Arc::new(plan);
    }

    /// Makes calls of this kind fail from now on.
    pub fn refuse(&self, what: What, errno: i32) {
        self.plan(move |call| if call.what == what { Answer::Fail(errno) } else { Answer::Do });
    }

    /// Makes all calls succeed again.
    pub fn heal(&self) {
        self.plan(|_| Answer::Do);
    }

    /// Runs `f` while all calls succeed and none is counted.
    pub fn at_peace<T>(&self, f: impl FnOnce() -> T) -> T {
        let plan = std::mem::replace(&mut *self.plan.lock().unwrap(), Arc::new(|_| Answer::Do));
        let calls = self.calls.load(Ordering::Relaxed);
        let result = f();
        self.calls.store(calls, Ordering::Relaxed);
        *self.plan.lock().unwrap() = plan;
        result
    }

    /// Recovers after errors, which the first sync reports: syncs `file`, and writes from `content` again what failed
    /// syncs, and nothing else, have lost.
    pub fn sync_at_last(&self, file: &CachedFile, content: &[u8]) -> Result<(), Error> {
        let _ = file.sync_all();
        match file.sync_all() {
            Err(Error::Lost { ranges, .. }) if self.failed_syncs.load(Ordering::Relaxed) > 0 => {
                for Range { start, end } in ranges {
                    file.write_at(&content[start as usize..end as usize], start).map_err(|partial| partial.error)?;
                }
                file.sync_all()
            }
            result => result,
        }
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn ask(&self, what: What, pos: u64, len: u64) -> Answer {
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        // Not under the lock: a plan may block.
        let plan = Arc::clone(&self.plan.lock().unwrap());
        plan(Call { what, pos, len, before })
    }

    /// For calls that are done completely or not at all.
    fn done(&self, what: What, range: Range<u64>, half: impl FnOnce()) -> io::Result<()> {
        match self.ask(what, range.start, range.end - range.start) {
            Answer::Do | Answer::Short(_) | Answer::Over(_) => Ok(()),
            Answer::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
            Answer::FailHalfway(errno) => {
                half();
                Err(io::Error::from_raw_os_error(errno))
            }
            Answer::Interrupted => Err(io::ErrorKind::Interrupted.into()),
            Answer::PanicAfterwards => {
                half();
                panic!("the store panics after half of it: {what:?}")
            }
            Answer::Panic => panic!("the store panics: {what:?}"),
        }
    }
}

impl Store for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let len = buf.len();
        // Read before the delay, so that the result of a slow call is stale.
        let read = self.memory.read_at(buf, pos)?;
        match self.ask(What::Read, pos, len as u64) {
            Answer::Do => Ok(read),
            Answer::Short(most) => Ok(most.min(read)),
            Answer::Over(more) => Ok(len + more),
            Answer::FailHalfway(errno) => {
                buf[..len / 2].fill(0xee);
                Err(io::Error::from_raw_os_error(errno))
            }
            Answer::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
            Answer::Interrupted => Err(io::ErrorKind::Interrupted.into()),
            Answer::Panic | Answer::PanicAfterwards => panic!("the store panics in a read"),
        }
    }

    fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        let len = buf.len();
        match self.ask(What::Write, pos, len as u64) {
            Answer::Do => self.memory.write_at(buf, pos),
            Answer::Short(0) => Ok(0),
            Answer::Short(most) => self.memory.write_at(&buf[..most.min(len)], pos),
            Answer::Over(more) => self.memory.write_at(buf, pos).map(|_| len + more),
            Answer::FailHalfway(errno) => {
                self.memory.write_at(&buf[..len.div_ceil(2)], pos)?;
                Err(io::Error::from_raw_os_error(errno))
            }
            Answer::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
            Answer::Interrupted => Err(io::ErrorKind::Interrupted.into()),
            Answer::PanicAfterwards => {
                self.memory.write_at(buf, pos)?;
                panic!("the store panics after a write")
            }
            Answer::Panic => panic!("the store panics in a write"),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.done(What::SetLen, 0..len, || {})?;
        self.memory.set_len(len)
    }

    fn sync(&self, data_only: bool) -> io::Result<()> {
        // Undone below, unless the next line returns early or panics.
        self.failed_syncs.fetch_add(1, Ordering::Relaxed);
        self.done(What::Sync, 0..0, || {})?;
        self.failed_syncs.fetch_sub(1, Ordering::Relaxed);
        self.memory.sync(data_only)
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let half = range.start..range.start + (range.end - range.start) / 2;
        self.done(What::PunchHole, range.clone(), || self.memory.punch_hole(half).unwrap())?;
        self.memory.punch_hole(range)
    }

    fn allocate(&self, range: Range<u64>) -> io::Result<()> {
        self.done(What::Allocate, range.clone(), || {})?;
        self.memory.allocate(range)
    }

    fn trim(&self, len: u64) -> io::Result<()> {
        self.done(What::Trim, 0..len, || {})?;
        self.memory.trim(len)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.done(What::Reserve, 0..bytes, || {})?;
        self.memory.reserve(bytes)
    }

    fn unreserve(&self, bytes: u64) {
        self.memory.unreserve(bytes);
    }
}
