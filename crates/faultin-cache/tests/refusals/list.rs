//! The system calls that this library makes, directly or through the standard library.

use libc::c_long;

pub struct Call {
    pub name: &'static str,
    pub number: c_long,
    /// Other names that errors have for it.
    pub also: &'static [&'static str],
    /// Whether the program makes it on every machine.
    pub always: bool,
}

macro_rules! calls {
    ($($(#[$cfg:meta])? $name:ident / $number:ident $also:expr, $always:ident);* $(;)?) => {
        &[$($(#[$cfg])? Call { name: stringify!($name), number: libc::$number, also: &$also, always: calls!($always) }),*]
    };
    (always) => { true };
    (sometimes) => { false };
}

/// Each of these is refused in turn. The ones marked *sometimes* depend on the kernel, on the C library, or on another call
/// having been refused.
#[rustfmt::skip]
pub const CALLS: &[Call] = calls! {
    read / SYS_read [], always;
    write / SYS_write [], always;
    close / SYS_close [], always;
    fstat / SYS_fstat [], always;
    mmap / SYS_mmap ["no thread for the pager"], always;
    mprotect / SYS_mprotect ["no thread for the pager"], always;
    munmap / SYS_munmap [], always;
    rt_sigaction / SYS_rt_sigaction ["sigaction for signal"], always;
    rt_sigprocmask / SYS_rt_sigprocmask [], always;
    ioctl / SYS_ioctl [], always;
    pread64 / SYS_pread64 [], always;
    pwrite64 / SYS_pwrite64 [], always;
    msync / SYS_msync [], always;
    madvise / SYS_madvise [], always;
    getpid / SYS_getpid [], always;
    fcntl / SYS_fcntl [], always;
    fsync / SYS_fsync [], always;
    fdatasync / SYS_fdatasync [], always;
    ftruncate / SYS_ftruncate [], always;
    sigaltstack / SYS_sigaltstack [], always;
    fstatfs / SYS_fstatfs [], always;
    gettid / SYS_gettid [], always;
    openat / SYS_openat ["open: "], always;
    ppoll / SYS_ppoll [], always;
    fallocate / SYS_fallocate ["allocating space"], always;
    memfd_create / SYS_memfd_create [], always;
    preadv / SYS_preadv [], sometimes;
    preadv2 / SYS_preadv2 ["reading without waiting"], sometimes;
    pidfd_send_signal / SYS_pidfd_send_signal [], sometimes;
    pidfd_open / SYS_pidfd_open [], sometimes;
    clone3 / SYS_clone3 ["no thread for the pager"], sometimes;
    userfaultfd / SYS_userfaultfd ["no userfaultfd"], sometimes;
    eventfd2 / SYS_eventfd2 [], always;
    prlimit64 / SYS_prlimit64 [], sometimes;
    process_vm_readv / SYS_process_vm_readv ["reading its memory is not permitted"], sometimes;
    process_vm_writev / SYS_process_vm_writev [], sometimes;
    statx / SYS_statx [], sometimes;
    io_uring_setup / SYS_io_uring_setup [], sometimes;
    io_uring_enter / SYS_io_uring_enter [], sometimes;
    fadvise64 / SYS_fadvise64 [], sometimes;
    sched_yield / SYS_sched_yield [], sometimes;
    uname / SYS_uname [], sometimes;
    sysinfo / SYS_sysinfo [], sometimes;
    prctl / SYS_prctl [], sometimes;
    sched_getaffinity / SYS_sched_getaffinity [], sometimes;
    set_robust_list / SYS_set_robust_list [], sometimes;
    clone / SYS_clone [], sometimes;
    newfstatat / SYS_newfstatat [], sometimes;
    readlinkat / SYS_readlinkat [], sometimes;
    rt_sigpending / SYS_rt_sigpending [], sometimes;
    rt_sigtimedwait / SYS_rt_sigtimedwait [], sometimes;
    mincore / SYS_mincore [], sometimes;
    pipe2 / SYS_pipe2 [], sometimes;
    munlock / SYS_munlock [], sometimes;
    sync_file_range / SYS_sync_file_range [], sometimes;
    lseek / SYS_lseek [], sometimes;
    tgkill / SYS_tgkill [], sometimes;
    rt_tgsigqueueinfo / SYS_rt_tgsigqueueinfo [], sometimes;
    getrandom / SYS_getrandom [], sometimes;
    clock_nanosleep / SYS_clock_nanosleep [], sometimes;
    membarrier / SYS_membarrier [], sometimes;
    #[cfg(target_arch = "x86_64")] open / SYS_open [], sometimes;
    #[cfg(target_arch = "x86_64")] readlink / SYS_readlink [], sometimes;
};

/// `rseq(2)`, which some versions of libc have no name for.
const SYS_RSEQ: c_long = if cfg!(target_arch = "x86_64") { 334 } else { 293 };

/// These are not refused: no program works without them.
pub const KEPT: &[(&str, c_long, &str)] = &[
    (
        "futex",
        libc::SYS_futex,
        "the locks of the standard library and of parking_lot sleep by it, and panic or spin without",
    ),
    ("exit", libc::SYS_exit, "the C library repeats it until the thread has ended"),
    ("exit_group", libc::SYS_exit_group, "the same, of the process"),
    ("brk", libc::SYS_brk, "it has no errors: the C library takes any answer for the end of the heap"),
    ("rseq", SYS_RSEQ, "the C library ends the process where a thread cannot register what the process could"),
    ("rt_sigreturn", libc::SYS_rt_sigreturn, "the kernel ends a program whose signal handler cannot return"),
];
