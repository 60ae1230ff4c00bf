//! The registry of a process: which objects have tables, and which handlers were installed before ours.
//!
//! Several objects of a process may each carry this crate, or only instructions inlined from it. They meet through ELF
//! notes: each object that has a table has a note (see [`table`](crate::table)), and the loader lists all objects. The
//! first that needs the handler offers its own registry; the others find it through an object that is registered.
//!
//! Whatever the handler finds in a [`Registry`] is never unloaded: an object is pinned (`RTLD_NODELETE`) before it is entered.
//! No code here runs in a signal; the handler only follows the atomic pointers that this module publishes.

mod error;
mod loaded;
mod vdso;

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;

pub use self::error::InstallError;
use self::loaded::{find, pin, with_loader_lock};
pub(crate) use self::vdso::vdso_clock;
use crate::arch;
use crate::backoff::wait_until;
use crate::signal::inside::disposition::Action;
use crate::signal::inside::handler;
use crate::signal::inside::registry::{MODE_HOST, MODE_NONE, MODE_OURS, Previous, REGISTRY, Registry, SIGNALS, of};
use crate::table::{self, Object, Site};

/// `SA_EXPOSE_TAGBITS` (Linux 5.11): `si_addr` keeps the tag of the pointer that faulted, where there are tags.
const EXPOSE_TAGBITS: c_int = 0x800;

impl Previous {
    /// Returns the generation to install above `action`: the one that was above the same handler before, else a new one.
    fn generation_above(&self, action: &Action) -> Option<usize> {
        let known = self.before.iter().position(|b| b.get().is_some_and(|b| b.handler == action.handler));
        known.or_else(|| self.before.iter().position(|b| b.get().is_none()))
    }
}

