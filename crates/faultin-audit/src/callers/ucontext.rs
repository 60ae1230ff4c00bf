//! What the three context switches share: a *context*, which is the registers, the signal mask and the alternate stack of a
//! thread, laid out in user memory, and the thread that it comes from or goes to.
//!
//! The layouts are those of the two architectures, and small ones in the same order. Where a context holds a pointer into
//! itself (ppc32 to its machine context, ppc64 to its vector registers), the user's addresses count from its first byte.

#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;

use faultin::Short;
use faultin::memory::{ReadMemory, WriteMemory};

use super::Ended;
use crate::log::Log;
use crate::scenario::Scenario;
use crate::user::{Object, Scale, User};

pub(super) const SWITCHED: &str = "ok";
pub(super) const EFAULT: &str = "EFAULT";
pub(super) const EINVAL: &str = "EINVAL";
pub(super) const KILLED: &str = "SIGSEGV";

/// Bits of MSR, the machine state register. They are where even the smallest layout's word has them.
pub(super) const VECTOR: u64 = 1 << 4;
pub(super) const VSX: u64 = 1 << 5;
pub(super) const BRANCH: u64 = 1 << 9;
pub(super) const STEP: u64 = 1 << 10;

/// Seeds: the thread as it is before, and as the new context has it.
pub(super) const BEFORE: u8 = 0x21;
pub(super) const AFTER: u8 = 0x96;
/// What is in a context between its fields,
const PADDING: u8 = 0x11;
/// and in memory that no context has been saved to.
const STALE: u8 = 0x77;

/// Where the fields of a context are.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Bytes in a general register.
    pub(super) word: usize,
    /// The alternate signal stack.
    pub(super) stack: Range<usize>,
    /// Blocked signals.
    pub(super) mask: Range<usize>,
    /// A pointer to `target`.
    pub(super) pointer: Range<usize>,
    /// Where it points in a context that was saved.
    pub(super) target: usize,
    /// General registers, MSR among them.
    pub(super) general: Range<usize>,
    /// Floating point registers.
    pub(super) floating: Range<usize>,
    /// Vector registers.
    pub(super) vector: Range<usize>,
    /// Halves of vector registers that came later, at the end. Empty on ppc32.
    pub(super) vsx: Range<usize>,
    /// Bytes.
    pub(super) size: usize,
    /// Number of MSR among the general registers,
    msr: usize,
    /// and of the one that points to the thread's own data.
    tls: usize,
}

impl Layout {
    /// `struct ucontext` of ppc32: flags, link, stack, pointer to the machine context, mask; and then that: general,
    /// floating point, vector registers.
    pub(super) fn ppc32(scale: Scale) -> Layout {
        match scale {
            Scale::Full => Layout {
                word: 4,
                stack: 8..20,
                mask: 52..60,
                pointer: 48..52,
                target: 192,
                general: 192..384,
                floating: 384..648,
                vector: 656..1184,
                vsx: 1184..1184,
                size: 1184,
                msr: 33,
                tls: 2,
            },
            Scale::Small => Layout {
                word: 2,
                stack: 0..2,
                mask: 4..6,
                pointer: 2..4,
                target: 6,
                general: 6..12,
                floating: 12..14,
                vector: 14..16,
                vsx: 16..16,
                size: 16,
                msr: 2,
                tls: 1,
            },
        }
    }

    /// `struct ucontext` of ppc64: flags, link, stack, mask; general, floating point registers, pointer to the vector
    /// registers, these.
    pub(super) fn ppc64(scale: Scale) -> Layout {
        match scale {
            Scale::Full => Layout {
                word: 8,
                stack: 16..40,
                mask: 40..48,
                pointer: 880..888,
                target: 896,
                general: 232..616,
                floating: 616..880,
                vector: 896..1440,
                vsx: 1440..1696,
                size: 1696,
                msr: 33,
                tls: 13,
            },
            Scale::Small => Layout {
                word: 2,
                stack: 0..0,
                mask: 0..2,
                pointer: 12..14,
                target: 14,
                general: 2..10,
                floating: 10..12,
                vector: 14..15,
                vsx: 15..16,
                size: 16,
                msr: 2,
                tls: 1,
            },
        }
    }

    /// General register number `index` in the context.
    pub(super) fn register(&self, index: usize) -> Range<usize> {
        let start = self.general.start + index * self.word;
        start..start + self.word
    }

    /// MSR in the context.
    pub(super) fn msr(&self) -> Range<usize> {
        self.register(self.msr)
    }

    /// The general registers in front of MSR, and behind it.
    fn around_msr(&self) -> [Range<usize>; 2] {
        [self.general.start..self.msr().start, self.msr().end..self.general.end]
    }

