//! `faultin guard` on real programs: compilers, databases, Python, a JVM, on file systems that are full or fail. Each death without a
//! guard is asserted beside it, where it takes no longer than the case.
//!
//! A case is a shell script in `cases`, with what it needs in comments at its head: `packages` are installed, `unpack` are
//! downloaded and unpacked. Everything is mounted in a mount namespace of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Stop, debian, has_command, home, output, succeed, target, workspace};

pub const ABOUT: &str = "`faultin guard` on real programs and file systems that are full or fail (as root)";

/// What `cargo xtask env guard` takes.
#[derive(clap::Args)]
pub struct Args {
    /// This process already runs in the namespace
    #[arg(long, hide = true)]
    inside: bool,
    /// Run only the cases whose names contain one of these strings [default: all cases]
    cases: Vec<String>,
}

const COMMON: &str = include_str!("cases/common.sh");

const CASES: &[(&str, &str)] = &[
    ("01-explain", include_str!("cases/01-explain.sh")),
    ("02-wait", include_str!("cases/02-wait.sh")),
    ("03-rustc", include_str!("cases/03-rustc.sh")),
    ("04-prometheus", include_str!("cases/04-prometheus.sh")),
    ("05-python", include_str!("cases/05-python.sh")),
    ("06-reserve", include_str!("cases/06-reserve.sh")),
    ("07-xfs", include_str!("cases/07-xfs.sh")),
    ("09-fuse", include_str!("cases/09-fuse.sh")),
    ("10-zero", include_str!("cases/10-zero.sh")),
    ("11-jvm", include_str!("cases/11-jvm.sh")),
    ("12-tracers", include_str!("cases/12-tracers.sh")),
    ("13-user", include_str!("cases/13-user.sh")),
    ("15-cost", include_str!("cases/15-cost.sh")),
    ("16-huge", include_str!("cases/16-huge.sh")),
];

/// The status of a case that this machine cannot run.
const SKIPPED: i32 = 77;

pub(super) fn run(args: &Args) -> Result<(), Stop> {
    let cases: Vec<_> = CASES
        .iter()
        .filter(|(name, _)| args.cases.is_empty() || args.cases.iter().any(|part| name.contains(part.as_str())))
        .collect();
    if cases.is_empty() {
        return Err(Stop::Failed(format!("no case has {} in its name", args.cases.join(" or "))));
    }
    if !args.inside {
        let user = output(Command::new("id").arg("-u")).map_err(Stop::Failed)?;
        if user.trim() != "0" {
            return Err(Stop::Skipped("root, to mount file systems".into()));
        }
        let allowed = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
        if !allowed.is_ok_and(|status| status.success()) {
            return Err(Stop::Skipped("unshare, and the right to make a mount namespace".into()));
        }
        let mut cargo = Command::new("cargo");
        succeed(cargo.args(["build", "--release", "--package", "faultin-cli"]).current_dir(workspace()))
            .map_err(Stop::Failed)?;
        compile("cc", &["writer", "reader", "hostile", "huge", "mapsum", "cost"], &programs()).map_err(Stop::Failed)?;
        for (_, case) in &cases {
            provide(case);
        }
        let this = std::env::current_exe().map_err(|error| Stop::Failed(error.to_string()))?;
        let mut again = Command::new("unshare");
        again
            .args(["--mount", "--propagation", "private"])
            .arg(this)
            .args(["env", "guard", "--inside"])
            .args(&args.cases);
        return succeed(&mut again).map_err(Stop::Failed);
    }
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    for (name, case) in cases {
        let begun = Instant::now();
        let result = play(name, case);
        let seconds = begun.elapsed().as_secs();
        match result {
            Ok(None) => {
                passed += 1;
                println!("{name}: ok ({seconds} s)");
            }
            Ok(Some((need, why))) => {
                skipped += 1;
                faultin_test::skipped(&need, why);
            }
            Err(what) => {
                println!("{name}: FAILED ({seconds} s)\n{what}");
                failed.push(*name);
            }
        }
    }
    // In the harness's words, which are counted.
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("test result: {result}. {passed} passed; {} failed; 0 ignored; {skipped} skipped", failed.len());
    if failed.is_empty() { Ok(()) } else { Err(Stop::Failed(failed.join(", "))) }
}

