//! Row 2, `swapcontext` (32-bit powerpc): saves the thread's context to user memory and restores another one.
//!
//! The registers are restored in place, field by field, from the mask on. A fault half way leaves a thread that is neither
//! of the two, and it is killed (`SIGSEGV`). As found the whole new context is faulted in first, so that a bad address is
//! `EFAULT` before any register changes. That proves a byte of each page, and only for a moment; the restore has to handle
//! a fault all the same, and bad contents, which kill as before.
//!
//! Fixed, the fault-in is dropped, as the mail asks, and its purpose is achieved: the new context is copied to the kernel,
//! all of it or `EFAULT`, and restored from there, where nothing can fault. It is copied after the old one is saved,
//! because they may be the same memory. Bad contents still kill.
//!
//! The product is the registers that arrive, the old context as it was saved, and a new one that is only read. The old
//! context goes to separate memory without faults.

#![forbid(unsafe_code)]

use faultin::memory::{ReadMemory, WriteMemory};

use super::Variant::{AsFound, Fixed};
use super::ucontext::{
    self, BEFORE, Context, Copied, EFAULT, EINVAL, InUserMemory, KILLED, Layout, SWITCHED, Thread, do_setcontext,
};
use super::{Caller, Code, Ended, Halt, Need, Variant};
use crate::expect::Ends::{OneOf, With};
use crate::expect::{Expectation, Moved, expect};
use crate::helpers::fault_in_pages_readable;
use crate::log::Log;
use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 2,
    name: "swapcontext",
    place: "ppc32",
    need: Need::All,
    finding: "pointless: EFAULT now so as not to be killed later, which bad contents are anyway",
    job: Some(&SwapcontextPpc32),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct SwapcontextPpc32;

fn as_found(
    layout: &Layout,
    thread: &mut Thread,
    old: &impl WriteMemory,
    new: &impl ReadMemory,
    log: &mut Log,
) -> &'static str {
    if let Err(status) = save(layout, thread, old, new, log) {
        return status;
    }
    if fault_in_pages_readable(new, log).is_err() {
        return EFAULT;
    }
    restore(layout, thread, &InUserMemory(new), log)
}

fn fixed(
    layout: &Layout,
    thread: &mut Thread,
    old: &impl WriteMemory,
    new: &impl ReadMemory,
    log: &mut Log,
) -> &'static str {
    if let Err(status) = save(layout, thread, old, new, log) {
        return status;
    }
    match Copied::from(new, log) {
        Ok(context) => restore(layout, thread, &context, log),
        Err(_) => EFAULT,
    }
}

fn save(
    layout: &Layout,
    thread: &Thread,
    old: &impl WriteMemory,
    new: &impl ReadMemory,
    log: &mut Log,
) -> Result<(), &'static str> {
    if new.len() < layout.size {
        log.decide("the context is too small");
        return Err(EINVAL);
    }
    let saved = layout.save(old, thread);
    log.copied("save the old context", layout.size, &saved);
    saved.map_err(|_| EFAULT)
}

fn restore(layout: &Layout, thread: &mut Thread, from: &impl Context, log: &mut Log) -> &'static str {
    ucontext::switch(layout, thread, log, |thread, log| do_setcontext(from, layout, thread, false, log))
}

impl Code for SwapcontextPpc32 {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        ucontext::object_ppc32(scale)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let layout = Layout::ppc32(user.scale());
        let old = ucontext::memory_for_old::<U>(&layout, user.scale())?;
        let before = Thread::patterned(BEFORE, &layout);
        let (mut thread, saved_to, new) = (before.clone(), old.dest()?, user.source()?);
        let status = match variant {
            AsFound => as_found(&layout, &mut thread, &saved_to, &new, log),
            Fixed => fixed(&layout, &mut thread, &saved_to, &new, log),
        };
        let switched = before.switched(&layout, false);
        let end = ucontext::ended(user, &layout, status, &thread, [&before, &switched])?;
        let saved = ucontext::check_old(&old, &layout, &before, status != EINVAL)?;
        Ok(Ended { product: end.product.and(saved), ..end })
    }

    fn origin(&self, variant: Variant) -> &'static str {
        ucontext::origin(variant)
    }

    fn expectations(&self) -> &'static [Expectation] {
        &EXPECTED
    }
}

const FINE: &str = "5.14 and 6.12: saves, faults in, restores";
const LOADS: &str = "5.14 and 6.12: the new context is only read";
const WAITS: &str = "5.14: the restore takes page faults like any other access";
const COURTESY: &str = "5.14 and 6.12: EFAULT if the new context cannot all be faulted in, before a register changes";
const LAST_BYTE: &str = "5.14: the helper touches the last byte, too; EFAULT before a register changes";
const HALF: &str =
    "5.14 and 6.12: a fault in the restore kills; the mail: touching a byte of each page proves no other";
