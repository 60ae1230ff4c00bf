//! Carries out what is decided: all calls of ptrace, in one thread.

mod patience;
mod signals;
mod spawn;
mod sys;
mod zero;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::access::untagged;
use crate::decide::{Do, Input, Machine, NotShown, Signal, Stop, Tid};
use crate::event::{Ending, Event, Tracing};
use crate::inspect::status::Status as ProcStatus;
use crate::inspect::{Finding, Job, Look, Region, Report, Workers};
use crate::{Guard, RunError};
use patience::Patience;
use signals::{Bell, Forwarder, Mask};
use spawn::{Child, Failed, Inherited};
use sys::Status;

/// The longest sleep: a program that uses the library may have a thread that takes the signal which ends it.
const NAP: Duration = Duration::from_millis(5);
/// So long the trace waits for a thread that maps zeros before it turns to others.
const MOMENT: Duration = Duration::from_millis(5);
/// So long the look at what is mapped may take before a thread maps zeros.
const CHECK: Duration = Duration::from_secs(2);
/// So long programs that outlive the command may take to be let go.
const FAREWELL: Duration = Duration::from_secs(1);
/// The longest wait without sleep for the next fault of a program that recovers from each. A sleep costs as much where a
/// processor is idle.
const REPEAT: Duration = Duration::from_micros(60);
/// The same, for what a look finds.
const LOOK: Duration = Duration::from_micros(300);
/// So long a look may last that adds to what was told, when everything has ended.
const AFTERTHOUGHT: Duration = Duration::from_secs(1);

/// Runs the command to its end.
pub(crate) fn run(
    guard: &Guard,
    command: &[OsString],
    on_event: &mut (dyn FnMut(&Event) + Send),
) -> Result<Ending, RunError> {
    let mask = Mask::new(guard.forwards);
    let inherited = mask.inherited;
    // A thread of its own has no other children, and no other thread has its.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| Trace::run(guard, command, &inherited, on_event));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

struct Trace<'a> {
    machine: Machine,
    workers: Workers,
    reports: Receiver<Report>,
    begun: Instant,
    guard: &'a Guard,
    on_event: &'a mut (dyn FnMut(&Event) + Send),
    /// The processes of threads that have had a fault.
    processes: HashMap<Tid, Tid>,
    /// Threads that are going to map zeros.
    checks: HashMap<Tid, Check>,
    /// The number of the last check.
    check: u64,
    /// Threads that map zeros.
    injections: HashMap<Tid, zero::Injection>,
    /// The programs that processes run.
    programs: HashMap<Tid, PathBuf>,
    /// Programs that cannot trace, and of which that was told.
    told: HashSet<OsString>,
    /// What was read of a thread when its present stop was reported.
    status: Option<(Tid, ProcStatus)>,
    /// For the next fault of a program that recovers from one after the other.
    repeats: Patience,
    /// For what a look finds.
    looks: Patience,
    /// What is waited for without sleep, before anything else.
    soon: Option<Soon>,
}

/// A thread that maps zeros as soon as it is known that nothing else is mapped there by now. That is read by another thread: a process that
/// shares the memory and is not stopped may hold the lock of its mappings for as long as a file server likes.
struct Check {
    number: u64,
    end: Instant,
    range: Range<u64>,
    finding: Box<Finding>,
}

/// What is likely to happen before a sleep would pay.
#[derive(Clone, Copy)]
enum Soon {
    Repeat,
    Finding,
}

/// What the trace waits for.
enum News {
    Report(Report),
    Stopped(Tid, Status),
}

impl<'a> Trace<'a> {
    fn run(
        guard: &'a Guard,
        command: &[OsString],
        inherited: &Inherited,
        on_event: &'a mut (dyn FnMut(&Event) + Send),
    ) -> Result<Ending, RunError> {
        let child = Child::new(command, inherited).map_err(RunError::Spawn)?;
        let id = child.id;
        let seized = sys::seize(id);
        let _forwarder = if guard.forwards { Some(Forwarder::new(id).map_err(RunError::Spawn)?) } else { None };
        let failed = child.go().map_err(RunError::Spawn)?;
        let ending = match seized {
            Ok(()) => {
                let (sender, reports) = channel();
                let bell = Bell::new();
                let workers = Workers::new(sender, move || bell.ring());
                let machine = Machine::new(guard.policies, id);
                let begun = Instant::now();
                let mut trace = Trace {
                    machine,
                    workers,
                    reports,
                    begun,
                    guard,
                    on_event,
                    processes: HashMap::new(),
                    checks: HashMap::new(),
                    check: 0,
                    injections: HashMap::new(),
                    programs: HashMap::new(),
                    told: HashSet::new(),
                    status: None,
                    repeats: Patience::new(REPEAT),
                    looks: Patience::new(LOOK),
                    soon: None,
                };
                trace.guarded()?
            }
            Err(error) => {
                on_event(&Event::Unguarded { why: format!("ptrace: {error}") });
                unguarded(id)?
            }
        };
        Self::ending(ending, failed, command)
    }

