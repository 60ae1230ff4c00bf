//! The handler: finds the interrupted instruction in the tables, gives it the fault, and continues at its fixup.
//!
//! The [rules](super) of this folder apply.

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering;

use super::events::{Outcome, record};
use super::registered::Registered;
use super::registry::{REGISTRY, Registry};
use super::{chain, guard, pager, stack};
use crate::arch;
use crate::fault::Access;
use crate::fault::outcome::FaultCode;
use crate::table::search_slots;

/// Asynchronous although the kernel sent it: poison found elsewhere, and tag faults of the asynchronous mode. The
/// interrupted instruction did not cause either.
const BUS_MCEERR_AO: c_int = 5;
const SEGV_MTEAERR: c_int = 8;
pub(super) const BUS_MCEERR_AR: c_int = 4;

/// The signals that are blocked while our handler runs: every blockable one, also those that the C library reserves for
/// itself (32, 33, which its `sigfillset` leaves out). The alternate stack may have room for one frame of the kernel's and
/// little more, so no handler of another signal may run on top of ours.
///
/// Not blocked are the signals that an instruction causes, because the kernel kills the process if such a signal is
/// blocked: those of our own system calls under seccomp, of a debugger, and of a handler that we call. The kernel lets no
/// thread block SIGKILL and SIGSTOP.
pub(crate) const MASK: u64 = {
    let open = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];
    let (mut mask, mut i) = (!(bit(libc::SIGKILL) | bit(libc::SIGSTOP)), 0);
    while i < open.len() {
        mask &= !bit(open[i]);
        i += 1;
    }
    mask
};

/// Returns the bit of a signal in the kernel's set.
pub(crate) const fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// Maximum number of foreign handlers that ours can be installed above, one after the other.
pub(crate) const GENERATIONS: usize = 8;

/// A handler as the kernel calls it. It may unwind, because a predecessor may: some languages turn a fault into an
/// exception that way.
pub(crate) type Entry = unsafe extern "C-unwind" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Our handler, once for each *generation*: each installation above another handler has its own address, so that a handler
/// that passes a signal on to us selects its predecessor.
pub(crate) const ENTRIES: [Entry; GENERATIONS] =
    [entry::<0>, entry::<1>, entry::<2>, entry::<3>, entry::<4>, entry::<5>, entry::<6>, entry::<7>];

unsafe extern "C-unwind" fn entry<const GENERATION: usize>(
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    // SAFETY: the kernel, or a handler that forwards what the kernel gave it, passes the signal's own data.
    unsafe {
        if !recover(&REGISTRY, signal, info, context) {
            chain::forward(&REGISTRY, GENERATION, signal, info, context);
        }
    }
}

/// Returns whether the interrupted instruction did not cause the signal.
pub(crate) fn is_asynchronous(signal: c_int, code: c_int) -> bool {
    code <= 0 || (signal == libc::SIGBUS && code == BUS_MCEERR_AO) || (signal == libc::SIGSEGV && code == SEGV_MTEAERR)
}

/// Recovers from the fault if the interrupted instruction is in a table, or reads a guarded mapping.
///
/// # Safety
/// `info` and `context` are a signal's, as an `SA_SIGINFO` handler receives them.
#[inline(always)]
pub(crate) unsafe fn recover(
    registry: &Registry,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) -> bool {
    if (signal != libc::SIGSEGV && signal != libc::SIGBUS) || info.is_null() || context.is_null() {
        return false;
    }
    // SAFETY: not null, and a signal's by contract.
    let (info, context) = unsafe { (&*info, &mut *context.cast::<libc::ucontext_t>()) };
    let code = info.si_code;
    if is_asynchronous(signal, code) {
        return false;
    }
    let pc = arch::context::pc(context);
    let mut object = registry.objects.load(Ordering::Acquire);
    // SAFETY: registered objects are pinned and their fields published before them.
    while let Some(o) = unsafe { object.as_ref() } {
        let slots = o.slots.load(Ordering::Relaxed);
        // SAFETY: `publish` stored both before it stored the object, and the array is never freed.
        let slots = unsafe { core::slice::from_raw_parts(slots, o.slot_count.load(Ordering::Relaxed)) };
        if let Some(site) = search_slots(slots, pc) {
            let lsb = if signal == libc::SIGBUS && code == BUS_MCEERR_AR { address_lsb(info) } else { 0 };
            let access = site.access(arch::context::access(context));
            let fault = FaultCode::new(signal as u8, code as i16, lsb, access, site.progress_bits());
            // SAFETY: SIGSEGV and SIGBUS carry an address.
            let address = unsafe { info.si_addr() }.addr();
            record(registry, Outcome::Recovered, fault, address, pc);
            arch::context::set_register(context, site.error_register(), fault.0);
            arch::context::set_register(context, site.address_register(), address as u64);
            arch::context::set_pc(context, site.fixup);
            return true;
        }
        object = o.next.load(Ordering::Relaxed);
    }
    // SAFETY: as above.
    let address = unsafe { info.si_addr() }.addr();
    serve_others(registry, signal, info, arch::context::access(context), address, context)
}

/// Resolves the fault of an instruction that is in no table, if its address has a pager or a guard, and the stack has room
/// for it.
#[cold]
#[inline(never)]
fn serve_others(
    registry: &Registry,
    signal: c_int,
    info: &libc::siginfo_t,
    access: Option<Access>,
    address: usize,
    context: &libc::ucontext_t,
) -> bool {
    let (code, untagged) = (info.si_code, arch::untag(address));
    let Some(registered) = registry.at(untagged) else { return false };
    let interrupted = stack::SignalContext::of(context);
    let (served, outcome) = match registered {
        // What a pager resolves is no failure, and it counts that itself.
        Registered::Pager(entry) => match pager::serve_signal(registry, entry, access, untagged, &interrupted) {
            true => return true,
            false => (false, Outcome::Refused),
        },
        Registered::Guard(guard) => {
            match interrupted.room >= stack::GUARD && guard::serve(registry, guard, signal, code, access, untagged) {
                true => (true, Outcome::Substituted),
                false => (false, Outcome::Refused),
            }
        }
    };
    let lsb = if signal == libc::SIGBUS && code == BUS_MCEERR_AR { address_lsb(info) } else { 0 };
    let fault = FaultCode::new(signal as u8, code as i16, lsb, access.unwrap_or(Access::Read), 0);
    record(registry, outcome, fault, address, arch::context::pc(context));
    served
}

/// Returns `si_addr_lsb`, which libc does not expose: it follows `si_addr`.
fn address_lsb(info: &libc::siginfo_t) -> u8 {
    #[repr(C)]
    struct Prefix {
        numbers: [c_int; 3],
        address: *mut c_void,
        lsb: i16,
    }
    const _: () = assert!(size_of::<Prefix>() <= size_of::<libc::siginfo_t>());
    // SAFETY: a `siginfo_t` of SIGBUS begins like `Prefix`, with the same alignment.
    unsafe { (*core::ptr::from_ref(info).cast::<Prefix>()).lsb as u8 }
}
