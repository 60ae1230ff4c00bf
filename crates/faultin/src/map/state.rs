//! What the system says of a file, and by which clock: on Linux. (`portable/state.rs` has the same for other systems.)

use core::sync::atomic::{AtomicU64, Ordering};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::stamp::{Freshness, Stamp, Time};
use crate::stat::fstat;

/// What a directory is opened with to look names up in it: it is enough to be allowed to pass through it.
pub(super) const PASS_THROUGH: libc::c_int = libc::O_PATH;

/// Returns the tick of the clock that the kernel takes the times of files from: 1 to 10 milliseconds.
pub(crate) fn tick() -> Duration {
    // Not a lock: signal handlers read maps, too.
    static TICK: AtomicU64 = AtomicU64::new(0);
    let known = TICK.load(Ordering::Relaxed);
    if known != 0 {
        return Duration::from_nanos(known);
    }
    let mut tick = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a `timespec` to write.
    let asked = unsafe { libc::clock_getres(libc::CLOCK_REALTIME_COARSE, &mut tick) } == 0;
    let nanoseconds = u64::try_from(tick.tv_nsec).unwrap_or(0);
    // Otherwise the longest that kernels are configured with.
    let nanoseconds = if asked && nanoseconds > 0 { nanoseconds } else { 10_000_000 };
    TICK.store(nanoseconds, Ordering::Relaxed);
    Duration::from_nanos(nanoseconds)
}

impl Time {
    /// Reads the clock that the kernel takes the times of files from.
    pub(super) fn now() -> Self {
        Time::of_clock(libc::CLOCK_REALTIME_COARSE)
    }

    /// The finer clock, which some kernels take them from.
    pub(super) fn now_precisely() -> Self {
        Time::of_clock(libc::CLOCK_REALTIME)
    }

    fn of_clock(clock: libc::clockid_t) -> Self {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a `timespec` to write.
        unsafe { libc::clock_gettime(clock, &mut time) };
        #[allow(clippy::unnecessary_cast)]
        Time::new(time.tv_sec as i64, time.tv_nsec as i64)
    }
}

impl Stamp {
    /// Queries by `fstat(2)`: the cheapest query.
    // The fields have other types on other machines.
    #[allow(clippy::unnecessary_cast)]
    #[inline]
    pub(crate) fn of(file: &File) -> io::Result<Stamp> {
        let stat = fstat(file)?;
        Ok(Stamp {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            changed: Time::new(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            modified: Time::new(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
        })
    }

    /// Queries by `statx(2)`, which can choose how fresh the answer must be. Where a filter forbids it, or the kernel is
    /// older, `fstat(2)` is used.
    pub(crate) fn with(file: &File, freshness: Freshness) -> io::Result<Stamp> {
        let sync = match freshness {
            Freshness::Server => libc::AT_STATX_FORCE_SYNC,
            Freshness::Cached => libc::AT_STATX_DONT_SYNC,
        };
        let (flags, mask) = (libc::AT_EMPTY_PATH | sync, libc::STATX_BASIC_STATS);
        let mut statx = MaybeUninit::<libc::statx>::uninit();
        // (The system call, because musl has a function of it from 1.2.5 on only.)
        // SAFETY: an empty string, and a `statx` to write.
        let result =
            unsafe { libc::syscall(libc::SYS_statx, file.as_raw_fd(), c"".as_ptr(), flags, mask, statx.as_mut_ptr()) };
        if result != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                // Filters older than the call reject it (in containers, for programs of any age), and the C library does
                // not know all of its flags where the kernel does not have it. The freshness cannot be chosen otherwise.
                Some(libc::EPERM | libc::ENOSYS | libc::EINVAL) => Stamp::of(file),
                _ => Err(error),
            };
        }
        // SAFETY: the call succeeded and has written all of it.
        let statx = unsafe { statx.assume_init() };
        let time = |time: libc::statx_timestamp| Time::new(time.tv_sec, i64::from(time.tv_nsec));
        Ok(Stamp {
            size: statx.stx_size,
            changed: time(statx.stx_ctime),
            modified: time(statx.stx_mtime),
            device: libc::makedev(statx.stx_dev_major, statx.stx_dev_minor) as u64,
            inode: statx.stx_ino,
        })
    }
}

/// Returns the type of the file system that a file is on (its magic number), and its block size in bytes.
// The fields have other types on other machines.
#[allow(clippy::unnecessary_cast)]
pub(crate) fn file_system(file: &File) -> Option<(u32, u64)> {
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a descriptor we own, and a `statfs` to write, which a call that succeeded has written.
    let stat = unsafe {
        if libc::fstatfs(file.as_raw_fd(), stat.as_mut_ptr()) != 0 {
            return None;
        }
        stat.assume_init()
    };
    Some((stat.f_type as u32, u64::try_from(stat.f_bsize).ok()?))
}

/// File systems whose files are generated when they are read, by the `f_type` of `statfs(2)`. Their sizes are 0, a page, or
/// an arbitrary number. Reading there can wait forever (`trace_pipe`, `kmsg`) or have effects, so nothing is read: the type
/// of the file system decides.
const MADE_UP: [u32; 20] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x7472_6163, // tracefs
    0x6462_6720, // debugfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6265_6570, // configfs
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x5a3c_69f0, // apparmorfs
    0x6573_5543, // fusectl
    0x0765_5821, // resctrl
    0x6759_6969, // rpc_pipefs
    0x6e66_7364, // nfsd
    0x4249_4e4d, // binfmt_misc
    0xcafe_4a11, // bpf
    0x6e73_6673, // namespaces
    0x1980_0202, // message queues
    0xabba_1974, // xenfs
];

/// Whether the file lies on a file system whose files are made up when they are read.
pub(super) fn is_made_up(file: &File) -> bool {
    file_system(file).is_some_and(|(kind, _)| MADE_UP.contains(&kind))
}

/// File systems whose times a server returns, which may make them up, by the `f_type` of `statfs(2)`.
const SERVED: [u32; 13] = [
    0x6573_5546, // FUSE
    0x0000_6969, // NFS
    0x0102_1997, // 9P
    0x0000_517b, // SMB
    0xfe53_4d42, // SMB 2
    0xff53_4d42, // CIFS
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS
    0x6b41_4653, // kAFS
    0x7375_7245, // Coda
    0x0bd0_0bd0, // Lustre
    0x786f_4256, // VirtualBox shared folders
    0x2003_0528, // OrangeFS
];

/// Whether the times of the file come from a server. Those of other file systems come from the kernel's clock, and are
/// different only after a change.
pub(super) fn is_served(file: &File) -> bool {
    file_system(file).is_some_and(|(kind, _)| SERVED.contains(&kind))
}
