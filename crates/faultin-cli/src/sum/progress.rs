//! A progress bar on a terminal, for files that take a while.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Shows the progress of a file on standard error, if that is a terminal.
pub struct Progress {
    style: ProgressStyle,
}

/// Size in bytes below which a file needs no bar, because it is done too fast.
const LONG: u64 = 64 << 20;

impl Progress {
    pub fn new() -> Progress {
        let style = ProgressStyle::with_template("{msg} {bytes} of {total_bytes} {wide_bar} {bytes_per_sec} {eta}");
        Progress { style: style.unwrap_or_else(|_| ProgressStyle::default_bar()) }
    }

    /// Returns a bar for a file of this name and of `len` bytes, if that is known.
    pub fn bar(&self, name: String, len: Option<u64>) -> ProgressBar {
        let bar = match len {
            Some(len) if len < LONG => return ProgressBar::hidden(),
            Some(len) => ProgressBar::new(len).with_style(self.style.clone()),
            None => ProgressBar::new_spinner(),
        };
        let bar = bar.with_message(name);
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }
}
