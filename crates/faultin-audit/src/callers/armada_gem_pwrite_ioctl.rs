//! Row 6, `armada_gem_pwrite_ioctl` (a graphics driver): copies a range of user memory into a buffer object.
//!
//! As found it first faults in the whole range, or fails. The copy that follows takes page faults like any other, so that
//! is pointless, whichever semantics the helper has, and it has a cost: where the second half of the range is missing, the
//! first half is not written either. The ioctl reports no count: `EFAULT`, if anything is left.
//!
//! The product is the bytes in the object: those that moved, and no others.

#![forbid(unsafe_code)]

use faultin::Short;
use faultin::memory::ReadMemory;

use super::Variant::{AsFound, Fixed};
use super::{Caller, Code, Ended, Halt, Need, Variant};
use crate::expect::Ends::{OneOf, With};
use crate::expect::{Expectation, Moved, expect};
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
    job: Some(&ArmadaGemPwriteIoctl),
};

/// The caller.
#[derive(Clone, Copy, Debug)]
pub struct ArmadaGemPwriteIoctl;

/// Size of the object in bytes.
const OBJECT: usize = 512;
/// Offset of the user's bytes in it.
const OFFSET: usize = 64;

const WRITTEN: &str = "ok";
const EFAULT: &str = "EFAULT";

fn as_found(from: &impl ReadMemory, object: &mut [u8], log: &mut Log) -> Result<(), usize> {
    fault_in_pages_readable(from, log).map_err(|_| 0_usize)?;
    copy(from, object, log).map_err(|short| short.done)
}

fn fixed(from: &impl ReadMemory, object: &mut [u8], log: &mut Log) -> Result<(), usize> {
    copy(from, object, log).map_err(|short| short.done)
}

fn copy(from: &impl ReadMemory, object: &mut [u8], log: &mut Log) -> Result<(), Short> {
    let copied = from.read(&mut object[OFFSET..OFFSET + from.len()], 0);
    log.copied("copy to the object", from.len(), &copied);
    copied
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
        Ok(Ended { status, moved, product: check(&object, &user.contents()?[..moved]) })
    }

    fn origin(&self, variant: Variant) -> &'static str {
        match variant {
            AsFound => "caller from 5.14 (and 6.12), helper from 5.14 (fault_in_pages_readable)",
            Fixed => "caller as the mail asks for it, no helper",
        }
    }

    fn expectations(&self) -> &'static [Expectation] {
        &EXPECTED
    }
}

/// Checks that `moved`, and nothing else, is in the object.
fn check(object: &[u8], moved: &[u8]) -> Result<(), String> {
    let (before, rest) = object.split_at(OFFSET);
    let (landed, after) = rest.split_at(moved.len());
    if landed != moved {
        return Err(format!("not the {} bytes that were to move", moved.len()));
    }
    match before.iter().chain(after).filter(|&&byte| byte != 0).count() {
        0 => Ok(()),
        others => Err(format!("{others} bytes more than the {} counted", moved.len())),
    }
}

const FINE: &str = "the mail: pointless; right either way";
const REFUSED: &str = "5.14: EFAULT if the range cannot all be faulted in, before anything is copied";
const COPY_ONLY: &str =
    "the mail: the copy follows right after; EFAULT if any is left, the bytes before it are written";

const WAITS: &str = "5.14: the copy takes page faults like any other";
const TAIL: &str = "5.14: the helper touches the last byte too; EFAULT before anything is copied";
const FIRST: &str = "nothing is accessible where it starts";

const EXPECTED: [Expectation; 20] = [
    expect(AsFound, AllResident, With(WRITTEN, Moved::All), FINE),
    expect(AsFound, Cold, With(WRITTEN, Moved::All), FINE),
    expect(AsFound, FirstPageBad, With(EFAULT, Moved::Nothing), REFUSED),
    expect(AsFound, SecondPageBad, With(EFAULT, Moved::Nothing), REFUSED),
    expect(AsFound, ReadOnly, With(WRITTEN, Moved::All), FINE),
    expect(AsFound, Evicted, With(WRITTEN, Moved::All), WAITS),
    expect(AsFound, Poisoned, With(EFAULT, Moved::Nothing), REFUSED),
    expect(AsFound, InaccessibleTail, With(EFAULT, Moved::Nothing), TAIL),
    expect(AsFound, RestartGranuleBad, With(EFAULT, Moved::Nothing), FIRST),
    expect(AsFound, Remapping, OneOf(&[WRITTEN, EFAULT]), "any prefix may have moved; the object has it, and no more"),
    expect(Fixed, AllResident, With(WRITTEN, Moved::All), FINE),
    expect(Fixed, Cold, With(WRITTEN, Moved::All), FINE),
    expect(Fixed, FirstPageBad, With(EFAULT, Moved::Nothing), COPY_ONLY),
    expect(Fixed, SecondPageBad, With(EFAULT, Moved::FirstPage), COPY_ONLY),
    expect(Fixed, ReadOnly, With(WRITTEN, Moved::All), FINE),
    expect(Fixed, Evicted, With(WRITTEN, Moved::All), WAITS),
    expect(Fixed, Poisoned, With(EFAULT, Moved::FirstPage), COPY_ONLY),
    expect(Fixed, InaccessibleTail, With(EFAULT, Moved::BeforeTail), COPY_ONLY),
    expect(Fixed, RestartGranuleBad, With(EFAULT, Moved::Nothing), FIRST),
    expect(Fixed, Remapping, OneOf(&[WRITTEN, EFAULT]), "any prefix may have moved; the object has it, and no more"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_sees_a_missing_a_wrong_and_an_uncounted_byte() {
        let mut object = vec![0; 256];
        object[OFFSET..OFFSET + 3].copy_from_slice(&[1, 2, 3]);
        assert_eq!(check(&object, &[1, 2, 3]), Ok(()));
        for moved in [&[1, 2][..], &[1, 2, 4], &[1, 2, 3, 4]] {
            assert!(check(&object, moved).is_err(), "{moved:?}");
        }
    }
}
