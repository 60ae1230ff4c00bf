//! Row 4, `swapcontext` (64-bit powerpc): saves the thread's context to user memory and restores another one.
//!
//! Contexts come in two sizes, with and without the later halves of the vector registers, and a word of the new one, its
//! MSR, tells whether it has them. As found that word is loaded first of all, so that a fault there is `EFAULT` before the
//! old context is saved. Then the old context is saved, the whole new one faulted in (`EFAULT`, so as not to be killed
//! later), and restored in place: mask, general registers, vector registers by way of a pointer, floating point registers.
//! A fault there kills (`SIGSEGV`); so do bad contents. The fault-in is pointless, as on 32 bits. MSR is loaded once more,
//! and may have changed by then.
//!
//! Fixed, the new context is copied to the kernel once, after the old one is saved, all of it or `EFAULT`. The MSR that is
//! checked is the one that is used.
//!
//! The product is the registers that arrive, the old context, saved or not, and a new one that is only read. The old
//! context goes to separate memory without faults.

#![forbid(unsafe_code)]

use faultin::memory::{ReadMemory, WriteMemory};

use super::Variant::{AsFound, Fixed};
use super::ucontext::{
    self, AFTER, BEFORE, Context, Copied, EFAULT, EINVAL, InUserMemory, KILLED, Layout, SWITCHED, Thread, Unusable,
    VSX, restore_sigcontext,
};
use super::{Caller, Code, Ended, Halt, Need, Variant};
use crate::expect::Ends::{OneOf, With};
use crate::expect::{Expectation, Moved, expect};
use crate::helpers::fault_in_pages_readable;
use crate::log::Log;
use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 4,
    name: "swapcontext",
    place: "ppc64",
    need: Need::All,
    finding: "pointless, as on ppc32",
    job: Some(&SwapcontextPpc64),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct SwapcontextPpc64;

/// The status of a switch, and whether the old context was saved before.
type Way = (&'static str, bool);

fn as_found(layout: &Layout, thread: &mut Thread, old: &impl WriteMemory, new: &impl ReadMemory, log: &mut Log) -> Way {
    let context = InUserMemory(new);
    match context.word("look at MSR", layout.msr(), log) {
        Err(Unusable) => return (EFAULT, false),
        Ok(msr) if !fits(layout, new.len(), msr) => return (EINVAL, false),
        Ok(_) => {}
    }
    if !save(layout, thread, old, log) {
        return (EFAULT, true);
    }
    if fault_in_pages_readable(new, log).is_err() {
        return (EFAULT, true);
    }
    (restore(layout, thread, &context, log), true)
}

fn fixed(layout: &Layout, thread: &mut Thread, old: &impl WriteMemory, new: &impl ReadMemory, log: &mut Log) -> Way {
    if !fits(layout, new.len(), 0) {
        return (EINVAL, false);
    }
    if !save(layout, thread, old, log) {
        return (EFAULT, true);
    }
    let Ok(context) = Copied::from(new, log) else { return (EFAULT, true) };
    match context.word("look at MSR", layout.msr(), log) {
        Ok(msr) if fits(layout, new.len(), msr) => (restore(layout, thread, &context, log), true),
        _ => (EINVAL, true),
    }
}

/// Returns whether a context of this size has everything that its MSR announces.
fn fits(layout: &Layout, len: usize, msr: u64) -> bool {
    len >= layout.size || (len >= layout.vsx.start && msr & VSX == 0)
}

fn save(layout: &Layout, thread: &Thread, old: &impl WriteMemory, log: &mut Log) -> bool {
    let saved = layout.save(old, thread);
    log.copied("save the old context", layout.size, &saved);
    saved.is_ok()
}

fn restore(layout: &Layout, thread: &mut Thread, from: &impl Context, log: &mut Log) -> &'static str {
    ucontext::switch(layout, thread, log, |thread, log| {
        from.get("get the mask", layout.mask.start, &mut thread.mask, log)?;
        restore_sigcontext(from, layout, thread, log)
    })
}

