//! `cargo xtask checked`: which commit each long suite has last passed on, and which suites are due.
//!
//! `.ci/long` runs the suites and records each here; `docs/checked.md` is the record. `.ci/run` fails where what a suite
//! covers has changed in more than [`DUE`] commits since.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::env::workspace;
use crate::test;

/// So many commits that change what a suite covers may follow its entry.
const DUE: u32 = 20;

const RECORD: &str = "docs/checked.md";

/// A long suite: its name, and the files it covers. `.ci/long` says what it runs.
struct Suite {
    name: &'static str,
    covers: &'static [&'static str],
}

const SUITES: [Suite; 11] = [
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
    Suite { name: "exploration", covers: &["crates/faultin-cache/src"] },
    Suite { name: "loom", covers: &["crates/faultin/src", "crates/faultin-cache/src", "crates/faultin-cache-loom"] },
    Suite { name: "soak", covers: &["crates/faultin-cache/src", "crates/faultin-cli/src/soak"] },
    Suite { name: "sanitizers", covers: &["crates/faultin", "crates/faultin-cache"] },
    Suite { name: "tunables", covers: &["crates/faultin", "xtask/src/test.rs"] },
    Suite { name: "widths", covers: &["crates/faultin"] },
    Suite { name: "fuzz", covers: &["crates/faultin/src", "crates/faultin-cache/src", "fuzz"] },
    Suite { name: "msrv", covers: &["crates", "Cargo.toml"] },
    Suite { name: "deny", covers: &["Cargo.lock", "deny.toml"] },
];

/// What `cargo xtask checked` takes.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Record that a suite has passed on the commit that is checked out
    Record(Record),
}

#[derive(clap::Args)]
struct Record {
    /// The suite
    suite: String,
    /// What it printed
    #[arg(long)]
    log: PathBuf,
    /// The file that its skips were appended to
    #[arg(long)]
    skips: PathBuf,
    /// How long it took
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

/// Says of each suite whether it is due.
fn check() -> Result<ExitCode, String> {
    let entries = entries(&fs::read_to_string(workspace().join(RECORD)).unwrap_or_default());
    let mut code = ExitCode::SUCCESS;
    for suite in SUITES {
        let entry = entries.get(suite.name).map(|entry| entry.commit.as_str());
        let state = state(&workspace(), &suite, entry);
        println!("{:12} {state}", suite.name);
        if matches!(state, State::Due(_)) {
            code = ExitCode::FAILURE;
        }
    }
    if code != ExitCode::SUCCESS {
        println!("Run `.ci/long SUITE` for each suite that is due, and commit {RECORD}.");
    }
    Ok(code)
}

/// How a suite's entry stands to the commit that is checked out.
#[derive(Debug, PartialEq)]
enum State {
    Fresh(u32),
    Due(u32),
    Never,
    /// There is no history to count in, and why.
    Unknown(String),
}

impl core::fmt::Display for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Fresh(commits) => write!(f, "{commits} of {DUE} commits since its last run"),
            Self::Due(commits) => write!(f, "DUE: {commits} commits since its last run, and {DUE} may be"),
            Self::Never => write!(f, "NO ENTRY in {RECORD}: it has never run"),
            Self::Unknown(why) => write!(f, "not known: {why}"),
        }
    }
}

