//! Row 5, `restore_fpregs_from_user` (x86 sigreturn; elsewhere the vector registers there are): restores the registers
//! from the frame in user memory, with the CPU's own instruction. On a page fault it faults the image in and starts from
//! scratch.
//!
//! The instruction is all or nothing, so a fault-in of a part is worth nothing: with a helper for which a part is success,
//! an image whose last page is missing is faulted in, fails, is faulted in again, and so for ever. It was the first
//! place that came to mind when that helper was proposed. The length comes from the CPU: a frame that could name its own
//! would bring the same loop back.
//!
//! The product is the registers that arrive. Where none do, the process is killed (`SIGSEGV`).

#![forbid(unsafe_code)]

use faultin::fpstate::{self, Image};
use faultin::{Granularity, ReadView};

use super::Variant::{AsFound, Fixed};
use super::{Caller, Ended, Halt, Job, Need, Variant};
use crate::environment::Feature;
use crate::expect::Ends::{Never, OneOf, With};
use crate::expect::{Expectation, Moved, STILL_RETRYING, expect};
use crate::helpers::{fault_in_partial_is_success, is_page_fault};
use crate::log::{Log, Stuck};
use crate::memory::{Object, UserMemory};
use crate::scenario::Scenario::{AllResident, Cold, FirstPageBad, Poisoned, ReadOnly, Remapping, SecondPageBad};

pub(super) const CALLER: Caller = Caller {
    row: 5,
    name: "restore_fpregs_from_user",
    place: "x86",
    need: Need::All,
    finding: "needs ALL: with \"partial is success\" an absent second page loops for ever",
    job: Some(&RestoreFpregsFromUser),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct RestoreFpregsFromUser;

/// Where every image can be divided: in the middle of the vector registers that every machine has.
const ON_FIRST_PAGE: usize = 256;

/// How often the fixed variant tries again though the whole image could be read a moment ago.
const ATTEMPTS: u32 = 16;

const SEED: u8 = 0x35;
const RESTORED: &str = "restored";
const KILLED: &str = "SIGSEGV";

fn as_found(frame: &ReadView<'_>, log: &mut Log) -> Result<Option<Image>, Stuck> {
    loop {
        let restored = fpstate::restore(frame);
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

fn fixed(frame: &ReadView<'_>, log: &mut Log) -> Result<Option<Image>, Stuck> {
    for attempt in 1..=ATTEMPTS {
        let restored = fpstate::restore(frame);
        log.accessed(format!("restore the registers, attempt {attempt} of {ATTEMPTS}"), frame.len(), &restored);
        let fault = match restored {
            Ok(registers) => return Ok(Some(registers)),
            Err(fault) => fault,
        };
        if !is_page_fault(&fault) {
            return Ok(None);
        }
        let proven = frame.probe(0, frame.len(), Granularity::Tag);
        log.copied("probe every byte for reading", frame.len(), &proven);
        if proven.is_err() {
            return Ok(None);
        }
        log.again()?;
    }
    Ok(None)
}

impl Job for RestoreFpregsFromUser {
    fn object(&self) -> Object {
        Object { bytes: Image::patterned(SEED).bytes().to_vec(), on_first_page: ON_FIRST_PAGE }
    }

    fn run(&self, variant: Variant, user: &UserMemory, log: &mut Log) -> Result<Ended, Halt> {
        let frame = user.source()?;
        let arrived = match variant {
            AsFound => as_found(&frame, log),
            Fixed => fixed(&frame, log),
        }?;
        let Some(registers) = arrived else {
            return Ok(Ended { status: KILLED, moved: 0, product: Ok(()) });
        };
        let right = registers.same_registers(&Image::patterned(SEED));
        let product = if right { Ok(()) } else { Err("other registers arrived than were in the frame".into()) };
        Ok(Ended { status: RESTORED, moved: frame.len(), product })
    }

    fn origin(&self, variant: Variant) -> &'static str {
        match variant {
            AsFound => "caller from 5.14, helper the one that the mail argues against (partial counts as success)",
            Fixed => {
                "caller from 6.12 (all of it, of the CPU's size, or fail) with a bound, helper: faultin's probe_read"
            }
        }
    }

    fn expectations(&self) -> &'static [Expectation] {
        &EXPECTED
    }

    fn needs(&self) -> Option<Feature> {
        Some(Feature::FpState)
    }
}

const AT_ONCE: &str = "5.14 and 6.12: the instruction comes first; where it succeeds nothing else happens";
const LOADS: &str = "5.14 and 6.12: the frame is only read";
const NOTHING_THERE: &str = "the thread: the helper fails if nothing could be faulted in";
const LOOPS: &str = "the mail: a buffer whose second page is absent loops for ever if a part is success";
const POISON_LOOPS: &str =
    "as an absent page: the first page is faulted in, and the mark on the second is a page fault";
const NEEDS_ALL: &str = "the mail: needs ALL; 6.12: fails unless all of it was faulted in";

const EXPECTED: [Expectation; 14] = [
    expect(AsFound, AllResident, With(RESTORED, Moved::All), AT_ONCE),
    expect(AsFound, Cold, With(RESTORED, Moved::All), AT_ONCE),
    expect(AsFound, FirstPageBad, With(KILLED, Moved::Nothing), NOTHING_THERE),
    expect(AsFound, SecondPageBad, Never, LOOPS),
    expect(AsFound, ReadOnly, With(RESTORED, Moved::All), LOADS),
    expect(AsFound, Poisoned, Never, POISON_LOOPS),
    expect(AsFound, Remapping, OneOf(&[RESTORED, KILLED, STILL_RETRYING]), "5.14: the loop has no bound of its own"),
    expect(Fixed, AllResident, With(RESTORED, Moved::All), AT_ONCE),
    expect(Fixed, Cold, With(RESTORED, Moved::All), AT_ONCE),
    expect(Fixed, FirstPageBad, With(KILLED, Moved::Nothing), NEEDS_ALL),
    expect(Fixed, SecondPageBad, With(KILLED, Moved::Nothing), NEEDS_ALL),
    expect(Fixed, ReadOnly, With(RESTORED, Moved::All), LOADS),
    expect(Fixed, Poisoned, With(KILLED, Moved::Nothing), NEEDS_ALL),
    expect(Fixed, Remapping, OneOf(&[RESTORED, KILLED]), "ends within its bound, with every register or none"),
];

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_fault_that_is_no_page_fault_fails_at_once() {
        let mut object = RestoreFpregsFromUser.object();
        // MXCSR, all of it: reserved bits are set, and the CPU refuses the image with a general protection fault.
        object.bytes[24..28].fill(0xff);
        for variant in Variant::ALL {
            let user = UserMemory::new(&object, Scenario::AllResident).unwrap();
            let mut log = Log::new(user.source().unwrap().as_ptr().addr(), false);
            let ended = RestoreFpregsFromUser.run(variant, &user, &mut log).unwrap();
            assert_eq!((ended.status, ended.moved, log.rounds()), (KILLED, 0, 1), "{variant:?}");
            assert_eq!(log.into_steps().len(), 1, "{variant:?}: no fault-in after it");
        }
    }
}
