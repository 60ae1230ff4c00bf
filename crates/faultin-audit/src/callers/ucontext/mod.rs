//! Rows 2 to 4, three context switches of powerpc: a *context*, which is the registers, the signal mask and the alternate
//! stack of a thread, laid out in user memory, and its thread.
//!
//! The registers are restored in place, field by field. A fault half way leaves a thread that is neither of the two, and it
//! is killed (`SIGSEGV`). As found the whole new context is faulted in first, so that a bad address is `EFAULT` before any
//! register changes. That proves a byte of each page, and only for a moment; the restore has to handle a fault all the same,
//! and bad contents, which kill as before.
//!
//! Fixed, the fault-in is dropped, as the mail asks, and its purpose is achieved: the new context is copied to the kernel,
//! all of it or `EFAULT`, and restored from there, where nothing can fault. Bad contents still kill.
//!
//! The product is the registers that arrive, the old context as it was saved or not, and a new one that is only read. The old
//! context goes to separate memory without faults, from which the debug actions come, too.
//!
//! The layouts are those of the two architectures, and small ones in the same order. Where a context contains a pointer
//! into itself (ppc32 to its machine context, ppc64 to its vector registers), the user's addresses count from its first
//! byte.

#![forbid(unsafe_code)]

mod layout;
mod restore;
mod thread;

use std::io;

use faultin::memory::{ReadMemory, WriteMemory};

use crate::axes::Variant::{self, AsFound, Fixed};
use crate::caller::{Caller, Code, Ended, Halt, Need};
use crate::expect::Ends::With;
use crate::expect::{Expected, Moved};
use crate::helpers::fault_in_pages_readable;
use crate::log::Log;
use crate::scenario::Scenario::{AllResident, Evicted, FirstPageBad, InaccessibleTail, ReadOnly, RestartGranuleBad};
use crate::user::{Object, Registers, Scale, User};
use layout::{Layout, bytes_of, value};
use restore::{Context, Copied, InUserMemory, Unusable, do_setcontext, restore_sigcontext};
use thread::{AFTER, BEFORE, BRANCH, STEP, Thread, VSX};

/// Row 2: saves the thread's context, and restores another one. Fixed, the new context is copied after the old one is saved,
/// because they may be the same memory.
pub(super) const SWAPCONTEXT_PPC32: Caller = Caller {
    row: 2,
    name: "swapcontext",
    finding: "pointless: EFAULT now so as not to be killed later, which bad contents are anyway",
    expected: &expected(&SAYS),
    job: Some(&Switch::Ppc32),
    ..SWITCH
};

/// Row 3: restores a context as a signal's return does, with debugging turned on or off on the way. It saves none.
///
/// The order as found: all debug actions are read and checked; MSR has them from here on; the context is faulted in, or
/// `EFAULT`; it is restored; the alternate stack is set last, without a check of the result. So its `EFAULT` is not without
/// effect: the thread continues with its old registers and is debugged. Fixed, MSR, registers and stack change together,
/// after the copy.
pub(super) const DEBUG_SETCONTEXT: Caller = Caller {
    row: 3,
    name: "debug_setcontext",
    finding: "pointless, as swapcontext",
    expected: &expected(&Says {
        fine: "5.14 and 6.12: actions, MSR, fault-in, restore, alternate stack",
        loads: "5.14 and 6.12: the context is only read",
        courtesy: "5.14 and 6.12: EFAULT if the context cannot all be faulted in; MSR has its debug bits already",
        last_byte: "5.14: the helper touches the last byte, too; EFAULT, and MSR has its debug bits already",
        copy_only: "the mail: as swapcontext, drop the fault-in; here all of the context is one copy, MSR waits",
        no_race: "all of the context is in the kernel, or nothing has changed, MSR included",
    }),
    job: Some(&Switch::Debug),
    ..SWITCH
};

