//! `cargo xtask checked`: which commit each long suite has last passed on, and which suites are due.
//!
//! `.ci/long` runs the suites and records each here; `docs/checked.md` is the record. `.ci/run` fails if a suite's files
//! have changed in more than [`DUE`] commits since.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::env::workspace;
use crate::test;

/// Maximum number of commits after a suite's entry that change its files.
const DUE: u32 = 20;

const RECORD: &str = "docs/checked.md";

/// A long suite: its name, and the files it covers. `.ci/long` has its commands.
struct Suite {
    name: &'static str,
    covers: &'static [&'static str],
}

const SUITES: [Suite; 18] = [
    Suite { name: "aarch64", covers: &["crates/faultin", "crates/faultin-cache", "crates/faultin-audit"] },
    Suite {
        name: "files",
        covers: &[
            "crates/faultin/src/map",
            "crates/faultin/src/scan",
            "crates/faultin-cache/src/store",
            "crates/faultin-cli/tests/failing_files.rs",
            "xtask/src/env/files",
        ],
    },
    Suite { name: "c", covers: &["crates/faultin-c", "crates/faultin/src", "xtask/src/env/c.rs"] },
    Suite {
        name: "guard",
        covers: &[
            "crates/faultin-guard/src",
            "crates/faultin-cli/src/guard",
            "crates/faultin-cli/tests/guard",
            "xtask/src/env/aarch64_vm",
            "xtask/src/env/guard",
        ],
    },
    Suite { name: "exploration", covers: &["crates/faultin-cache/src"] },
    Suite { name: "loom", covers: &["crates/faultin/src", "crates/faultin-cache/src", "crates/faultin-cache-loom"] },
    Suite { name: "soak", covers: &["crates/faultin-cache/src", "crates/faultin-soak/src"] },
    Suite { name: "sanitizers", covers: &["crates/faultin", "crates/faultin-cache"] },
    Suite { name: "tunables", covers: &["crates/faultin", "xtask/src/test.rs"] },
    Suite { name: "widths", covers: &["crates/faultin"] },
    Suite { name: "fuzz", covers: &["crates/faultin/src", "crates/faultin-cache/src", "fuzz"] },
    Suite { name: "msrv", covers: &["crates", "examples", "Cargo.toml"] },
    Suite { name: "portable", covers: &["crates/faultin", "xtask/src/env/portable.rs"] },
    Suite { name: "python", covers: &["crates/faultin-python", "xtask/src/env/python.rs"] },
    Suite {
        name: "stores",
        covers: &[
            "crates/faultin-store",
            "crates/faultin-store-test",
            "crates/faultin-cli/src/store",
            "crates/faultin-cli/tests/store.rs",
            "xtask/src/env/stores",
        ],
    },
    Suite { name: "simulation", covers: &["crates/faultin-store/src"] },
    Suite { name: "deny", covers: &["Cargo.lock", "deny.toml"] },
    Suite { name: "release", covers: &["crates", "Cargo.toml", "Cargo.lock", "xtask/src/release"] },
];

/// Arguments of `cargo xtask checked`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Record in docs/checked.md that a suite has passed
    Record(Record),
}

#[derive(clap::Args)]
struct Record {
    /// Name of the suite
    suite: String,
    /// Commit that was checked out when the suite began; empty if there is no history
    #[arg(long)]
    commit: String,
    /// File with the output of the suite
    #[arg(long)]
    log: PathBuf,
    /// File that lists the skipped tests
    #[arg(long)]
    skips: PathBuf,
    /// Duration of the suite in seconds
    #[arg(long)]
    seconds: u64,
}

/// Runs the command line.
pub fn main(args: &Args) -> ExitCode {
    let result = match &args.task {
        Some(Task::Record(record)) => self::record(record),
        None => check(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("failed: {error}");
        ExitCode::FAILURE
    })
}

