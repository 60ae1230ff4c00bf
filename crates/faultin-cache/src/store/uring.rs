//! Several reads or writes at once, at which a disk is fast, unlike at one `pread` or `pwrite` after the other.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};
use parking_lot::Mutex;

use super::WriteRequest;

/// Maximum number of reads or writes under way at the same time.
const DEPTH: usize = 64;

/// A ring, for one thread at a time.
pub(super) struct Ring {
    /// `None` after it has failed, or where there is none.
    ring: Mutex<Option<IoUring>>,
}

/// Neighbouring ranges of a file that are read by one operation.
pub(super) struct VectoredRead<'a, 'b> {
    pub(super) pos: u64,
    /// At most as many as `preadv` takes.
    pub(super) buffers: &'a mut [IoSliceMut<'b>],
}

impl Ring {
    /// Makes a ring; where the kernel has no io_uring, or forbids it, it takes no writes.
    pub(super) fn new() -> Ring {
        Ring { ring: Mutex::new(IoUring::new(DEPTH as u32).ok()) }
    }

    /// Makes the writes, and returns a result for each. `None` if there is no ring, or another thread is using it.
    pub(super) fn write(&self, file: &File, writes: &[WriteRequest<'_>]) -> Option<Vec<io::Result<usize>>> {
        let entry = |write: &WriteRequest<'_>| {
            // More than the kernel writes at once would be short anyway.
            let len = u32::try_from(write.bytes.len()).unwrap_or(1 << 30);
            opcode::Write::new(types::Fd(file.as_raw_fd()), write.bytes.as_ptr(), len).offset(write.pos).build()
        };
        // SAFETY: the file and the bytes are borrowed until this returns.
        unsafe { self.perform(writes, entry) }
    }

    /// Performs operations, and returns a result for each. `None` if there is no ring, or another thread is using it.
    ///
    /// # Safety
    /// What the entries refer to is valid for the kernel until this returns.
    unsafe fn perform<T>(&self, requests: &[T], entry: impl Fn(&T) -> Entry) -> Option<Vec<io::Result<usize>>> {
        let mut place = self.ring.try_lock()?;
        let mut answers: Vec<io::Result<usize>> = Vec::with_capacity(requests.len());
        for some in requests.chunks(DEPTH) {
            let ring = place.as_mut()?;
            // SAFETY: the caller's contract.
            let (some, broken) = unsafe { perform_some(ring, some, &entry) };
            answers.extend(some);
            if broken {
                // With entries that were never submitted, which must not be submitted later.
                *place = None;
                break;
            }
        }
        let left = requests.len() - answers.len();
        answers.extend((0..left).map(|_| Err(io::ErrorKind::Interrupted.into())));
        Some(answers)
    }
}

/// Rings for reads, which are made when they are needed: as many as threads have read at the same time, and no more than
/// [`MAX_RINGS`]. (A ring for each file would take a descriptor for each.)
static READERS: Mutex<Vec<Reader>> = Mutex::new(Vec::new());

/// Maximum number of rings that are kept.
const MAX_RINGS: usize = 16;

/// Whether the kernel has said that it has no rings, or allows none.
static HAS_NONE: AtomicBool = AtomicBool::new(false);

struct Reader {
    ring: Ring,
    /// The process that has made it. A child of `fork` shares its memory.
    process: u32,
}