/// Registers the tables of this object, of `caller`'s, and of every other object that is loaded now.
pub(crate) fn attach(caller: &'static Object) -> Result<&'static Registry, InstallError> {
    if !arch::HAS_TABLE {
        return Err(InstallError::Unsupported);
    }
    let own = arch::object();
    // This object first: its registry may become the one of the process.
    if of(own).is_none() {
        let site = find(|object| core::ptr::eq(object, own)).into_iter().next().ok_or(InstallError::NotFound)?;
        pin(&site)?;
        let mut slots = Some(table::slots(own.table()));
        with_loader_lock(|| {
            if of(own).is_some() {
                return;
            }
            let registry = find(|object| of(object).is_some()).first().and_then(|l| of(l.object)).unwrap_or(&REGISTRY);
            publish(registry, own, slots.take().unwrap_or_default());
        });
    }
    let registry = of(own).ok_or(InstallError::NotFound)?;
    registry.events.set_clock(vdso_clock());
    // Then all other loaded objects. One that cannot be pinned is left out; for the caller, that is an error.
    for site in find(|object| of(object).is_none()) {
        let pinned = pin(&site);
        if core::ptr::eq(site.object, caller) {
            pinned?;
        } else if pinned.is_err() {
            continue;
        }
        let mut slots = Some(table::slots(site.object.table()));
        with_loader_lock(|| {
            if of(site.object).is_none() {
                publish(registry, site.object, slots.take().unwrap_or_default());
            }
        });
    }
    if of(caller).is_none() {
        return Err(InstallError::NotFound);
    }
    Ok(registry)
}

impl Registry {
    /// Makes our handler handle both signals, unless another handler is above it or the host owns them.
    pub(crate) fn install_handler(&self) -> Result<(), InstallError> {
        self.locked(|| match self.mode.load(Ordering::Acquire) {
            MODE_HOST => Ok(()),
            // The default may have been set since (Rust's own handler does, before it gives up).
            MODE_OURS => self.take_both(|_, now| Ok(if now.is_function() { None } else { Some(0) })),
            _ => {
                self.take_both(|_, _| Ok(Some(0)))?;
                self.mode.store(MODE_OURS, Ordering::Release);
                Ok(())
            }
        })
    }

    /// Records that the host's own handler calls ours. Once ours is installed it stays; a host may call it all the same.
    pub(crate) fn host_owns_handler(&self) {
        self.locked(|| {
            let _ = self.mode.compare_exchange(MODE_NONE, MODE_HOST, Ordering::AcqRel, Ordering::Acquire);
        });
    }

    /// Puts our handler on top again where another handler is above it.
    pub(crate) fn raise_to_top(&self) -> Result<(), InstallError> {
        self.locked(|| {
            if self.mode.load(Ordering::Acquire) == MODE_HOST {
                return Err(InstallError::HostOwnsHandler);
            }
            self.take_both(|previous, now| match now.is_function() {
                true => previous.generation_above(now).map(Some).ok_or(InstallError::TooManyHandlers),
                false => Ok(Some(0)),
            })?;
            self.mode.store(MODE_OURS, Ordering::Release);
            Ok(())
        })
    }

    /// [Takes](Registry::take) both signals, or none if one fails.
    fn take_both(
        &self,
        generation: impl Fn(&Previous, &Action) -> Result<Option<usize>, InstallError>,
    ) -> Result<(), InstallError> {
        let replaced = self.take(0, &generation)?;
        self.take(1, &generation).map(drop).inspect_err(|_| {
            if let Some(action) = replaced {
                // SAFETY: restores what was in force, as the kernel returned it.
                unsafe { libc::sigaction(SIGNALS[0], &action, core::ptr::null_mut()) };
            }
        })
    }

    /// Installs our handler for a signal, as the generation that `generation` returns for the current action (`None`: leaves it
    /// alone), and returns what it replaced.
    fn take(
        &self,
        which: usize,
        generation: impl Fn(&Previous, &Action) -> Result<Option<usize>, InstallError>,
    ) -> Result<Option<libc::sigaction>, InstallError> {
        let (signal, previous) = (SIGNALS[which], &self.previous[which]);
        let now = current(signal)?;
        let before = Action::from(now);
        if self.is_ours(before.handler) {
            return Ok(None);
        }
        let Some(generation) = generation(previous, &before)? else { return Ok(None) };
        // Recorded first, so that a signal that arrives in between finds its predecessor.
        previous.before[generation].set(before);
        // SAFETY: all-zero is a valid `sigaction`; every field that matters is set below.
        let mut ours: libc::sigaction = unsafe { core::mem::zeroed() };
        ours.sa_sigaction = self.entries[generation] as usize;
        // SIGINFO: the fault's address and the registers. ONSTACK: a stack overflow leaves no other stack, and the
        // predecessor (Rust's runtime, for one) may rely on it. NODEFER: if a handler that we call faults again, the kernel
        // must call us. Of the predecessor's flags those that take effect before a handler runs: only forwarded signals
        // interrupt system calls, and addresses keep their tags for its sake.
        ours.sa_flags =
            libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER | before.flags & (libc::SA_RESTART | EXPOSE_TAGBITS);
        if before.handler == libc::SIG_IGN {
            // An ignored signal interrupts no system call.
            ours.sa_flags |= libc::SA_RESTART;
        }
        // No other signal's handler runs on top of ours. The C library's set begins with the kernel's, and `sigaction`
        // passes on bits that `sigfillset` would leave out.
        // SAFETY: `sa_mask` is at least as large (see `Action`), and plain data.
        unsafe { (&raw mut ours.sa_mask).cast::<u64>().write_unaligned(handler::MASK) };
        let mut replaced = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: `ours` is initialised; the handler that it names is in a pinned object.
        if unsafe { libc::sigaction(signal, &ours, replaced.as_mut_ptr()) } != 0 {
            return Err(InstallError::Sigaction(signal, std::io::Error::last_os_error()));
        }
        // SAFETY: written by the call, and zeroed before.
        let replaced = unsafe { replaced.assume_init() };
        let after = Action::from(replaced);
        // Another thread installed a handler between the two calls.
        if after.handler != before.handler && !self.is_ours(after.handler) {
            previous.before[generation].set(after);
        }
        Ok(Some(replaced))
    }

    /// Runs `f` while no other thread of this process changes dispositions.
    fn locked<T>(&self, f: impl FnOnce() -> T) -> T {
        let me = self.process.number();
        wait_until(|| {
            let holder = self.lock.load(Ordering::Relaxed);
            holder != me && self.lock.compare_exchange(holder, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
        });
        let result = f();
        self.lock.store(0, Ordering::Release);
        result
    }
}

/// Returns the disposition of `signal`.
pub(crate) fn current(signal: c_int) -> Result<libc::sigaction, InstallError> {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: only a query; `now` is valid for writes.
    if unsafe { libc::sigaction(signal, core::ptr::null(), now.as_mut_ptr()) } != 0 {
        return Err(InstallError::Sigaction(signal, std::io::Error::last_os_error()));
    }
    // SAFETY: written by the call, and zeroed before.
    Ok(unsafe { now.assume_init() })
}

/// Enters `object` into `registry`. Only under the loader's lock, once per object.
fn publish(registry: &'static Registry, object: &'static Object, slots: Vec<Site>) {
    let slots: &'static mut [Site] = slots.leak();
    object.slot_count.store(slots.len(), Ordering::Relaxed);
    object.slots.store(slots.as_mut_ptr(), Ordering::Relaxed);
    object.next.store(registry.objects.load(Ordering::Relaxed), Ordering::Relaxed);
    registry.objects.store(core::ptr::from_ref(object).cast_mut(), Ordering::Release);
    object.registry.store(core::ptr::from_ref(registry).cast_mut().cast::<c_void>(), Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `child` in a process of its own and returns its status. The process dies with its parent.
    ///
    /// # Safety
    /// `child` makes system calls and uses nothing that needs a lock that another thread may hold now.
    unsafe fn fork(child: impl FnOnce() -> i32) -> c_int {
        let mut status = -1;
        // SAFETY: the caller's contract.
        unsafe {
            match libc::fork() {
                0 => {
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                    libc::_exit(child())
                }
                child => libc::waitpid(child, &mut status, 0),
            };
        }
        status
    }

    /// Returns whether this process's children get a new namespace of process ids.
    fn enter_namespace() -> bool {
        // SAFETY: concerns the children of this thread only.
        unsafe {
            libc::unshare(libc::CLONE_NEWPID) == 0 || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) == 0
        }
    }

    /// The first process of a namespace and its child, the first one of another, have the same id.
    #[test]
    fn a_child_with_its_parents_id_does_not_wait_for_its_parents_threads() {
        const NO_RIGHT: i32 = 77;
        if faultin_test::is_emulated() {
            return faultin_test::skipped("native", "no page is wiped in a child of `fork`");
        }
        let child = || i32::from(REGISTRY.locked(process_id) != 1);
        let parent = || {
            // SAFETY: the child does nothing but this.
            REGISTRY.locked(|| if enter_namespace() { unsafe { fork(child) } } else { NO_RIGHT << 8 })
        };
        let before = || {
            // SAFETY: the first process of a namespace ignores SIGALRM, so its parent takes it, should they hang.
            unsafe { libc::alarm(20) };
            // SAFETY: the child makes system calls, and numbers itself.
            let status = if enter_namespace() { unsafe { fork(|| parent() >> 8) } } else { NO_RIGHT << 8 };
            status >> 8
        };
        // SAFETY: as above.
        match unsafe { fork(before) } {
            status if status == NO_RIGHT << 8 => {
                faultin_test::skipped("namespaces", "no right to make a pid namespace")
            }
            status => assert_eq!(status, 0, "signal {}, exit {}", status & 0x7f, status >> 8),
        }
    }

    fn process_id() -> u32 {
        std::process::id()
    }

    #[test]
    fn a_change_of_dispositions_waits_for_one_of_a_lower_priority() {
        crate::backoff::tests::waits_for_a_lower_priority(|start| REGISTRY.locked(start), || REGISTRY.locked(|| ()));
    }
}
