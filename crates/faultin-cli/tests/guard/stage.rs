//! Where the programs run: a folder on a tmpfs of 1 MiB, in namespaces of its own, and a limit of time.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use faultin_test::skipped;
use serde_json::Value;
use tempfile::TempDir;

/// A run may take so long.
const LIMIT: Duration = Duration::from_secs(60);

/// Limits of time are so many times as long on a slow machine: the variable `FAULTIN_PATIENCE`.
pub fn patience() -> u32 {
    std::env::var("FAULTIN_PATIENCE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// What a command has done.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The exit status as shells have it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().expect("a status or a signal"))
    }

    /// The guard's lines that contain `part`.
    pub fn lines(&self, part: &str) -> Vec<&str> {
        self.stderr.lines().filter(|line| line.starts_with("faultin guard: ") && line.contains(part)).collect()
    }

    /// Asserts the exit status.
    #[track_caller]
    pub fn ends(&self, code: i32) -> &Done {
        assert_eq!(self.code(), code, "{self:#?}");
        self
    }

    /// Asserts that the guard has said so in one line.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) -> &Done {
        let lines = self.lines(parts[0]);
        assert_eq!(lines.len(), 1, "{parts:?}: {self:#?}");
        for part in parts {
            assert!(lines[0].contains(part), "{part:?} is missing: {}", lines[0]);
        }
        self
    }

    /// Asserts that the guard has said nothing.
    #[track_caller]
    pub fn is_silent(&self) -> &Done {
        assert!(!self.stderr.contains("faultin guard"), "{self:#?}");
        self
    }

    /// Asserts what the program has printed.
    #[track_caller]
    pub fn prints(&self, text: &str) -> &Done {
        assert_eq!(self.stdout.trim_end(), text, "{self:#?}");
        self
    }
}

/// It gives up after a minute: the test that waits for it has failed by then.
const LATER: &str = "rm -f \"$R\"
later() {
    (for i in $(seq 1200); do grep -qs '\"waits\"' \"$R\" && break; sleep 0.05; done; sleep 0.2; \"$@\")
}
";

/// A folder, and the programs.
pub struct Stage {
    folder: TempDir,
    /// Outside of the tmpfs, which is full.
    reports: TempDir,
    programs: PathBuf,
}

impl Stage {
    /// No value, and a skip, if this machine cannot have one.
    pub fn new() -> Option<Stage> {
        if faultin_test::processes::run("x").get_program() != OsStr::new("x") {
            skipped("native", "an emulator of user mode has no ptrace");
            return None;
        }
        let mounted = Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "t", "/tmp"]).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            skipped("mount", "unshare -Urm mount");
            return None;
        }
        static PROGRAMS: LazyLock<Result<PathBuf, String>> = LazyLock::new(compile);
        match &*PROGRAMS {
            Ok(programs) => {
                let folder = || tempfile::tempdir().expect("a folder");
                Some(Stage { folder: folder(), reports: folder(), programs: programs.clone() })
            }
            Err(why) => {
                skipped("toolchain", why);
                None
            }
        }
    }

    /// Where the tmpfs is, in the namespace.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A shell in the namespaces. `$M` is the tmpfs, `$P` the folder of the programs, `$G` the guard. `later COMMAND &` runs a command a
    /// little after a guard with `--report $R` has begun to wait.
    pub fn shell(&self, script: &str) -> Command {
        let script = format!("mount -t tmpfs -o size=1m t \"$M\" || exit 99\n{LATER}{script}");
        let mut command = Command::new("unshare");
        let guard = format!("{} guard", env!("CARGO_BIN_EXE_faultin"));
        command
            .args(["-Urm", "sh", "-c", &script])
            .env("M", self.folder())
            .env("P", &self.programs)
            .env("R", self.reports.path().join("report"))
            .env("G", guard)
            .env_remove("FAULTIN_GUARD")
            .current_dir(self.folder());
        // `nohup`, and a shell that starts the tests in the background, make them ignore signals that are sent here.
        let usual = || {
            for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
                // SAFETY: the default action, which runs no code.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            Ok(())
        };
        // SAFETY: system calls that are allowed in a child of `fork`.
        unsafe { command.pre_exec(usual) };
        command
    }

    /// Runs a script to its end.
    #[track_caller]
    pub fn run(&self, script: &str) -> Done {
        let run = || Run::start(&mut self.shell(script)).wait();
        let mut done = run();
        // A slow machine may reach the deadlines of the guard, which are tested with recorded sequences.
        let late = ["the look at it took longer", "its other threads do not stop", "cannot be read in time"];
        for _ in 1..patience() {
            if !late.iter().any(|late| done.stderr.contains(late)) {
                break;
            }
            done = run();
        }
        done
    }

    /// Runs a script twice: with `$G --` in front of the program, and without. Returns both ends, the plain one first.
    #[track_caller]
    pub fn both(&self, script: &str, options: &str) -> (Done, Done) {
        let plain = self.run(&script.replace("GUARD", ""));
        let guarded = self.run(&script.replace("GUARD", &format!("$G {options} --")));
        (plain, guarded)
    }
}

