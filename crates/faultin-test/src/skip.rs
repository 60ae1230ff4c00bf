//! Skips: a missing feature of a machine is reported, counted, and an error where it must not be missing.
//!
//! A test that cannot run calls [`skipped`] with the *need* that is not met, one lower-case word from the list in
//! `docs/testing.md` (`uring`, `uffd`, `memfd`, `root`, …), and returns. The line `skipped: <need>: <why>` bypasses the
//! harness, which captures the output of passing tests. If the variable `FAULTIN_SKIPS` names a file, the line is appended
//! there as well, so that the command that started the run can count skips. If `FAULTIN_REQUIRE` (needs separated by
//! commas, or `all`) contains the need, the test fails instead.

use core::fmt::Display;
use std::io::Write;

/// The needs that must be met, separated by commas.
const REQUIRE: &str = "FAULTIN_REQUIRE";
/// The file that each skip is appended to.
const SKIPS: &str = "FAULTIN_SKIPS";

/// Reports that a test does not run here because `need` is not met; `why` is the reason on this machine.
///
/// # Panics
/// If `need` is required.
pub fn skipped(need: &str, why: impl Display) {
    assert!(!is_required(need), "{need} is required by {REQUIRE}, but: {why}");
    let line = format!("skipped: {need}: {}\n", why.to_string().replace('\n', " "));
    // One write each: lines of tests that run at the same time do not mix.
    let _ = std::io::stderr().write_all(line.as_bytes());
    let Some(file) = std::env::var_os(SKIPS) else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("{SKIPS} cannot be written: {error}"));
}

/// Returns whether `need` is one of those that must be met.
#[must_use]
pub fn is_required(need: &str) -> bool {
    std::env::var(REQUIRE).is_ok_and(|list| list.split(',').any(|name| name == need || name == "all"))
}
