//! `faultin guard`: runs any program, and explains, waits out, retries or survives its SIGBUS.

use std::env::VarError;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use faultin_guard::{Ending, Event, Guard, LIMIT, Lines, Outcome, Policies, RETRIES, RunError, Seconds, WaitSpace};

/// The status after zeros were shown, whatever the program said: EX_IOERR of sysexits.h.
const ZEROS: u8 = 74;

/// Run any program; explain its SIGBUS, or wait for space, retry, or show zeros
///
/// A program gets SIGBUS ("Bus error") if it accesses a mapped page that cannot be provided: the disk or /dev/shm is full, the
/// file is shorter than its mapping, the device fails, or the pool of huge pages is empty. The guard runs the program unmodified, with its
/// threads and child processes, and prints for each fault the program, the file, the byte, the cause and a remedy to standard
/// error. Without other options it changes nothing: signal, core file and exit status are those of the program.
///
/// Options for different causes can be combined. If none of --explain, --wait-space, --retry and --zero is given, they are read
/// from the environment variable FAULTIN_GUARD, separated by commas: FAULTIN_GUARD=wait-space=10m,retry. It is also read with
/// --except and --report.
///
/// Limits: a system call that fails (write(2) to a full disk, EFAULT) raises no signal, so the guard does not see it. Debuggers
/// and LeakSanitizer do not work in the program, because a process has at most one tracer (see --except). A setuid program does
/// not get its privileges unless the guard has them. A program that blocks or ignores SIGBUS loses that setting at a fault; without
/// a guard it would die of the fault.
///
/// Exit status: that of the program, or death by the signal that ended it; 74 if zeros were shown; 127 if the program was not
/// found; 126 if it cannot be run; 125 if the guard fails; 2 for wrong arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Explain faults and change nothing [default]
    #[arg(long, conflicts_with_all = ["wait_space", "retry", "zero"])]
    explain: bool,

    /// Hold a thread that needs space until there is space, for at most MAX: a number with the unit ms, s (default), m or h, such
    /// as 90s, 10m or 2h [default MAX: no limit if standard error is a terminal, otherwise 10m]
    #[arg(long, value_name = "MAX", num_args = 0..=1, require_equals = true)]
    wait_space: Option<Option<Seconds>>,

    /// Repeat an access that failed with an I/O error, at most N times with growing pauses [default N: 12, which takes about 15 s]
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true)]
    retry: Option<Option<u32>>,

    /// Let loads of lost data read zeros, and exit with status 74
    #[arg(long)]
    zero: bool,

    /// Do not guard programs of this name (a debugger, a program with LeakSanitizer), nor the programs that they run; may be given
    /// several times
    #[arg(long, value_name = "NAME")]
    except: Vec<OsString>,

    /// Write each event to FILE as one line of JSON; an existing file is overwritten
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// The program and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> ExitCode {
    // Whether a person can end a wait.
    let limit = if io::stderr().is_terminal() { None } else { Some(LIMIT) };
    let policies = match policies(args, limit) {
        Ok(policies) => policies,
        Err(error) => return fail(&error, 2),
    };
    let mut report = match args.report.as_ref().map(|path| (path, create(path))) {
        None => None,
        Some((_, Ok(file))) => Some(file),
        Some((path, Err(error))) => return fail(&format!("{}: {error}", path.display()), 125),
    };
    let mut guard = Guard::new().policies(policies).forward_signals(true);
    for name in &args.except {
        guard = guard.except(name);
    }
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut lines = Lines::new(colour).policies(policies);
    let mut zeros = false;
    let result = guard.run(&args.command, |event| {
        zeros |= matches!(event, Event::Fault { outcome: Outcome::Zeros { .. }, .. });
        say(&lines.of(event));
        if let Some(file) = &mut report
            && let Err(error) = file.write_all(format!("{}\n", event.to_json()).as_bytes())
        {
            say(&[format!("faultin guard: the report: {error}")]);
            report = None;
        }
    });
    say(&lines.finish());
    match result {
        Ok(_) if zeros => ExitCode::from(ZEROS),
        Ok(Ending::Exit(status)) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Ok(Ending::Signal(signal)) => die(signal),
        Err(error) => {
            let status = match &error {
                RunError::Exec { error, .. } if error.kind() == io::ErrorKind::NotFound => 127,
                RunError::Exec { .. } => 126,
                _ => 125,
            };
            fail(&format!("{error}{}", value_apart(args, status).unwrap_or_default()), status)
        }
    }
}

/// What to say if the program that was not found seems to be the value of an option: a value that may be left out follows `=`.
fn value_apart(args: &Args, status: u8) -> Option<String> {
    let word = args.command.first().filter(|_| status == 127)?.to_str()?;
    let options = [
        ("--wait-space", args.wait_space == Some(None) && word.parse::<Seconds>().is_ok()),
        ("--retry", args.retry == Some(None) && word.parse::<u32>().is_ok()),
    ];
    let meant: Vec<String> =
        options.iter().filter(|(_, is_meant)| *is_meant).map(|(name, _)| format!("`{name}={word}`")).collect();
    (!meant.is_empty()).then(|| format!(" (a value of an option needs `=`: {})", meant.join(" or ")))
}

/// Makes the file of a report. A link that somebody has put in its place is not followed, because a privileged guard would write over what
/// it leads to; those of the system, such as `/dev/stdout`, are.
fn create(path: &Path) -> io::Result<File> {
    let is_of_the_system =
        ["/dev/fd", "/dev/stderr", "/dev/stdout", "/proc"].iter().any(|folder| path.starts_with(folder));
    let flags = if is_of_the_system { 0 } else { libc::O_NOFOLLOW };
    let file = File::options().write(true).create(true).truncate(true).custom_flags(flags).open(path);
    file.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => io::Error::new(error.kind(), "a symbolic link is not written through"),
        _ => error,
    })
}

/// The policies of the options, or of the variable if there are none.
fn policies(args: &Args, limit: Option<Duration>) -> Result<Policies, String> {
    let mut policies = Policies::default();
    policies.wait_space = args.wait_space.map(|max| WaitSpace::up_to(max.map(|Seconds(max)| max).or(limit)));
    policies.retry = args.retry.map(|times| times.unwrap_or(RETRIES));
    policies.zero = args.zero;
    if args.explain || policies != Policies::default() {
        return Ok(policies);
    }
    match std::env::var("FAULTIN_GUARD") {
        Ok(list) => Policies::parse(&list, limit).map_err(|error| format!("FAULTIN_GUARD: {error}")),
        Err(VarError::NotPresent) => Ok(policies),
        Err(VarError::NotUnicode(list)) => Err(format!("FAULTIN_GUARD: {list:?} is not a list of policies")),
    }
}

/// Prints lines to standard error, each by one write: the program prints there as well. There is nowhere to say that it fails.
fn say(lines: &[String]) {
    for line in lines {
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

fn fail(error: &str, status: u8) -> ExitCode {
    say(&[format!("faultin guard: {error}")]);
    ExitCode::from(status)
}

/// Ends as the program has ended, without a core file of its own.
fn die(signal: i32) -> ExitCode {
    // SAFETY: none of the calls touches memory, except that `sigset` is filled and read.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
        libc::signal(signal, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
    }
    // A real-time signal without an effect, or one that is ignored for good.
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(255))
}
