//! Whether the audit would notice: every caller with its loop changed turns a cell red.

use faultin::fpstate::{self, Image};
use faultin::{Granularity, Short};
use faultin_audit::callers::{self, Ended, Halt, Job};
use faultin_audit::environment::{Environment, Feature};
use faultin_audit::expect::Expectation;
use faultin_audit::log::Log;
use faultin_audit::memory::{BufferObject, Object, UserMemory};
use faultin_audit::run;
use faultin_audit::{Cell, Scenario, Variant};

type Loop = fn(&UserMemory, &mut Log) -> Result<Ended, Halt>;

/// A caller whose code was exchanged; its object and its expectations are the caller's.
struct Mutant(&'static dyn Job, Loop);

impl Job for Mutant {
    fn object(&self) -> Object {
        self.0.object()
    }

    fn run(&self, _: Variant, user: &UserMemory, log: &mut Log) -> Result<Ended, Halt> {
        self.1(user, log)
    }

    fn origin(&self, variant: Variant) -> &'static str {
        self.0.origin(variant)
    }

    fn expectations(&self) -> &'static [Expectation] {
        self.0.expectations()
    }

    fn needs(&self) -> Option<Feature> {
        self.0.needs()
    }
}

/// The cells of the fixed variant, with this in its place.
fn mutated(row: &str, code: Loop) -> Vec<Cell> {
    let (caller, environment) = (callers::named(row)[0], Environment::probe());
    let job = caller.job.expect("a row that runs");
    job.expectations()
        .iter()
        .filter(|expectation| expectation.variant == Variant::Fixed)
        .map(|expectation| run::judged(&caller, &Mutant(job, code), *expectation, &environment))
        .collect()
}

/// The columns in which something is wrong.
fn red(cells: &[Cell]) -> Vec<Scenario> {
    cells.iter().filter(|cell| cell.ok() == Some(false)).map(|cell| cell.scenario).collect()
}

fn ended(status: &'static str, moved: usize) -> Result<Ended, Halt> {
    Ok(Ended { status, moved, product: Ok(()) })
}

#[test]
fn each_variant_against_the_other_ones_expectations_turns_red() {
    let environment = Environment::probe();
    for caller in callers::all().iter().filter(|caller| caller.job.is_some()) {
        let job = caller.job.unwrap();
        if job.needs().is_some_and(|feature| !feature.present()) {
            continue;
        }
        // Where both end alike only the steps tell them apart, and they are compared with each other elsewhere.
        let alike = caller.row == 14;
        for variant in Variant::ALL {
            let wrong = job.expectations().iter().filter(|expectation| expectation.variant != variant).any(|other| {
                let swapped = Expectation { variant, ..*other };
                run::judged(caller, job, swapped, &environment).ok() == Some(false)
            });
            assert_eq!(wrong, !alike, "{} {}", caller.name, variant.name());
        }
    }
}

#[test]
fn kvm_that_does_not_look_at_the_result() {
    let cells = mutated("1", |user, log| {
        let word = user.source()?.load::<u32>(0);
        log.accessed("load", 4, &word);
        ended("on", 4)
    });
    assert!(red(&cells).contains(&Scenario::FirstPageBad));
}

#[test]
fn kvm_that_reads_a_byte_too_few() {
    let cells = mutated("1", |user, log| {
        let byte = user.source()?.load::<u8>(0);
        log.accessed("load", 1, &byte);
        if byte.is_ok() { ended("on", 1) } else { ended("off", 0) }
    });
    assert!(red(&cells).contains(&Scenario::AllResident));
}

