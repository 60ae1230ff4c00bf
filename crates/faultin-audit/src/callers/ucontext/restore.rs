//! Restoring a context, field by field, in the order of each architecture.

#![forbid(unsafe_code)]

use std::ops::Range;

use faultin::Short;
use faultin::memory::ReadMemory;

use super::layout::{Layout, value};
use super::thread::{Thread, VECTOR, VSX};
use crate::log::Log;

/// A context to restore from.
pub(super) trait Context {
    /// Reads a field as far as possible: the bytes before a fault arrive. A fault, or a place outside the user's memory,
    /// makes the context unusable.
    fn get(&self, what: &'static str, at: usize, into: &mut [u8], log: &mut Log) -> Result<(), Unusable>;

    /// Reads a word.
    fn word(&self, what: &'static str, at: Range<usize>, log: &mut Log) -> Result<u64, Unusable> {
        let mut bytes = vec![0; at.len()];
        self.get(what, at.start, &mut bytes, log)?;
        Ok(value(&bytes))
    }
}

/// The context cannot be restored from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unusable;

/// A context in user memory: each field may fault.
pub(super) struct InUserMemory<'a, M>(pub(super) &'a M);

impl<M: ReadMemory> Context for InUserMemory<'_, M> {
    fn get(&self, what: &'static str, at: usize, into: &mut [u8], log: &mut Log) -> Result<(), Unusable> {
        let read = self.0.read(into, at);
        log.copied(what, into.len(), &read);
        read.map_err(|_| Unusable)
    }
}

/// The kernel's own copy of a context: none of its fields can fault, or change.
pub(super) struct Copied(Vec<u8>);

impl Copied {
    /// Copies all of it, or fails.
    ///
    /// # Errors
    /// The short copy, if a byte cannot be loaded.
    pub(super) fn from(user: &impl ReadMemory, log: &mut Log) -> Result<Copied, Short> {
        let mut bytes = vec![0; user.len()];
        let copied = user.read(&mut bytes, 0);
        log.copied("copy the whole new context", user.len(), &copied);
        copied.map(|()| Copied(bytes))
    }
}

impl Context for Copied {
    fn get(&self, _: &'static str, at: usize, into: &mut [u8], _: &mut Log) -> Result<(), Unusable> {
        let field = self.0.get(at..).and_then(|rest| rest.get(..into.len())).ok_or(Unusable)?;
        into.copy_from_slice(field);
        Ok(())
    }
}

/// `do_setcontext` of ppc32: the mask and the pointer to the machine context; and from its target, the general registers
/// around MSR, MSR, the vector and the floating point registers. A `signal` that returns also restores the register of the
/// thread's own data.
pub(super) fn do_setcontext(
    from: &impl Context,
    layout: &Layout,
    thread: &mut Thread,
    signal: bool,
    log: &mut Log,
) -> Result<(), Unusable> {
    let mut mask = vec![0; layout.mask.len()];
    from.get("get the mask", layout.mask.start, &mut mask, log)?;
    let machine = from.word("get the pointer to the registers", layout.pointer.clone(), log)?;
    thread.mask = mask;
    let there = pointed(machine, layout.general.start, layout.size)?;

    let tls = thread.tls(layout);
    general_registers(from, layout, thread, &there, log)?;
    let msr = layout.msr();
    let msr = from.word("get MSR", there(msr.start)..there(msr.end), log)?;
    if !signal {
        thread.keep_tls(layout, &tls);
    }
    vector_registers(from, layout, thread, msr, &there, log)?;
    from.get("get the floating point registers", there(layout.floating.start), &mut thread.floating, log)
}

/// `restore_sigcontext` of ppc64: the general registers around MSR, MSR, the pointer to the vector registers, these, the
/// floating point registers, and the later halves.
pub(super) fn restore_sigcontext(
    from: &impl Context,
    layout: &Layout,
    thread: &mut Thread,
    log: &mut Log,
) -> Result<(), Unusable> {
    let tls = thread.tls(layout);
    general_registers(from, layout, thread, &|at| at, log)?;
    let msr = from.word("get MSR", layout.msr(), log)?;
    thread.keep_tls(layout, &tls);

    let vectors = from.word("get the pointer to the vector registers", layout.pointer.clone(), log)?;
    let there = pointed(vectors, layout.target, layout.size)?;
    vector_registers(from, layout, thread, msr, &there, log)?;
    from.get("get the floating point registers", layout.floating.start, &mut thread.floating, log)?;
    if msr & VSX == 0 {
        thread.vsx.fill(0);
        return Ok(());
    }
    from.get("get the halves that came later", there(layout.vsx.start), &mut thread.vsx, log)
}