/// Row 4: as row 2, on 64 bits. Contexts come in two sizes, with and without the later halves of the vector registers, and a
/// word of the new one, its MSR, tells whether it has them. As found that word is loaded first of all, so that a fault there
/// is `EFAULT` before the old context is saved, and once more by the restore, when it may have changed. Fixed, the MSR that
/// is checked is the one that is used.
pub(super) const SWAPCONTEXT_PPC64: Caller = Caller {
    row: 4,
    name: "swapcontext",
    place: "ppc64",
    finding: "pointless, as on ppc32",
    expected: &{
        const MSR_FIRST: &str =
            "5.14 and 6.12: MSR is loaded before anything else; EFAULT, and no old context is saved";
        let [found, fixed] = expected(&Says {
            fine: "5.14 and 6.12: looks at MSR, saves, faults in, restores",
            copy_only: "the mail: as on ppc32, drop the fault-in; here all of the new context is one copy",
            ..SAYS
        });
        [found.at(FirstPageBad, MSR_FIRST), fixed]
    },
    job: Some(&Switch::Ppc64),
    ..SWITCH
};

/// What these rows have in common.
const SWITCH: Caller = Caller {
    place: "ppc32",
    need: Need::All,
    origins: [
        "caller from 5.14 (and 6.12), helper from 5.14 (fault_in_pages_readable)",
        "caller without the fault-in, as the mail asks, restoring from a copy; no helper",
    ],
    ..Caller::NOT_YET
};

const SWITCHED: &str = "ok";
const EFAULT: &str = "EFAULT";
const EINVAL: &str = "EINVAL";
const KILLED: &str = "SIGSEGV";

/// The sources of a row's expectations.
struct Says {
    fine: &'static str,
    loads: &'static str,
    courtesy: &'static str,
    last_byte: &'static str,
    copy_only: &'static str,
    no_race: &'static str,
}

/// Those of row 2.
const SAYS: Says = Says {
    fine: "5.14 and 6.12: saves, faults in, restores",
    loads: "5.14 and 6.12: the new context is only read",
    courtesy: "5.14 and 6.12: EFAULT if the new context cannot all be faulted in, before a register changes",
    last_byte: "5.14: the helper touches the last byte, too; EFAULT before a register changes",
    copy_only: "the mail: drop the fault-in, the copy must cope with a fault anyway; here all of it is one copy",
    no_race: "all of the new context is in the kernel, or no register has changed",
};

/// Returns the expectations of a row.
const fn expected(says: &Says) -> [Expected; 2] {
    const WAITS: &str = "5.14: the restore takes page faults like any other access";
    const HALF: &str =
        "5.14 and 6.12: a fault in the restore kills; the mail: touching a byte of each page proves no other";
    const RACE: &str = "5.14, its own comment: killed if another thread unmaps the context after the fault-in";
    let found =
        Expected::whole_or((With(SWITCHED, Moved::All), says.fine), (With(EFAULT, Moved::Nothing), says.courtesy))
            .races(&[SWITCHED, EFAULT, KILLED], RACE)
            .at(ReadOnly, says.loads)
            .at(Evicted, WAITS)
            .at(InaccessibleTail, says.last_byte)
            .but(RestartGranuleBad, With(KILLED, Moved::Nothing), HALF);
    let fixed = Expected::whole_or(
        (With(SWITCHED, Moved::All), says.copy_only),
        (With(EFAULT, Moved::Nothing), says.copy_only),
    )
    .races(&[SWITCHED, EFAULT], says.no_race)
    .at(ReadOnly, says.loads);
    [found, fixed]
}

/// The contents of memory to which no context has been saved.
const STALE: u8 = 0x77;

/// Kinds of debug actions, each followed by a word that turns it on or off.
const SINGLE_STEPPING: u64 = 1;
const BRANCH_TRACING: u64 = 2;
/// Single steps on, branches off: the reverse of the state before.
const ACTIONS: [[u64; 2]; 2] = [[SINGLE_STEPPING, 1], [BRANCH_TRACING, 0]];

