//! Bytes done, on a terminal, for files that take a while.

use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::name;

/// Shows how far a file has come, on standard error, if that is a terminal.
pub struct Progress {
    style: ProgressStyle,
}

/// Files that are done before anybody can look need no bar.
const LONG: u64 = 64 << 20;

impl Progress {
    pub fn new() -> Progress {
        let style = ProgressStyle::with_template("{msg} {bytes} of {total_bytes} {wide_bar} {bytes_per_sec} {eta}");
        Progress { style: style.unwrap_or_else(|_| ProgressStyle::default_bar()) }
    }

    /// A bar for a file of so many bytes, 0 if nobody knows.
    pub fn bar(&self, file: &Path, len: u64) -> ProgressBar {
        if len > 0 && len < LONG {
            return ProgressBar::hidden();
        }
        let bar = if len == 0 {
            ProgressBar::new_spinner().with_message(name::shown(file).into_owned())
        } else {
            ProgressBar::new(len).with_style(self.style.clone()).with_message(name::shown(file).into_owned())
        };
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }
}