fn general_registers(
    from: &impl Context,
    layout: &Layout,
    thread: &mut Thread,
    there: &impl Fn(usize) -> usize,
    log: &mut Log,
) -> Result<(), Unusable> {
    let [before, after] = layout.around_msr();
    for (what, part) in
        [("get the general registers in front of MSR", before), ("get the general registers behind MSR", after)]
    {
        let start = layout.general.start;
        let registers = &mut thread.general[part.start - start..part.end - start];
        from.get(what, there(part.start), registers, log)?;
    }
    Ok(())
}

fn vector_registers(
    from: &impl Context,
    layout: &Layout,
    thread: &mut Thread,
    msr: u64,
    there: &impl Fn(usize) -> usize,
    log: &mut Log,
) -> Result<(), Unusable> {
    if msr & VECTOR == 0 {
        thread.vector.fill(0);
        return Ok(());
    }
    from.get("get the vector registers", there(layout.vector.start), &mut thread.vector, log)
}

/// Returns the positions of the fields between `target` and `end` if a pointer points elsewhere. The context is unusable if
/// they would have no addresses there.
fn pointed(pointer: u64, target: usize, end: usize) -> Result<impl Fn(usize) -> usize, Unusable> {
    let pointer = usize::try_from(pointer).map_err(|_| Unusable)?;
    pointer.checked_add(end - target).ok_or(Unusable)?;
    Ok(move |at| at - target + pointer)
}

#[cfg(test)]
mod tests {
    use super::super::thread::{AFTER, BEFORE};
    use super::super::{Switch, check_old};
    use super::*;
    use crate::user::{Scale, SimUser, User};

    #[test]
    fn what_is_saved_restores_and_leaves_the_threads_own_data_alone() {
        for (layout, ppc64) in Layout::all().into_iter().zip([false, true, false, true]) {
            let scale = if layout.word == 2 { Scale::Small } else { Scale::Full };
            let old = Switch::Ppc32.memory::<SimUser>(&layout, scale).unwrap();
            let (before, after) = (Thread::patterned(BEFORE, &layout), Thread::patterned(AFTER, &layout));
            after.save(&layout, &old.dest().unwrap()).unwrap();
            assert_eq!(check_old(&old, &layout, &after, true).unwrap(), Ok(()));
            assert!(check_old(&old, &layout, &before, true).unwrap().is_err());
            assert!(check_old(&old, &layout, &after, false).unwrap().is_err());

            let (mut thread, mut log) = (before.clone(), Log::of(&old));
            let source = old.source().unwrap();
            let context = InUserMemory(&source);
            if ppc64 {
                context.get("mask", layout.mask.start, &mut thread.mask, &mut log).unwrap();
                restore_sigcontext(&context, &layout, &mut thread, &mut log).unwrap();
            } else {
                do_setcontext(&context, &layout, &mut thread, false, &mut log).unwrap();
            }
            assert_eq!(thread, before.switched(&layout, false));
            assert_ne!(thread, before.switched(&layout, true));
        }
    }

    #[test]
    fn vector_registers_that_a_context_does_not_use_are_cleared() {
        let layout = Layout::ppc64(Scale::Full);
        let mut bare = Thread::patterned(AFTER, &layout);
        bare.set_msr(&layout, 0);
        let (context, mut thread) = (Copied(bare.context(&layout)), Thread::patterned(BEFORE, &layout));
        let old = Switch::Ppc64.memory::<SimUser>(&layout, Scale::Full).unwrap();
        restore_sigcontext(&context, &layout, &mut thread, &mut Log::of(&old)).unwrap();
        assert!(thread.vector.iter().chain(&thread.vsx).all(|&byte| byte == 0));
        assert_eq!(thread.floating, bare.floating);
    }
}