impl Code for SwapcontextPpc64 {
    /// Divided between two general registers, MSR on the first page. It never starts over; the single bad granule is among
    /// the general registers, where neither the helper nor the check of MSR touches anything.
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        let layout = Layout::ppc64(scale);
        let context = layout.context(&Thread::patterned(AFTER, &layout));
        match scale {
            Scale::Full => Object::new(context, 512).with_tail(1600).with_restart(304),
            Scale::Small => Object::new(context, 8).with_tail(12).with_restart(8),
        }
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let layout = Layout::ppc64(user.scale());
        let old = ucontext::memory_for_old::<U>(&layout, user.scale())?;
        let before = Thread::patterned(BEFORE, &layout);
        let (mut thread, saved_to, new) = (before.clone(), old.dest()?, user.source()?);
        let (status, saved) = match variant {
            AsFound => as_found(&layout, &mut thread, &saved_to, &new, log),
            Fixed => fixed(&layout, &mut thread, &saved_to, &new, log),
        };
        let switched = before.switched(&layout, false);
        let end = ucontext::ended(user, &layout, status, &thread, [&before, &switched])?;
        let old = ucontext::check_old(&old, &layout, &before, saved)?;
        Ok(Ended { product: end.product.and(old), ..end })
    }

    fn origin(&self, variant: Variant) -> &'static str {
        ucontext::origin(variant)
    }

    fn expectations(&self) -> &'static [Expectation] {
        &EXPECTED
    }
}

const FINE: &str = "5.14 and 6.12: looks at MSR, saves, faults in, restores";
const LOADS: &str = "5.14 and 6.12: the new context is only read";
const WAITS: &str = "5.14: the restore takes page faults like any other access";
const MSR_FIRST: &str = "5.14 and 6.12: MSR is loaded before anything else; EFAULT, and no old context is saved";
const COURTESY: &str = "5.14 and 6.12: EFAULT if the new context cannot all be faulted in, before a register changes";
const LAST_BYTE: &str = "5.14: the helper touches the last byte, too; EFAULT before a register changes";
const HALF: &str =
    "5.14 and 6.12: a fault in the restore kills; the mail: touching a byte of each page proves no other";
const COPY_ONLY: &str = "the mail: as on ppc32, drop the fault-in; here all of the new context is one copy";
const RACE: &str = "5.14, its own comment: killed if another thread unmaps the context after the fault-in";
const NO_RACE: &str = "all of the new context is in the kernel, or no register has changed";

const EXPECTED: [Expectation; 20] = [
    expect(AsFound, AllResident, With(SWITCHED, Moved::All), FINE),
    expect(AsFound, Cold, With(SWITCHED, Moved::All), FINE),
    expect(AsFound, FirstPageBad, With(EFAULT, Moved::Nothing), MSR_FIRST),
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
    use super::*;
    use crate::user::SimUser;

    #[test]
    fn bad_contents_kill_and_a_size_that_belies_msr_is_refused() {
        let layout = Layout::ppc64(Scale::Full);
        let good = Code::object::<<SimUser as User>::Registers>(&SwapcontextPpc64, Scale::Full);
        let (mut astray, mut cut) = (good.clone(), good);
        // The vector registers would be where the user has no memory.
        astray.bytes[layout.pointer.clone()].fill(0xf0);
        cut.bytes.truncate(layout.vsx.start);
        for variant in Variant::ALL {
            for (object, expected) in [(&astray, KILLED), (&cut, EINVAL)] {
                let user = SimUser::new(object, AllResident, Scale::Full).unwrap();
                let ended = SwapcontextPpc64.run(variant, &user, &mut Log::of(&user)).unwrap();
                assert_eq!((ended.status, ended.moved), (expected, 0), "{variant:?}");
            }
        }
    }

    #[test]
    fn the_old_context_is_saved_unless_msr_cannot_be_read() {
        let layout = Layout::ppc64(Scale::Full);
        let object = Code::object::<<SimUser as User>::Registers>(&SwapcontextPpc64, Scale::Full);
        for (scenario, saved) in [(FirstPageBad, false), (SecondPageBad, true)] {
            let user = SimUser::new(&object, scenario, Scale::Full).unwrap();
            let old = ucontext::memory_for_old::<SimUser>(&layout, Scale::Full).unwrap();
            let (mut thread, new) = (Thread::patterned(BEFORE, &layout), user.source().unwrap());
            let way = as_found(&layout, &mut thread, &old.dest().unwrap(), &new, &mut Log::of(&user));
            assert_eq!(way, (EFAULT, saved));
            assert_eq!(ucontext::check_old(&old, &layout, &thread, saved).unwrap(), Ok(()));
        }
    }
}
