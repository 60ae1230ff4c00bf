//! Row 14, `copy_fpstate_to_sigframe` (x86 signal delivery; elsewhere the vector registers there are): saves the registers
//! to the frame in user memory, with the CPU's own instruction. On a fault it makes the frame writeable and starts from
//! scratch.
//!
//! The instruction is all or nothing, so the caller needs to know that *every* byte can be stored. As found it stores a
//! zero in each page, which proves one byte of each and destroys it. The header of the frame is zeroed first, because the
//! instruction leaves its reserved bytes alone: as found in every attempt, fixed once, up front.
//!
//! The product is a frame that restores to the same registers, and untouched bytes around it. Where there is none, the
//! process is killed (`SIGSEGV`); what the frame then holds is nobody's, and the log says how many of its bytes changed.

#![forbid(unsafe_code)]

use std::ops::Range;

use faultin::fpstate::{self, Image};
use faultin::{Granularity, Short, WriteView};

use super::Variant::{AsFound, Fixed};
use super::{Caller, Ended, Halt, Job, Need, Variant};
use crate::environment::Feature;
use crate::expect::Ends::{OneOf, With};
use crate::expect::{Expectation, Moved, STILL_RETRYING, expect};
use crate::helpers::{fault_in_pages_writeable, is_page_fault};
use crate::log::{Log, Stuck};
use crate::memory::{Object, UserMemory};
use crate::scenario::Scenario::{AllResident, Cold, FirstPageBad, Poisoned, ReadOnly, Remapping, SecondPageBad};

pub(super) const CALLER: Caller = Caller {
    row: 14,
    name: "copy_fpstate_to_sigframe",
    place: "x86",
    need: Need::All,
    finding: "needs ALL: retries everything from scratch on a short copy",
    job: Some(&CopyFpstateToSigframe),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct CopyFpstateToSigframe;

/// The header of an image of XSAVE's; other architectures have none.
const HEADER: Range<usize> = if cfg!(target_arch = "x86_64") { 512..576 } else { 0..0 };

/// How often the fixed variant tries again though every byte could be stored a moment ago.
const ATTEMPTS: u32 = 16;

const SEED: u8 = 0x53;
/// What is in the frame before.
const STALE: u8 = 0x77;
const SAVED: &str = "saved";
const KILLED: &str = "SIGSEGV";

fn as_found(frame: &WriteView<'_>, registers: &Image, log: &mut Log) -> Result<bool, Stuck> {
    loop {
        let saved = match clear_header(frame, "clear the header, in each attempt", log) {
            Ok(()) => {
                let saved = fpstate::save(frame, registers);
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

fn fixed(frame: &WriteView<'_>, registers: &Image, log: &mut Log) -> Result<bool, Stuck> {
    if clear_header(frame, "clear the header, once", log).is_err() {
        return Ok(false);
    }
    for attempt in 1..=ATTEMPTS {
        let saved = fpstate::save(frame, registers);
        log.accessed(format!("save the registers, attempt {attempt} of {ATTEMPTS}"), frame.len(), &saved);
        match saved {
            Ok(()) => return Ok(true),
            Err(fault) if !is_page_fault(&fault) => return Ok(false),
            Err(_) => {}
        }
        let proven = frame.probe(0, frame.len(), Granularity::Tag);
        log.copied("probe every byte for writing, change none", frame.len(), &proven);
        if proven.is_err() {
            return Ok(false);
        }
        log.again()?;
    }
    Ok(false)
}

fn clear_header(frame: &WriteView<'_>, what: &'static str, log: &mut Log) -> Result<(), Short> {
    if HEADER.is_empty() {
        return Ok(());
    }
    let cleared = frame.zero(HEADER.start, HEADER.len());
    log.copied(what, HEADER.len(), &cleared);
    cleared
}

impl Job for CopyFpstateToSigframe {
    /// The header and all before it on the first page, so that it is the instruction that fails on the second; where an
    /// image ends with its header or has none, in the middle of the vector registers.
    fn object(&self) -> Object {
        let size = fpstate::image_size();
        let on_first_page = if size > HEADER.end && !HEADER.is_empty() { HEADER.end } else { 256 };
        Object { bytes: vec![STALE; size], on_first_page }
    }

    fn run(&self, variant: Variant, user: &UserMemory, log: &mut Log) -> Result<Ended, Halt> {
        let (frame, registers) = (user.dest()?, Image::patterned(SEED));
        let saved = match variant {
            AsFound => as_found(&frame, &registers, log),
            Fixed => fixed(&frame, &registers, log),
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
        let product = match fpstate::restore(&user.witness()?.source()?) {
            Ok(arrived) if arrived.same_registers(&registers) => Ok(()),
            Ok(_) => Err("the frame restores to other registers".into()),
            Err(fault) => Err(format!("the frame does not restore: {fault}")),
        };
        Ok(Ended { status: SAVED, moved: frame.len(), product })
    }

    fn origin(&self, variant: Variant) -> &'static str {
        match variant {
            AsFound => "caller from 5.14, helper from 5.14 (fault_in_pages_writeable)",
            Fixed => {
                "caller from 6.12 (all or fail) with a bound, helper: faultin's probe_write in place of its full clear"
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

const AT_ONCE: &str = "5.14 and 6.12: where the instruction succeeds nothing else happens";
const HELPER_ALL: &str = "5.14: fails if a page cannot be written, and the helper's zeros stay";
const NEEDS_ALL: &str = "the mail: needs ALL; 6.12: fails unless every byte could be written";
const STORES: &str = "5.14 and 6.12: nothing can be stored there, and the process is killed";

const EXPECTED: [Expectation; 14] = [
    expect(AsFound, AllResident, With(SAVED, Moved::All), AT_ONCE),
    expect(AsFound, Cold, With(SAVED, Moved::All), AT_ONCE),
    expect(AsFound, FirstPageBad, With(KILLED, Moved::Nothing), HELPER_ALL),
    expect(AsFound, SecondPageBad, With(KILLED, Moved::Nothing), HELPER_ALL),
    expect(AsFound, ReadOnly, With(KILLED, Moved::Nothing), STORES),
    expect(AsFound, Poisoned, With(KILLED, Moved::Nothing), HELPER_ALL),
    expect(AsFound, Remapping, OneOf(&[SAVED, KILLED, STILL_RETRYING]), "5.14: the loop has no bound of its own"),
    expect(Fixed, AllResident, With(SAVED, Moved::All), AT_ONCE),
    expect(Fixed, Cold, With(SAVED, Moved::All), AT_ONCE),
    expect(Fixed, FirstPageBad, With(KILLED, Moved::Nothing), NEEDS_ALL),
    expect(Fixed, SecondPageBad, With(KILLED, Moved::Nothing), NEEDS_ALL),
    expect(Fixed, ReadOnly, With(KILLED, Moved::Nothing), STORES),
    expect(Fixed, Poisoned, With(KILLED, Moved::Nothing), NEEDS_ALL),
    expect(Fixed, Remapping, OneOf(&[SAVED, KILLED]), "ends within its bound, with every register or none"),
];