/// One of the three switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    Ppc32,
    Debug,
    Ppc64,
}

/// The end of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    status: &'static str,
    /// Whether the old context was saved before.
    saved: bool,
    /// Whether the alternate stack could not be read, which is not reported.
    stack_kept: bool,
}

impl Way {
    const fn of(status: &'static str, saved: bool) -> Way {
        Way { status, saved, stack_kept: false }
    }
}

impl Switch {
    fn layout(self, scale: Scale) -> Layout {
        match self {
            Switch::Ppc32 | Switch::Debug => Layout::ppc32(scale),
            Switch::Ppc64 => Layout::ppc64(scale),
        }
    }

    /// Makes memory without faults: for the old context, or with the debug actions.
    fn memory<U: User>(self, layout: &Layout, scale: Scale) -> io::Result<U> {
        let bytes = match self {
            Switch::Debug => ACTIONS.as_flattened().iter().flat_map(|&word| bytes_of(word, layout.word)).collect(),
            Switch::Ppc32 | Switch::Ppc64 => vec![STALE; layout.size],
        };
        U::new(&Object::new(bytes, layout.word), AllResident, scale)
    }

    fn as_found(
        self,
        layout: &Layout,
        thread: &mut Thread,
        memory: &impl WriteMemory,
        new: &impl ReadMemory,
        log: &mut Log,
    ) -> Result<Way, Way> {
        let context = InUserMemory(new);
        if self == Switch::Ppc64 {
            match context.word("look at MSR", layout.msr(), log) {
                Err(Unusable) => return Err(Way::of(EFAULT, false)),
                Ok(msr) if !self.fits(layout, new.len(), msr) => return Err(Way::of(EINVAL, false)),
                Ok(_) => {}
            }
        }
        let (saved, msr) = self.begin(layout, thread, memory, new.len(), log)?;
        set_msr(layout, thread, msr, log);
        fault_in_pages_readable(new, log).map_err(|_| Way::of(EFAULT, saved))?;
        let status = self.restore(layout, thread, &context, log);
        let stack_kept = status == SWITCHED && self.stack(layout, thread, &context, log).is_err();
        Ok(Way { status, saved, stack_kept })
    }

    fn fixed(
        self,
        layout: &Layout,
        thread: &mut Thread,
        memory: &impl WriteMemory,
        new: &impl ReadMemory,
        log: &mut Log,
    ) -> Result<Way, Way> {
        let (saved, msr) = self.begin(layout, thread, memory, new.len(), log)?;
        let context = Copied::from(new, log).map_err(|_| Way::of(EFAULT, saved))?;
        set_msr(layout, thread, msr, log);
        if self == Switch::Ppc64 {
            let msr = context.word("look at MSR", layout.msr(), log);
            if !msr.is_ok_and(|msr| self.fits(layout, new.len(), msr)) {
                return Err(Way::of(EINVAL, saved));
            }
        }
        match self.restore(layout, thread, &context, log) {
            SWITCHED if self.stack(layout, thread, &context, log).is_err() => Err(Way::of(KILLED, saved)),
            status => Ok(Way::of(status, saved)),
        }
    }

    /// Returns whether a context of this size has everything that its MSR announces.
    fn fits(self, layout: &Layout, len: usize, msr: u64) -> bool {
        len >= layout.size || (self == Switch::Ppc64 && len >= layout.vsx.start && msr & VSX == 0)
    }

