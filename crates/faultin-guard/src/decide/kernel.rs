//! A kernel that is played: threads that stop, exec, end and are killed in any order, workers that answer in any order or
//! not at all. Whatever happens, no stop is forgotten, no signal is passed on from a stop that delivers none, no other one
//! than its own, and zeros are mapped only while the process stands still.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::verdict::tests::{finding, past_end};
use super::*;
use crate::access::Access;
use crate::fault::{Cause, Space};
use crate::inspect::Target;
use crate::policy::WaitSpace;

/// The command.
const FIRST: Tid = 100;
/// More are not made.
const THREADS: usize = 8;

#[derive(Clone, Debug, PartialEq)]
enum At {
    Running,
    /// Stopped; whether the wait has reported it.
    Stopped(Stop, bool),
    /// Stopped by a fault, and made to map zeros, which takes long.
    Showing(Stop),
    Listening,
    /// Killed; its end has not been reported.
    Dead,
}

struct Thread {
    process: Tid,
    at: At,
    interrupted: bool,
}

struct Kernel {
    machine: Machine,
    policies: Policies,
    threads: BTreeMap<Tid, Thread>,
    reports: VecDeque<Input>,
    looks: Vec<(u64, Tid)>,
    asks: Vec<u64>,
    now: Duration,
    next: Tid,
    shown: u32,
    delivered: u32,
    faults: u32,
}

/// What happens next. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Signal(u8, i32),
    Fault(u8),
    Segv(u8),
    Group(u8),
    Continue(u8),
    Clone(u8, bool),
    Exec(u8),
    Exit(u8),
    Kill(u8),
    Report,
    Find(u8, u8),
    Answer(u8, u8),
    Pending(u8),
    Shown(u8),
    Time(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (any::<u8>(), prop::sample::select(vec![libc::SIGTERM, libc::SIGBUS, libc::SIGSTOP, libc::SIGTRAP, 40]))
            .prop_map(|(thread, signal)| Step::Signal(thread, signal)),
        6 => any::<u8>().prop_map(Step::Fault),
        1 => any::<u8>().prop_map(Step::Segv),
        1 => any::<u8>().prop_map(Step::Group),
        1 => any::<u8>().prop_map(Step::Continue),
        3 => (any::<u8>(), any::<bool>()).prop_map(|(thread, is_thread)| Step::Clone(thread, is_thread)),
        1 => any::<u8>().prop_map(Step::Exec),
        1 => any::<u8>().prop_map(Step::Exit),
        1 => any::<u8>().prop_map(Step::Kill),
        12 => Just(Step::Report),
        6 => (any::<u8>(), any::<u8>()).prop_map(|(look, what)| Step::Find(look, what)),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(ask, answer)| Step::Answer(ask, answer)),
        1 => any::<u8>().prop_map(Step::Pending),
        2 => any::<u8>().prop_map(Step::Shown),
        3 => (0_u16..3000).prop_map(Step::Time),
    ]
}

fn policies() -> impl Strategy<Value = Policies> {
    (prop::option::of(prop::option::of(0_u64..2000)), prop::option::of(0_u32..4), any::<bool>()).prop_map(
        |(wait, retry, zero)| Policies {
            wait_space: wait.map(|limit| WaitSpace { limit: limit.map(Duration::from_millis) }),
            retry,
            zero,
        },
    )
}

impl Kernel {
    fn new(policies: Policies) -> Kernel {
        let first = Thread { process: FIRST, at: At::Running, interrupted: false };
        Kernel {
            machine: Machine::new(policies, FIRST),
            policies,
            threads: BTreeMap::from([(FIRST, first)]),
            reports: VecDeque::new(),
            looks: Vec::new(),
            asks: Vec::new(),
            now: Duration::ZERO,
            next: FIRST + 1,
            shown: 0,
            delivered: 0,
            faults: 0,
        }
    }

    fn pick(&self, number: u8, is: impl Fn(&Thread) -> bool) -> Option<Tid> {
        let all: Vec<Tid> = self.threads.iter().filter(|(_, thread)| is(thread)).map(|(&id, _)| id).collect();
        (!all.is_empty()).then(|| all[usize::from(number) % all.len()])
    }

    fn running(&self, number: u8) -> Option<Tid> {
        self.pick(number, |thread| thread.at == At::Running)
    }

