//! Several writes at once, at which a disk is fast, unlike at one `pwrite` after the other.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::{IoUring, opcode, types};
use parking_lot::Mutex;

use super::WriteRequest;

/// Maximum number of writes under way at the same time.
const DEPTH: usize = 64;

/// A ring for writes, used by one thread at a time.
pub(super) struct Ring {
    /// `None` after it has failed, or where there is none.
    ring: Mutex<Option<IoUring>>,
}

impl Ring {
    /// Makes a ring; where the kernel has no io_uring, or forbids it, it takes no writes.
    pub(super) fn new() -> Ring {
        Ring { ring: Mutex::new(IoUring::new(DEPTH as u32).ok()) }
    }

    /// Makes the writes, and returns a result for each. `None` if there is no ring, or another thread is using it.
    pub(super) fn write(&self, file: &File, writes: &[WriteRequest<'_>]) -> Option<Vec<io::Result<usize>>> {
        let mut place = self.ring.try_lock()?;
        let mut answers: Vec<io::Result<usize>> = Vec::with_capacity(writes.len());
        for some in writes.chunks(DEPTH) {
            let ring = place.as_mut()?;
            let (some, broken) = write_some(ring, file, some);
            answers.extend(some);
            if broken {
                // With entries that were never submitted, which must not be submitted later.
                *place = None;
                break;
            }
        }
        let left = writes.len() - answers.len();
        answers.extend((0..left).map(|_| Err(io::ErrorKind::Interrupted.into())));
        Some(answers)
    }
}

/// Makes at most [`DEPTH`] writes, on a ring on which nothing is under way, before and after. Returns whether the ring can
/// no longer be used.
fn write_some(ring: &mut IoUring, file: &File, writes: &[WriteRequest<'_>]) -> (Vec<io::Result<usize>>, bool) {
    // A write without a result was not done.
    let mut answers: Vec<io::Result<usize>> = writes.iter().map(|_| Err(io::ErrorKind::Interrupted.into())).collect();
    let mut pushed = 0;
    for (index, write) in writes.iter().enumerate() {
        // More than the kernel writes at once would be short anyway.
        let len = u32::try_from(write.bytes.len()).unwrap_or(1 << 30);
        let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), write.bytes.as_ptr(), len)
            .offset(write.pos)
            .build()
            .user_data(index as u64);
        // SAFETY: the bytes and the file are borrowed until this function returns, and it returns only when nothing that
        // was submitted is under way any more; entries that were pushed and not submitted are dropped with the ring.
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
                    written => Ok(written as usize),
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
