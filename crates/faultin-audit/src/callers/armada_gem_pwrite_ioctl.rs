//! Row 6, `armada_gem_pwrite_ioctl` (a graphics driver): copies a range of user memory into a buffer object.
//!
//! As found it first faults in the whole range, or fails. The copy that follows takes page faults like any other, so that
//! is pointless, whichever semantics the helper has, and it has a cost: where the second half of the range is missing, the
//! first half is not written either. The ioctl reports no count: `EFAULT`, if anything is left.
//!
//! The product is the bytes in the object: those that moved, and no others.

#![forbid(unsafe_code)]

use faultin::memory::ReadMemory;

use super::product::landed;
use crate::axes::Variant::{self, AsFound, Fixed};
use crate::caller::{Caller, Code, Ended, Halt, Need};
use crate::expect::Ends::With;
use crate::expect::{Expected, Moved};
use crate::helpers::fault_in_pages_readable;
use crate::log::Log;

use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 6,
    name: "armada_gem_pwrite_ioctl",
    place: "drm",
    need: Need::Either,
    finding: "pointless: the copy follows right after",
    origins: [
        "caller from 5.14 (and 6.12), helper from 5.14 (fault_in_pages_readable)",
        "caller as the mail asks for it, no helper",
    ],
    expected: &EXPECTED,
    job: Some(&ArmadaGemPwriteIoctl),
    ..Caller::NOT_YET
};

/// The caller.
struct ArmadaGemPwriteIoctl;

/// Size of the object in bytes.
const OBJECT: usize = 512;
/// Offset of the user's bytes in it.
const OFFSET: usize = 64;

const WRITTEN: &str = "ok";
const EFAULT: &str = "EFAULT";

fn as_found(from: &impl ReadMemory, object: &mut [u8], log: &mut Log) -> Result<(), usize> {
    fault_in_pages_readable(from, log).map_err(|_| 0_usize)?;
    fixed(from, object, log)
}

fn fixed(from: &impl ReadMemory, object: &mut [u8], log: &mut Log) -> Result<(), usize> {
    let copied = from.read(&mut object[OFFSET..OFFSET + from.len()], 0);
    log.copied("copy to the object", from.len(), &copied);
    copied.map_err(|short| short.done)
}

impl Code for ArmadaGemPwriteIoctl {
    fn object<R: Registers>(&self, scale: Scale) -> Object {
        match scale {
            // 100 bytes on each page.
            Scale::Full => Object::new((1..=200).collect(), 100).with_tail(132),
            Scale::Small => Object::new((1..=14).collect(), 6).with_tail(10),
        }
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let (from, mut object) = (user.source()?, vec![0; OBJECT]);
        let written = match variant {
            AsFound => as_found(&from, &mut object, log),
            Fixed => fixed(&from, &mut object, log),
        };
        let (status, moved) = match written {
            Ok(()) => (WRITTEN, from.len()),
            Err(moved) => (EFAULT, moved),
        };
        Ok(Ended { status, moved, product: landed(&object, OFFSET, 0, &user.contents()?[..moved]) })
    }
}

const FINE: &str = "the mail: pointless; right either way";
const REFUSED: &str = "5.14: EFAULT if the range cannot all be faulted in, before anything is copied";
const COPY_ONLY: &str =
    "the mail: the copy follows right after; EFAULT if any is left, the bytes before it are written";

const WAITS: &str = "5.14: the copy takes page faults like any other";
const TAIL: &str = "5.14: the helper touches the last byte too; EFAULT before anything is copied";
const FIRST: &str = "nothing is accessible where it starts";
const SURPRISE: &str = "any prefix may have moved; the object has it, and no more";

const EXPECTED: [Expected; 2] = [
    Expected::whole_or((With(WRITTEN, Moved::All), FINE), (With(EFAULT, Moved::Nothing), REFUSED))
        .races(&[WRITTEN, EFAULT], SURPRISE)
        .at(Evicted, WAITS)
        .at(InaccessibleTail, TAIL)
        .at(RestartGranuleBad, FIRST),
    Expected::whole_or((With(WRITTEN, Moved::All), FINE), (With(EFAULT, Moved::Accessible), COPY_ONLY))
        .races(&[WRITTEN, EFAULT], SURPRISE)
        .at(Evicted, WAITS)
        .at(RestartGranuleBad, FIRST),
];
