//! Every cell, on this machine.

use std::sync::OnceLock;

use faultin_audit::environment::Feature;
use faultin_audit::expect::Ends;
use faultin_audit::log::{Came, REPEATS, Step};
use faultin_audit::run::{Outcome, Ran};
use faultin_audit::{Cell, Memory, Report, Scenario, Selection, Variant, run};

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
    let (variant, memory, scenario) = (cell.variant.name(), cell.memory.name(), cell.scenario.name());
    format!("{}, {variant}, {memory}, {scenario}", cell.caller.name)
}

fn cell(row: u8, variant: Variant, memory: Memory, scenario: Scenario) -> &'static Cell {
    let found = |c: &&Cell| (c.caller.row, c.variant, c.memory, c.scenario) == (row, variant, memory, scenario);
    report().cells.iter().find(found).expect("a cell for every row, variant, memory and scenario")
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
    assert_eq!(report().cells.len(), 20 * 2 * 2 * 18);
    for cell in &report().cells {
        let applies = match cell.scenario {
            Scenario::OwnFolio => matches!(cell.caller.row, 8..=13 | 17..=20),
            Scenario::TwoFiles => cell.caller.row >= 17 && cell.memory == Memory::Host,
            Scenario::BadGranule => cell.caller.row >= 17 && cell.memory == Memory::Sim,
            other if other.is_of_mappings() => cell.caller.row >= 17,
            _ => true,
        };
        assert!(!matches!(cell.outcome, Outcome::NotYet), "{}", name(cell));
        assert_eq!(!applies, matches!(cell.outcome, Outcome::NotApplicable(why) if !why.is_empty()), "{}", name(cell));
        assert_eq!(applies, cell.expected().is_some(), "{}", name(cell));
        if let Outcome::Skipped { feature, .. } = cell.outcome {
            assert!(!feature.present(), "{}", name(cell));
            assert_eq!(cell.actual(), format!("skipped: {}", feature.name()));
        }
    }
    for (need, feature) in [
        ("uffd", Feature::Paging),
        ("uffd-poison", Feature::Poison),
        ("memory-tags", Feature::Tags),
        ("xsave", Feature::FpState),
    ] {
        let is_skipped = |cell: &&Cell| matches!(cell.outcome, Outcome::Skipped { feature: why, .. } if why == feature);
        let cells = report().cells.iter().filter(is_skipped).count();
        if cells > 0 {
            faultin_test::skipped(need, format_args!("{cells} cells of the audit"));
        }
    }
}

#[test]
fn on_simulated_memory_nothing_is_skipped() {
    for cell in report().cells.iter().filter(|cell| cell.memory == Memory::Sim) {
        assert!(!matches!(cell.outcome, Outcome::Skipped { .. }), "{}", name(cell));
    }
}

#[test]
fn both_memories_tell_the_same() {
    let races = [Scenario::Remapping, Scenario::EvictionStorm, Scenario::TwoFiles];
    for host in report().cells.iter().filter(|c| c.memory == Memory::Host && !races.contains(&c.scenario)) {
        let sim = cell(host.caller.row, host.variant, Memory::Sim, host.scenario);
        if let (Some(on_host), Some(on_sim)) = (ran(host), ran(sim)) {
            let words = |actual: &str| actual.split(',').next().map(str::to_owned);
            assert_eq!(words(&on_host.actual), words(&on_sim.actual), "{}", name(host));
        }
    }
}

#[test]
fn restore_as_found_never_ends_when_the_last_page_is_missing() {
    for memory in Memory::ALL {
        let (Some(found), Some(fixed)) = (
            ran(cell(5, Variant::AsFound, memory, Scenario::SecondPageBad)),
            ran(cell(5, Variant::Fixed, memory, Scenario::SecondPageBad)),
        ) else {
            continue;
        };
        assert_eq!((found.actual.as_str(), found.moved, found.rounds), ("∞", 0, REPEATS + 1));
        assert_eq!((fixed.actual.as_str(), fixed.moved, fixed.rounds), ("SIGSEGV", 0, 1));
    }
}

#[test]
fn where_both_variants_end_alike_their_steps_differ() {
    // The steps, without their possible repetitions.
    let deeds = |steps: &[Step]| -> Vec<String> {
        steps.iter().map(|step| step.what.split(',').next().unwrap_or_default().to_owned()).collect()
    };
    let mut compared = 0;
    for found in report().cells.iter().filter(|c| c.variant == Variant::AsFound && c.scenario != Scenario::Remapping) {
        let fixed = cell(found.caller.row, Variant::Fixed, found.memory, found.scenario);
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
fn beside_the_adversary_a_cell_runs_often_and_meets_it() {
    let mut met = 0;
    for cell in report().cells.iter().filter(|cell| cell.scenario == Scenario::Remapping) {
        let (Some(ran), Some(expectation)) = (ran(cell), cell.expectation) else { continue };
        assert!(matches!(expectation.ends, Ends::OneOf(_)), "{}", name(cell));
        // On simulated memory, every moment of the run is tried, and a run may have very few.
        assert!(ran.runs >= if cell.memory == Memory::Host { 64 } else { 2 }, "{}: {} runs", name(cell), ran.runs);
        assert!(ran.actual.starts_with("holds: "), "{}: {}", name(cell), ran.actual);
        met += usize::from(ran.actual.matches('×').count() > 1);
    }
    assert!(met > 0, "no caller ever met a page that was gone");
}

/// Returns the steps of a cell, in words.
fn steps(cell: &Cell) -> String {
    ran(cell).map(|ran| ran.steps.iter().map(|step| format!("{step}\n")).collect()).unwrap_or_default()
}

#[test]
fn as_found_a_fault_waits_for_the_lock_that_its_own_caller_holds_and_the_steps_say_so() {
    for (row, memory, scenario) in (17..=20)
        .flat_map(|row| Memory::ALL.map(|memory| (row, memory)))
        .flat_map(|(row, memory)| [Scenario::SamePages, Scenario::OtherPages].map(|scenario| (row, memory, scenario)))
    {
        let (found, fixed) =
            (cell(row, Variant::AsFound, memory, scenario), cell(row, Variant::Fixed, memory, scenario));
        assert_eq!((found.actual().as_str(), fixed.actual().as_str()), ("deadlock", "ok"), "{}", name(found));
        let circle = steps(found);
        assert_eq!(circle.matches(" waits for the inode lock of file").count(), 1, "{}: {circle}", name(found));
        assert!(circle.trim_end().ends_with("which the first one holds"), "{circle}");
        assert!(!steps(fixed).contains("waits"), "{}", steps(fixed));
    }
}

#[test]
fn two_threads_with_each_others_files_are_a_circle_of_two() {
    for row in 17..=20 {
        let found = cell(row, Variant::AsFound, Memory::Host, Scenario::TwoFiles);
        let circle = steps(found);
        assert_eq!(circle.matches(" waits for the inode lock of file").count(), 2, "{}: {circle}", name(found));
        assert_eq!(ran(found).unwrap().actual, "holds: deadlock ×32", "each time");
    }
}

#[test]
fn as_found_direct_io_returns_an_error_in_place_of_what_it_moved() {
    for (row, memory) in [19, 20].into_iter().flat_map(|row| Memory::ALL.map(|memory| (row, memory))) {
        let [found, fixed] = Variant::ALL.map(|variant| cell(row, variant, memory, Scenario::SecondPageBad));
        assert_eq!((found.actual().as_str(), fixed.actual().as_str()), ("EFAULT", "short, 128"), "{}", name(found));
        assert!(steps(found).contains("the 128 bytes that were moved are not reported"), "{}", steps(found));
    }
}
