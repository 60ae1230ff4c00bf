//! Row 14, `copy_fpstate_to_sigframe` (x86 signal delivery; elsewhere the available vector registers): saves the registers
//! to the frame in user memory, with the CPU's own instruction. On a fault it makes the frame writeable and starts from
//! scratch.
//!
//! The instruction is all or nothing, so the caller needs to know that *every* byte can be stored. As found it stores a
//! zero in each page, which proves one byte of each and destroys it. The header of the frame is zeroed first, because the
//! instruction leaves its reserved bytes unchanged: as found in every attempt, fixed once, up front.
//!
//! The product is a frame that restores to the same registers, and untouched bytes around it. Where there is none, the
//! process is killed (`SIGSEGV`); the frame's contents are then unspecified, and the log has the number of its bytes that
//! changed.

#![forbid(unsafe_code)]

use faultin::Short;
use faultin::memory::{ReadMemory, WriteMemory};

use crate::axes::Feature;
use crate::axes::Variant::{self, AsFound, Fixed};
use crate::bug::Bug;
use crate::caller::{Caller, Code, Ended, Halt, Need};
use crate::expect::Ends::With;
use crate::expect::{Expected, Moved, STILL_RETRYING};
use crate::helpers::{fault_in_pages_writeable, fault_in_partial_is_success, is_page_fault, probe_write};
use crate::log::{Log, Stuck};
use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 14,
    name: "copy_fpstate_to_sigframe",
    place: "x86",
    need: Need::All,
    finding: "needs ALL: retries everything from scratch on a short copy",
    origins: [
        "caller from 5.14, helper from 5.14 (fault_in_pages_writeable)",
        "caller from 6.12 (all or fail) with a bound, helper: faultin's probe_write in place of its full clear",
    ],
    expected: &EXPECTED,
    stores: true,
    needs: Some(Feature::FpState),
    job: Some(&CopyFpstateToSigframe),
    ..Caller::NOT_YET
};

/// The caller.
struct CopyFpstateToSigframe;

/// Number of attempts of the fixed variant although every byte could be stored a moment ago.
const ATTEMPTS: u32 = 16;

const SEED: u8 = 0x53;
/// The previous contents of the frame.
const STALE: u8 = 0x77;
const SAVED: &str = "saved";
const KILLED: &str = "SIGSEGV";

fn as_found<U: User>(user: &U, frame: &U::Dest<'_>, registers: &U::Registers, log: &mut Log) -> Result<bool, Stuck> {
    loop {
        let saved = match clear_header(user, frame, "clear the header, in each attempt", log) {
            Ok(()) => {
                let saved = user.save_registers(frame, registers);
                log.accessed("save the registers, no bound", frame.len(), &saved);
                saved
            }
            Err(short) => Err(short.fault),
        };
        match saved {
            Ok(()) => return Ok(true),
            Err(_) if fault_in_pages_writeable(frame, log).is_err() => return Ok(false),
            Err(_) => log.again()?,
        }
    }
}

fn fixed<U: User>(user: &U, frame: &U::Dest<'_>, registers: &U::Registers, log: &mut Log) -> Result<bool, Stuck> {
    if clear_header(user, frame, "clear the header, once", log).is_err() {
        return Ok(false);
    }
    for attempt in 1..=ATTEMPTS {
        let saved = user.save_registers(frame, registers);
        log.accessed(format!("save the registers, attempt {attempt} of {ATTEMPTS}"), frame.len(), &saved);
        match saved {
            Ok(()) => return Ok(true),
            Err(fault) if !is_page_fault(&fault) => return Ok(false),
            Err(_) => {}
        }
        if !made_writeable(frame, log) {
            return Ok(false);
        }
        log.again()?;
    }
    Ok(false)
}

