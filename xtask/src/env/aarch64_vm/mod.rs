//! Tests on a kernel for aarch64, in an emulated machine. User-mode emulation has no `ptrace` and no kernel of its own; here both are
//! those of the architecture, with pointer authentication, branch targets and memory tags.
//!
//! Debian's kernel, its commands for the tests' shells, and an emulator where none is installed are unpacked next to the build and never
//! installed. Tests are built here. The machine has no disk: everything is in the archive that its kernel unpacks into memory, at the
//! same paths as here, and its first process is a script that runs one command after the other. There are no compilers in it.
//!
//! `cargo xtask env c` and `cargo xtask env python` boot it with the C library and the Python package ([`Contents`]).

mod image;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::aarch64::{self, Cross};
use super::debian::Archive;
use super::{Stop, guard, has_command, home, output, succeed, workspace};
use image::Image;

pub(super) const ABOUT: &str = "the tests of `faultin guard` on a kernel for aarch64, in an emulated machine";

const EMULATOR: &str = "qemu-system-aarch64";
const KERNEL: &str = "linux-image-cloud-arm64";
/// What the tests run besides their own programs. The first one stands in for a package that would install Perl.
const COMMANDS: [&str; 9] =
    ["usr-is-merged", "bash", "coreutils", "dash", "grep", "libc6", "mount", "procps", "util-linux"];
/// Folders of these packages that no test needs.
const LEFT_OUT: [&str; 6] = [
    "/usr/share/doc",
    "/usr/share/locale",
    "/usr/share/man",
    "/usr/lib/aarch64-linux-gnu/gconv",
    "/usr/lib/aarch64-linux-gnu/perl-base",
    "/var/lib/dpkg",
];
/// Programs that the guard's tests would compile.
const PROGRAMS: [&str; 5] = ["writer", "writer-static", "reader", "hostile", "kinds"];
/// Processors of the machine. The tests need a second one: threads have to be able to race.
const PROCESSORS: &str = "2";
/// Bytes of its memory, in MiB.
const MEMORY: &str = "3072";
/// Limits of time in the tests are so many times as long: an emulated processor is slow.
const PATIENCE: &str = "10";
/// Seconds until the machine is switched off.
const LIMIT: &str = "5400";
/// Begins lines of the machine that are not the tests'.
const MARK: &str = "@vm ";

/// Arguments of `cargo xtask env aarch64-vm`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Arguments for `cargo test`, and after `--` for the test binaries [default: all tests of `faultin guard`]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

/// What is run in the machine, and what is in it besides its system, at the same paths as here.
#[derive(Default)]
pub(super) struct Contents {
    /// The commands, one after the other.
    pub runs: Vec<Run>,
    /// Programs and libraries. What they have for debuggers stays here.
    pub binaries: BTreeSet<PathBuf>,
    /// Other files.
    pub files: Vec<PathBuf>,
    /// Folders, with what is in them.
    pub trees: Vec<PathBuf>,
    /// Empty folders.
    pub folders: BTreeSet<PathBuf>,
    /// Debian's packages, besides those that every machine has.
    pub packages: Vec<&'static str>,
    /// Variables of the commands.
    pub variables: Vec<(&'static str, String)>,
}

/// A command that succeeds or fails.
pub(super) struct Run {
    pub name: String,
    pub command: Vec<String>,
    pub folder: PathBuf,
}

impl Contents {
    /// Builds test binaries, and the commands that they run. `arguments` are for the binaries.
    pub fn add_tests(&mut self, cross: &Cross, selection: &[&str], arguments: &[String]) -> Result<(), Stop> {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(workspace()).envs(cross.variables.iter().cloned()).stderr(Stdio::inherit());
        cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics"]).args(selection);
        let messages = output(&mut cargo).map_err(Stop::Failed)?;
        for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let Some(binary) = message["executable"].as_str().map(PathBuf::from) else { continue };
            if message["profile"]["test"] == true {
                let folder = message["manifest_path"].as_str().and_then(|path| Path::new(path).parent());
                let folder = folder.unwrap_or(Path::new("/")).to_owned();
                let name = message["target"]["name"].as_str().unwrap_or_default().to_owned();
                let command = std::iter::once(binary.display().to_string()).chain(arguments.iter().cloned());
                // Where cargo runs it, and where tests make folders of their own.
                self.folders.extend([folder.clone(), cross.target().join("tmp")]);
                self.runs.push(Run { name, command: command.collect(), folder });
            }
            self.binaries.insert(binary);
        }
        Ok(())
    }

