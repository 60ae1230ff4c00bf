//! Signals of the guard itself: what is sent to it goes to the command.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::spawn::Inherited;

/// What is sent on to the command. A terminal's signals (`SI_KERNEL`) have reached it already.
const FORWARDED: [i32; 6] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

/// A signal that the kernel has sent.
const SI_KERNEL: i32 = 0x80;

fn set(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` fills `set`, and the others change it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

/// The mask of signals of this thread while a command is guarded; the one before comes back when it is dropped.
pub(super) struct Mask {
    pub inherited: Inherited,
}

impl Mask {
    /// Blocks the ends of children, and what is to be forwarded.
    pub fn new(forwards: bool) -> Mask {
        let mut signals = vec![libc::SIGCHLD];
        if forwards {
            signals.extend(FORWARDED);
        }
        let signals = set(&signals);
        let mut before = set(&[]);
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: the pointers lead to values of this frame. A handler is not installed: ignoring becomes the default, without
        // which the kernel would not keep the statuses of children.
        let ignores_children = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, &raw mut before);
            libc::sigaction(libc::SIGCHLD, ptr::null(), action.as_mut_ptr());
            let ignores = action.assume_init().sa_sigaction == libc::SIG_IGN;
            if ignores {
                libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            }
            ignores
        };
        Mask { inherited: Inherited { mask: before, ignores_children } }
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        unsafe {
            if self.inherited.ignores_children {
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.inherited.mask, ptr::null_mut());
        }
    }
}

/// Waits until a traced thread stops, a worker rings, or the time is over.
pub(super) fn sleep(time: Duration) {
    let children = set(&[libc::SIGCHLD]);
    let time = libc::timespec { tv_sec: time.as_secs() as libc::time_t, tv_nsec: time.subsec_nanos().into() };
    // SAFETY: the pointers lead to values of this frame.
    unsafe { libc::sigtimedwait(&raw const children, ptr::null_mut(), &raw const time) };
}

/// Wakes a thread that sleeps.
#[derive(Clone, Copy)]
pub(super) struct Bell(libc::pid_t);

impl Bell {
    /// For this thread.
    pub fn new() -> Bell {
        // SAFETY: the call touches no memory.
        Bell(unsafe { libc::gettid() })
    }

    /// Rings. The signal is the one that the thread blocks and waits for.
    pub fn ring(self) {
        // SAFETY: the call touches no memory. A number that is another thread's by now gets a signal that has no effect.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0, libc::SIGCHLD) };
    }
}

/// Sends what is sent to this process on to another one.
pub(super) struct Forwarder {
    thread: Option<thread::JoinHandle<()>>,
    ended: std::sync::Arc<AtomicBool>,
    number: libc::pthread_t,
}

impl Forwarder {
    /// For the command of this number, which has not been waited for. All threads block the signals.
    ///
    /// # Errors
    /// If there is no descriptor for the process, or no thread.
    pub fn new(command: i32) -> io::Result<Forwarder> {
        use std::os::unix::thread::JoinHandleExt;
        let command = Pid::from_raw(command).ok_or(io::ErrorKind::InvalidInput)?;
        let command = pidfd_open(command, PidfdFlags::empty())?;
        let ended = std::sync::Arc::new(AtomicBool::new(false));
        let is_over = ended.clone();
        let builder = thread::Builder::new().name("forward".into()).stack_size(64 << 10);
        let thread = builder.spawn(move || {
            let signals = set(&FORWARDED);
            let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
            while !is_over.load(Ordering::Acquire) {
                // SAFETY: the pointers lead to values of this frame; the kernel fills `info` if it returns a signal.
                let (signal, code) = unsafe {
                    let signal = libc::sigwaitinfo(&raw const signals, info.as_mut_ptr());
                    (signal, info.assume_init().si_code)
                };
                if is_over.load(Ordering::Acquire) {
                    break;
                }
                if signal > 0
                    && code != SI_KERNEL
                    && let Some(signal) = Signal::from_named_raw(signal)
                {
                    // It has ended if not.
                    let _ = pidfd_send_signal(command.as_fd(), signal);
                }
            }
        })?;
        let number = thread.as_pthread_t();
        Ok(Forwarder { thread: Some(thread), ended, number })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        // SAFETY: the thread has not been joined, so that the number is its own.
        unsafe { libc::pthread_kill(self.number, libc::SIGUSR1) };
        let _ = thread.join();
    }
}