/// Returns whether every byte of the frame can be written now.
fn made_writeable(frame: &impl WriteMemory, log: &mut Log) -> bool {
    if log.has(Bug::PartIsSuccess) {
        return fault_in_partial_is_success(&frame.as_read(), log).is_ok();
    }
    if log.has(Bug::OneBytePerPage) {
        return fault_in_pages_writeable(frame, log).is_ok();
    }
    match probe_write(frame, log) {
        Ok(()) => true,
        Err(short) => log.has(Bug::FailureBehindTheFirstPageIsSuccess) && short.done >= frame.as_read().to_page_end(0),
    }
}

fn clear_header<U: User>(user: &U, frame: &U::Dest<'_>, what: &'static str, log: &mut Log) -> Result<(), Short> {
    let header = U::Registers::frame(user.scale()).header;
    if header.is_empty() {
        return Ok(());
    }
    let cleared = frame.fill(header.start..header.start + header.len(), 0);
    log.copied(what, header.len(), &cleared);
    cleared
}

impl Code for CopyFpstateToSigframe {
    /// The header and everything before it is on the first page, so that the instruction fails on the second; where an
    /// image ends with its header or has none, the division is in the middle of the vector registers.
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        let frame = R::frame(scale);
        let divisible = frame.size > frame.header.end && !frame.header.is_empty();
        let on_first_page = if divisible { frame.header.end } else { 256 };
        let granule = scale.geometry().granule();
        Object::new(vec![STALE; frame.size], on_first_page)
            .with_tail(on_first_page + granule.min(frame.size - on_first_page - 1))
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let (frame, registers) = (user.dest()?, U::Registers::patterned(SEED, user.scale()));
        let saved = match variant {
            AsFound => as_found(user, &frame, &registers, log),
            Fixed => fixed(user, &frame, &registers, log),
        }?;
        if !user.surroundings_intact()? {
            let product = Err("bytes outside the frame changed".into());
            return Ok(Ended { status: if saved { SAVED } else { KILLED }, moved: 0, product });
        }
        if !saved {
            let changed = user.contents()?.iter().filter(|&&byte| byte != STALE).count();
            log.decide(format!("killed; {changed} bytes of the frame have changed"));
            return Ok(Ended { status: KILLED, moved: 0, product: Ok(()) });
        }
        let witness = user.witness()?;
        let product = match witness.restore_registers(&witness.source()?) {
            Ok(arrived) if arrived.same(&registers) => Ok(()),
            Ok(_) => Err("the frame restores to other registers".into()),
            Err(fault) => Err(format!("the frame does not restore: {fault}")),
        };
        Ok(Ended { status: SAVED, moved: frame.len(), product })
    }
}

const AT_ONCE: &str = "5.14 and 6.12: where the instruction succeeds nothing else happens";
const HELPER_ALL: &str = "5.14: fails if a page cannot be written, and the helper's zeros stay";
const NEEDS_ALL: &str = "the mail: needs ALL; 6.12: fails unless every byte could be written";
const STORES: &str = "5.14 and 6.12: nothing can be stored there, and the process is killed";

const RETRIES: &str = "5.14 and 6.12: made writeable, and the instruction runs again";
const TWICE: &str = "5.14 and 6.12: nothing is pinned; what is evicted before the instruction costs another round";
const LAST_BYTE: &str = "5.14: the helper stores to the last byte, too, and fails; its other zeros stay";

const EXPECTED: [Expected; 2] = [
    Expected::whole_or((With(SAVED, Moved::All), AT_ONCE), (With(KILLED, Moved::Nothing), HELPER_ALL))
        .races(&[SAVED, KILLED, STILL_RETRYING], "5.14: the loop has no bound of its own")
        .at_in(Cold, 2, RETRIES)
        .at(ReadOnly, STORES)
        .at_in(Evicted, 3, TWICE)
        .at(InaccessibleTail, LAST_BYTE),
    Expected::whole_or((With(SAVED, Moved::All), AT_ONCE), (With(KILLED, Moved::Nothing), NEEDS_ALL))
        .races(&[SAVED, KILLED], "ends within its bound, with every register or none")
        .at_in(Cold, 2, RETRIES)
        .at(ReadOnly, STORES)
        .at_in(Evicted, 3, TWICE),
];
