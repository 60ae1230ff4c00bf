//! Saying that a test did not run.

/// Says it where the harness does not hide it.
pub fn skipped() {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "skipped: memory tags (aarch64 with MTE)");
}
