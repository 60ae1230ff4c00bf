//! The features of this machine, and which of them may be missing.
//!
//! A cell that needs a missing feature is skipped, by the name of the feature, which was *probed*: tried out. Whether the
//! skip is allowed is a separate question, answered from other facts about the environment: a feature that should exist and
//! does not is a failure.

#![forbid(unsafe_code)]

use std::fmt;

pub use crate::axes::Feature;
use crate::user::host::{paging, tags};

impl Feature {
    /// Returns whether it exists, by using it.
    pub fn present(self) -> bool {
        match self {
            Feature::Paging => paging::probe().is_ok(),
            Feature::Poison => paging::probe_poison().is_ok(),
            Feature::Tags => tags::probe(),
            Feature::FpState => faultin::fpstate::image_size() > 0,
        }
    }
}

/// The facts about the machine that need no [`Feature`].
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The architecture this was compiled for.
    pub arch: &'static str,
    /// The running kernel's major and minor version.
    pub kernel: Option<(u32, u32)>,
    /// The result of creating a userfaultfd: the errno if it fails.
    pub userfaultfd: Result<(), i32>,
    /// Whether the CPU reports memory tags.
    pub tags: bool,
}

impl Facts {
    /// Collects the facts about this machine.
    pub fn gather() -> Facts {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let userfaultfd = paging::probe_userfaultfd();
        Facts { arch: std::env::consts::ARCH, kernel: version(&release), userfaultfd, tags: cpu_has_tags() }
    }
}

fn cpu_has_tags() -> bool {
    #[cfg(target_arch = "aarch64")]
    let tags = std::arch::is_aarch64_feature_detected!("mte");
    #[cfg(not(target_arch = "aarch64"))]
    let tags = false;
    tags
}

/// A feature that an environment may lack.
struct Excuse {
    name: &'static str,
    applies: fn(&Facts) -> bool,
    may_skip: &'static [Feature],
}

/// The skips that are allowed, and where. Any other skip fails.
const EXCUSES: [Excuse; 6] = [
    Excuse {
        name: "before 5.13",
        applies: |facts| facts.kernel.is_some_and(|version| version < (5, 13)),
        may_skip: &[Feature::Paging],
    },
    Excuse {
        name: "before 6.6",
        applies: |facts| facts.kernel.is_some_and(|version| version < (6, 6)),
        may_skip: &[Feature::Poison],
    },
    Excuse {
        name: "user-mode emulation",
        applies: |facts| facts.arch != "x86_64" && facts.userfaultfd == Err(libc::ENOSYS),
        may_skip: &[Feature::Poison, Feature::Paging],
    },
    Excuse {
        name: "a sandbox that refuses userfaultfd",
        applies: |facts| matches!(facts.userfaultfd, Err(libc::EPERM | libc::EACCES)),
        may_skip: &[Feature::Poison, Feature::Paging],
    },
    Excuse { name: "no memory tags", applies: |facts| !facts.tags, may_skip: &[Feature::Tags] },
    Excuse {
        name: "no FP state on this architecture",
        applies: |facts| !matches!(facts.arch, "x86_64" | "aarch64"),
        may_skip: &[Feature::FpState],
    },
];

/// This machine.
#[derive(Clone, Debug)]
pub struct Environment {
    facts: Facts,
}

impl Environment {
    /// Probes this machine.
    pub fn probe() -> Environment {
        Environment { facts: Facts::gather() }
    }

    /// Makes an environment with these facts.
    pub fn of(facts: Facts) -> Environment {
        Environment { facts }
    }

    /// Returns whether a cell may be skipped here for lack of `feature`.
    pub fn may_skip(&self, feature: Feature) -> bool {
        self.excuses().any(|excuse| excuse.may_skip.contains(&feature))
    }

    fn excuses(&self) -> impl Iterator<Item = &'static Excuse> {
        EXCUSES.iter().filter(|excuse| (excuse.applies)(&self.facts))
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", self.facts.arch)?;
        match self.facts.kernel {
            Some((major, minor)) => write!(f, "Linux {major}.{minor}")?,
            None => write!(f, "Linux")?,
        }
        self.excuses().try_for_each(|excuse| write!(f, ", {}", excuse.name))
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_allowed_where_the_list_says_and_nowhere_else() {
        let native = Facts { arch: "x86_64", kernel: Some((6, 18)), userfaultfd: Ok(()), tags: false };
        for (facts, poison, fpstate) in [
            (native, false, false),
            (Facts { kernel: Some((6, 1)), ..native }, true, false),
            (Facts { userfaultfd: Err(libc::EPERM), ..native }, true, false),
            (Facts { userfaultfd: Err(libc::ENOSYS), ..native }, false, false),
            (Facts { userfaultfd: Err(libc::ENOSYS), arch: "aarch64", ..native }, true, false),
            (Facts { arch: "riscv64", ..native }, false, true),
            (Facts { kernel: None, ..native }, false, false),
        ] {
            let environment = Environment::of(facts);
            assert_eq!(environment.may_skip(Feature::Poison), poison, "{facts:?}");
            assert_eq!(environment.may_skip(Feature::FpState), fpstate, "{facts:?}");
        }
    }

    #[test]
    fn releases_parse() {
        assert_eq!(version("6.18.44-fc-v595\n"), Some((6, 18)));
        assert_eq!(version("7.0-rc3"), Some((7, 0)));
        assert_eq!(version(""), None);
    }
}
