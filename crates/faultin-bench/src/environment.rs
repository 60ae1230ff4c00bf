//! [`Environment`]: where and when something was measured.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The machine, the date, and how busy the machine was.
#[derive(Default, Serialize)]
pub struct Environment {
    pub processor: String,
    pub cpus: usize,
    /// Name and release of the kernel.
    pub kernel: String,
    /// The date in UTC, as `2026-11-30`.
    pub date: String,
    /// Load average of the last minute, at the start and at the end: runnable threads, this program's included.
    pub load: [f64; 2],
}

impl Environment {
    pub fn at_start() -> Environment {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        let processor = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Environment {
            processor: processor.to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: format!("Linux {}", release.trim()),
            date: date(seconds / (24 * 60 * 60)),
            load: [load(); 2],
        }
    }

    /// Records the load at the end.
    pub fn at_end(&mut self) {
        self.load[1] = load();
    }

    /// Returns one line.
    pub fn text(&self) -> String {
        let Environment { processor, cpus, kernel, date, load: [before, after] } = self;
        format!("{date}, {processor}, {cpus} CPUs, {kernel}; load average {before:.1} before, {after:.1} after")
    }
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// Returns the date of a day, counted from 1 January 1970.
fn date(day: u64) -> String {
    // Years that begin in March have the leap day at their end; eras of 400 years have equal numbers of days.
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + u64::from(month >= 10), (month + 2) % 12 + 1);
    format!("{year}-{month:02}-{of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (day, text) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_787, "2026-11-30"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(day), text, "day {day}");
        }
    }

    #[test]
    fn the_machine_has_a_name() {
        let environment = Environment::at_start();
        assert!(!environment.processor.is_empty() && environment.cpus > 0, "{}", environment.text());
    }
}