/// Reports for each suite whether it is due.
fn check() -> Result<ExitCode, String> {
    let entries = entries(&fs::read_to_string(workspace().join(RECORD)).unwrap_or_default());
    let mut code = ExitCode::SUCCESS;
    for suite in SUITES {
        let state = state(&workspace(), &suite, entries.get(suite.name));
        println!("{:12} {state}", suite.name);
        if state.is_due() {
            code = ExitCode::FAILURE;
        }
    }
    if code != ExitCode::SUCCESS {
        println!("Run `.ci/long SUITE` for each suite that is due, and commit {RECORD}.");
    }
    Ok(code)
}

/// The relation of a suite's entry to the current commit.
#[derive(Debug, PartialEq)]
enum State {
    /// This number of commits have changed its files since.
    Since(u32),
    /// This number of commits are younger than the entry: its own commit is not in the history, as after a rebase or a
    /// squash.
    Younger(u32),
    Never,
    /// There is no history to count in, for this reason.
    Unknown(String),
}

impl State {
    fn is_due(&self) -> bool {
        match self {
            Self::Since(commits) | Self::Younger(commits) => *commits > DUE,
            Self::Never | Self::Unknown(_) => false,
        }
    }
}

impl core::fmt::Display for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.is_due() {
            write!(f, "DUE: ")?;
        }
        match self {
            Self::Since(commits) => write!(f, "{commits} commits since its last run, and {DUE} may be"),
            Self::Younger(commits) => write!(
                f,
                "{commits} commits younger than its last run, and {DUE} may be (the commit it ran on is not in this history)"
            ),
            Self::Never => write!(f, "NO ENTRY in {RECORD}: it has never run"),
            Self::Unknown(why) => write!(f, "not known: {why}"),
        }
    }
}

/// Returns the output of git in `folder`, or its error.
fn git(folder: &Path, args: &[&str]) -> Result<String, String> {
    let output =
        Command::new("git").current_dir(folder).args(args).output().map_err(|error| format!("git: {error}"))?;
    let said = if output.status.success() { output.stdout } else { output.stderr };
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// Returns the reason why there is no history to count in.
fn no_history(repository: &Path) -> Option<String> {
    match git(repository, &["rev-parse", "--is-shallow-repository"]) {
        Err(error) => Some(error),
        Ok(shallow) if shallow == "true" => Some("this clone is shallow".into()),
        // Another project's repository may contain an unpacked archive.
        Ok(_) => match git(repository, &["ls-files", "--", "."]) {
            Ok(files) if files.is_empty() => Some("these files are in no git repository".into()),
            Ok(_) => None,
            Err(error) => Some(error),
        },
    }
}

fn state(repository: &Path, suite: &Suite, entry: Option<&Entry>) -> State {
    if let Some(why) = no_history(repository) {
        return State::Unknown(why);
    }
    let Some(Entry { commit, date, .. }) = entry else { return State::Never };
    let (since, kind): (_, fn(u32) -> State) = match git(repository, &["merge-base", "--is-ancestor", commit, "HEAD"]) {
        Ok(_) => (vec![format!("{commit}..HEAD")], State::Since),
        Err(_) => (vec![format!("--since={date} +0000"), "HEAD".into()], State::Younger),
    };
    let mut count = vec!["rev-list", "--count"];
    count.extend(since.iter().map(String::as_str));
    count.push("--");
    count.extend(suite.covers);
    match git(repository, &count).and_then(|count| count.parse().map_err(|_| format!("git counts {count:?}"))) {
        Ok(commits) => kind(commits),
        Err(error) => State::Unknown(error),
    }
}

/// A suite's line of the record.
#[derive(Debug, PartialEq)]
struct Entry {
    commit: String,
    /// The time when it began, in UTC.
    date: String,
    line: String,
}

fn entries(record: &str) -> BTreeMap<String, Entry> {
    let line = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (suite, commit, date) = (cells.next()?, cells.next()?, cells.next()?.to_owned());
        // `+`: with uncommitted changes.
        let commit = commit.trim_matches('`').trim_end_matches('+');
        let is_commit = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_commit.then(|| (suite.to_owned(), Entry { commit: commit.to_owned(), date, line: line.to_owned() }))
    };
    record.lines().filter_map(line).collect()
}