fn state(repository: &Path, suite: &Suite, commit: Option<&str>) -> State {
    let git = |args: &[&str]| {
        let output =
            Command::new("git").current_dir(repository).args(args).output().map_err(|error| error.to_string())?;
        let said = if output.status.success() { output.stdout } else { output.stderr };
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    };
    let Some(commit) = commit else { return State::Never };
    match git(&["rev-parse", "--is-shallow-repository"]) {
        Err(error) => return State::Unknown(error),
        Ok(shallow) if shallow == "true" => return State::Unknown("this clone is shallow".into()),
        Ok(_) => {}
    }
    if git(&["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_err() {
        return State::Unknown(format!("the history has no commit {commit}"));
    }
    let since = format!("{commit}..HEAD");
    let mut count = vec!["rev-list", "--count", &since, "--"];
    count.extend(suite.covers);
    match git(&count).and_then(|count| count.parse().map_err(|_| format!("git counts {count:?}"))) {
        Ok(commits) if commits > DUE => State::Due(commits),
        Ok(commits) => State::Fresh(commits),
        Err(error) => State::Unknown(error),
    }
}

/// A suite's line of the record.
#[derive(Debug, PartialEq)]
struct Entry {
    commit: String,
    line: String,
}

fn entries(record: &str) -> BTreeMap<String, Entry> {
    let line = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (suite, commit) = (cells.next()?, cells.next()?);
        // `+`: with changes that were in no commit.
        let commit = commit.trim_matches('`').trim_end_matches('+');
        let is_commit = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_commit.then(|| (suite.to_owned(), Entry { commit: commit.to_owned(), line: line.to_owned() }))
    };
    record.lines().filter_map(line).collect()
}

fn record(args: &Record) -> Result<ExitCode, String> {
    if !SUITES.iter().any(|suite| suite.name == args.suite) {
        return Err(format!("no suite {}; there are {}", args.suite, SUITES.map(|suite| suite.name).join(", ")));
    }
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).current_dir(workspace()).args(arguments).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        Ok::<_, String>(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = run("git", &["rev-parse", "--short=12", "HEAD"])?;
    let changes = run("git", &["status", "--porcelain", "--", ".", ":!docs/checked.md"])?;
    let date = run("date", &["-u", "+%Y-%m-%d"])?;
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

/// Tests that passed and tests that were ignored, of all the harness's results in `log`.
fn counts(log: &str) -> (u64, u64) {
    let of = |line: &str, what: &str| -> u64 {
        line.split("; ").find_map(|part| part.strip_suffix(what)?.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    };
    let results = log.lines().filter_map(|line| line.strip_prefix("test result: "));
    results.fold((0, 0), |sum, line| (sum.0 + of(line, " passed"), sum.1 + of(line, " ignored")))
}

/// The record with `line` in place of the suite's old one, in the order of [`SUITES`].
fn with_line(record: &str, suite: &str, line: &str) -> String {
    let mut entries = entries(record);
    entries.insert(suite.to_owned(), Entry { commit: String::new(), line: line.to_owned() });
    let lines = SUITES.iter().filter_map(|suite| entries.get(suite.name)).map(|entry| entry.line.clone() + "\n");
    format!(
        "# What the long suites have checked\n\n\
         `.ci/long SUITE` writes a suite's line when it passes. `cargo xtask checked` (a step of `.ci/run`) fails for a suite\n\
         whose files have changed in more than {DUE} commits since. `+` after a commit: with changes that were not committed.\n\n\
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
        let entry = git(&["rev-parse", "HEAD"]);
        let suite = Suite { name: "a suite", covers: &["covered"] };
        assert_eq!(state(&folder, &suite, None), State::Never);
        for i in 0..DUE {
            commit("covered", &format!("change {i}"));
            commit("another", &format!("another's change {i}"));
        }
        assert_eq!(state(&folder, &suite, Some(&entry)), State::Fresh(DUE));
        commit("covered", "one too many");
        assert_eq!(state(&folder, &suite, Some(&entry)), State::Due(DUE + 1));
        let unknown = "0123456789abcdef0123456789abcdef01234567";
        assert!(matches!(state(&folder, &suite, Some(unknown)), State::Unknown(_)));
        let clone = folder.join("clone");
        let url = format!("file://{}", folder.canonicalize().expect("the folder is there").display());
        git(&["clone", "-q", "--depth", "1", &url, &clone.display().to_string()]);
        assert_eq!(state(&clone, &suite, Some(&entry)), State::Unknown("this clone is shallow".into()));
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