    fn stop(&mut self, id: Tid, stop: Stop) {
        if let Some(thread) = self.threads.get_mut(&id) {
            thread.at = At::Stopped(stop.clone(), false);
            self.reports.push_back(Input::Stopped(id, stop));
        }
    }

    /// A thread is killed: what was not reported of it never is.
    fn kill(&mut self, id: Tid, how: Ending) {
        let Some(thread) = self.threads.get_mut(&id) else { return };
        if thread.at == At::Dead {
            return;
        }
        thread.at = At::Dead;
        self.reports.retain(|report| !matches!(report, Input::Stopped(of, _) if *of == id));
        self.reports.push_back(Input::Ended(id, how));
    }

    fn kill_process(&mut self, process: Tid, how: Ending, but: Option<Tid>) {
        let mut threads: Vec<Tid> =
            self.threads.iter().filter(|(_, thread)| thread.process == process).map(|(&id, _)| id).collect();
        // The first thread's end is reported last.
        threads.sort_by_key(|&id| (id == process, id));
        for id in threads.into_iter().filter(|&id| Some(id) != but) {
            self.kill(id, how);
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Signal(number, signal) => {
                if let Some(id) = self.running(number) {
                    self.stop(id, Stop::Signal(signal));
                }
            }
            Step::Fault(number) => {
                if let Some(id) = self.running(number) {
                    self.faults += 1;
                    let process = self.threads[&id].process;
                    let address = 0x11_008 + u64::from(number % 3) * 4096;
                    let signal = Signal { number: libc::SIGBUS, code: 2, address, damaged: 0 };
                    self.stop(id, Stop::Fault { process, signal });
                }
            }
            Step::Segv(number) => {
                if let Some(id) = self.running(number) {
                    let process = self.threads[&id].process;
                    self.stop(id, Stop::Segv { process, address: 0x12_000 });
                }
            }
            Step::Group(number) => {
                if let Some(id) = self.running(number) {
                    self.stop(id, Stop::Group);
                }
            }
            Step::Continue(number) => {
                if let Some(id) = self.pick(number, |thread| thread.at == At::Listening) {
                    self.stop(id, Stop::Event);
                }
            }
            Step::Clone(number, is_thread) => {
                if let Some(id) = self.running(number)
                    && self.threads.len() < THREADS
                {
                    let child = self.next;
                    self.next += 1;
                    let process = if is_thread { self.threads[&id].process } else { child };
                    self.threads.insert(child, Thread { process, at: At::Running, interrupted: false });
                    // Either may be reported first.
                    let order = if number % 2 == 0 { [id, child] } else { [child, id] };
                    for id in order {
                        self.stop(id, Stop::Event);
                    }
                }
            }
            Step::Exec(number) => {
                if let Some(id) = self.running(number) {
                    let process = self.threads[&id].process;
                    if id != process {
                        // The first thread vanishes without a report, and its number is the caller's.
                        self.reports.retain(|report| !matches!(report, Input::Stopped(of, _) if *of == process));
                        if self.threads.get(&process).is_some_and(|thread| thread.at == At::Dead) {
                            return;
                        }
                        self.threads.remove(&process);
                    }
                    self.kill_process(process, Ending::Signal(libc::SIGKILL), Some(id));
                    self.threads.remove(&id);
                    self.threads.insert(process, Thread { process, at: At::Running, interrupted: false });
                    let excepted = (number % 5 == 0).then(|| OsString::from("gdb"));
                    self.stop(process, Stop::Exec { former: id, excepted });
                }
            }
            Step::Exit(number) => {
                if let Some(id) = self.running(number) {
                    let process = self.threads[&id].process;
                    match id == process {
                        true => self.kill_process(process, Ending::Exit(3), None),
                        false => self.kill(id, Ending::Exit(0)),
                    }
                }
            }
            Step::Kill(number) => {
                if let Some(id) = self.pick(number, |_| true) {
                    let process = self.threads[&id].process;
                    self.kill_process(process, Ending::Signal(libc::SIGKILL), None);
                }
            }
            Step::Report => self.report(),
            Step::Find(number, what) => {
                if !self.looks.is_empty() {
                    let (ticket, _) = self.looks.remove(usize::from(number) % self.looks.len());
                    self.input(Input::Found(ticket, Box::new(found(what))));
                }
            }
            Step::Answer(number, answer) => {
                if !self.asks.is_empty() {
                    let ticket = self.asks.remove(usize::from(number) % self.asks.len());
                    let answer = [Answer::Ready, Answer::NotYet, Answer::Untold][usize::from(answer) % 3];
                    self.input(Input::Answered(ticket, answer));
                }
            }
            Step::Pending(number) => {
                if let Some(id) = self.pick(number, |_| true) {
                    self.input(Input::Pending(id));
                }
            }
            Step::Shown(number) => {
                if let Some(id) = self.pick(number, |thread| matches!(thread.at, At::Showing(_))) {
                    self.showed(id);
                }
            }
            Step::Time(milliseconds) => self.pass(Duration::from_millis(milliseconds.into())),
        }
    }

