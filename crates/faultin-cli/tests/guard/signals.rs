//! Signals while a program is held, and while it runs.

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use faultin_test::skipped;

use super::stage::{Run, Stage, patience, process, send};

/// A program that is held, and its number.
fn held(stage: &Stage) -> (Run, i32) {
    let run = Run::start(&mut stage.shell("exec $G --wait-space=50s -- $P/writer $M/f 4000000 4"));
    let said = run.until("waits for up to");
    let id = process(&said, "writer");
    (run, id)
}

/// The letter of a process' state.
fn state(id: i32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

#[track_caller]
fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(20) * patience(), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_held_program_takes_its_signals() {
    let Some(stage) = Stage::new() else { return };
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143), (libc::SIGKILL, 137), (libc::SIGHUP, 129)] {
        let (run, id) = held(&stage);
        send(id, signal);
        run.wait().ends(code);
    }
}

#[test]
fn what_is_sent_to_the_guard_reaches_the_program() {
    let Some(stage) = Stage::new() else { return };
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143), (libc::SIGHUP, 129), (libc::SIGUSR1, 138)] {
        let (run, _) = held(&stage);
        send(run.id(), signal);
        run.wait().ends(code);
    }
    // A program that runs and handles it.
    let run = Run::start(
        &mut stage
            .shell("exec $G -- sh -c 'trap \"echo taken; exit 5\" TERM; echo ready >&2; while :; do sleep 0.05; done'"),
    );
    run.until("ready");
    send(run.id(), libc::SIGTERM);
    run.wait().ends(5).prints("taken");
}

#[test]
fn a_program_dies_of_its_fault_if_the_guard_is_killed() {
    let Some(stage) = Stage::new() else { return };
    let script = "$G --wait-space=50s -- sh -c '$P/writer $M/f 4000000 1; echo $? >$M/code' & echo guard $! >&2; wait; \
        for i in $(seq 100); do test -s $M/code && break; sleep 0.2; done; cat $M/code";
    // The file with the status needs space.
    let script = format!("mkdir $M/b; mount -t tmpfs t $M/b; {}", script.replace("$M/code", "$M/b/code"));
    let run = Run::start(&mut stage.shell(&script));
    let said = run.until("waits for up to");
    let guard = said.lines().find_map(|line| line.strip_prefix("guard ")).and_then(|id| id.parse().ok());
    send(guard.expect("its number"), libc::SIGKILL);
    run.wait().prints("135");
}

#[test]
fn a_held_program_stops_and_continues() {
    let Some(stage) = Stage::new() else { return };
    let script = "(until test -e $M/more; do sleep 0.05; done; mount -o remount,size=16m $M) & \
        exec $G --wait-space=50s -- $P/writer $M/f 4000000 4";
    let run = Run::start(&mut stage.shell(script));
    let id = process(&run.until("waits for up to"), "writer");
    let inside = format!("/proc/{id}/root{}/more", stage.folder().display());
    send(id, libc::SIGSTOP);
    // All threads are stopped by job control: the first one's state is that of a traced stop in either case, so the tracer asks.
    until("it stops", || is_stopped(id));
    std::fs::write(inside, "").expect("write");
    thread::sleep(Duration::from_millis(400));
    assert!(is_stopped(id), "it stays stopped though there is space");
    send(id, libc::SIGCONT);
    let done = run.wait();
    done.ends(0).prints("bad=0");
    // By a fault or without one: the space is there when it takes the signal.
    assert_eq!(done.lines("goes on").len() + done.lines("has gone on").len(), 1, "{done:#?}");
}

/// Whether no thread of the process runs or waits for anything but its tracer and job control.
fn is_stopped(id: i32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{id}/task")) else { return false };
    tasks.flatten().all(|task| {
        let name = task.file_name();
        let thread = name.to_str().and_then(|name| name.parse().ok());
        thread.and_then(state).is_some_and(|state| ['t', 'T'].contains(&state))
    })
}

