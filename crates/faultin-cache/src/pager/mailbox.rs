//! placeholder, replaced by branch lock
#![forbid(unsafe_code)]
use faultin::Access;
use rustix::event::EventfdFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
#[derive(Debug)]
pub(crate) struct Mailbox {
    fd: OwnedFd,
    slots: [Slot; 64],
    closed: AtomicBool,
}
#[derive(Debug, Default)]
struct Slot {
    state: AtomicU32,
    address: AtomicUsize,
    access: AtomicU32,
    thread: AtomicU32,
}
#[derive(Debug)]
pub(crate) struct Request<'a> {
    slot: &'a Slot,
    pub(crate) address: usize,
    pub(crate) access: Option<Access>,
    answered: bool,
}
impl Mailbox {
    pub(crate) fn new() -> io::Result<Mailbox> {
        Ok(Mailbox {
            fd: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            slots: std::array::from_fn(|_| Slot::default()),
            closed: AtomicBool::new(false),
        })
    }
    pub(crate) fn post(&self, address: usize, access: Option<Access>, thread: u32) -> bool {
        loop {
            if self.is_closed() {
                return false;
            }
            if let Some(slot) = self.slots.iter().find(|slot| slot.state.compare_exchange(0, 1, SeqCst, SeqCst).is_ok())
            {
                slot.address.store(address, SeqCst);
                slot.access.store(
                    match access {
                        None => 0,
                        Some(Access::Read) => 1,
                        Some(Access::Write) => 2,
                    },
                    SeqCst,
                );
                slot.thread.store(thread, SeqCst);
                slot.state.store(2, SeqCst);
                self.wake();
                loop {
                    let state = slot.state.load(SeqCst);
                    if state >= 4 {
                        slot.state.store(0, SeqCst);
                        return state == 5;
                    }
                    crate::sync::wait(&slot.state, state);
                }
            }
            crate::sync::pause();
        }
    }
    pub(crate) fn take(&self) -> Option<Request<'_>> {
        let _ = rustix::io::read(&self.fd, &mut [0_u8; 8]);
        let slot = self.slots.iter().find(|slot| slot.state.compare_exchange(2, 3, SeqCst, SeqCst).is_ok())?;
        let access = match slot.access.load(SeqCst) {
            1 => Some(Access::Read),
            2 => Some(Access::Write),
            _ => None,
        };
        Some(Request { slot, address: slot.address.load(SeqCst), access, answered: false })
    }
    pub(crate) fn wake(&self) {
        let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
    }
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
        self.wake();
    }
}
impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
impl Request<'_> {
    pub(crate) fn answer(mut self, answer: bool) {
        self.answered = true;
        self.slot.state.store(if answer { 5 } else { 4 }, SeqCst);
        crate::sync::wake(&self.slot.state, 1);
    }
}
impl Drop for Request<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.slot.state.store(4, SeqCst);
            crate::sync::wake(&self.slot.state, 1);
        }
    }
}