/// Compiles small programs that the tests of the command have as well. A name may end in `-static`.
///
/// # Errors
/// What the compiler prints.
pub(super) fn compile(cc: &str, names: &[&str], folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    for name in names {
        let (source, options) = match name.strip_suffix("-static") {
            Some(source) => (source, &["-O1", "-pthread", "-static", "-o"][..]),
            None => (*name, &["-O1", "-pthread", "-o"][..]),
        };
        let source = sources().join(source).with_extension("c");
        succeed(Command::new(cc).args(options).arg(folder.join(name)).arg(source))?;
    }
    Ok(())
}

fn sources() -> PathBuf {
    workspace().join("crates/faultin-cli/tests/guard/programs")
}

fn programs() -> PathBuf {
    home("guard").join("programs")
}

fn unpacked() -> PathBuf {
    home("guard").join("unpacked")
}

/// The words after `# NAME:` at the head of a case.
fn words<'a>(case: &'a str, name: &str) -> Vec<&'a str> {
    let head = case.lines().take_while(|line| line.starts_with('#'));
    let values = head.filter_map(|line| line.strip_prefix("# ")?.strip_prefix(name)?.strip_prefix(": "));
    values.flat_map(str::split_whitespace).collect()
}

/// Installs what a case needs. What cannot be had is missed by the case itself, which says so.
fn provide(case: &str) {
    let packages = words(case, "packages");
    let missing: Vec<&&str> = packages
        .iter()
        .filter(|package| {
            let status =
                Command::new("dpkg").args(["-s", package]).stdout(Stdio::null()).stderr(Stdio::null()).status();
            !status.is_ok_and(|status| status.success())
        })
        .collect();
    if !missing.is_empty() && has_command("apt-get") {
        let mut install = Command::new("apt-get");
        install.args(["install", "-qq", "-y", "--no-install-recommends"]).args(missing);
        if let Err(why) = debian::apt(&mut install) {
            eprintln!("{why}");
        }
    }
    let unpack = words(case, "unpack");
    if !unpack.is_empty() && !unpacked().join("usr").exists() {
        match debian::unpack(&unpack, &home("guard").join("downloads"), &unpacked()) {
            Ok(()) => {}
            Err(Stop::Skipped(why) | Stop::Failed(why)) => eprintln!("{why}"),
        }
    }
}

/// Runs a case; the need and the reason if it was skipped.
///
/// # Errors
/// What it printed.
fn play(name: &str, case: &str) -> Result<Option<(String, String)>, String> {
    let folder = home("guard").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let path = |path: &Path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
    let guard = format!("{} guard", path(&target().join("release/faultin"))?.display());
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let case = Command::new("timeout")
        .args(["--kill-after=5", "1200", "sh", "-c", &format!("{COMMON}\n{case}")])
        .env("G", guard)
        .env("W", path(&folder)?)
        .env("P", path(&programs())?)
        .env("SOURCES", sources())
        .env("UNPACKED", unpacked())
        .env("XTASK", this)
        .env_remove("FAULTIN_GUARD")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let stdout = String::from_utf8_lossy(&case.stdout);
    let _ = Command::new("umount").args(["--lazy", "--quiet"]).arg(folder.join("m")).status();
    match case.status.code() {
        Some(0) => {
            print!("{stdout}");
            Ok(None)
        }
        Some(SKIPPED) => {
            let line =
                stdout.lines().find_map(|line| line.strip_prefix("skip: ")).unwrap_or("guard: it does not say why");
            let (need, why) = line.split_once(": ").unwrap_or(("guard", line));
            Ok(Some((need.to_owned(), format!("{name}: {why}"))))
        }
        _ => Err(format!("{}\n{stdout}{}", case.status, String::from_utf8_lossy(&case.stderr))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_is_a_case_and_says_what_it_needs() {
        let folder = workspace().join("xtask/src/env/guard/cases");
        let mut scripts: Vec<String> = fs::read_dir(folder)
            .expect("the folder")
            .filter_map(|entry| entry.expect("an entry").path().file_stem()?.to_str().map(str::to_owned))
            .filter(|name| name != "common")
            .collect();
        scripts.sort();
        assert_eq!(scripts, CASES.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
        let case = "# packages: a b\n# unpack: c\n# A sentence.\nneed a\n# packages: d\n";
        assert_eq!((words(case, "packages"), words(case, "unpack")), (vec!["a", "b"], vec!["c"]));
    }
}