    /// Returns the folder with the machine's system, Debian's packages.
    pub fn system(&self) -> Result<PathBuf, Stop> {
        let home = home("aarch64-vm");
        let root = home.join(["commands"].iter().chain(&self.packages).copied().collect::<Vec<_>>().join("-"));
        let guest = Archive::new("arm64", home.join("arm64"))?;
        guest.unpack(&[&COMMANDS, &*self.packages].concat(), true, &root)?;
        Ok(root)
    }

    /// Boots a machine with these contents, and prints what the commands print. An error is one of the commands', or the machine's.
    pub fn boot(&self) -> Result<(), Stop> {
        let (machine, system) = (Machine::new()?, self.system()?);
        let image = home("aarch64-vm").join("image");
        self.write(&image, &system).map_err(|error| Stop::Failed(format!("{}: {error}", image.display())))?;
        let result = machine.run(&image, self.runs.len());
        // It is large, and made anew each time.
        let _ = fs::remove_file(&image);
        result
    }

    /// Writes the machine's first file system.
    fn write(&self, path: &Path, system: &Path) -> std::io::Result<()> {
        let mut image = Image::create(path)?;
        image.tree(system, Path::new("/"), &LEFT_OUT)?;
        for folder in ["/dev", "/proc", "/sys", "/tmp", "/root"] {
            image.folder(Path::new(folder))?;
        }
        let stripped = home("aarch64-vm").join("stripped");
        for binary in &self.binaries {
            // Most of it is information for debuggers.
            let mut strip = Command::new("aarch64-linux-gnu-strip");
            succeed(strip.arg("--strip-debug").arg("-o").arg(&stripped).arg(binary)).map_err(std::io::Error::other)?;
            image.copy(binary, &stripped)?;
        }
        for file in &self.files {
            image.copy(file, file)?;
        }
        for tree in &self.trees {
            image.tree(tree, tree, &[])?;
        }
        for folder in &self.folders {
            image.folder(folder)?;
        }
        image.file(Path::new("/init"), 0o755, self.script().as_bytes())?;
        image.finish()?;
        Ok(())
    }

    /// What the machine does.
    fn script(&self) -> String {
        let required = std::env::var("FAULTIN_REQUIRE").unwrap_or_default();
        let mut script = format!(
            "#!/bin/sh
export PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/root TERM=dumb LANG=C.UTF-8
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir /dev/shm /dev/pts; mount -t tmpfs tmp /tmp; mount -t tmpfs shm /dev/shm; mount -t devpts pts /dev/pts
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
export FAULTIN_SKIPS=/tmp/skips FAULTIN_REQUIRE={} FAULTIN_PATIENCE={PATIENCE}
echo; echo {MARK}booted $(uname -r) after $(cut -d' ' -f1 /proc/uptime) s
",
            quoted(&format!("bash,core-files,mount,native,ptrace,sh,{required}")),
        );
        for (name, value) in &self.variables {
            script += &format!("export {name}={}\n", quoted(value));
        }
        for run in &self.runs {
            script += &turn(run);
        }
        script
            + &format!(
                ": >>/tmp/skips; while IFS= read -r line; do echo \"{MARK}$line\"; done </tmp/skips
echo {MARK}end
sync; echo o >/proc/sysrq-trigger; sleep 60
"
            )
    }
}

