//! A process that accesses memory, and how it ends. It is forked: changes of its memory, its signals and its mounts affect
//! only itself.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Missing, Stopped};

/// Seconds after which a child is killed. None takes that long.
const PATIENCE: u32 = 60;

/// How a child ended.
pub enum Ending {
    /// By a signal, after this number of bytes.
    Killed { signal: i32, done: u64 },
    /// By itself.
    Stopped(Stopped),
    /// In a way that no scene expects.
    Odd(String),
}

/// The channel to the parent, in a child.
pub struct Stage<'a> {
    parent: &'a UnixStream,
    done: &'a Counter,
}

impl Stage<'_> {
    /// Waits while the parent takes the memory away.
    pub fn pause(&mut self) -> Result<(), Missing> {
        let mut parent = self.parent;
        let waited = parent.write_all(&[PAUSE]).and_then(|()| parent.read_exact(&mut [0]));
        waited.map_err(|error| Missing::because("the other process", error))
    }

    /// Reports the progress to the parent, also if the process dies of the next access.
    #[inline]
    pub fn has_come_to(&self, bytes: u64) {
        self.done.get().store(bytes, Ordering::Relaxed);
    }
}

// The first byte of a child's message.
const PAUSE: u8 = b'p';
const STOPPED: u8 = b's';
const MISSING: u8 = b'm';

/// Runs `access` in a child, and `remove` here whenever the child pauses.
pub fn run(
    access: impl FnOnce(&mut Stage) -> Result<Stopped, Missing>,
    remove: impl Fn() -> io::Result<()>,
) -> Result<Ending, Missing> {
    let cannot = |error: io::Error| Missing::because("starting a process", error);
    let done = Counter::new().map_err(cannot)?;
    let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
    // SAFETY: this process has one thread, so the child is not restricted; children are waited for, even if the parent of
    // this process ignores SIGCHLD.
    let child = unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        libc::fork()
    };
    match child {
        -1 => return Err(cannot(io::Error::last_os_error())),
        0 => {
            drop(ours);
            // SAFETY: ends this process, which is the child.
            unsafe { libc::alarm(PATIENCE) };
            let ended = access(&mut Stage { parent: &theirs, done: &done });
            let sent = send(&theirs, &ended);
            // SAFETY: as above; buffers and cleanups of the parent stay its own.
            unsafe { libc::_exit(sent.is_err().into()) }
        }
        _ => {}
    }
    drop(theirs);
    let conversation = converse(&ours, remove);
    // A child that waits for an answer gets none.
    drop(ours);
    let mut status = 0;
    // SAFETY: a child of this process.
    while unsafe { libc::waitpid(child, &mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(cannot(error));
        }
    }
    let done = done.get().load(Ordering::Relaxed);
    if libc::WIFSIGNALED(status) {
        return Ok(Ending::Killed { signal: libc::WTERMSIG(status), done });
    }
    conversation.map_err(|error| Missing::because("the other process", error))?
}

/// Answers a child until it ends.
fn converse(mut child: &UnixStream, remove: impl Fn() -> io::Result<()>) -> io::Result<Result<Ending, Missing>> {
    let mut message = Vec::new();
    loop {
        let mut first = [0];
        if child.read(&mut first)? == 0 {
            return Ok(Ok(Ending::Odd("ended without a word".into())));
        }
        if first[0] == PAUSE {
            remove()?;
            child.write_all(&[PAUSE])?;
            continue;
        }
        child.read_to_end(&mut message)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        return Ok(match (first[0], message.split_first_chunk()) {
            (STOPPED, Some((done, why))) => {
                Ok(Ending::Stopped(Stopped { done: u64::from_ne_bytes(*done), why: text(why) }))
            }
            (MISSING, _) => Err(Missing(text(&message))),
            _ => Ok(Ending::Odd("said what no scene has".into())),
        });
    }
}

fn send(mut parent: &UnixStream, ended: &Result<Stopped, Missing>) -> io::Result<()> {
    let message = match ended {
        Ok(Stopped { done, why }) => [&[STOPPED], &done.to_ne_bytes()[..], why.as_bytes()].concat(),
        Err(Missing(what)) => [&[MISSING], what.as_bytes()].concat(),
    };
    parent.write_all(&message)
}

/// A number that a child leaves to its parent when it dies.
struct Counter(*mut AtomicU64);

impl Counter {
    fn new() -> io::Result<Counter> {
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping.
        match unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicU64>(), rights, flags, -1, 0) } {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            place => Ok(Counter(place.cast())),
        }
    }

    fn get(&self) -> &AtomicU64 {
        // SAFETY: mapped, aligned and zeroed by the kernel, until it is dropped.
        unsafe { &*self.0 }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which no reference is left.
        unsafe { libc::munmap(self.0.cast(), size_of::<AtomicU64>()) };
    }
}
