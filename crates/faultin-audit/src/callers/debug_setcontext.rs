//! Row 3, `debug_setcontext` (32-bit powerpc): restores a context as a signal's return does, with debugging turned on or
//! off on the way. It saves none.
//!
//! The order as found: all debug actions are read and checked; MSR has them from here on; the context is faulted in, or
//! `EFAULT`; it is restored in place, where a fault kills (`SIGSEGV`); the alternate stack is set last, without a check of
//! the result. So its `EFAULT` is not without effect: the thread continues with its old registers and is debugged. The
//! fault-in is as pointless as in `swapcontext`.
//!
//! Fixed, the actions are checked, the whole context is copied to the kernel or `EFAULT`, and nothing can fault from here
//! on: MSR, registers and stack change together. Bad contents still kill.
//!
//! The product is the registers that arrive, MSR and the alternate stack among them, and a context that is only read. The
//! debug actions are in separate memory without faults.

#![forbid(unsafe_code)]

use faultin::memory::ReadMemory;

use super::Variant::{AsFound, Fixed};
use super::ucontext::{
    self, AFTER, BEFORE, BRANCH, Context, Copied, EFAULT, EINVAL, InUserMemory, KILLED, Layout, STEP, SWITCHED, Thread,
    do_setcontext, value,
};
use super::{Caller, Code, Ended, Halt, Need, Variant};
use crate::expect::Ends::{OneOf, With};
use crate::expect::{Expectation, Moved, expect};
use crate::helpers::fault_in_pages_readable;
use crate::log::Log;
use crate::scenario::Scenario;
use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 3,
    name: "debug_setcontext",
    place: "ppc32",
    need: Need::All,
    finding: "pointless, as swapcontext",
    job: Some(&DebugSetcontext),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct DebugSetcontext;

/// Kinds of debug actions, each followed by a word that turns it on or off.
const SINGLE_STEPPING: u64 = 1;
const BRANCH_TRACING: u64 = 2;
/// Single steps on, branches off: the reverse of the state before.
const ACTIONS: [[u64; 2]; 2] = [[SINGLE_STEPPING, 1], [BRANCH_TRACING, 0]];

/// The result for the alternate stack of a thread that was switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stack {
    /// It is the context's.
    Set,
    /// It could not be read, which is not reported.
    Kept,
}

fn as_found(
    layout: &Layout,
    thread: &mut Thread,
    actions: &impl ReadMemory,
    context: &impl ReadMemory,
    log: &mut Log,
) -> (&'static str, Stack) {
    let msr = match debug_actions(layout, thread, actions, log) {
        Ok(msr) => msr,
        Err(status) => return (status, Stack::Set),
    };
    thread.set_msr(layout, msr);
    log.decide("set MSR");
    if fault_in_pages_readable(context, log).is_err() {
        return (EFAULT, Stack::Set);
    }
    let context = InUserMemory(context);
    let status = restore(layout, thread, &context, log);
    if status == SWITCHED {
        let mut stack = vec![0; layout.stack.len()];
        if context.get("get the alternate stack", layout.stack.start, &mut stack, log).is_err() {
            return (SWITCHED, Stack::Kept);
        }
        thread.stack = stack;
    }
    (status, Stack::Set)
}

fn fixed(
    layout: &Layout,
    thread: &mut Thread,
    actions: &impl ReadMemory,
    context: &impl ReadMemory,
    log: &mut Log,
) -> &'static str {
    let msr = match debug_actions(layout, thread, actions, log) {
        Ok(msr) => msr,
        Err(status) => return status,
    };
    let Ok(context) = Copied::from(context, log) else { return EFAULT };
    thread.set_msr(layout, msr);
    log.decide("set MSR");
    match restore(layout, thread, &context, log) {
        SWITCHED if context.get("get the alternate stack", layout.stack.start, &mut thread.stack, log).is_ok() => {
            SWITCHED
        }
        _ => KILLED,
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

fn restore(layout: &Layout, thread: &mut Thread, from: &impl Context, log: &mut Log) -> &'static str {
    ucontext::switch(layout, thread, log, |thread, log| do_setcontext(from, layout, thread, true, log))
}