pub(super) fn run(args: &Args) -> Result<(), Stop> {
    let cross = aarch64::cross()?;
    let mut parts = args.cargo.splitn(2, |arg| arg == "--");
    let (cargo, arguments) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let selections: Vec<Vec<&str>> = if cargo.is_empty() {
        vec![vec!["-p", "faultin-guard", "--lib"], vec!["-p", "faultin-cli", "--test", "guard"]]
    } else {
        vec![cargo.iter().map(String::as_str).collect()]
    };
    let mut contents = Contents::default();
    for selection in selections {
        contents.add_tests(&cross, &selection, arguments)?;
    }
    if contents.runs.is_empty() {
        return Err(Stop::Failed("no test binary was built".into()));
    }
    let programs = home("aarch64-vm").join("programs");
    guard::compile(aarch64::LINKER, &PROGRAMS, &programs).map_err(Stop::Failed)?;
    contents.variables.push(("FAULTIN_GUARD_PROGRAMS", programs.display().to_string()));
    contents.trees.push(programs);
    contents.boot()
}

/// Runs a command, and says how it ended.
fn turn(run: &Run) -> String {
    let command: Vec<String> = run.command.iter().map(|word| quoted(word)).collect();
    let (folder, name) = (quoted(&run.folder.display().to_string()), quoted(&run.name));
    let command = command.join(" ");
    // A line of its own: the last one of a program that dies has no end.
    format!(
        "cd {folder}; CARGO_MANIFEST_DIR={folder} {command} </dev/null; status=$?; echo; echo {MARK}status $status {name}\n"
    )
}

/// A word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The kernel, and how the emulator is started.
struct Machine {
    kernel: PathBuf,
    /// The emulator's folder, if it is not installed.
    unpacked: Option<PathBuf>,
}

impl Machine {
    fn new() -> Result<Machine, Stop> {
        let home = home("aarch64-vm");
        let (kernel, emulator) = (home.join("kernel"), home.join("emulator"));
        let guest = Archive::new("arm64", home.join("arm64"))?;
        // The package's own name has the version in it.
        let image = guest.dependency(KERNEL, "linux-image-").map_err(Stop::Skipped)?;
        guest.unpack(&[&image], false, &kernel)?;
        let unpacked = if has_command(EMULATOR) {
            None
        } else {
            let arch = output(Command::new("dpkg").arg("--print-architecture")).map_err(Stop::Skipped)?;
            let host = Archive::new(arch.trim(), home.join("host"))?;
            host.unpack(&["qemu-system-arm"], true, &emulator)?;
            Some(emulator)
        };
        let boot = kernel.join("boot");
        let files = fs::read_dir(&boot).map_err(|error| Stop::Failed(format!("{}: {error}", boot.display())))?;
        let mut names = files.flatten().map(|file| file.path());
        let is_kernel =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinuz"));
        let kernel = names.find(is_kernel).ok_or_else(|| Stop::Failed(format!("no kernel in {}", boot.display())))?;
        Ok(Machine { kernel, unpacked })
    }

    fn emulator(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT]);
        let Some(root) = &self.unpacked else {
            command.arg(EMULATOR);
            return command;
        };
        // With the libraries that were unpacked with it, and their loader: those of this system may be others.
        let libraries = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
        let (first, second) = (root.join(&libraries), root.join("usr").join(&libraries));
        let loader = match std::env::consts::ARCH {
            "x86_64" => "ld-linux-x86-64.so.2",
            _ => "ld-linux-aarch64.so.1",
        };
        let path = format!("{}:{}", first.display(), second.display());
        command.arg(first.join(loader)).arg("--library-path").arg(path);
        command.arg(root.join("usr/bin").join(EMULATOR)).arg("-L").arg(root.join("usr/share/qemu"));
        command
    }

    /// Boots it, and prints what the tests print.
    fn run(&self, image: &Path, tests: usize) -> Result<(), Stop> {
        eprintln!("booting {} with {} MiB of files", self.kernel.display(), image::size(image) >> 20);
        let mut emulator = self.emulator();
        emulator
            .args(["-accel", "tcg,thread=multi", "-M", "virt,mte=on", "-cpu", "max,pauth-impdef=on"])
            .args(["-smp", PROCESSORS, "-m", MEMORY])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(image)
            .args(["-append", "console=ttyAMA0 quiet loglevel=3 panic=-1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = emulator.spawn().map_err(|error| Stop::Failed(format!("{emulator:?}: {error}")))?;
        let mut report = Report::default();
        let mut skips = Vec::new();
        let console = BufReader::new(child.stdout.take().expect("it is a pipe"));
        for line in console.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            match line.strip_prefix(MARK) {
                None => println!("{line}"),
                Some(skip) if skip.starts_with("skipped: ") => skips.push(skip.to_owned()),
                Some(line) => {
                    println!("machine: {line}");
                    report.take_in(line);
                }
            }
        }
        let status = child.wait().map_err(|error| Stop::Failed(error.to_string()))?;
        note(&skips).map_err(Stop::Failed)?;
        report.result(tests).map_err(|why| Stop::Failed(format!("{why} (the emulator: {status})")))
    }
}