/// Makes the reads, and returns a result for each. `None` if there is no ring.
pub(super) fn read(file: &File, reads: &mut [VectoredRead<'_, '_>]) -> Option<Vec<io::Result<usize>>> {
    if HAS_NONE.load(Ordering::Relaxed) {
        return None;
    }
    let process = faultin::process();
    // Never waits: in a child of `fork`, another thread may have had the lock.
    let kept = READERS.try_lock().and_then(|mut readers| readers.pop()).filter(|reader| reader.process == process);
    let reader = match kept {
        Some(reader) => reader,
        None => match IoUring::new(DEPTH as u32) {
            Ok(ring) => Reader { ring: Ring { ring: Mutex::new(Some(ring)) }, process },
            Err(error) => {
                let is_final = matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES));
                HAS_NONE.fetch_or(is_final, Ordering::Relaxed);
                return None;
            }
        },
    };
    let entry = |read: &VectoredRead<'_, '_>| {
        // An `IoSliceMut` is an `iovec`. The kernel stores to the buffers, which `reads` borrows mutably.
        let (buffers, count) = (read.buffers.as_ptr().cast::<libc::iovec>(), read.buffers.len());
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        opcode::Readv::new(types::Fd(file.as_raw_fd()), buffers, count).offset(read.pos).build()
    };
    // SAFETY: the file, the buffers and the lists of buffers are borrowed until this returns.
    let answers = unsafe { reader.ring.perform(reads, entry) };
    if reader.ring.ring.lock().is_some()
        && let Some(mut readers) = READERS.try_lock()
        && readers.len() < MAX_RINGS
    {
        readers.push(reader);
    }
    answers
}

/// Performs at most [`DEPTH`] operations, on a ring on which nothing is under way, before and after. Returns whether the
/// ring can no longer be used.
///
/// # Safety
/// Those of [`Ring::perform`].
unsafe fn perform_some<T>(
    ring: &mut IoUring,
    requests: &[T],
    entry: impl Fn(&T) -> Entry,
) -> (Vec<io::Result<usize>>, bool) {
    // An operation without a result was not done.
    let mut answers: Vec<io::Result<usize>> = requests.iter().map(|_| Err(io::ErrorKind::Interrupted.into())).collect();
    let mut pushed = 0;
    for (index, request) in requests.iter().enumerate() {
        let entry = entry(request).user_data(index as u64);
        // SAFETY: the memory and the file are valid until the caller returns, and this returns only when nothing that was
        // submitted is under way any more; entries that were pushed and not submitted are dropped with the ring.
        if unsafe { ring.submission().push(&entry) }.is_err() {
            break;
        }
        pushed += 1;
    }
    let mut done = 0;
    let mut broken = false;
    while done < pushed {
        match ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {}
            Err(_) => {
                broken = true;
                let never = ring.submission().len();
                if done + never >= pushed {
                    break;
                }
                // Completions arrive without a call. (A yield would run none of the kernel's threads where this one has a
                // real-time policy.)
                faultin::sleep(Duration::from_micros(50));
            }
        }
        for completion in ring.completion() {
            done += 1;
            if let Some(answer) = answers.get_mut(completion.user_data() as usize) {
                *answer = match completion.result() {
                    error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
                    moved => Ok(moved as usize),
                };
            }
        }
    }
    (answers, broken)
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn writes_arrive_where_they_belong_whatever_their_order_and_number() {
        let file = tempfile::tempfile().unwrap();
        let ring = Ring::new();
        let parts: Vec<Vec<u8>> = (0..3 * DEPTH).map(|index| vec![index as u8; 1 + index % 7]).collect();
        let pos = |index: usize| ((index * 37) % (3 * DEPTH)) as u64 * 16;
        let writes: Vec<_> =
            parts.iter().enumerate().map(|(index, bytes)| WriteRequest { pos: pos(index), bytes }).collect();
        let Some(answers) = ring.write(&file, &writes) else {
            return faultin_test::skipped("uring", "no ring can be made");
        };
        for (index, (answer, part)) in answers.into_iter().zip(&parts).enumerate() {
            assert_eq!(answer.unwrap(), part.len());
            let mut read = vec![0; part.len()];
            file.read_exact_at(&mut read, pos(index)).unwrap();
            assert_eq!(&read, part);
        }
    }

    #[test]
    fn an_error_is_the_answer_of_its_write_only() {
        let file = tempfile::tempfile().unwrap();
        let writes =
            [(0, &b"one"[..]), (1 << 63, b"two"), (8, b"three")].map(|(pos, bytes)| WriteRequest { pos, bytes });
        let Some(answers) = Ring::new().write(&file, &writes) else {
            return faultin_test::skipped("uring", "no ring can be made");
        };
        let written: Vec<_> = answers.into_iter().map(Result::ok).collect();
        assert_eq!(written, [Some(3), None, Some(5)]);
    }
}