impl Code for DebugSetcontext {
    /// As the object of `swapcontext`.
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        ucontext::object_ppc32(scale)
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let layout = Layout::ppc32(user.scale());
        let actions = ACTIONS.as_flattened().iter().flat_map(|&word| ucontext::bytes_of(word, layout.word)).collect();
        let actions = U::new(&Object::new(actions, layout.word), Scenario::AllResident, user.scale())?;
        let before = Thread::patterned(BEFORE, &layout);
        let (mut thread, from, context) = (before.clone(), actions.source()?, user.source()?);
        let (status, stack) = match variant {
            AsFound => as_found(&layout, &mut thread, &from, &context, log),
            Fixed => (fixed(&layout, &mut thread, &from, &context, log), Stack::Set),
        };
        let mut debugged = before.clone();
        debugged.set_msr(&layout, before.msr(&layout) & !BRANCH | STEP);
        let mut switched = debugged.switched(&layout, true);
        if stack == Stack::Set {
            switched.stack = Thread::patterned(AFTER, &layout).stack;
        }
        let untouched = if variant == AsFound && status == EFAULT { &debugged } else { &before };
        Ok(ucontext::ended(user, &layout, status, &thread, [untouched, &switched])?)
    }

    fn origin(&self, variant: Variant) -> &'static str {
        ucontext::origin(variant)
    }

    fn expectations(&self) -> &'static [Expectation] {
        &EXPECTED
    }
}

const FINE: &str = "5.14 and 6.12: actions, MSR, fault-in, restore, alternate stack";
const LOADS: &str = "5.14 and 6.12: the context is only read";
const WAITS: &str = "5.14: the restore takes page faults like any other access";
const COURTESY: &str = "5.14 and 6.12: EFAULT if the context cannot all be faulted in; MSR has its debug bits already";
const LAST_BYTE: &str = "5.14: the helper touches the last byte, too; EFAULT, and MSR has its debug bits already";
const HALF: &str =
    "5.14 and 6.12: a fault in the restore kills; the mail: touching a byte of each page proves no other";
const COPY_ONLY: &str = "the mail: as swapcontext, drop the fault-in; here all of the context is one copy, MSR waits";
const RACE: &str = "5.14, its own comment: killed if another thread unmaps the context after the fault-in";
const NO_RACE: &str = "all of the context is in the kernel, or nothing has changed, MSR included";

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
    use super::*;
    use crate::user::SimUser;

    #[test]
    fn only_as_found_does_an_error_leave_the_debug_bits_behind() {
        let layout = Layout::ppc32(Scale::Full);
        let object = Code::object::<<SimUser as User>::Registers>(&DebugSetcontext, Scale::Full);
        let user = SimUser::new(&object, FirstPageBad, Scale::Full).unwrap();
        let words: Vec<u8> =
            [SINGLE_STEPPING, 1].iter().flat_map(|&word| ucontext::bytes_of(word, layout.word)).collect();
        let actions = SimUser::new(&Object::new(words, 4), AllResident, Scale::Full).unwrap();
        let (actions, context) = (actions.source().unwrap(), user.source().unwrap());
        let before = Thread::patterned(BEFORE, &layout);
        let (mut found, mut mended) = (before.clone(), before.clone());
        assert_eq!(as_found(&layout, &mut found, &actions, &context, &mut Log::of(&user)).0, EFAULT);
        assert_eq!(fixed(&layout, &mut mended, &actions, &context, &mut Log::of(&user)), EFAULT);
        assert_eq!((found.msr(&layout), mended), (before.msr(&layout) | STEP, before));
    }

    #[test]
    fn an_action_that_nobody_knows_changes_nothing() {
        let layout = Layout::ppc32(Scale::Full);
        let object = Code::object::<<SimUser as User>::Registers>(&DebugSetcontext, Scale::Full);
        let user = SimUser::new(&object, AllResident, Scale::Full).unwrap();
        let words: Vec<u8> =
            [SINGLE_STEPPING, 1, 9, 1].iter().flat_map(|&word| ucontext::bytes_of(word, layout.word)).collect();
        let actions = SimUser::new(&Object::new(words, 4), AllResident, Scale::Full).unwrap();
        let (actions, context) = (actions.source().unwrap(), user.source().unwrap());
        let before = Thread::patterned(BEFORE, &layout);
        let mut thread = before.clone();
        assert_eq!(as_found(&layout, &mut thread, &actions, &context, &mut Log::of(&user)).0, EINVAL);
        assert_eq!(fixed(&layout, &mut thread, &actions, &context, &mut Log::of(&user)), EINVAL);
        assert_eq!(thread, before);
    }
}