/// What the machine has said of the tests.
#[derive(Default)]
struct Report {
    has_booted: bool,
    passed: usize,
    failed: Vec<String>,
    has_ended: bool,
}

impl Report {
    fn take_in(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("booted", _)) => self.has_booted = true,
            Some(("status", rest)) => match rest.split_once(' ') {
                Some(("0", _)) => self.passed += 1,
                _ => self.failed.push(rest.to_owned()),
            },
            _ => self.has_ended |= line == "end",
        }
    }

    fn result(&self, tests: usize) -> Result<(), String> {
        if !self.has_booted {
            return Err("the machine does not boot".into());
        }
        if !self.failed.is_empty() {
            return Err(format!("test binaries ended with a status: {}", self.failed.join(", ")));
        }
        if !self.has_ended || self.passed != tests {
            return Err(format!("the machine stopped after {} of {tests} test binaries", self.passed));
        }
        Ok(())
    }
}

/// Appends the machine's skips to those of this run.
fn note(skips: &[String]) -> Result<(), String> {
    let Some(path) = std::env::var_os("FAULTIN_SKIPS") else { return Ok(()) };
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).map_err(|error| error.to_string())?;
    let lines: String = skips.iter().map(|skip| format!("{skip}\n")).collect();
    file.write_all(lines.as_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_stops_early_is_a_failure() {
        let of = |lines: &[&str], tests| {
            let mut report = Report::default();
            lines.iter().for_each(|line| report.take_in(line));
            report.result(tests)
        };
        assert_eq!(of(&["booted 6.1 after 3 s", "status 0 guard", "status 0 a b", "end"], 2), Ok(()));
        for (lines, tests) in [
            (&["status 0 guard", "end"][..], 1),
            (&["booted 6.1", "status 0 guard"], 1),
            (&["booted 6.1", "status 0 guard", "end"], 2),
            (&["booted 6.1", "status 101 guard", "end"], 1),
            (&["booted 6.1", "end"], 1),
        ] {
            assert!(of(lines, tests).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn words_and_statuses_pass_the_machines_shell() {
        let folder = crate::env::target().join(format!("it's a test.{}", std::process::id()));
        fs::create_dir_all(&folder).expect("make a folder");
        let binary = folder.join("a binary");
        fs::write(&binary, "echo \"$PWD $*\"; printf end; exit 3\n").expect("write");
        let words = ["sh".into(), binary.display().to_string(), "a;b".into(), "$c".into()];
        let run = Run { name: "it's".into(), command: words.into(), folder: folder.clone() };
        let printed = output(Command::new("sh").arg("-c").arg(turn(&run))).expect("sh");
        fs::remove_dir_all(&folder).expect("remove the folder");
        let lines: Vec<&str> = printed.lines().collect();
        assert!(lines[0].ends_with(&format!("it's a test.{} a;b $c", std::process::id())), "{printed}");
        assert_eq!(lines[1..], ["end", "@vm status 3 it's"], "{printed}");
    }
}