#[test]
fn restore_that_takes_a_part_for_success() {
    if !Feature::FpState.present() {
        return;
    }
    let cells = mutated("5", |user, log| {
        let frame = user.source()?;
        loop {
            let restored = fpstate::restore(&frame);
            log.accessed("restore", frame.len(), &restored);
            if restored.is_ok() {
                return ended("restored", frame.len());
            }
            let proven = frame.probe(0, frame.len(), Granularity::Page);
            if matches!(proven, Err(Short { done: 0, .. })) {
                return ended("SIGSEGV", 0);
            }
            log.again()?;
        }
    });
    let broken = cells.iter().find(|cell| cell.scenario == Scenario::SecondPageBad).unwrap();
    assert_eq!((broken.actual().as_str(), broken.ok()), ("∞", Some(false)));
}

#[test]
fn restore_that_tries_again_without_a_proof() {
    if !Feature::FpState.present() {
        return;
    }
    let cells = mutated("5", |user, log| {
        let frame = user.source()?;
        for attempt in 1..=16 {
            let restored = fpstate::restore(&frame);
            log.accessed(format!("restore, attempt {attempt}"), frame.len(), &restored);
            if restored.is_ok() {
                return ended("restored", frame.len());
            }
            log.again()?;
        }
        ended("SIGSEGV", 0)
    });
    assert!(red(&cells).contains(&Scenario::FirstPageBad) && red(&cells).contains(&Scenario::SecondPageBad));
}

#[test]
fn pwrite_that_forgets_what_is_left() {
    let cells = mutated("6", |user, _| {
        let (from, object) = (user.source()?, BufferObject::new()?);
        let _ = from.copy_to(0, &object.mapped()?, 64, from.len());
        ended("ok", from.len())
    });
    assert!(red(&cells).contains(&Scenario::SecondPageBad));
}

#[test]
fn pwrite_that_counts_whole_pages_only() {
    let cells = mutated("6", |user, _| {
        let (from, object) = (user.source()?, BufferObject::new()?);
        match from.copy_to(0, &object.mapped()?, 64, from.len()) {
            Ok(()) => ended("ok", from.len()),
            Err(_) => ended("EFAULT", 0),
        }
    });
    assert_eq!(red(&cells)[0], Scenario::SecondPageBad);
}

#[test]
fn save_that_leaves_the_header_as_it_was() {
    if !Feature::FpState.present() || !cfg!(target_arch = "x86_64") {
        return;
    }
    let cells = mutated("14", |user, _| {
        let (frame, registers) = (user.dest()?, Image::patterned(1));
        if fpstate::save(&frame, &registers).is_err() {
            return ended("SIGSEGV", 0);
        }
        let product = fpstate::restore(&user.witness()?.source()?).map(drop).map_err(|fault| fault.to_string());
        Ok(Ended { status: "saved", moved: frame.len(), product })
    });
    assert!(red(&cells).contains(&Scenario::AllResident));
}

#[test]
fn save_that_is_killed_for_a_page_it_could_write() {
    if !Feature::FpState.present() {
        return;
    }
    let cells = mutated("14", |_, _| ended("SIGSEGV", 0));
    assert!(red(&cells).contains(&Scenario::AllResident) && red(&cells).contains(&Scenario::Cold));
}

#[test]
fn save_that_tries_again_without_a_proof() {
    if !Feature::FpState.present() {
        return;
    }
    let cells = mutated("14", |user, log| {
        let (frame, registers) = (user.dest()?, Image::patterned(1));
        for attempt in 1..=16 {
            let saved = fpstate::save(&frame, &registers);
            log.accessed(format!("save, attempt {attempt}"), frame.len(), &saved);
            if saved.is_ok() {
                return ended("saved", frame.len());
            }
            log.again()?;
        }
        ended("SIGSEGV", 0)
    });
    assert!(red(&cells).contains(&Scenario::SecondPageBad) && red(&cells).contains(&Scenario::ReadOnly));
}

#[test]
fn a_count_that_is_not_the_expected_one_although_the_status_is() {
    if !Feature::FpState.present() {
        return;
    }
    assert!(red(&mutated("5", |_, _| ended("restored", 0))).contains(&Scenario::AllResident));
}