/// A script that runs.
pub struct Run {
    pub child: Child,
    stdout: thread::JoinHandle<String>,
    stderr: thread::JoinHandle<()>,
    said: mpsc::Receiver<String>,
    seen: Mutex<String>,
}

impl Run {
    /// Starts it in a group of its own.
    pub fn start(command: &mut Command) -> Run {
        Run::start_as_it_is(command.process_group(0))
    }

    /// Starts it.
    pub fn start_as_it_is(command: &mut Command) -> Run {
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("unshare");
        let (mut stdout, mut stderr) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let stdout = thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stdout.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let (sender, said) = mpsc::channel();
        let stderr = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = stderr.read(&mut bytes) {
                let _ = sender.send(String::from_utf8_lossy(&bytes[..len]).into_owned());
            }
        });
        Run { child, stdout, stderr, said, seen: Mutex::new(String::new()) }
    }

    /// The number of the process that `unshare` and the shell became.
    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a number")
    }

    /// Waits until the guard or the program has said this; what was said until then.
    #[track_caller]
    pub fn until(&self, part: &str) -> String {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        while !seen.contains(part) {
            match self.said.recv_timeout(LIMIT * patience()) {
                Ok(text) => seen.push_str(&text),
                Err(_) => panic!("{part:?} is not said: {seen}"),
            }
        }
        seen.clone()
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(mut self) -> Done {
        let id = self.id();
        let (sender, receiver) = mpsc::channel();
        let waiter = thread::spawn(move || {
            let _ = sender.send(self.child.wait().expect("wait"));
            let stdout = self.stdout.join().expect("read");
            self.stderr.join().expect("read");
            let mut stderr = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
            stderr.extend(self.said.try_iter());
            (stdout, stderr)
        });
        let status = receiver.recv_timeout(LIMIT * patience());
        if status.is_err() {
            send(-id, libc::SIGKILL);
        }
        let (stdout, stderr) = waiter.join().expect("it does not panic");
        match status {
            Ok(status) => Done { status, stdout, stderr },
            Err(_) => panic!("it hangs: {stdout}\n{stderr}"),
        }
    }
}

/// Sends a signal to a process, or with a negative number to its group.
pub fn send(process: i32, signal: i32) {
    // SAFETY: `kill` touches no memory. The process, or its group, was made by this test, and was not waited for.
    unsafe { libc::kill(process, signal) };
}

/// The process that a line is about: `faultin guard: name[NUMBER]…`.
pub fn process(said: &str, name: &str) -> i32 {
    let after = said.split_once(&format!("{name}[")).unwrap_or_else(|| panic!("{name} is not named: {said}")).1;
    after.split_once(']').and_then(|(number, _)| number.parse().ok()).unwrap_or_else(|| panic!("no number: {said}"))
}

/// The lines of a report.
pub fn report(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// Compiles the programs. A machine without a compiler has them already, in the folder `FAULTIN_GUARD_PROGRAMS`.
fn compile() -> Result<PathBuf, String> {
    if let Some(folder) = std::env::var_os("FAULTIN_GUARD_PROGRAMS") {
        return Ok(folder.into());
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("guard.{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guard/programs");
    let all: &[(&str, &[&str])] = &[
        ("writer", &["-pthread"]),
        ("writer-static", &["-pthread", "-static"]),
        ("reader", &[]),
        ("hostile", &["-pthread"]),
        ("kinds", &[]),
    ];
    for (name, options) in all {
        let source = sources.join(name.trim_end_matches("-static")).with_extension("c");
        let output = folder.join(name);
        let cc =
            Command::new("cc").arg("-O1").args(["-o".as_ref(), output.as_os_str()]).arg(source).args(*options).output();
        match cc {
            Ok(cc) if cc.status.success() => {}
            // Not every system has the static C library.
            Ok(_) if name.ends_with("-static") => {}
            Ok(cc) => return Err(String::from_utf8_lossy(&cc.stderr).into_owned()),
            Err(error) => return Err(format!("cc: {error}")),
        }
    }
    Ok(folder)
}

/// Whether the program was compiled.
pub fn has_program(stage: &Stage, name: &str) -> bool {
    stage.programs.join(name).exists()
}