    /// Saves `thread` to `to`, of which the end may be missing that came later.
    ///
    /// # Errors
    /// The short copy.
    pub(super) fn save(&self, to: &impl WriteMemory, thread: &Thread) -> Result<(), Short> {
        to.write(self.general.start, &thread.general)?;
        to.write(self.floating.start, &thread.floating)?;
        to.write(self.vector.start, &thread.vector)?;
        if to.len() >= self.size {
            to.write(self.vsx.start, &thread.vsx)?;
        }
        to.write(self.mask.start, &thread.mask)?;
        to.write(self.pointer.start, &self.target_pointer())
    }

    /// The context that `thread` would come from.
    pub(super) fn context(&self, thread: &Thread) -> Vec<u8> {
        let mut bytes = self.saved(thread, PADDING);
        bytes[self.stack.clone()].copy_from_slice(&thread.stack);
        bytes
    }

    /// What [`save`](Self::save) leaves in memory full of `background`.
    fn saved(&self, thread: &Thread, background: u8) -> Vec<u8> {
        let mut bytes = vec![background; self.size];
        for (range, field) in [
            (&self.general, &thread.general),
            (&self.floating, &thread.floating),
            (&self.vector, &thread.vector),
            (&self.vsx, &thread.vsx),
            (&self.mask, &thread.mask),
            (&self.pointer, &self.target_pointer()),
        ] {
            bytes[range.clone()].copy_from_slice(field);
        }
        bytes
    }

    fn target_pointer(&self) -> Vec<u8> {
        bytes_of(self.target as u64, self.pointer.len())
    }
}

/// A thread as its registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    pub(super) general: Vec<u8>,
    pub(super) floating: Vec<u8>,
    pub(super) vector: Vec<u8>,
    pub(super) vsx: Vec<u8>,
    pub(super) mask: Vec<u8>,
    pub(super) stack: Vec<u8>,
}

impl Thread {
    /// A thread in which every byte is another one. It uses its vector registers, and is traced at branches.
    pub(super) fn patterned(seed: u8, layout: &Layout) -> Thread {
        let bank = |range: &Range<usize>| range.clone().map(|at| seed ^ (at as u8).wrapping_mul(7) | 1).collect();
        let mut thread = Thread {
            general: bank(&layout.general),
            floating: bank(&layout.floating),
            vector: bank(&layout.vector),
            vsx: bank(&layout.vsx),
            mask: bank(&layout.mask),
            stack: bank(&layout.stack),
        };
        let msr = VECTOR | BRANCH | if layout.vsx.is_empty() { 0 } else { VSX };
        thread.set_msr(layout, msr);
        thread
    }

    /// Its machine state register.
    pub(super) fn msr(&self, layout: &Layout) -> u64 {
        value(&self.general[layout.msr * layout.word..][..layout.word])
    }

    /// Sets it.
    pub(super) fn set_msr(&mut self, layout: &Layout, msr: u64) {
        let bytes = bytes_of(msr, layout.word);
        self.general[layout.msr * layout.word..][..layout.word].copy_from_slice(&bytes);
    }

    /// What [`AFTER`] makes of this thread: all of the context's, except for MSR, the alternate stack and the register of
    /// the thread's own data, which stays what it is unless a signal returns.
    pub(super) fn switched(&self, layout: &Layout, signal: bool) -> Thread {
        let mut after = Thread { stack: self.stack.clone(), ..Thread::patterned(AFTER, layout) };
        after.set_msr(layout, self.msr(layout));
        if !signal {
            after.keep_tls(layout, &self.tls(layout));
        }
        after
    }

    fn tls(&self, layout: &Layout) -> Vec<u8> {
        self.general[layout.tls * layout.word..][..layout.word].to_vec()
    }

    fn keep_tls(&mut self, layout: &Layout, tls: &[u8]) {
        self.general[layout.tls * layout.word..][..layout.word].copy_from_slice(tls);
    }
}

/// A context to restore from.
pub(super) trait Context {
    /// A field of it, as far as it goes: the bytes in front of a fault arrive. A fault, or a place outside the user's
    /// memory, makes the context unusable.
    fn get(&self, what: &'static str, at: usize, into: &mut [u8], log: &mut Log) -> Result<(), Unusable>;

    /// A word of it.
    fn word(&self, what: &'static str, at: Range<usize>, log: &mut Log) -> Result<u64, Unusable> {
        let mut bytes = vec![0; at.len()];
        self.get(what, at.start, &mut bytes, log)?;
        Ok(value(&bytes))
    }
}

/// The context cannot be restored from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unusable;

/// A context where the user has it: each field may fault.
pub(super) struct InUserMemory<'a, M>(pub(super) &'a M);