fn record(args: &Record) -> Result<ExitCode, String> {
    let Some(suite) = SUITES.iter().find(|suite| suite.name == args.suite) else {
        return Err(format!("no suite {}; there are {}", args.suite, SUITES.map(|suite| suite.name).join(", ")));
    };
    if args.commit.is_empty() {
        println!("{} has passed, which is not recorded: there is no commit that it has passed on", suite.name);
        return Ok(ExitCode::SUCCESS);
    }
    let commit = git(&workspace(), &["rev-parse", "--short=12", &args.commit])?;
    // Of the covered files, against the commit that it began with: commits in the meantime are changes, too.
    let mut changed = vec!["diff", "--name-only", &args.commit, "--"];
    changed.extend(suite.covers);
    let mut added = vec!["ls-files", "--others", "--exclude-standard", "--"];
    added.extend(suite.covers);
    let changes = git(&workspace(), &changed)? + &git(&workspace(), &added)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let begun = format!("@{}", now.as_secs().saturating_sub(args.seconds));
    let date = Command::new("date").args(["-u", "-d", &begun, "+%Y-%m-%d %H:%M"]).output();
    let date = date.map_err(|error| format!("date: {error}"))?;
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    let log = fs::read(&args.log).map_err(|error| format!("{}: {error}", args.log.display()))?;
    let counts = counts(&String::from_utf8_lossy(&log));
    let skips = test::summary(&fs::read_to_string(&args.skips).unwrap_or_default());
    let line = format!(
        "| {} | `{commit}{}` | {date} | {} | {} | {} | {} |",
        args.suite,
        if changes.is_empty() { "" } else { "+" },
        counts.0,
        counts.1,
        skips.trim_start_matches("skipped: ").replace('|', "/"),
        args.seconds,
    );
    let path = workspace().join(RECORD);
    let text = with_line(&fs::read_to_string(&path).unwrap_or_default(), &args.suite, &line);
    fs::write(&path, text).map_err(|error| format!("{RECORD}: {error}"))?;
    println!("{line}");
    Ok(ExitCode::SUCCESS)
}

