//! Row 5, `restore_fpregs_from_user` (x86 sigreturn; elsewhere the available vector registers): restores the registers from
//! the frame in user memory, with the CPU's own instruction. On a page fault it faults the image in and starts from
//! scratch.
//!
//! The instruction is all or nothing, so a partial fault-in is useless: with a helper for which a part is success, an image
//! whose last page is missing is faulted in, fails, is faulted in again, and so on without end. It was the first example
//! when that helper was proposed. The length comes from the CPU: a frame that could name its own length would bring the
//! same loop back.
//!
//! The product is the registers that arrive. If none do, the process is killed (`SIGSEGV`).

#![forbid(unsafe_code)]

use faultin::memory::ReadMemory;

use crate::axes::Feature;
use crate::axes::Variant::{self, AsFound, Fixed};
use crate::bug::Bug;
use crate::caller::{Caller, Code, Ended, Halt, Need};
use crate::expect::Ends::{Never, With};
use crate::expect::{Expected, Moved, STILL_RETRYING};
use crate::helpers::{fault_in_partial_is_success, is_page_fault, probe_read};
use crate::log::{Log, Stuck};
use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 5,
    name: "restore_fpregs_from_user",
    place: "x86",
    need: Need::All,
    finding: "needs ALL: with \"partial is success\" an absent second page loops for ever",
    origins: [
        "caller from 5.14, helper the one that the mail argues against (partial counts as success)",
        "caller from 6.12 (all of it, of the CPU's size, or fail) with a bound, helper: faultin's probe_read",
    ],
    expected: &EXPECTED,
    needs: Some(Feature::FpState),
    job: Some(&RestoreFpregsFromUser),
    ..Caller::NOT_YET
};

/// The caller.
struct RestoreFpregsFromUser;

/// Number of attempts of the fixed variant although the whole image could be read a moment ago.
const ATTEMPTS: u32 = 16;

const SEED: u8 = 0x35;
const RESTORED: &str = "restored";
const KILLED: &str = "SIGSEGV";

fn as_found<U: User>(user: &U, frame: &U::Source<'_>, log: &mut Log) -> Result<Option<U::Registers>, Stuck> {
    loop {
        let restored = user.restore_registers(frame);
        log.accessed("restore the registers, no bound", frame.len(), &restored);
        let fault = match restored {
            Ok(registers) => return Ok(Some(registers)),
            Err(fault) => fault,
        };
        if !is_page_fault(&fault) || fault_in_partial_is_success(frame, log).is_err() {
            return Ok(None);
        }
        log.again()?;
    }
}

fn fixed<U: User>(user: &U, frame: &U::Source<'_>, log: &mut Log) -> Result<Option<U::Registers>, Stuck> {
    for attempt in 1..=ATTEMPTS {
        let restored = user.restore_registers(frame);
        log.accessed(format!("restore the registers, attempt {attempt} of {ATTEMPTS}"), frame.len(), &restored);
        let fault = match restored {
            Ok(registers) => return Ok(Some(registers)),
            Err(fault) => fault,
        };
        if !is_page_fault(&fault) || !made_readable(frame, log) {
            return Ok(None);
        }
        log.again()?;
    }
    Ok(None)
}

/// Returns whether every byte of the frame can be read now, with the size that the machine reports.
fn made_readable(frame: &impl ReadMemory, log: &mut Log) -> bool {
    if log.has(Bug::PartIsSuccess) {
        return fault_in_partial_is_success(frame, log).is_ok();
    }
    if log.has(Bug::FrameNamesItsSize) {
        let size = frame.load::<u8>(0).map_or(0, |first| usize::from(first) % frame.len());
        return frame.subslice(0..size).is_some_and(|named| probe_read(&named, log).is_ok());
    }
    match probe_read(frame, log) {
        Ok(()) => true,
        Err(short) => log.has(Bug::FailureBehindTheFirstPageIsSuccess) && short.done >= frame.to_page_end(0),
    }
}

impl Code for RestoreFpregsFromUser {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        let bytes = R::patterned(SEED, scale).image().to_vec();
        match scale {
            // A division that every image allows: in the middle of the vector registers that every machine has.
            Scale::Full => Object::new(bytes, 256).with_tail(320),
            Scale::Small => Object::new(bytes, 4).with_tail(8),
        }
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let frame = user.source()?;
        let arrived = match variant {
            AsFound => as_found(user, &frame, log),
            Fixed => fixed(user, &frame, log),
        }?;
        let Some(registers) = arrived else {
            return Ok(Ended { status: KILLED, moved: 0, product: Ok(()) });
        };
        let right = registers.same(&U::Registers::patterned(SEED, user.scale()));
        let product = if right { Ok(()) } else { Err("other registers arrived than were in the frame".into()) };
        Ok(Ended { status: RESTORED, moved: frame.len(), product })
    }
}

const AT_ONCE: &str = "5.14 and 6.12: the instruction comes first; where it succeeds nothing else happens";
const LOADS: &str = "5.14 and 6.12: the frame is only read";
const NOTHING_THERE: &str = "the thread: the helper fails if nothing could be faulted in";
const LOOPS: &str = "the mail: a buffer whose second page is absent loops for ever if a part is success";
const POISON_LOOPS: &str =
    "as an absent page: the first page is faulted in, and the mark on the second is a page fault";
const NEEDS_ALL: &str = "the mail: needs ALL; 6.12: fails unless all of it was faulted in";

const RETRIES: &str = "5.14 and 6.12: a page fault is mended by the fault-in, and the instruction runs again";
const TWICE: &str =
    "5.14 and 6.12: the fault-in pins nothing; what is evicted before the instruction costs another round";
const PAGES_ONLY: &str =
    "the mail: touching a byte of each page does not prove the others; the part is success, for ever";

const EXPECTED: [Expected; 2] = [
    Expected::new([
        (With(RESTORED, Moved::All), AT_ONCE),
        (Never, LOOPS),
        (With(KILLED, Moved::Nothing), NOTHING_THERE),
    ])
    .races(&[RESTORED, KILLED, STILL_RETRYING], "5.14: the loop has no bound of its own")
    .at_in(Cold, 2, RETRIES)
    .at(ReadOnly, LOADS)
    .at_in(Evicted, 3, TWICE)
    .at(Poisoned, POISON_LOOPS)
    .at(InaccessibleTail, PAGES_ONLY),
    Expected::whole_or((With(RESTORED, Moved::All), AT_ONCE), (With(KILLED, Moved::Nothing), NEEDS_ALL))
        .races(&[RESTORED, KILLED], "ends within its bound, with every register or none")
        .at_in(Cold, 2, RETRIES)
        .at(ReadOnly, LOADS)
        .at_in(Evicted, 3, TWICE),
];

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::user::HostUser;

    #[test]
    fn a_fault_that_is_no_page_fault_fails_at_once() {
        let mut object = Code::object::<<HostUser as User>::Registers>(&RestoreFpregsFromUser, Scale::Full);
        // MXCSR, all of it: reserved bits are set, and the CPU rejects the image with a general protection fault.
        object.bytes[24..28].fill(0xff);
        for variant in Variant::ALL {
            let user = HostUser::new(&object, AllResident, Scale::Full).unwrap();
            let mut log = Log::of(&user);
            let ended = RestoreFpregsFromUser.run(variant, &user, &mut log).unwrap();
            assert_eq!((ended.status, ended.moved, log.rounds()), (KILLED, 0, 1), "{variant:?}");
            assert_eq!(log.into_steps().len(), 1, "{variant:?}: no fault-in after it");
        }
    }
}