impl<M: ReadMemory> Context for InUserMemory<'_, M> {
    fn get(&self, what: &'static str, at: usize, into: &mut [u8], log: &mut Log) -> Result<(), Unusable> {
        let read = self.0.read(at, into);
        log.copied(what, into.len(), &read);
        read.map_err(|_| Unusable)
    }
}

/// The kernel's own copy of a context: none of its fields can fault, or change.
pub(super) struct Copied(Vec<u8>);

impl Copied {
    /// All of it, or an error.
    ///
    /// # Errors
    /// The short copy.
    pub(super) fn from(user: &impl ReadMemory, log: &mut Log) -> Result<Copied, Short> {
        let mut bytes = vec![0; user.len()];
        let copied = user.read(0, &mut bytes);
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

/// `do_setcontext` of ppc32: the mask and the pointer to the machine context; and from where that points, the general
/// registers around MSR, MSR, the vector and the floating point registers. A `signal` that returns brings the register of
/// the thread's own data, too.
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
/// floating point registers, and the halves that came later.
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

/// Where the fields between `target` and `end` are if a pointer says that they begin somewhere else. It is unusable if they
/// would have no addresses there.
fn pointed(pointer: u64, target: usize, end: usize) -> Result<impl Fn(usize) -> usize, Unusable> {
    let pointer = usize::try_from(pointer).map_err(|_| Unusable)?;
    pointer.checked_add(end - target).ok_or(Unusable)?;
    Ok(move |at| at - target + pointer)
}

/// Memory for the old context, in which nothing is the matter.
pub(super) fn memory_for_old<U: User>(layout: &Layout, scale: Scale) -> io::Result<U> {
    U::new(&Object::new(vec![STALE; layout.size], layout.word), Scenario::AllResident, scale)
}

/// Whether the old context is there, or, if it was not `saved`, nothing is.
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

/// The end of a switch: which thread there is, and that the new context is still what it was.
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

/// The process is killed: says in the log how much of the thread the new context has become.
pub(super) fn killed(layout: &Layout, thread: &Thread, before: &Thread, log: &mut Log) -> &'static str {
    let changed = thread.general.chunks(layout.word).zip(before.general.chunks(layout.word)).filter(|(a, b)| a != b);
    log.decide(format!("killed; {} general registers are the new context's", changed.count()));
    KILLED
}

/// A word of the machine, which is a little-endian one.
pub(super) fn value(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// The same in so many bytes.
pub(super) fn bytes_of(value: u64, len: usize) -> Vec<u8> {
    value.to_le_bytes()[..len].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::SimUser;

    fn layouts() -> [Layout; 4] {
        [Scale::Full, Scale::Small]
            .map(|scale| [Layout::ppc32(scale), Layout::ppc64(scale)])
            .concat()
            .try_into()
            .unwrap()
    }

    #[test]
    fn fields_lie_beside_each_other() {
        for layout in layouts() {
            let fields =
                [&layout.mask, &layout.pointer, &layout.general, &layout.floating, &layout.vector, &layout.vsx];
            let mut fields: Vec<_> = fields.into_iter().chain([&layout.stack]).cloned().collect();
            fields.sort_by_key(|field| (field.start, field.end));
            assert!(fields.windows(2).all(|pair| pair[0].end <= pair[1].start), "{layout:?}");
            assert_eq!(fields.last().map(|last| last.end), Some(layout.size));
            assert!(layout.general.contains(&layout.msr().start) && layout.msr().end <= layout.general.end);
        }
    }

    #[test]
    fn what_is_saved_restores_and_leaves_the_threads_own_data_alone() {
        for (layout, ppc64) in layouts().into_iter().zip([false, true, false, true]) {
            let old =
                memory_for_old::<SimUser>(&layout, if layout.word == 2 { Scale::Small } else { Scale::Full }).unwrap();
            let (before, after) = (Thread::patterned(BEFORE, &layout), Thread::patterned(AFTER, &layout));
            layout.save(&old.dest().unwrap(), &after).unwrap();
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
        user.dest().unwrap().write(300, &[0]).unwrap();
        assert!(ended(&user, &layout, KILLED, &half, [&before, &switched]).unwrap().product.is_err());
    }

    #[test]
    fn vector_registers_that_a_context_does_not_use_are_cleared() {
        let layout = Layout::ppc64(Scale::Full);
        let mut bare = Thread::patterned(AFTER, &layout);
        bare.set_msr(&layout, 0);
        let (context, mut thread) = (Copied(layout.context(&bare)), Thread::patterned(BEFORE, &layout));
        let old = memory_for_old::<SimUser>(&layout, Scale::Full).unwrap();
        restore_sigcontext(&context, &layout, &mut thread, &mut Log::of(&old)).unwrap();
        assert!(thread.vector.iter().chain(&thread.vsx).all(|&byte| byte == 0));
        assert_eq!(thread.floating, bare.floating);
    }
}
