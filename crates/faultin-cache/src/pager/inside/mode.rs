//! [`Mode`].

/// How the faults of a mapping are resolved; see [the modes](crate::pager#modes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// In the thread that faults, by a signal (userfaultfd).
    Signal,
    /// By a thread, while the one that faults waits in the kernel (userfaultfd).
    Thread,
    /// In the thread that faults, by a signal, without userfaultfd.
    Mprotect,
}

impl Mode {
    /// All modes.
    pub const ALL: [Mode; 3] = [Mode::Signal, Mode::Thread, Mode::Mprotect];
}