    /// Saves the old context, or reads the debug actions: returns whether it was saved, and MSR if it is to be set.
    fn begin(
        self,
        layout: &Layout,
        thread: &Thread,
        memory: &impl WriteMemory,
        len: usize,
        log: &mut Log,
    ) -> Result<(bool, Option<u64>), Way> {
        if self == Switch::Debug {
            let msr = debug_actions(layout, thread, &memory.as_read(), log);
            return msr.map(|msr| (false, Some(msr))).map_err(|status| Way::of(status, false));
        }
        if !self.fits(layout, len, 0) {
            log.decide("the context is too small");
            return Err(Way::of(EINVAL, false));
        }
        let saved = thread.save(layout, memory);
        log.copied("save the old context", layout.size, &saved);
        saved.map(|()| (true, None)).map_err(|_| Way::of(EFAULT, true))
    }

    /// Restores a context; one that is unusable half way kills: logs how much of the thread is the new context's.
    fn restore(self, layout: &Layout, thread: &mut Thread, from: &impl Context, log: &mut Log) -> &'static str {
        let before = thread.clone();
        let restored = match self {
            Switch::Ppc32 => do_setcontext(from, layout, thread, false, log),
            Switch::Debug => do_setcontext(from, layout, thread, true, log),
            Switch::Ppc64 => from
                .get("get the mask", layout.mask.start, &mut thread.mask, log)
                .and_then(|()| restore_sigcontext(from, layout, thread, log)),
        };
        if restored.is_ok() {
            return SWITCHED;
        }
        let registers = thread.general.chunks(layout.word).zip(before.general.chunks(layout.word));
        let changed = registers.filter(|(now, before)| now != before).count();
        log.decide(format!("killed; {changed} general registers are the new context's"));
        KILLED
    }

    /// Restores the alternate stack, where a switch does.
    fn stack(self, layout: &Layout, thread: &mut Thread, from: &impl Context, log: &mut Log) -> Result<(), Unusable> {
        if self == Switch::Debug {
            let mut stack = vec![0; layout.stack.len()];
            from.get("get the alternate stack", layout.stack.start, &mut stack, log)?;
            thread.stack = stack;
        }
        Ok(())
    }
}

fn set_msr(layout: &Layout, thread: &mut Thread, msr: Option<u64>, log: &mut Log) {
    if let Some(msr) = msr {
        thread.set_msr(layout, msr);
        log.decide("set MSR");
    }
}

/// Computes MSR after the debug actions.
fn debug_actions(
    layout: &Layout,
    thread: &Thread,
    actions: &impl ReadMemory,
    log: &mut Log,
) -> Result<u64, &'static str> {
    let mut msr = thread.msr(layout);
    for at in (0..actions.len()).step_by(2 * layout.word) {
        let mut action = vec![0; 2 * layout.word];
        let read = actions.read(&mut action, at);
        log.copied("get a debug action", action.len(), &read);
        read.map_err(|_| EFAULT)?;
        let (kind, on) = action.split_at(layout.word);
        let bit = match value(kind) {
            SINGLE_STEPPING => STEP,
            BRANCH_TRACING => BRANCH,
            _ => return Err(EINVAL),
        };
        msr = if value(on) == 0 { msr & !bit } else { msr | bit };
    }
    Ok(msr)
}

impl Code for Switch {
    /// Divided between two general registers, MSR of ppc64 on the first page. Switches never start over; the single bad
    /// granule is among the general registers, where neither the helper nor the check of MSR touches anything.
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        let layout = self.layout(scale);
        let context = Thread::patterned(AFTER, &layout).context(&layout);
        match (scale, self) {
            (Scale::Full, Switch::Ppc64) => Object::new(context, 512).with_tail(1600).with_restart(304),
            (Scale::Full, _) => Object::new(context, 256).with_tail(1120).with_restart(224),
            (Scale::Small, _) => Object::new(context, 8).with_tail(12).with_restart(8),
        }
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let layout = self.layout(user.scale());
        let memory = self.memory::<U>(&layout, user.scale())?;
        let before = Thread::patterned(BEFORE, &layout);
        let (mut thread, aside, new) = (before.clone(), memory.dest()?, user.source()?);
        let way = match variant {
            AsFound => self.as_found(&layout, &mut thread, &aside, &new, log),
            Fixed => self.fixed(&layout, &mut thread, &aside, &new, log),
        };
        let (Ok(way) | Err(way)) = way;
        let (untouched, switched) = self.threads(&layout, &before, variant, way);
        let product = check(user, &layout, way.status, &thread, [&untouched, &switched])?;
        let saved = match self {
            Switch::Debug => Ok(()),
            Switch::Ppc32 | Switch::Ppc64 => check_old(&memory, &layout, &before, way.saved)?,
        };
        let moved = if way.status == SWITCHED { layout.size } else { 0 };
        Ok(Ended { status: way.status, moved, product: product.and(saved) })
    }
}

