//! Row 1, `kvm_use_magic_page` (powerpc guests): once, at start-up, checks whether the host has mapped its magic page, by
//! reading a word that may not exist, and turns a feature on if so: from then on the word is used unchecked.
//!
//! Neither a loop nor a user copy. As found the answer is inverted: the helper's 0, success, is taken for a failure. So
//! where the page exists, the feature stays off; where it does not, the feature is turned on and the kernel crashes. The
//! caller needs a read that reports whether it succeeded.
//!
//! The product is whether the feature is on, and whether the word that it then uses is the right one.

#![forbid(unsafe_code)]

use faultin::Fault;
use faultin::memory::ReadMemory;

use crate::axes::Variant::{self, AsFound, Fixed};
use crate::bug::Bug;
use crate::caller::{Caller, Code, Ended, Halt, Need};
use crate::expect::Ends::With;
use crate::expect::{Expected, Moved};
use crate::helpers::fault_in_pages_readable;
use crate::log::Log;
use crate::scenario::Scenario::*;
use crate::user::{Object, Registers, Scale, User};

pub(super) const CALLER: Caller = Caller {
    row: 1,
    name: "kvm_use_magic_page",
    place: "powerpc",
    need: Need::NofaultRead,
    finding: "broken: result inverted; wants a no-fault read of the word",
    origins: [
        "caller from 5.14, helper from 5.14 (fault_in_pages_readable)",
        "caller as the mail asks for it, no helper: faultin's load",
    ],
    expected: &EXPECTED,
    job: Some(&KvmUseMagicPage),
    ..Caller::NOT_YET
};

/// The caller.
struct KvmUseMagicPage;

const WORD: u32 = 0x4b56_4d21;
const OFF: &str = "off";
const ON: &str = "on";
const FAULTS: &str = "on, faults";

/// Whether the feature is on, and the word that it then uses.
enum Feature {
    Off,
    On(Result<u32, Fault>),
}

fn as_found(magic: &impl ReadMemory, log: &mut Log) -> Feature {
    if fault_in_pages_readable(magic, log).is_ok() {
        log.decide("0 is taken for failure: feature off");
        return Feature::Off;
    }
    log.decide("not 0 is taken for success: feature on");
    let word = magic.load::<u32>(0);
    log.accessed("use the word", size_of::<u32>(), &word);
    Feature::On(word)
}

fn fixed(magic: &impl ReadMemory, log: &mut Log) -> Feature {
    let word = magic.load::<u32>(0);
    log.accessed("load the word", size_of::<u32>(), &word);
    if log.has(Bug::Inverted) {
        return if word.is_ok() { Feature::Off } else { Feature::On(word) };
    }
    match word {
        Ok(word) => {
            log.decide("it is there: feature on");
            Feature::On(Ok(word))
        }
        Err(_) => {
            log.decide("it is not: feature off");
            Feature::Off
        }
    }
}

impl Code for KvmUseMagicPage {
    /// A word at the very end of the first page: the second one is only its neighbour.
    fn object<R: Registers>(&self, _: Scale) -> Object {
        Object::new(WORD.to_ne_bytes().into(), size_of::<u32>())
    }

    fn run<U: User>(&self, variant: Variant, user: &U, log: &mut Log) -> Result<Ended, Halt> {
        let magic = user.source()?;
        let feature = match variant {
            AsFound => as_found(&magic, log),
            Fixed => fixed(&magic, log),
        };
        let ended = |status, moved, product| Ok(Ended { status, moved, product });
        match feature {
            Feature::Off => ended(OFF, 0, Ok(())),
            Feature::On(Ok(WORD)) => ended(ON, size_of::<u32>(), Ok(())),
            Feature::On(Ok(word)) => ended(ON, size_of::<u32>(), Err(format!("the word is {word:#x}, not {WORD:#x}"))),
            Feature::On(Err(_)) => ended(FAULTS, 0, Ok(())),
        }
    }
}

const INVERTED: &str = "5.14: leaves the feature off if the helper returns 0, which is success; the mail: broken";
const INVERTED_BAD: &str = "5.14: goes on if the helper returns an error; the mail: broken";
const WANTED: &str = "the mail: wants a no-fault read of the word; on if it can be read";
const WANTED_BAD: &str = "the mail: wants a no-fault read of the word; off if it cannot be read";

const INVERTED_LATER: &str =
    "5.14: leaves the feature off if the helper returns 0, whatever becomes of the page after it";

const EXPECTED: [Expected; 2] = [
    Expected::whole_or((With(OFF, Moved::Nothing), INVERTED), (With(FAULTS, Moved::Nothing), INVERTED_BAD))
        .races(&[OFF, ON, FAULTS], "5.14: asks, and uses the word later")
        .at(Evicted, INVERTED_LATER),
    Expected::whole_or((With(ON, Moved::All), WANTED), (With(OFF, Moved::Nothing), WANTED_BAD))
        .races(&[OFF, ON], "the word that is used is the one that was read: it cannot fault"),
];