    /// Tells the end of a command from that of a child that could not run it.
    fn ending(ending: Ending, failed: Failed, command: &[OsString]) -> Result<Ending, RunError> {
        match ending {
            Ending::Exit(spawn::NOT_FOUND | spawn::NOT_RUN) => match failed.error() {
                Some(error) => Err(RunError::Exec { program: command[0].clone(), error }),
                None => Ok(ending),
            },
            _ => Ok(ending),
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn guarded(&mut self) -> Result<Ending, RunError> {
        let mut farewell = None;
        loop {
            if let Some(soon) = self.soon.take()
                && let Some(news) = self.soon(soon)?
            {
                self.take_in(news);
            }
            while let Ok(report) = self.reports.try_recv() {
                self.report(report);
            }
            self.end_checks();
            let due = self.machine.due();
            if due.is_some_and(|due| due <= self.now()) {
                self.step(Input::Time);
                continue;
            }
            if self.machine.ended().is_some() {
                break;
            }
            if self.machine.command_ended().is_some() {
                let since = *farewell.get_or_insert_with(Instant::now);
                if since.elapsed() > FAREWELL {
                    break;
                }
            }
            if self.soon.is_some() {
                continue;
            }
            let is_idle = due.is_none() && farewell.is_none() && !self.workers.is_busy();
            // A worker reports before it is idle: one that has become so meanwhile may have left a report. Nothing would wake the
            // wait for the next stop then.
            if is_idle && let Ok(report) = self.reports.try_recv() {
                self.report(report);
                continue;
            }
            match sys::wait(is_idle) {
                Ok(Some((thread, status))) => self.stopped(thread, status),
                Ok(None) => {
                    self.workers.provide();
                    let time = due.map_or(NAP, |due| due.saturating_sub(self.now()));
                    signals::sleep(time.min(NAP));
                }
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => break,
                Err(error) => return Err(RunError::Wait(error)),
            }
        }
        self.let_go();
        let begun = Instant::now();
        while self.workers.is_busy() && begun.elapsed() < AFTERTHOUGHT {
            signals::sleep(NAP);
        }
        while let Ok(report) = self.reports.try_recv() {
            self.report(report);
        }
        self.machine.command_ended().ok_or_else(|| RunError::Wait(io::Error::from_raw_os_error(libc::ECHILD)))
    }

    /// Waits a little without sleep for what is likely to happen at once.
    fn soon(&mut self, soon: Soon) -> Result<Option<News>, RunError> {
        let Trace { reports, repeats, looks, .. } = self;
        let news = match soon {
            Soon::Repeat => repeats.wait(stop),
            Soon::Finding => looks.wait(|| match reports.try_recv() {
                Ok(report) => Some(Ok(News::Report(report))),
                Err(_) => stop(),
            }),
        };
        match news.transpose() {
            Ok(news) => Ok(news),
            // The usual wait says the same.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            Err(error) => Err(RunError::Wait(error)),
        }
    }

    fn take_in(&mut self, news: News) {
        match news {
            News::Report(report) => self.report(report),
            News::Stopped(thread, status) => self.stopped(thread, status),
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Found(ticket, finding) => self.step(Input::Found(ticket, finding)),
            Report::Answered(ticket, answer) => self.step(Input::Answered(ticket, answer)),
            Report::Region(number, region) => self.checked(number, region),
            Report::Leaks(process, path) => {
                if let Some(program) = path.file_name() {
                    self.cannot_trace(process, program, Tracing::LeakSanitizer);
                }
            }
            Report::Writers(fault, writers) => (self.on_event)(&Event::Writers { fault, writers }),
        }
    }

    fn stopped(&mut self, thread: Tid, status: Status) {
        self.status = None;
        if matches!(status, Status::Exec | Status::Exited(_) | Status::Killed(_)) {
            self.checks.remove(&thread);
        }
        if status == Status::Exec {
            // The thread that had this number is no more.
            self.injections.remove(&thread);
        } else if self.injections.contains_key(&thread) {
            if let Some(input) = self.injected(thread, status) {
                self.step(input);
            }
            return;
        }
        let input = match status {
            Status::Exited(status) => self.ended(thread, Ending::Exit(status)),
            Status::Killed(signal) => self.ended(thread, Ending::Signal(signal)),
            Status::Group => Input::Stopped(thread, Stop::Group),
            Status::Event => Input::Stopped(thread, Stop::Event),
            Status::Fork => {
                self.forked(thread);
                Input::Stopped(thread, Stop::Event)
            }
            Status::Exec => Input::Stopped(thread, self.exec(thread)),
            Status::Signal(signal) => Input::Stopped(thread, self.signal(thread, signal)),
        };
        self.step(input);
    }

    fn ended(&mut self, thread: Tid, how: Ending) -> Input {
        self.processes.remove(&thread);
        if let Some(path) = self.programs.remove(&thread)
            && matches!(how, Ending::Exit(status) if LEAKS.contains(&status))
            && path.file_name().is_some_and(|name| !self.told.contains(name))
        {
            self.workers.submit(Job::Leaks(thread, path));
        }
        Input::Ended(thread, how)
    }

    /// A debugger that makes a process is going to trace it.
    fn forked(&mut self, thread: Tid) {
        if let Some(program) = executable(thread).as_deref().and_then(|path| path.file_name())
            && DEBUGGERS.iter().any(|name| program == *name)
        {
            self.cannot_trace(thread, program, Tracing::Debugger);
        }
    }

    fn cannot_trace(&mut self, process: Tid, program: &OsStr, tracing: Tracing) {
        if self.told.len() < NAMES && self.told.insert(program.to_owned()) {
            (self.on_event)(&Event::CannotTrace { process, program: program.to_owned(), tracing });
        }
    }

    fn exec(&mut self, thread: Tid) -> Stop {
        let former = sys::event_message(thread).ok().and_then(|former| Tid::try_from(former).ok()).unwrap_or(thread);
        self.processes.remove(&former);
        self.processes.remove(&thread);
        let program = executable(thread);
        let excepted = self.excepted(thread, program.as_deref());
        self.programs.remove(&former);
        self.programs.remove(&thread);
        if let Some(program) = program
            && excepted.is_none()
        {
            self.programs.insert(thread, program);
        }
        Stop::Exec { former, excepted }
    }

    /// The name of the program that a process runs, if it is not to be guarded.
    fn excepted(&self, process: Tid, program: Option<&Path>) -> Option<OsString> {
        if self.guard.except.is_empty() {
            return None;
        }
        let is_excepted = |name: &OsStr| self.guard.except.iter().any(|except| except == name);
        let program = program.and_then(Path::file_name).map(OsStr::to_owned);
        let mut comm = std::fs::read(format!("/proc/{process}/comm")).unwrap_or_default();
        comm.pop();
        // A script has its own name here, and its interpreter's there.
        program.filter(|name| is_excepted(name)).or_else(|| {
            let comm = OsString::from_vec(comm);
            let is_cut = |except: &OsString| {
                comm.len() == COMM && except.as_bytes().get(..COMM).is_some_and(|start| start == comm.as_bytes())
            };
            (is_excepted(&comm) || self.guard.except.iter().any(is_cut)).then_some(comm)
        })
    }

    /// What a signal that is about to be delivered means.
    fn signal(&mut self, thread: Tid, number: i32) -> Stop {
        if ![libc::SIGBUS, libc::SIGSEGV].contains(&number) {
            return Stop::Signal(number);
        }
        let Ok(info) = sys::signal(thread) else { return Stop::Signal(number) };
        if info.si_signo != number || info.si_code <= 0 {
            return Stop::Signal(number);
        }
        // SAFETY: signals of the kernel and of this number have an address; one with such a code that a process has sent to itself
        // has the same bytes, whatever they are.
        let address = untagged(unsafe { info.si_addr() } as u64);
        let process = self.process(thread);
        if number == libc::SIGSEGV {
            const ACCERR: i32 = 2;
            return if info.si_code == ACCERR { Stop::Segv { process, address } } else { Stop::Signal(number) };
        }
        let signal = Signal { number, code: info.si_code, address, damaged: damaged(&info) };
        Stop::Fault { process, signal }
    }

    fn process(&mut self, thread: Tid) -> Tid {
        if let Some(&process) = self.processes.get(&thread) {
            return process;
        }
        let status = status(thread);
        let process = if status.process == 0 { thread } else { status.process };
        self.processes.insert(thread, process);
        self.status = Some((thread, status));
        process
    }

    /// Takes in what has happened, and does what is to be done.
    fn step(&mut self, input: Input) {
        let mut todo: VecDeque<Do> = self.machine.step(self.now(), input).into();
        while let Some(next) = todo.pop_front() {
            if let Some(input) = self.perform(next) {
                // What follows from it comes after what was to be done before.
                todo.extend(self.machine.step(self.now(), input));
            }
        }
    }

    /// Takes in a stop of a thread that maps zeros.
    fn injected(&mut self, thread: Tid, status: Status) -> Option<Input> {
        match self.injections.remove(&thread)?.stopped(status) {
            Ok(goes_on) => {
                self.injections.insert(thread, goes_on);
                None
            }
            Err(result) => self.shown(thread, result),
        }
    }

    /// Has the thread map the zeros, unless something else is mapped there.
    fn checked(&mut self, number: u64, region: io::Result<Option<Region>>) {
        let Some(thread) = self.checks.iter().find_map(|(&thread, check)| (check.number == number).then_some(thread))
        else {
            return;
        };
        let Some(Check { range, finding, .. }) = self.checks.remove(&thread) else { return };
        let begun = region
            .map_err(zero::Failure::from)
            .and_then(|region| zero::begin(thread, &range, &finding, region.as_ref()));
        match begun {
            Ok(injection) => {
                self.injections.insert(thread, injection);
                // It nearly always is done before anything else could be.
                if let Some(status) = stop_within(thread, MOMENT) {
                    self.stopped(thread, status);
                }
            }
            Err(failure) => {
                if let Some(input) = self.shown(thread, Err(failure)) {
                    self.step(input);
                }
            }
        }
    }

    /// Ends checks that take too long.
    fn end_checks(&mut self) {
        if self.checks.is_empty() {
            return;
        }
        let now = Instant::now();
        let late: Vec<Tid> =
            self.checks.iter().filter(|(_, check)| now >= check.end).map(|(&thread, _)| thread).collect();
        for thread in late {
            self.checks.remove(&thread);
            let why = "its mappings cannot be read in time".to_owned();
            self.step(Input::Shown(thread, Err(NotShown::Refused(why))));
        }
    }

    fn shown(&mut self, thread: Tid, result: Result<(), zero::Failure>) -> Option<Input> {
        Some(match result {
            Ok(()) => Input::Shown(thread, Ok(())),
            Err(zero::Failure::Replaced) => Input::Shown(thread, Err(NotShown::Replaced)),
            Err(zero::Failure::Refused(why)) => Input::Shown(thread, Err(NotShown::Refused(why))),
            Err(zero::Failure::Ended(Status::Exited(status))) => self.ended(thread, Ending::Exit(status)),
            Err(zero::Failure::Ended(Status::Killed(signal))) => self.ended(thread, Ending::Signal(signal)),
            Err(zero::Failure::Ended(_)) => return None,
        })
    }

    /// Lets go of threads that still map zeros: a file server keeps them waiting. One that cannot be put back in time must not run on
    /// with the registers of the call.
    fn let_go(&mut self) {
        for (thread, _) in std::mem::take(&mut self.checks) {
            drop(sys::detach(thread, libc::SIGBUS));
        }
        for (thread, injection) in std::mem::take(&mut self.injections) {
            let end = Instant::now() + FAREWELL;
            let mut left = Some(injection);
            while let Some(injection) = left.take() {
                let rest = end.saturating_duration_since(Instant::now());
                match stop_within(thread, rest).map(|status| injection.stopped(status)) {
                    Some(Ok(goes_on)) => left = Some(goes_on),
                    // Another program, without the signal.
                    Some(Err(Err(zero::Failure::Ended(_)))) => drop(sys::detach(thread, 0)),
                    Some(Err(result)) => drop(sys::detach(thread, if result.is_err() { libc::SIGBUS } else { 0 })),
                    // SAFETY: the call touches no memory. The thread is traced, so that the number is its own.
                    None => drop(unsafe { libc::kill(thread, libc::SIGKILL) }),
                }
            }
        }
    }

    /// Does it; what has come of it, if it is known at once. A thread that was killed meanwhile cannot be traced any more: that
    /// it has ended is reported by the next wait.
    fn perform(&mut self, next: Do) -> Option<Input> {
        match next {
            Do::Resume(thread, signal) => drop(sys::resume(thread, signal)),
            Do::ResumeLater(thread, signal) if !sys::is_at_exec(thread) => drop(sys::resume(thread, signal)),
            Do::Detach(thread, signal) => drop(sys::detach(thread, signal)),
            Do::DetachLater(thread, signal) if !sys::is_at_exec(thread) => drop(sys::detach(thread, signal)),
            Do::ResumeLater(..) | Do::DetachLater(..) => {}
            Do::Listen(thread) => drop(sys::listen(thread)),
            Do::Interrupt(thread) => drop(sys::interrupt(thread)),
            Do::Look(ticket, thread, signal) => {
                let registers = sys::registers(thread).ok();
                // A thread that is stopped keeps its rights.
                let known = self.status.take().filter(|(of, _)| *of == thread);
                let status = known.map_or_else(|| status(thread), |(_, status)| status);
                let look = Look { thread, status, signal, registers, for_zeros: self.guard.policies.zero };
                // Beside another job the look may need the processor on which this thread would not sleep.
                self.soon = (!self.workers.is_busy()).then_some(Soon::Finding);
                self.workers.submit(Job::Look(ticket, Box::new(look)));
            }
            Do::Ask(ticket, target) => self.workers.submit(Job::Ask(ticket, target)),
            Do::Check(thread) => return status(thread).wants_to_run().then_some(Input::Pending(thread)),
            Do::List(process) => return Some(Input::Threads(process, threads(process))),
            Do::Show(thread, range, finding) => {
                self.check += 1;
                let number = self.check;
                self.soon = (!self.workers.is_busy()).then_some(Soon::Finding);
                self.workers.submit(Job::Region(number, thread, range.start));
                self.checks.insert(thread, Check { number, end: Instant::now() + CHECK, range, finding });
            }
            Do::Emit(event) => {
                if matches!(event, Event::Repeated { .. }) {
                    self.soon = Some(Soon::Repeat);
                }
                (self.on_event)(&event);
            }
        }
        None
    }
}

/// Programs that trace the processes that they make.
const DEBUGGERS: [&str; 8] = ["gdb", "gdbserver", "lldb-server", "strace", "ltrace", "rr", "dlv", "proot"];
/// The statuses with which LeakSanitizer ends a program: by itself, and as a part of AddressSanitizer.
const LEAKS: [i32; 2] = [23, 1];
/// Of so many programs it is told that they cannot trace.
const NAMES: usize = 64;

/// The file of the program that a process runs, as the process sees it. No file system is asked.
fn executable(process: Tid) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/exe")).ok()
}

/// A stop that has happened already.
fn stop() -> Option<io::Result<News>> {
    let stop = sys::wait(false).transpose()?;
    Some(stop.map(|(thread, status)| News::Stopped(thread, status)))
}

/// A stop, or the end, of one thread, if it comes in time.
fn stop_within(thread: Tid, time: Duration) -> Option<Status> {
    const SHORT: Duration = Duration::from_micros(100);
    let begun = Instant::now();
    loop {
        if let Some(status) = sys::look_at_one(thread).ok()? {
            return Some(status);
        }
        match begun.elapsed() {
            elapsed if elapsed > time => return None,
            elapsed if elapsed > SHORT => std::thread::sleep(SHORT),
            _ => std::hint::spin_loop(),
        }
    }
}

/// The longest name of a thread.
const COMM: usize = 15;

/// The exponent of the bytes that are damaged.
fn damaged(info: &libc::siginfo_t) -> u32 {
    // After the three numbers of each signal, four unused bytes, and the address.
    const OFFSET: usize = 24;
    // SAFETY: `siginfo_t` has 128 bytes, and all of them are initialised by the kernel.
    let bytes: [u8; 2] = unsafe { (info as *const libc::siginfo_t).cast::<u8>().add(OFFSET).cast::<[u8; 2]>().read() };
    u32::from(u16::from_ne_bytes(bytes))
}

fn status(thread: Tid) -> ProcStatus {
    let text = std::fs::read(format!("/proc/{thread}/status")).unwrap_or_default();
    ProcStatus::parse(&String::from_utf8_lossy(&text))
}

/// The threads of a process, without those that have ended and are not waited for yet.
fn threads(process: Tid) -> Vec<Tid> {
    let Ok(folder) = std::fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let numbers = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<Tid>().ok());
    numbers.filter(|thread| !has_ended(process, *thread)).collect()
}

fn has_ended(process: Tid, thread: Tid) -> bool {
    let Ok(text) = std::fs::read(format!("/proc/{process}/task/{thread}/stat")) else { return true };
    // The name is in parentheses, and may contain some.
    let state = text.iter().rposition(|&byte| byte == b')').and_then(|end| text.get(end + 2));
    matches!(state, Some(b'Z' | b'X'))
}

/// Waits for a command that is not traced.
fn unguarded(id: i32) -> Result<Ending, RunError> {
    loop {
        match sys::wait_for_one(id).map_err(RunError::Wait)? {
            Some(Status::Exited(status)) => return Ok(Ending::Exit(status)),
            Some(Status::Killed(signal)) => return Ok(Ending::Signal(signal)),
            _ => {}
        }
    }
}