    /// A thread has mapped its zeros, or not.
    fn showed(&mut self, id: Tid) {
        let Some(thread) = self.threads.get_mut(&id) else { return };
        let At::Showing(stop) = &thread.at else { return };
        thread.at = At::Stopped(stop.clone(), true);
        let result = if id % 2 == 0 { Ok(()) } else { Err(NotShown::Refused("refused".into())) };
        self.input(Input::Shown(id, result));
    }

    fn showed_all(&mut self) {
        while let Some(id) = self.pick(0, |thread| matches!(thread.at, At::Showing(_))) {
            self.showed(id);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.input(Input::Time);
    }

    /// Interrupts reach the threads that run.
    fn interrupts(&mut self) {
        let reached = |thread: &Thread| thread.interrupted && thread.at == At::Running;
        let all: Vec<Tid> = self.threads.iter().filter(|(_, thread)| reached(thread)).map(|(&id, _)| id).collect();
        for id in all {
            if let Some(thread) = self.threads.get_mut(&id) {
                thread.interrupted = false;
            }
            self.stop(id, Stop::Event);
        }
    }

    /// The wait reports what happened first.
    fn report(&mut self) {
        self.interrupts();
        let Some(report) = self.reports.pop_front() else { return };
        match &report {
            Input::Stopped(id, _) => {
                if let Some(At::Stopped(_, reported)) = self.threads.get_mut(id).map(|thread| &mut thread.at) {
                    *reported = true;
                }
            }
            Input::Ended(id, _) => drop(self.threads.remove(id)),
            _ => {}
        }
        self.input(report);
    }

    fn report_all(&mut self) {
        self.interrupts();
        while !self.reports.is_empty() {
            self.report();
            self.interrupts();
        }
    }

    fn input(&mut self, input: Input) {
        let mut todo: VecDeque<Do> = self.machine.step(self.now, input).into();
        while let Some(next) = todo.pop_front() {
            if let Some(input) = self.perform(next) {
                todo.extend(self.machine.step(self.now, input));
            }
        }
    }

    /// The stop that a request is about; no value if the thread has been killed meanwhile.
    fn stop_of(&self, id: Tid, request: &str) -> Option<Stop> {
        match self.threads.get(&id).map(|thread| &thread.at) {
            Some(At::Stopped(stop, true)) => Some(stop.clone()),
            Some(At::Dead) => None,
            at => panic!("{request} of {id}, which is {at:?}"),
        }
    }

    /// As [`Kernel::stop_of`], for a request that comes later: the thread may be another one by now, that calls exec.
    fn stop_later(&self, id: Tid, request: &str) -> Option<Stop> {
        match self.threads.get(&id).map(|thread| &thread.at) {
            // Also one whose stop was reported: the two look the same.
            Some(At::Stopped(Stop::Exec { .. }, _)) => None,
            _ => self.stop_of(id, request),
        }
    }

    fn set(&mut self, id: Tid, at: At) {
        if let Some(thread) = self.threads.get_mut(&id)
            && thread.at != At::Dead
        {
            thread.at = at;
            if thread.interrupted && thread.at == At::Running {
                thread.interrupted = false;
                self.stop(id, Stop::Event);
            }
        }
    }

    fn detach(&mut self, id: Tid, stop: &Stop, signal: i32) {
        self.check_signal(stop, signal);
        self.threads.remove(&id);
        if id == FIRST {
            // The end of a child is reported all the same.
            self.reports.push_back(Input::Ended(FIRST, Ending::Exit(0)));
        }
    }

    fn check_signal(&mut self, stop: &Stop, signal: i32) {
        assert!(signal == 0 || signal == stop.signal(), "{signal} is passed on from {stop:?}");
        let is_fault = matches!(stop, Stop::Fault { .. });
        assert!(is_fault || signal == stop.signal(), "{stop:?} loses its signal");
        if is_fault && self.policies == Policies::default() {
            assert_eq!(signal, libc::SIGBUS, "a guard that explains changes nothing");
        }
        self.delivered += u32::from(is_fault && signal != 0);
    }

    fn perform(&mut self, next: Do) -> Option<Input> {
        match next {
            Do::Resume(id, signal) => {
                let stop = self.stop_of(id, "resume")?;
                assert_ne!(stop, Stop::Group, "a stopped process is started");
                self.check_signal(&stop, signal);
                self.set(id, At::Running);
            }
            Do::ResumeLater(id, signal) => {
                let stop = self.stop_later(id, "resume")?;
                assert_ne!(stop, Stop::Group, "a stopped process is started");
                self.check_signal(&stop, signal);
                self.set(id, At::Running);
            }
            Do::Listen(id) => {
                let stop = self.stop_later(id, "listen")?;
                assert_eq!(stop, Stop::Group);
                self.set(id, At::Listening);
            }
            Do::Detach(id, signal) => {
                let stop = self.stop_of(id, "detach")?;
                self.detach(id, &stop, signal);
            }
            Do::DetachLater(id, signal) => {
                let stop = self.stop_later(id, "detach")?;
                self.detach(id, &stop, signal);
            }
            Do::Interrupt(id) => match self.threads.get_mut(&id) {
                // It runs on until the interrupt has reached it.
                Some(thread) if thread.at == At::Running => thread.interrupted = true,
                Some(thread) if thread.at == At::Listening => self.stop(id, Stop::Group),
                Some(thread) => thread.interrupted = matches!(thread.at, At::Stopped(_, true)),
                None => {}
            },
            Do::Look(ticket, id, _) => {
                let stop = self.stop_later(id, "look")?;
                assert!(matches!(stop, Stop::Fault { .. }), "{stop:?} is looked at");
                self.looks.push((ticket, id));
            }
            Do::Ask(ticket, _) => self.asks.push(ticket),
            Do::Check(id) => {
                self.stop_later(id, "check")?;
            }
            Do::List(process) => {
                let of = |thread: &&Thread| thread.process == process && thread.at != At::Dead;
                let threads = self.threads.iter().filter(|(_, thread)| of(thread)).map(|(&id, _)| id).collect();
                return Some(Input::Threads(process, threads));
            }
            Do::Show(id, ..) => {
                let process = self.threads.get(&id)?.process;
                let stop = self.stop_later(id, "zeros")?;
                assert!(matches!(stop, Stop::Fault { .. }), "zeros at {stop:?}");
                for (other, thread) in self.threads.iter().filter(|(_, thread)| thread.process == process) {
                    assert_ne!(thread.at, At::Running, "{other} runs while {id} maps zeros");
                }
                self.shown += 1;
                if self.shown % 3 == 2 {
                    self.set(id, At::Showing(stop));
                    return None;
                }
                let result = match self.shown % 4 {
                    2 => Err(NotShown::Refused("refused".into())),
                    3 => Err(NotShown::Replaced),
                    _ => Ok(()),
                };
                return Some(Input::Shown(id, result));
            }
            Do::Emit(_) => {}
        }
        None
    }

    /// Nothing new happens: everything is reported and answered, and time passes.
    fn settle(&mut self) {
        for _ in 0..400 {
            self.report_all();
            self.showed_all();
            while let Some((ticket, _)) = self.looks.pop() {
                self.input(Input::Found(ticket, Box::new(finding(Cause::Misaligned, Access::Load))));
            }
            while let Some(ticket) = self.asks.pop() {
                self.input(Input::Answered(ticket, Answer::Ready));
            }
            self.pass(Duration::from_millis(200));
        }
        for (id, thread) in &self.threads {
            assert!(matches!(thread.at, At::Running | At::Listening), "{id} is forgotten: {:?}", thread.at);
        }
        assert_eq!(self.machine.due(), None, "it waits for nothing");
        assert!(self.machine.tickets.is_empty() && self.machine.busy.is_empty() && self.machine.freezes.is_empty());
    }

    /// The command ends, and everything else is let go.
    fn end(&mut self) {
        self.kill_process(FIRST, Ending::Exit(5), None);
        if self.machine.command_ended().is_none() && !self.threads.contains_key(&FIRST) && self.reports.is_empty() {
            self.reports.push_back(Input::Ended(FIRST, Ending::Exit(5)));
        }
        self.report_all();
        self.showed_all();
        self.report_all();
        let left: Vec<Tid> = self.threads.keys().copied().collect();
        assert!(left.is_empty(), "{left:?} are not let go");
        // A thread that execs and is killed before that is reported vanishes without a word. There is nothing left to wait for then.
        assert!(self.machine.command_ended().is_some(), "{:?}", self.machine);
        assert!(self.machine.tickets.is_empty() && self.machine.busy.is_empty() && self.machine.freezes.is_empty());
    }
}

fn found(what: u8) -> Finding {
    let space = Space::default();
    let (cause, access) = match what % 8 {
        0 => (past_end(), Access::Load),
        1 => (past_end(), Access::Store),
        2 => (Cause::NoSpace { errno: Some(libc::ENOSPC), space }, Access::Store),
        3 => (Cause::Io { errno: libc::EIO }, Access::Load),
        4 => (Cause::Accessible { space }, Access::Store),
        5 => (Cause::Sent, Access::Unknown),
        6 => (Cause::HugePages { page: 2 << 20, total: 1, free: 0 }, Access::Store),
        _ => (Cause::Unknown { facts: String::new() }, Access::Load),
    };
    let mut finding = finding(cause, access);
    finding.fault.has_handler = what & 0x40 != 0;
    if what & 0x80 != 0 {
        finding.target = Some(Arc::new(Target::for_tests()));
    }
    finding
}

fn check(policies: Policies, steps: Vec<Step>) -> Kernel {
    let mut kernel = Kernel::new(policies);
    for step in steps {
        kernel.play(step);
    }
    kernel.settle();
    kernel.end();
    kernel
}

/// The number of sequences. Decisions are the same on each architecture, so that a slow machine plays few.
fn cases() -> u32 {
    if std::env::var_os("FAULTIN_PATIENCE").is_some() { 200 } else { 3000 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_stop_is_forgotten(policies in policies(), steps in prop::collection::vec(step(), 0..120)) {
        check(policies, steps);
    }

    #[test]
    fn a_guard_that_explains_delivers_every_signal(steps in prop::collection::vec(step(), 0..80)) {
        check(Policies::default(), steps);
    }
}

/// A recorded sequence: two threads fault in the same truncated file, one maps zeros, the other only repeats its access.
#[test]
fn twins_are_repaired_once() {
    let mut kernel = Kernel::new(Policies { zero: true, ..Policies::default() });
    kernel.play(Step::Clone(0, true));
    kernel.settle();
    kernel.play(Step::Fault(0));
    kernel.play(Step::Fault(0));
    kernel.report();
    kernel.report();
    kernel.play(Step::Find(0, 0));
    kernel.play(Step::Find(0, 0));
    assert_eq!((kernel.shown, kernel.delivered), (1, 0));
    kernel.settle();
    kernel.end();
}

/// A recorded sequence: a thread of several waits; it is killed with the process, and nothing is left of it.
#[test]
fn a_held_thread_may_be_killed() {
    let wait = Policies { wait_space: Some(WaitSpace { limit: None }), ..Policies::default() };
    let mut kernel = Kernel::new(wait);
    kernel.play(Step::Fault(0));
    kernel.report();
    kernel.play(Step::Find(0, 2 | 0x80));
    assert!(kernel.machine.due().is_some());
    kernel.pass(PERIOD);
    assert_eq!(kernel.asks.len(), 1, "the page is asked for");
    kernel.play(Step::Answer(0, 1));
    kernel.pass(PERIOD);
    assert_eq!(kernel.asks.len(), 1, "and again");
    kernel.play(Step::Kill(0));
    kernel.report();
    assert_eq!(kernel.machine.due(), None);
    assert_eq!(kernel.delivered, 0);
    assert!(kernel.machine.ended().is_some());
}

/// A recorded sequence: the limit of a wait ends it with the signal, also if the thread ran for another signal meanwhile.
#[test]
fn the_limit_counts_from_the_first_fault_of_the_page() {
    let limit = Some(Duration::from_secs(1));
    let mut kernel = Kernel::new(Policies { wait_space: Some(WaitSpace { limit }), ..Policies::default() });
    for _ in 0..3 {
        kernel.play(Step::Fault(0));
        kernel.report();
        kernel.play(Step::Find(0, 2 | 0x80));
        kernel.pass(Duration::from_millis(300));
        kernel.play(Step::Pending(0));
        assert_eq!(kernel.delivered, 0);
    }
    kernel.play(Step::Fault(0));
    kernel.report();
    kernel.play(Step::Find(0, 2 | 0x80));
    kernel.pass(Duration::from_millis(99));
    assert_eq!(kernel.delivered, 0);
    kernel.pass(Duration::from_millis(2));
    assert_eq!(kernel.delivered, 1);
    kernel.settle();
    kernel.end();
}

/// A recorded sequence: a thread execs while the first one is held, which vanishes without a word.
#[test]
fn a_thread_may_exec_while_the_first_one_is_held() {
    let wait = Policies { wait_space: Some(WaitSpace { limit: None }), ..Policies::default() };
    let mut kernel = Kernel::new(wait);
    kernel.play(Step::Clone(0, true));
    kernel.settle();
    kernel.play(Step::Fault(0));
    kernel.report();
    kernel.play(Step::Find(0, 2));
    let second = kernel.running(0).expect("the other thread");
    assert_ne!(second, FIRST);
    kernel.play(Step::Exec(1));
    while !kernel.reports.is_empty() {
        kernel.report();
    }
    assert_eq!(kernel.machine.due(), None, "nothing is held any more");
    assert_eq!(kernel.threads[&FIRST].at, At::Running);
    kernel.settle();
    kernel.end();
}

/// A recorded sequence: a program that lives on after each fault is looked at a few times only.
#[test]
fn repeats_are_passed_on_without_a_look() {
    let mut kernel = Kernel::new(Policies::default());
    for turn in 0..20 {
        kernel.play(Step::Fault(0));
        kernel.report();
        assert_eq!(kernel.looks.len(), usize::from(turn < LOOKS), "{turn}");
        kernel.play(Step::Find(0, 0x40));
    }
    assert_eq!(kernel.delivered, 20);
}

/// A recorded sequence: a look that never ends ends by its deadline, with the signal.
#[test]
fn a_look_has_a_deadline() {
    let mut kernel = Kernel::new(Policies::default());
    kernel.play(Step::Fault(0));
    kernel.report();
    assert_eq!(kernel.machine.due(), Some(DEADLINE));
    kernel.pass(DEADLINE);
    assert_eq!(kernel.delivered, 1);
    kernel.play(Step::Find(0, 0));
    assert_eq!(kernel.delivered, 1, "the answer is too late");
}

/// A recorded sequence: looks that never end are waited out as what they would have found might be, up to the limit.
#[test]
fn a_program_that_waits_for_space_outlives_a_look_that_is_late() {
    let limit = Some(Duration::from_secs(10));
    let mut kernel = Kernel::new(Policies { wait_space: Some(WaitSpace { limit }), ..Policies::default() });
    let mut turns = 0;
    while kernel.delivered == 0 {
        kernel.play(Step::Fault(0));
        kernel.report();
        kernel.pass(DEADLINE);
        kernel.pass(PERIOD);
        turns += 1;
        assert!(turns < 10);
    }
    assert_eq!(turns, 6, "of 2.1 s each; the limit counts from the end of the first look");
    let mut kernel = Kernel::new(Policies { wait_space: Some(WaitSpace { limit: None }), ..Policies::default() });
    kernel.play(Step::Fault(0));
    kernel.report();
    kernel.pass(DEADLINE);
    kernel.play(Step::Find(0, 0));
    assert_eq!(kernel.delivered, 0, "the answer to the first look is too late, and no reason to give up");
    kernel.pass(PERIOD);
    kernel.play(Step::Fault(0));
    kernel.report();
    kernel.play(Step::Find(0, 2 | 0x80));
    kernel.play(Step::Pending(0));
    assert_eq!(kernel.delivered, 0);
    kernel.settle();
    kernel.end();
}

#[test]
fn zeros_are_remembered_in_bounded_memory() {
    let mut process = Process::default();
    for page in [3_u64, 1, 2, 2, 9] {
        process.add_zeros(&(page * 4096..(page + 1) * 4096));
    }
    assert_eq!(process.zeros, [4096..4 * 4096, 9 * 4096..10 * 4096]);
    for page in 0..10_000_u64 {
        process.add_zeros(&(page * 8192..page * 8192 + 4096));
    }
    assert!(process.zeros.len() <= ZEROS, "{}", process.zeros.len());
    assert!(process.zeros.iter().any(|range| range.contains(&(9_999 * 8192))), "the newest");
}