impl Switch {
    /// Returns the thread after an error, and the one after a switch.
    fn threads(self, layout: &Layout, before: &Thread, variant: Variant, way: Way) -> (Thread, Thread) {
        if self != Switch::Debug {
            return (before.clone(), before.switched(layout, false));
        }
        let mut debugged = before.clone();
        debugged.set_msr(layout, before.msr(layout) & !BRANCH | STEP);
        let mut switched = debugged.switched(layout, true);
        if !way.stack_kept {
            switched.stack = Thread::patterned(AFTER, layout).stack;
        }
        let is_debugged = variant == AsFound && way.status == EFAULT;
        (if is_debugged { debugged } else { before.clone() }, switched)
    }
}

/// Checks that the old context is there, or, if it was not `saved`, nothing is.
fn check_old<U: User>(old: &U, layout: &Layout, before: &Thread, saved: bool) -> io::Result<Result<(), String>> {
    let expected = if saved { before.saved(layout, STALE) } else { vec![STALE; layout.size] };
    Ok(match (old.contents()? == expected, old.surroundings_intact()?) {
        (true, true) => Ok(()),
        (false, _) if saved => Err("the old context is not what was saved".into()),
        (false, _) => Err("an old context was saved".into()),
        (true, false) => Err("bytes around the old context changed".into()),
    })
}

