//! Looks at faults, in threads of their own: opening, reading or allocating may wait for a server that is itself a guarded
//! program, and the thread that traces must not wait for it.

mod classify;
mod file;
mod gadget;
mod lines;
mod look;
mod mount;
mod program;
mod region;
pub(crate) mod status;
mod target;
mod writers;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use classify::ADRERR;
pub(crate) use look::Look;
pub(crate) use region::Region;
pub(crate) use target::{Answer, Target};
pub use writers::Writer;

use crate::access;
use crate::fault::Fault;

/// What the look at a fault has found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub fault: Fault,
    /// The mapping.
    pub range: Range<u64>,
    /// Whether something else is mapped there than what has faulted, by now.
    pub is_replaced: bool,
    /// Whether nothing was found out in time.
    pub is_overdue: bool,
    /// Whether it holds code.
    pub is_code: bool,
    /// Whether the thread has a filter of system calls.
    pub has_filter: bool,
    /// Whether the program ignores the signal that reports the end of a call that it is made to do. The kernel would reset that.
    pub ignores_traps: bool,
    /// Whether the program makes an exception of the signal, and goes on.
    pub recovers: bool,
    /// Where in the program a system call instruction is, if it may have to map zeros.
    pub gadget: Option<u64>,
    /// Bytes of the page.
    pub page: u64,
    /// The page, to ask for again.
    pub target: Option<Arc<Target>>,
}

/// What a worker is asked. The number comes back with the answer.
pub(crate) enum Job {
    /// To look at a fault.
    Look(u64, Box<Look>),
    /// To ask a page again.
    Ask(u64, Arc<Target>),
    /// To find the mapping of a thread's process at an address.
    Region(u64, i32, u64),
    /// To find which processes have a file open for writing that a fault was past the end of.
    Search(Box<Fault>),
    /// To find out whether a program has LeakSanitizer in it, after its process has ended.
    Leaks(i32, PathBuf),
}

/// What a worker answers.
pub(crate) enum Report {
    /// What a look has found.
    Found(u64, Box<Finding>),
    /// What a page has answered.
    Answered(u64, Answer),
    /// The mapping at an address, if there is one.
    Region(u64, io::Result<Option<Region>>),
    /// Which processes have a file open for writing that a fault was past the end of: said after the finding.
    Writers(Box<Fault>, Vec<Writer>),
    /// The process had LeakSanitizer in it.
    Leaks(i32, PathBuf),
}

/// A worker that has been at a job for so long is taken for stuck: the next one gets a thread of its own.
const STUCK: Duration = Duration::from_millis(250);
/// As many workers may be stuck at once.
const LIMIT: usize = 16;
/// So many jobs wait for a worker.
const WAITING: usize = 1024;
/// Of a worker's stack.
const STACK: usize = 256 << 10;

/// The threads that look.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: usize,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    reports: Sender<Report>,
    /// Wakes the thread that traces.
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// From when on workers that are busy are no use to other jobs.
    busy: Vec<(u64, Instant)>,
    /// Files that were searched for, by device and inode.
    searched: HashSet<(u64, u64)>,
    next: u64,
    ended: bool,
}

/// Files are searched for once, and no more of them.
const SEARCHES: usize = 64;

impl Shared {
    /// Queues the search for a file that was not searched for yet.
    fn search(&self, fault: Box<Fault>) {
        let Some(key) = fault.file.as_ref().map(|file| (file.device, file.inode)) else { return };
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.searched.len() < SEARCHES && queue.searched.insert(key) {
            queue.jobs.push_back(Job::Search(fault));
        }
    }
}

impl Workers {
    pub fn new(reports: Sender<Report>, wake: impl Fn() + Send + Sync + 'static) -> Workers {
        let queue = Mutex::new(Queue::default());
        let shared = Shared { queue, changed: Condvar::new(), reports, wake: Box::new(wake) };
        let mut workers = Workers { shared: Arc::new(shared), threads: 0 };
        // The first one is ready when the first fault comes.
        workers.hire();
        workers
    }

    /// Hands a job to a worker. If all are stuck and many jobs wait already, it is dropped: its deadline is what remains.
    pub fn submit(&mut self, job: Job) {
        {
            let mut queue = self.lock();
            if queue.jobs.len() >= WAITING {
                return;
            }
            queue.jobs.push_back(job);
        }
        self.shared.changed.notify_one();
        self.provide();
    }

    /// Sees that a job that waits has a worker that is not stuck, as far as the limit allows.
    pub fn provide(&mut self) {
        let (waiting, stuck) = {
            let queue = self.lock();
            let now = Instant::now();
            (!queue.jobs.is_empty(), queue.busy.iter().filter(|(_, stuck)| now >= *stuck).count())
        };
        if waiting && stuck == self.threads && self.threads < LIMIT {
            self.hire();
        }
    }

    fn hire(&mut self) {
        let shared = self.shared.clone();
        let worker = thread::Builder::new().name("look".into()).stack_size(STACK);
        // Without a thread the deadline of the job is what remains.
        if worker.spawn(move || work(&shared)).is_ok() {
            self.threads += 1;
        }
    }

    /// Whether a job waits or is being done.
    pub fn is_busy(&self) -> bool {
        let queue = self.lock();
        !queue.jobs.is_empty() || !queue.busy.is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Workers {
    /// Workers end when their job does. One that is stuck ends with the process.
    fn drop(&mut self) {
        self.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

fn work(shared: &Shared) {
    // Where that is not allowed there is no such right either.
    let _ = target::leave_reserves_alone();
    access::prepare();
    loop {
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let job = loop {
            if queue.ended {
                return;
            }
            match queue.jobs.pop_front() {
                Some(job) => break job,
                None => queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        };
        let number = queue.next;
        queue.next += 1;
        // A search takes long.
        let patience = if matches!(job, Job::Search(_)) { Duration::ZERO } else { STUCK };
        queue.busy.push((number, Instant::now() + patience));
        drop(queue);
        let report = |report| {
            // Nobody listens once the guard has ended.
            let _ = shared.reports.send(report);
            (shared.wake)();
        };
        match job {
            Job::Ask(ticket, target) => report(Report::Answered(ticket, target.ask())),
            Job::Look(ticket, look) => {
                let finding = look::look(&look);
                let past_end = writers::are_of_interest(&finding.fault).then(|| Box::new(finding.fault.clone()));
                report(Report::Found(ticket, Box::new(finding)));
                if let Some(fault) = past_end {
                    shared.search(fault);
                }
            }
            Job::Region(ticket, thread, address) => report(Report::Region(ticket, look::region(thread, address))),
            Job::Leaks(process, path) => {
                if program::searches_for_leaks(&path) {
                    report(Report::Leaks(process, path));
                }
            }
            Job::Search(fault) => {
                let writers = writers::find(&fault);
                if !writers.is_empty() {
                    report(Report::Writers(fault, writers));
                }
            }
        }
        let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.busy.retain(|&(busy, _)| busy != number);
    }
}
