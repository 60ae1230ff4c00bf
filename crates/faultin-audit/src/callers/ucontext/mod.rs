//! The common part of the three context switches: a *context*, which is the registers, the signal mask and the alternate
//! stack of a thread, laid out in user memory, and its thread.
//!
//! The layouts are those of the two architectures, and small ones in the same order. Where a context contains a pointer
//! into itself (ppc32 to its machine context, ppc64 to its vector registers), the user's addresses count from its first
//! byte.

#![forbid(unsafe_code)]

mod layout;
mod restore;
mod thread;

use std::io;

use super::{Ended, Variant};
use crate::log::Log;
use crate::scenario::Scenario;
use crate::user::{Object, Scale, User};

pub(super) use layout::Layout;
pub(super) use restore::{Context, Copied, InUserMemory, Unusable, do_setcontext, restore_sigcontext};
pub(super) use thread::{AFTER, BEFORE, BRANCH, STEP, Thread, VSX, bytes_of, value};

pub(super) const SWITCHED: &str = "ok";
pub(super) const EFAULT: &str = "EFAULT";
pub(super) const EINVAL: &str = "EINVAL";
pub(super) const KILLED: &str = "SIGSEGV";

/// The contents of memory to which no context has been saved.
const STALE: u8 = 0x77;

/// Makes memory for the old context, without faults.
pub(super) fn memory_for_old<U: User>(layout: &Layout, scale: Scale) -> io::Result<U> {
    U::new(&Object::new(vec![STALE; layout.size], layout.word), Scenario::AllResident, scale)
}

/// Makes a context of ppc32 to switch to, divided between two general registers. Switches never start over; the single bad
/// granule is in the middle of the general registers, where the helper touches nothing.
pub(super) fn object_ppc32(scale: Scale) -> Object {
    let layout = Layout::ppc32(scale);
    let context = layout.context(&Thread::patterned(AFTER, &layout));
    match scale {
        Scale::Full => Object::new(context, 256).with_tail(1120).with_restart(224),
        Scale::Small => Object::new(context, 8).with_tail(12).with_restart(8),
    }
}

/// Returns the origin of the three switches.
pub(super) fn origin(variant: Variant) -> &'static str {
    match variant {
        Variant::AsFound => "caller from 5.14 (and 6.12), helper from 5.14 (fault_in_pages_readable)",
        Variant::Fixed => "caller without the fault-in, as the mail asks, restoring from a copy; no helper",
    }
}

/// Restores a context by [`do_setcontext`] or [`restore_sigcontext`]; a context that is unusable half way kills.
pub(super) fn switch(
    layout: &Layout,
    thread: &mut Thread,
    log: &mut Log,
    restore: impl FnOnce(&mut Thread, &mut Log) -> Result<(), Unusable>,
) -> &'static str {
    let before = thread.clone();
    match restore(thread, log) {
        Ok(()) => SWITCHED,
        Err(Unusable) => killed(layout, thread, &before, log),
    }
}

/// Checks that the old context is there, or, if it was not `saved`, nothing is.
pub(super) fn check_old<U: User>(
    old: &U,
    layout: &Layout,
    before: &Thread,
    saved: bool,
) -> io::Result<Result<(), String>> {
    let expected = if saved { layout.saved(before, STALE) } else { vec![STALE; layout.size] };
    Ok(match (old.contents()? == expected, old.surroundings_intact()?) {
        (true, true) => Ok(()),
        (false, _) if saved => Err("the old context is not what was saved".into()),
        (false, _) => Err("an old context was saved".into()),
        (true, false) => Err("bytes around the old context changed".into()),
    })
}

/// Returns the end of a switch: which thread there is, and that the new context is unchanged.
pub(super) fn ended<U: User>(
    user: &U,
    layout: &Layout,
    status: &'static str,
    thread: &Thread,
    [untouched, switched]: [&Thread; 2],
) -> io::Result<Ended> {
    let product = if user.contents()? != layout.context(&Thread::patterned(AFTER, layout)) {
        Err("the new context changed".into())
    } else if !user.surroundings_intact()? {
        Err("bytes around the new context changed".into())
    } else {
        match status {
            KILLED => Ok(()),
            SWITCHED if thread == switched => Ok(()),
            SWITCHED => Err("other registers arrived than the new context's".into()),
            _ if thread == untouched => Ok(()),
            _ => Err("an error, and registers changed".into()),
        }
    };
    let moved = if status == SWITCHED { layout.size } else { 0 };
    Ok(Ended { status, moved, product })
}

/// Kills the process: logs how much of the thread is the new context's.
fn killed(layout: &Layout, thread: &Thread, before: &Thread, log: &mut Log) -> &'static str {
    let changed = thread.general.chunks(layout.word).zip(before.general.chunks(layout.word)).filter(|(a, b)| a != b);
    log.decide(format!("killed; {} general registers are the new context's", changed.count()));
    KILLED
}

#[cfg(test)]
mod tests {
    use faultin::memory::WriteMemory;

    use super::*;
    use crate::user::SimUser;

    #[test]
    fn the_check_sees_a_wrong_register_and_one_that_changed_for_nothing() {
        let layout = Layout::ppc32(Scale::Full);
        let before = Thread::patterned(BEFORE, &layout);
        let switched = before.switched(&layout, false);
        let object = Object::new(layout.context(&Thread::patterned(AFTER, &layout)), 256);
        let user = SimUser::new(&object, Scenario::AllResident, Scale::Full).unwrap();
        let mut half = before.clone();
        half.general[..4].copy_from_slice(&switched.general[..4]);
        for (status, thread, right) in [
            (SWITCHED, &switched, true),
            (SWITCHED, &half, false),
            (SWITCHED, &before, false),
            (EFAULT, &before, true),
            (EFAULT, &half, false),
            (KILLED, &half, true),
        ] {
            let end = ended(&user, &layout, status, thread, [&before, &switched]).unwrap();
            assert_eq!(end.product.is_ok(), right, "{status}: {:?}", end.product);
        }
        user.dest().unwrap().write(&[0], 300).unwrap();
        assert!(ended(&user, &layout, KILLED, &half, [&before, &switched]).unwrap().product.is_err());
    }
}