const COPY_ONLY: &str =
    "the mail: drop the fault-in, the copy must cope with a fault anyway; here all of it is one copy";
const RACE: &str = "5.14, its own comment: killed if another thread unmaps the context after the fault-in";
const NO_RACE: &str = "all of the new context is in the kernel, or no register has changed";

const EXPECTED: [Expectation; 20] = [
    expect(AsFound, AllResident, With(SWITCHED, Moved::All), FINE),
    expect(AsFound, Cold, With(SWITCHED, Moved::All), FINE),
    expect(AsFound, FirstPageBad, With(EFAULT, Moved::Nothing), COURTESY),
    expect(AsFound, SecondPageBad, With(EFAULT, Moved::Nothing), COURTESY),
    expect(AsFound, ReadOnly, With(SWITCHED, Moved::All), LOADS),
    expect(AsFound, Evicted, With(SWITCHED, Moved::All), WAITS),
    expect(AsFound, Poisoned, With(EFAULT, Moved::Nothing), COURTESY),
    expect(AsFound, InaccessibleTail, With(EFAULT, Moved::Nothing), LAST_BYTE),
    expect(AsFound, RestartGranuleBad, With(KILLED, Moved::Nothing), HALF),
    expect(AsFound, Remapping, OneOf(&[SWITCHED, EFAULT, KILLED]), RACE),
    expect(Fixed, AllResident, With(SWITCHED, Moved::All), COPY_ONLY),
    expect(Fixed, Cold, With(SWITCHED, Moved::All), COPY_ONLY),
    expect(Fixed, FirstPageBad, With(EFAULT, Moved::Nothing), COPY_ONLY),
    expect(Fixed, SecondPageBad, With(EFAULT, Moved::Nothing), COPY_ONLY),
    expect(Fixed, ReadOnly, With(SWITCHED, Moved::All), LOADS),
    expect(Fixed, Evicted, With(SWITCHED, Moved::All), COPY_ONLY),
    expect(Fixed, Poisoned, With(EFAULT, Moved::Nothing), COPY_ONLY),
    expect(Fixed, InaccessibleTail, With(EFAULT, Moved::Nothing), COPY_ONLY),
    expect(Fixed, RestartGranuleBad, With(EFAULT, Moved::Nothing), COPY_ONLY),
    expect(Fixed, Remapping, OneOf(&[SWITCHED, EFAULT]), NO_RACE),
];

#[cfg(test)]
mod tests {
    use super::ucontext::AFTER;
    use super::*;
    use crate::user::SimUser;

    #[test]
    fn bad_contents_kill_and_a_small_context_is_refused_whatever_was_faulted_in() {
        let layout = Layout::ppc32(Scale::Full);
        let good = Code::object::<<SimUser as User>::Registers>(&SwapcontextPpc32, Scale::Full);
        let (mut astray, mut small) = (good.clone(), good);
        // The registers would be where the user has no memory.
        astray.bytes[layout.pointer.clone()].fill(0xf0);
        small.bytes.pop();
        for variant in Variant::ALL {
            for (object, expected) in [(&astray, KILLED), (&small, EINVAL)] {
                let user = SimUser::new(object, AllResident, Scale::Full).unwrap();
                let ended = SwapcontextPpc32.run(variant, &user, &mut Log::of(&user)).unwrap();
                assert_eq!((ended.status, ended.moved), (expected, 0), "{variant:?}");
            }
        }
    }

    #[test]
    fn the_thread_that_is_killed_is_neither_of_the_two() {
        let layout = Layout::ppc32(Scale::Full);
        let object = Code::object::<<SimUser as User>::Registers>(&SwapcontextPpc32, Scale::Full);
        let user = SimUser::new(&object, RestartGranuleBad, Scale::Full).unwrap();
        let old = ucontext::memory_for_old::<SimUser>(&layout, Scale::Full).unwrap();
        let (old, new) = (old.dest().unwrap(), user.source().unwrap());
        let (before, after) = (Thread::patterned(BEFORE, &layout), Thread::patterned(AFTER, &layout));
        let mut thread = before.clone();
        assert_eq!(as_found(&layout, &mut thread, &old, &new, &mut Log::of(&user)), KILLED);
        // Eight registers up to the bad granule.
        assert_eq!(thread.mask, after.mask);
        assert_eq!(thread.general[..32], after.general[..32]);
        assert_eq!(thread.general[32..], before.general[32..]);
        thread = before.clone();
        assert_eq!(fixed(&layout, &mut thread, &old, &new, &mut Log::of(&user)), EFAULT);
        assert_eq!(thread, before);
    }
}