/// Checks which thread there is, and that the new context is unchanged.
fn check<U: User>(
    user: &U,
    layout: &Layout,
    status: &'static str,
    thread: &Thread,
    [untouched, switched]: [&Thread; 2],
) -> io::Result<Result<(), String>> {
    Ok(if user.contents()? != Thread::patterned(AFTER, layout).context(layout) {
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario::{self, SecondPageBad};
    use crate::user::SimUser;

    fn object(switch: Switch) -> Object {
        Code::object::<<SimUser as User>::Registers>(&switch, Scale::Full)
    }

    /// Switches in a scenario, with this memory aside: returns the thread after it.
    fn switched(switch: Switch, variant: Variant, scenario: Scenario, aside: &SimUser) -> (Thread, Way) {
        let layout = switch.layout(Scale::Full);
        let user = SimUser::new(&object(switch), scenario, Scale::Full).unwrap();
        let (mut thread, mut log) = (Thread::patterned(BEFORE, &layout), Log::of(&user));
        let (memory, new) = (aside.dest().unwrap(), user.source().unwrap());
        let way = match variant {
            AsFound => switch.as_found(&layout, &mut thread, &memory, &new, &mut log),
            Fixed => switch.fixed(&layout, &mut thread, &memory, &new, &mut log),
        };
        let (Ok(way) | Err(way)) = way;
        (thread, way)
    }

    fn actions(words: &[u64]) -> SimUser {
        let bytes = words.iter().flat_map(|&word| bytes_of(word, 4)).collect();
        SimUser::new(&Object::new(bytes, 4), AllResident, Scale::Full).unwrap()
    }

    #[test]
    fn bad_contents_kill_and_a_size_that_belies_them_is_refused_whatever_was_faulted_in() {
        for switch in [Switch::Ppc32, Switch::Ppc64] {
            let layout = switch.layout(Scale::Full);
            let (mut astray, mut small) = (object(switch), object(switch));
            // The registers would be where the user has no memory.
            astray.bytes[layout.pointer.clone()].fill(0xf0);
            small.bytes.truncate(if switch == Switch::Ppc64 { layout.vsx.start } else { layout.size - 1 });
            for variant in Variant::ALL {
                for (object, expected) in [(&astray, KILLED), (&small, EINVAL)] {
                    let user = SimUser::new(object, AllResident, Scale::Full).unwrap();
                    let ended = switch.run(variant, &user, &mut Log::of(&user)).unwrap();
                    assert_eq!((ended.status, ended.moved), (expected, 0), "{switch:?} {variant:?}");
                }
            }
        }
    }

    #[test]
    fn the_thread_that_is_killed_is_neither_of_the_two() {
        let layout = Layout::ppc32(Scale::Full);
        let old = Switch::Ppc32.memory::<SimUser>(&layout, Scale::Full).unwrap();
        let (before, after) = (Thread::patterned(BEFORE, &layout), Thread::patterned(AFTER, &layout));
        let (thread, way) = switched(Switch::Ppc32, AsFound, RestartGranuleBad, &old);
        assert_eq!(way.status, KILLED);
        // Eight registers up to the bad granule.
        assert_eq!(thread.mask, after.mask);
        assert_eq!(thread.general[..32], after.general[..32]);
        assert_eq!(thread.general[32..], before.general[32..]);
        let (thread, way) = switched(Switch::Ppc32, Fixed, RestartGranuleBad, &old);
        assert_eq!((way.status, thread), (EFAULT, before));
    }

    #[test]
    fn the_old_context_is_saved_unless_msr_cannot_be_read() {
        let layout = Layout::ppc64(Scale::Full);
        for (scenario, saved) in [(FirstPageBad, false), (SecondPageBad, true)] {
            let old = Switch::Ppc64.memory::<SimUser>(&layout, Scale::Full).unwrap();
            let (thread, way) = switched(Switch::Ppc64, AsFound, scenario, &old);
            assert_eq!((way.status, way.saved), (EFAULT, saved));
            assert_eq!(check_old(&old, &layout, &thread, saved).unwrap(), Ok(()));
        }
    }

    #[test]
    fn only_as_found_does_an_error_leave_the_debug_bits_behind() {
        let layout = Layout::ppc32(Scale::Full);
        let before = Thread::patterned(BEFORE, &layout);
        let [(found, first), (fixed, second)] =
            Variant::ALL.map(|variant| switched(Switch::Debug, variant, FirstPageBad, &actions(&[SINGLE_STEPPING, 1])));
        assert_eq!((first.status, second.status), (EFAULT, EFAULT));
        assert_eq!((found.msr(&layout), fixed), (before.msr(&layout) | STEP, before));
    }

    #[test]
    fn an_action_that_nobody_knows_changes_nothing() {
        let before = Thread::patterned(BEFORE, &Layout::ppc32(Scale::Full));
        for variant in Variant::ALL {
            let (thread, way) = switched(Switch::Debug, variant, AllResident, &actions(&[SINGLE_STEPPING, 1, 9, 1]));
            assert_eq!((way.status, &thread), (EINVAL, &before), "{variant:?}");
        }
    }

    #[test]
    fn the_check_sees_a_wrong_register_and_one_that_changed_for_nothing() {
        let layout = Layout::ppc32(Scale::Full);
        let before = Thread::patterned(BEFORE, &layout);
        let switched = before.switched(&layout, false);
        let user = SimUser::new(&object(Switch::Ppc32), AllResident, Scale::Full).unwrap();
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
            let product = check(&user, &layout, status, thread, [&before, &switched]).unwrap();
            assert_eq!(product.is_ok(), right, "{status}: {product:?}");
        }
        user.dest().unwrap().write(&[0], 300).unwrap();
        assert!(check(&user, &layout, KILLED, &half, [&before, &switched]).unwrap().is_err());
    }
}