/// Returns the numbers of passed and of ignored tests, of all the harness's results in `log`.
fn counts(log: &str) -> (u64, u64) {
    let of = |line: &str, what: &str| -> u64 {
        line.split("; ").find_map(|part| part.strip_suffix(what)?.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    };
    let results = log.lines().filter_map(|line| line.strip_prefix("test result: "));
    results.fold((0, 0), |sum, line| (sum.0 + of(line, " passed"), sum.1 + of(line, " ignored")))
}

/// Returns the record with `line` in place of the suite's old one, in the order of [`SUITES`].
fn with_line(record: &str, suite: &str, line: &str) -> String {
    let mut entries = entries(record);
    entries.insert(suite.to_owned(), Entry { commit: String::new(), date: String::new(), line: line.to_owned() });
    let lines = SUITES.iter().filter_map(|suite| entries.get(suite.name)).map(|entry| entry.line.clone() + "\n");
    format!(
        "# What the long suites have checked\n\n\
         `.ci/long SUITE` writes a suite's line when it passes. `cargo xtask checked` (a step of `.ci/run`) fails for a suite\n\
         whose files have changed in more than {DUE} commits since. `+` after a commit: with changes to these files that were\n\
         not in it. The date is UTC, and that of the beginning.\n\n\
         | suite | commit | date | tests passed | ignored | skipped | seconds |\n|---|---|---|---|---|---|---|\n{}",
        lines.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suites_line_replaces_its_last_one() {
        let first = with_line("", "soak", "| soak | `0123456789ab` | 2026-01-01 | 1 | 0 | nothing | 5 |");
        let both = with_line(&first, "aarch64", "| aarch64 | `aaaaaaaaaaaa+` | 2026-01-02 | 2 | 0 | nothing | 6 |");
        let again = with_line(&both, "soak", "| soak | `bbbbbbbbbbbb` | 2026-01-03 | 3 | 0 | nothing | 7 |");
        let read = entries(&again);
        assert_eq!(read.keys().collect::<Vec<_>>(), ["aarch64", "soak"]);
        assert_eq!((&*read["aarch64"].commit, &*read["soak"].commit), ("aaaaaaaaaaaa", "bbbbbbbbbbbb"));
        assert!(read["soak"].line.ends_with("| 3 | 0 | nothing | 7 |"));
    }

    #[test]
    fn the_harnesss_results_are_added_up() {
        let log = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                   test result: ok. 40 passed; 0 failed; 2 ignored; 0 measured; 9 filtered out\n";
        assert_eq!(counts(log), (43, 3));
    }

    #[test]
    fn a_suite_is_due_when_its_files_have_changed_often_enough() {
        let folder = crate::env::target().join(format!("checked.{}", std::process::id()));
        fs::create_dir_all(&folder).expect("make a folder");
        let git = |args: &[&str]| {
            let identity = ["-c", "user.name=a test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"];
            let output = Command::new("git").current_dir(&folder).args(identity).args(args).output().expect("run git");
            assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        git(&["init", "-q"]);
        let commit = |file: &str, text: &str| {
            fs::write(folder.join(file), text).expect("write a file");
            git(&["add", "."]);
            git(&["commit", "-q", "--no-verify", "-m", text]);
        };
        commit("covered", "the first");
        let at = |commit: &str, date: &str| Entry { commit: commit.into(), date: date.into(), line: String::new() };
        let entry = at(&git(&["rev-parse", "HEAD"]), "2026-01-01 00:00");
        let suite = Suite { name: "a suite", covers: &["covered"] };
        assert_eq!(state(&folder, &suite, None), State::Never);
        for i in 0..DUE {
            commit("covered", &format!("change {i}"));
            commit("another", &format!("another's change {i}"));
        }
        assert_eq!(state(&folder, &suite, Some(&entry)), State::Since(DUE));
        assert!(!State::Since(DUE).is_due());
        commit("covered", "one too many");
        assert_eq!(state(&folder, &suite, Some(&entry)), State::Since(DUE + 1));
        assert!(State::Since(DUE + 1).is_due());
        // Its commit is not in the history: younger commits count.
        let unknown = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(state(&folder, &suite, Some(&at(unknown, "2001-01-01 00:00"))), State::Younger(DUE + 2));
        assert_eq!(state(&folder, &suite, Some(&at(unknown, "2099-01-01 00:00"))), State::Younger(0));
        let clone = folder.join("clone");
        let url = format!("file://{}", folder.canonicalize().expect("the folder is there").display());
        git(&["clone", "-q", "--depth", "1", &url, &clone.display().to_string()]);
        assert_eq!(state(&clone, &suite, Some(&entry)), State::Unknown("this clone is shallow".into()));
        // An archive that is unpacked below another project's files.
        let archive = folder.join("archive");
        fs::create_dir(&archive).expect("make a folder");
        fs::write(archive.join("covered"), "the first").expect("write a file");
        for entry in [Some(&entry), None] {
            let state = state(&archive, &suite, entry);
            assert_eq!(state, State::Unknown("these files are in no git repository".into()));
        }
        fs::remove_dir_all(&folder).expect("remove the folder");
    }

    /// `.ci/long` has a function for each suite; each file that a suite covers exists.
    #[test]
    fn the_suites_here_are_those_that_can_be_run() {
        let long = fs::read_to_string(workspace().join(".ci/long")).expect("read .ci/long");
        let there: Vec<&str> =
            long.lines().filter_map(|line| line.strip_prefix("suite_")?.strip_suffix("() {")).collect();
        assert_eq!(there, SUITES.map(|suite| suite.name));
        for suite in SUITES {
            for path in suite.covers {
                assert!(workspace().join(path).exists(), "{} covers {path}", suite.name);
            }
        }
    }
}
