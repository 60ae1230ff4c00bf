//! What `/proc/PID/status` says of a thread.

/// The part of it that matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// The thread group: the process.
    pub process: i32,
    /// The user and the group whose rights apply to files; no value if they are not known.
    pub owner: Option<(u32, u32)>,
    /// Signals with a handler.
    pub caught: u64,
    /// Signals that are ignored.
    pub ignored: u64,
    /// Signals that are pending for the thread or its process, and not blocked in the thread.
    pub pending: u64,
    /// Whether a filter of system calls is installed.
    pub has_filter: bool,
}

impl Status {
    /// Parses the file. A line that is missing or not understood leaves the default.
    pub fn parse(text: &str) -> Status {
        let mut status = Status::default();
        let (mut thread, mut process, mut blocked) = (0, 0, 0);
        let (mut user, mut group) = (None, None);
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            let hex = || u64::from_str_radix(value, 16).unwrap_or(0);
            let fourth = || value.split_ascii_whitespace().nth(3).and_then(|id| id.parse().ok());
            match name {
                "Tgid" => status.process = value.parse().unwrap_or(0),
                "Uid" => user = fourth(),
                "Gid" => group = fourth(),
                "SigPnd" => thread = hex(),
                "ShdPnd" => process = hex(),
                "SigBlk" => blocked = hex(),
                "SigIgn" => status.ignored = hex(),
                "SigCgt" => status.caught = hex(),
                "Seccomp" => status.has_filter = value != "0",
                _ => {}
            }
        }
        status.owner = user.zip(group);
        // The kernel queues also what a traced thread ignores.
        status.pending = (thread | process) & !blocked & !status.ignored & !(NO_EFFECT & !status.caught);
        status
    }

    /// Whether the signal has a handler.
    pub fn catches(&self, signal: i32) -> bool {
        self.caught & bit(signal) != 0
    }

    /// Whether the signal is ignored.
    pub fn ignores(&self, signal: i32) -> bool {
        self.ignored & bit(signal) != 0
    }

    /// Whether a held thread has to run, so that it takes a signal. Go's runtime sends itself SIGURG all the time, to preempt
    /// goroutines; that one can wait.
    pub fn wants_to_run(&self) -> bool {
        self.pending & !bit(libc::SIGURG) != 0
    }
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Signals that do nothing where they have no handler.
const NO_EFFECT: u64 = bit(libc::SIGCHLD) | bit(libc::SIGURG) | bit(libc::SIGWINCH) | bit(libc::SIGCONT);

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Name:\tx\nTgid:\t12\nPid:\t13\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nSigPnd:\t0000000000000002\n\
        ShdPnd:\t0000000000424001\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000000010\nSigCgt:\t0000000000400040\nSeccomp:\t2\n";

    #[test]
    fn the_lines_that_matter_are_parsed() {
        let status = Status::parse(TEXT);
        assert_eq!((status.process, status.owner, status.has_filter), (12, Some((4, 8)), true));
        assert!(status.catches(libc::SIGBUS) && !status.catches(libc::SIGINT));
        assert!(status.ignores(libc::SIGTRAP) && !status.ignores(libc::SIGBUS));
        // HUP, TERM, and URG, which is caught. CONT is pending without a handler, INT is blocked.
        assert_eq!(status.pending, 0x40_4001);
        assert!(status.wants_to_run());
    }

    #[test]
    fn a_signal_without_effect_and_the_one_of_go_can_wait() {
        let only = |pending: &str, caught: &str| Status::parse(&format!("ShdPnd: {pending}\nSigCgt: {caught}\n"));
        assert!(!only("400000", "400000").wants_to_run(), "SIGURG");
        assert!(!only("10000", "0").wants_to_run(), "SIGCHLD without a handler");
        assert!(only("10000", "10000").wants_to_run(), "SIGCHLD with one");
        assert_eq!(Status::parse("nonsense"), Status::default());
    }
}