#[test]
fn a_storm_of_signals_does_not_keep_a_held_program() {
    let Some(stage) = Stage::new() else { return };
    let (run, id) = held(&stage);
    for turn in 0..400 {
        let signal =
            [libc::SIGCONT, libc::SIGSTOP, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD][turn % 6];
        send(id, signal);
        thread::sleep(Duration::from_millis(1));
    }
    send(id, libc::SIGCONT);
    send(id, libc::SIGTERM);
    run.wait().ends(143);
}

/// A terminal: what a person types in, and what the programs have.
struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    fn new() -> Terminal {
        let (mut master, mut slave) = (0, 0);
        let null = std::ptr::null_mut();
        // SAFETY: the pointers lead to values of this frame, or are null where that is allowed.
        let opened = unsafe { libc::openpty(&raw mut master, &raw mut slave, null, null.cast(), null.cast()) };
        assert_eq!(opened, 0, "openpty");
        // SAFETY: both are new, and nobody else has them.
        unsafe { Terminal { master: OwnedFd::from_raw_fd(master), slave: OwnedFd::from_raw_fd(slave) } }
    }

    /// Makes it the one of a command.
    fn controls(&self, command: &mut Command) {
        let slave = self.slave.as_raw_fd();
        // SAFETY: the calls are safe in a child of `fork`, and touch no memory.
        unsafe {
            command.pre_exec(move || {
                if libc::setsid() < 0 || libc::ioctl(slave, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
    }

    /// Types.
    fn types(&self, text: &str) {
        let master = self.master.try_clone().expect("a descriptor");
        std::fs::File::from(master).write_all(text.as_bytes()).expect("write");
    }
}

#[test]
fn the_interrupt_key_ends_a_held_program_and_its_guard() {
    let Some(stage) = Stage::new() else { return };
    let terminal = Terminal::new();
    let mut command = stage.shell("exec $G --wait-space=50s -- $P/writer $M/f 4000000 1");
    terminal.controls(&mut command);
    let run = Run::start_as_it_is(&mut command);
    run.until("waits for up to");
    terminal.types("\x03");
    run.wait().ends(130);
}

/// The keys of job control, under a shell that has it: `kill` would reach the program alone.
#[test]
fn the_stop_key_stops_a_held_program_and_fg_resumes_it() {
    let Some(stage) = Stage::new() else { return };
    if !Command::new("bash").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skipped("bash", "no bash");
    }
    for program in ["$P/writer $M/f 4000000 1", "$P/writer $M/f 4000000 4", "sh -c '$P/writer $M/f 4000000 4; exit $?'"]
    {
        let terminal = Terminal::new();
        let mut command = stage.shell("exec bash --norc --noprofile --noediting -i <&3");
        let slave = terminal.slave.as_raw_fd();
        // SAFETY: the call is safe in a child of `fork`, and touches no memory.
        unsafe {
            command
                .pre_exec(move || if libc::dup2(slave, 3) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) })
        };
        terminal.controls(&mut command);
        command.env("TERM", "dumb").env("PS1", "> ");
        let run = Run::start_as_it_is(&mut command);
        terminal.types(&format!("$G --wait-space=50s -- {program}\n"));
        let id = process(&run.until("waits for up to"), "writer");
        terminal.types("\x1a");
        run.until("Stopped");
        until("it stops", || is_stopped(id));
        // The guard is stopped as well: nobody asks for space, and nobody goes on.
        terminal.types("mount -o remount,size=16m $M; echo made room >&2\n");
        run.until("made room\n");
        assert!(is_stopped(id), "it stays stopped though there is space");
        terminal.types("fg\n");
        terminal.types("echo status $? >&2; exit\n");
        let done = run.wait();
        assert!(done.stderr.contains("status 0"), "{program}: {done:#?}");
        assert!(done.stdout.contains("bad=0"), "{program}: {done:#?}");
    }
}
