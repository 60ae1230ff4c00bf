//! Every cell, on this machine.

use std::sync::OnceLock;

use faultin_audit::expect::Ends;
use faultin_audit::log::{Came, REPEATS, Step};
use faultin_audit::run::{Outcome, Ran};
use faultin_audit::{Cell, Report, Scenario, Selection, Variant, run};

fn report() -> &'static Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    REPORT.get_or_init(|| run::report(&Selection::everything()))
}

fn ran(cell: &Cell) -> Option<&Ran> {
    match &cell.outcome {
        Outcome::Ran(ran) => Some(ran),
        _ => None,
    }
}

fn name(cell: &Cell) -> String {
    format!("{}, {}, {}", cell.caller.name, cell.variant.name(), cell.scenario.name())
}

fn cell(row: u8, variant: Variant, scenario: Scenario) -> &'static Cell {
    let found = |c: &&Cell| (c.caller.row, c.variant, c.scenario) == (row, variant, scenario);
    report().cells.iter().find(found).expect("a cell for every row, variant and scenario")
}

#[test]
fn every_cell_that_runs_is_as_expected_and_every_skip_is_allowed() {
    for cell in &report().cells {
        let why = ran(cell).map(|ran| (&ran.verdict, &ran.steps));
        assert_ne!(cell.ok(), Some(false), "{}: {} {why:#?}", name(cell), cell.actual());
    }
    assert!(report().is_ok());
}

#[test]
fn nothing_that_should_run_is_left_out() {
    assert_eq!(report().cells.len(), 20 * 2 * 7);
    for cell in &report().cells {
        let running = matches!(cell.caller.row, 1 | 5 | 6 | 14);
        assert_eq!(running, !matches!(cell.outcome, Outcome::NotYet), "{}", name(cell));
        assert_eq!(running, cell.expected().is_some(), "{}", name(cell));
        if let Outcome::Skipped { feature, .. } = cell.outcome {
            assert!(!feature.present(), "{}", name(cell));
            assert_eq!(cell.actual(), format!("skipped: {}", feature.name()));
        }
    }
}

#[test]
fn restore_as_found_never_ends_when_the_last_page_is_missing() {
    if !faultin_audit::environment::Feature::FpState.present() {
        return;
    }
    let found = ran(cell(5, Variant::AsFound, Scenario::SecondPageBad)).unwrap();
    assert_eq!((found.actual.as_str(), found.moved, found.rounds), ("∞", 0, REPEATS + 1));
    let fixed = ran(cell(5, Variant::Fixed, Scenario::SecondPageBad)).unwrap();
    assert_eq!((fixed.actual.as_str(), fixed.moved, fixed.rounds), ("SIGSEGV", 0, 1));
}

#[test]
fn where_both_variants_end_alike_their_steps_differ() {
    // What was done, without how often it may be done.
    let deeds = |steps: &[Step]| -> Vec<String> {
        steps.iter().map(|step| step.what.split(',').next().unwrap_or_default().to_owned()).collect()
    };
    let mut compared = 0;
    for found in report().cells.iter().filter(|c| c.variant == Variant::AsFound && c.scenario != Scenario::Remapping) {
        let fixed = cell(found.caller.row, Variant::Fixed, found.scenario);
        let (Some(a), Some(b)) = (ran(found), ran(fixed)) else { continue };
        if a.actual != b.actual {
            continue;
        }
        compared += 1;
        assert_ne!(a.steps, b.steps, "{}", name(found));
        if a.steps.iter().any(|step| matches!(step.came, Came::Short { .. })) {
            assert_ne!(deeds(&a.steps), deeds(&b.steps), "{}: the same on a fault", name(found));
        }
    }
    assert!(compared >= 10, "{compared}");
}

#[test]
fn where_the_variants_end_differently_the_mail_was_right() {
    let differ: Vec<(u8, Scenario)> = report()
        .cells
        .iter()
        .filter(|c| c.variant == Variant::AsFound && c.scenario != Scenario::Remapping)
        .filter(|c| c.expected() != cell(c.caller.row, Variant::Fixed, c.scenario).expected())
        .map(|c| (c.caller.row, c.scenario))
        .collect();
    use Scenario::{AllResident, Cold, FirstPageBad, Poisoned, ReadOnly, SecondPageBad};
    let inverted = [AllResident, Cold, FirstPageBad, SecondPageBad, ReadOnly, Poisoned].map(|scenario| (1, scenario));
    let rest = [(5, SecondPageBad), (5, Poisoned), (6, SecondPageBad), (6, Poisoned)];
    let expected: Vec<_> = inverted.into_iter().chain(rest).collect();
    // A cell that was skipped still says what was expected of it, where the size of its object matters it does not.
    let ran_all = report().cells.iter().all(|cell| !matches!(cell.outcome, Outcome::Skipped { .. }));
    assert!(!ran_all || differ == expected, "{differ:?}");
}

#[test]
fn beside_the_adversary_a_cell_runs_often_and_meets_it() {
    let mut met = 0;
    for cell in report().cells.iter().filter(|cell| cell.scenario == Scenario::Remapping) {
        let (Some(ran), Some(expectation)) = (ran(cell), cell.expectation) else { continue };
        assert!(matches!(expectation.ends, Ends::OneOf(_)), "{}", name(cell));
        assert!(ran.runs >= 64, "{}: {} runs", name(cell), ran.runs);
        assert!(ran.actual.starts_with("holds: "), "{}: {}", name(cell), ran.actual);
        met += usize::from(ran.actual.matches('×').count() > 1);
    }
    assert!(met > 0, "no caller ever met a page that was gone");
}
