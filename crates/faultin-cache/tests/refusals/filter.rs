//! Hand-written filters of system calls (seccomp).

use std::collections::BTreeSet;

use libc::{c_long, sock_filter};

/// What a filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Makes this call fail with this errno.
    Refuse(c_long, i32),
    /// Notifies a listener of each call first.
    Tell,
}

const NEW_LISTENER: libc::c_ulong = 1 << 3;

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Installs a filter for this thread and those that it starts. Returns the listener's descriptor, if it has one.
pub fn set(what: What) -> std::io::Result<Option<i32>> {
    let (load, ret) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_RET | libc::BPF_K);
    let mut program = match what {
        What::Refuse(call, errno) => vec![
            // The number of the call is the first field.
            statement(load, 0),
            sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: 1, k: call as u32 },
            statement(ret, libc::SECCOMP_RET_ERRNO | errno as u32),
            statement(ret, libc::SECCOMP_RET_ALLOW),
        ],
        What::Tell => vec![statement(ret, libc::SECCOMP_RET_USER_NOTIF)],
    };
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let flags = if what == What::Tell { NEW_LISTENER } else { 0 };
    // SAFETY: restricts this thread; the kernel copies the program.
    let set = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter)
    };
    match set {
        ..0 => Err(std::io::Error::last_os_error()),
        0 => Ok(None),
        listener => Ok(Some(listener as i32)),
    }
}

/// Reads a listener's notifications, lets each call continue, and records its number. Returns when there is none and
/// `is_over` returns `true`.
pub fn listen(listener: i32, is_over: impl Fn() -> bool) -> BTreeSet<c_long> {
    const RECEIVE: u32 = 0xc050_2100;
    const SEND: u32 = 0xc018_2101;
    const CONTINUE: u32 = 1;
    #[repr(C)]
    struct Told {
        id: u64,
        pid: u32,
        flags: u32,
        number: i32,
        arch: u32,
        ip: u64,
        arguments: [u64; 6],
    }
    #[repr(C)]
    struct Answer {
        id: u64,
        value: i64,
        error: i32,
        flags: u32,
    }
    let mut made = BTreeSet::new();
    loop {
        let mut ready = libc::pollfd { fd: listener, events: libc::POLLIN, revents: 0 };
        // SAFETY: writes one structure.
        if unsafe { libc::poll(&raw mut ready, 1, 1) } <= 0 {
            if is_over() {
                return made;
            }
            continue;
        }
        // SAFETY: zeros are a valid value; the kernel writes it.
        let mut told: Told = unsafe { std::mem::zeroed() };
        // SAFETY: writes the structure of this request.
        if unsafe { libc::ioctl(listener, RECEIVE as _, &raw mut told) } != 0 {
            continue;
        }
        made.insert(c_long::from(told.number));
        let answer = Answer { id: told.id, value: 0, error: 0, flags: CONTINUE };
        // SAFETY: reads the structure of this request. (The thread may have been interrupted.)
        unsafe { libc::ioctl(listener, SEND as _, &raw const answer) };
    }
}
