//! Scenarios in separate processes, because failures kill them.

use std::process::Stdio;

use faultin_test::processes;

use crate::Scenario;

const SCENARIO: &str = "FAULTIN_SCENARIO";

/// Runs the scenario in the environment, if there is one.
pub fn entry(all: &[&[Scenario]]) {
    let Ok(name) = std::env::var(SCENARIO) else { return };
    let (_, run) = all.iter().copied().flatten().find(|(n, _)| *n == name).expect("the scenario exists");
    // SAFETY: no core files; a scenario that hangs is killed.
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::alarm(60);
    }
    run();
}

/// The command that runs a scenario.
pub fn command(name: &str) -> std::process::Command {
    let mut command = processes::run(std::env::current_exe().expect("this binary has a path"));
    command.args(["--exact", "child_entry", "--nocapture", "--test-threads=1"]).env(SCENARIO, name);
    command
}

/// Runs a scenario that must succeed.
pub fn check(name: &str) {
    let output = command(name).stdin(Stdio::null()).output().expect("this binary can be run again");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n--- stdout\n{stdout}--- stderr\n{stderr}", output.status);
    // (Some scenarios exit the process themselves, so the harness need not report success.)
    assert!(stdout.contains("running 1 test\n"), "{name}: no test has run\n{stdout}");
    if let Some(line) = stderr.lines().find(|line| line.starts_with("skipped: ")) {
        eprintln!("{line}");
    }
}
