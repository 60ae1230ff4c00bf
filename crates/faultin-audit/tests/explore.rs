//! Every caller explored within a bound: the findings are the known ones; and every bug of the past is found when it is put
//! back.

use faultin_audit::bug::Bug;
use faultin_audit::caller::Job;
use faultin_audit::explore::{Bound, Exploration, Kind, explore};
use faultin_audit::{Scenario, Variant, callers};
use faultin_cache::mutation::Bug as WriteBug;

use Variant::{AsFound, Fixed};

/// Returns the maximum number of actions of an adversary: one, or `FAULTIN_EXPLORE_ACTIONS`. `.ci/long exploration` runs the tests with
/// two, which take eight times as long.
fn actions() -> usize {
    let value = std::env::var("FAULTIN_EXPLORE_ACTIONS");
    value.map_or(1, |value| value.parse().expect("FAULTIN_EXPLORE_ACTIONS is a number"))
}

fn explored(row: u8, variant: Variant, bug: Option<Bug>) -> Exploration {
    let caller = callers::named(&row.to_string())[0];
    // A bug that was put back has to be found, not explored.
    let actions = if bug.is_some() { 1 } else { actions() };
    let bound = Bound { actions, ..Bound::TESTS };
    explored_as(row, caller.job.expect("a row that runs"), variant, bug, bound)
}

/// Explores with a buffer that behaves like a mapping of these pages.
fn explored_mapped(row: u8, pages: Scenario, variant: Variant, bug: Option<Bug>) -> Exploration {
    let job = callers::named(&row.to_string())[0].mapped.expect("a row that has mappings").simulated(pages);
    // Of other pages the pager brings in the same: one action less shows the same.
    let actions = if bug.is_some() || pages == Scenario::OtherPages { 1 } else { actions() };
    explored_as(row, job, variant, bug, Bound { actions, ..Bound::TESTS })
}

fn explored_as(row: u8, job: &dyn Job, variant: Variant, bug: Option<Bug>, bound: Bound) -> Exploration {
    let caller = callers::named(&row.to_string())[0];
    let found = explore(&caller, job, variant, bound, bug, |_| {});
    assert!(found.exhausted, "row {row}: {:?}", found.figures);
    assert!(
        found.figures.layouts > 10 && found.figures.states > 100 * found.figures.layouts / 10,
        "{:?}",
        found.figures
    );
    found
}

fn listed(found: &Exploration) -> String {
    found.findings.iter().map(|finding| format!("{finding}\n")).collect()
}

/// Rows that are known not to terminate as found.
const ENDLESS: [u8; 3] = [5, 14, 15];

fn is_as_known(row: u8) {
    let fixed = explored(row, Fixed, None);
    assert!(fixed.findings.is_empty(), "row {row}, fixed\n{}", listed(&fixed));
    let found = explored(row, AsFound, None);
    // Where an adversary ends a loop that would not terminate, the attempts before were wasted.
    let known: &[Kind] = match row {
        _ if ENDLESS.contains(&row) => &[Kind::Livelock, Kind::Wasted],
        17..=20 => &[Kind::WaitedUnderLock],
        _ => &[],
    };
    assert_eq!(found.kinds(), known, "row {row}, as found\n{}", listed(&found));
}

#[test]
fn exploring_rows_1_to_4_and_6_finds_what_is_known() {
    [1, 2, 3, 4, 6].into_iter().for_each(is_as_known);
}

#[test]
fn exploring_row_5_finds_what_is_known() {
    is_as_known(5);
}

#[test]
fn exploring_rows_7_and_16_finds_what_is_known() {
    [7, 16].into_iter().for_each(is_as_known);
}

#[test]
fn exploring_rows_8_and_9_finds_what_is_known() {
    [8, 9].into_iter().for_each(is_as_known);
}

#[test]
fn exploring_rows_10_and_11_finds_what_is_known() {
    [10, 11].into_iter().for_each(is_as_known);
}

#[test]
fn exploring_rows_12_and_13_finds_what_is_known() {
    [12, 13].into_iter().for_each(is_as_known);
}

#[test]
fn exploring_row_14_finds_what_is_known() {
    is_as_known(14);
}

#[test]
fn exploring_row_15_finds_what_is_known() {
    is_as_known(15);
}

#[test]
fn exploring_rows_17_and_18_finds_what_is_known() {
    [17, 18].into_iter().for_each(is_as_known);
}

#[test]
fn exploring_rows_19_and_20_finds_what_is_known() {
    [19, 20].into_iter().for_each(is_as_known);
}

/// Checks a buffer whose faults take the lock: as found it waits for itself, fixed nothing is wrong.
fn is_as_known_mapped(row: u8) {
    for pages in [Scenario::SamePages, Scenario::OtherPages] {
        let fixed = explored_mapped(row, pages, Fixed, None);
        assert!(fixed.findings.is_empty(), "row {row}, {pages:?}, fixed\n{}", listed(&fixed));
        let found = explored_mapped(row, pages, AsFound, None);
        // Or, if the page was revoked only after the pager was called, it waits for the machine under the lock.
        let known = [Kind::Deadlock, Kind::WaitedUnderLock];
        assert_eq!(found.kinds(), known, "row {row}, {pages:?}, as found\n{}", listed(&found));
    }
}

#[test]
fn exploring_rows_17_and_18_with_mappings_finds_what_is_known() {
    [17, 18].into_iter().for_each(is_as_known_mapped);
}

#[test]
fn exploring_rows_19_and_20_with_mappings_finds_what_is_known() {
    [19, 20].into_iter().for_each(is_as_known_mapped);
}

/// B15: the buffer is what a direct write evicts before each attempt. If it maps the written pages, no other fault is
/// needed. With other pages nothing is evicted, and a round that moved a part of a unit keeps it.
#[test]
fn a_direct_write_that_invalidates_its_source_is_found_where_the_source_is_what_it_writes() {
    let bug = Some(Bug::Write(WriteBug::InvalidatesItsSource));
    let found = explored_mapped(20, Scenario::SamePages, Fixed, bug);
    let livelock = found.findings.iter().find(|finding| finding.violation.kind() == Kind::Livelock);
    let livelock = livelock.unwrap_or_else(|| panic!("{}", listed(&found)));
    assert!(livelock.script.is_empty(), "{livelock}");
    let found = explored_mapped(20, Scenario::OtherPages, Fixed, bug);
    assert!(found.findings.is_empty(), "{}", listed(&found));
}

#[test]
fn every_row_that_runs_is_explored() {
    let running: Vec<u8> =
        callers::all().iter().filter(|caller| caller.job.is_some()).map(|caller| caller.row).collect();
    assert_eq!(running, (1..=20).collect::<Vec<u8>>());
}

/// Each bug of the past, in each row that had it, and the finding that shows it.
const BUGS: [(Bug, u8, Kind); 31] = [
    (Bug::Inverted, 1, Kind::Status),
    (Bug::PartIsSuccess, 5, Kind::Wasted),
    (Bug::PartIsSuccess, 14, Kind::Wasted),
    (Bug::FrameNamesItsSize, 5, Kind::Wasted),
    (Bug::FailureBehindTheFirstPageIsSuccess, 5, Kind::Wasted),
    (Bug::FailureBehindTheFirstPageIsSuccess, 14, Kind::Wasted),
    (Bug::FailureBehindTheFirstPageIsSuccess, 15, Kind::Wasted),
    (Bug::OneBytePerPage, 14, Kind::Wasted),
    (Bug::OneBytePerPage, 15, Kind::Wasted),
    (Bug::CumulativeCount, 7, Kind::Product),
    (Bug::CumulativeCount, 16, Kind::Product),
    (Bug::RestsOnAnEmptySegment, 7, Kind::Livelock),
    (Bug::RestsOnAnEmptySegment, 16, Kind::Livelock),
    (Bug::OverrunsTheMappedPart, 7, Kind::Product),
    (Bug::OverrunsTheMappedPart, 16, Kind::Product),
    (Bug::CutRecordCounts, 15, Kind::Product),
    (Bug::KeepsTheLock, 15, Kind::StillHeld),
    (Bug::FaultsUnderTheLock, 15, Kind::WaitedUnderLock),
    (Bug::CopiesUnderTheLock, 8, Kind::WaitedUnderLock),
    (Bug::Write(WriteBug::FaultsInUnderTheLock), 10, Kind::WaitedUnderLock),
    (Bug::Write(WriteBug::KeepsReservation), 11, Kind::Product),
    (Bug::Write(WriteBug::StepsBySegment([0; 3])), 10, Kind::Livelock),
    (Bug::Write(WriteBug::ShowsStaleBytes), 10, Kind::Product),
    (Bug::Write(WriteBug::AsksForTheSame), 8, Kind::Livelock),
    (Bug::Write(WriteBug::TwoRules), 13, Kind::Livelock),
    (Bug::Write(WriteBug::FreesWrittenBlocks), 13, Kind::Product),
    (Bug::Write(WriteBug::ForgetsProgress), 13, Kind::Product),
    (Bug::Write(WriteBug::DecidesPositionAgain), 8, Kind::Product),
    (Bug::Write(WriteBug::CumulativeCount), 12, Kind::Product),
    (Bug::Write(WriteBug::IgnoresFaultIn), 10, Kind::Livelock),
    (Bug::Write(WriteBug::LeavesZeros), 10, Kind::Product),
];

#[test]
fn every_bug_of_the_past_is_found_when_it_is_put_back() {
    for (bug, row, kind) in BUGS {
        let found = explored(row, Fixed, Some(bug));
        assert!(found.kinds().contains(&kind), "{bug:?} in row {row}: {:?}\n{}", found.kinds(), listed(&found));
    }
    // With its own buffer, above.
    let above = |bug| bug == WriteBug::InvalidatesItsSource;
    let tried = |bug| BUGS.iter().any(|(tried, ..)| *tried == bug);
    assert!(Bug::ALL.into_iter().all(tried));
    assert!(WriteBug::ALL.into_iter().all(|bug| tried(Bug::Write(bug)) || above(bug)));
}

#[test]
fn a_finding_is_the_shortest_and_says_how_to_see_it_again() {
    let found = explored(5, AsFound, None);
    let livelock = found.findings.iter().find(|finding| finding.violation.kind() == Kind::Livelock).unwrap();
    assert_eq!((livelock.script.len(), livelock.faults), (1, 1), "{livelock}");
    let printed = livelock.to_string();
    for text in ["∞: a state was repeated", "from the beginning: unmap", "fault-in (partial counts as success)"] {
        assert!(printed.contains(text), "{text} in\n{printed}");
    }
}

#[test]
fn a_bound_that_is_not_enough_is_said_to_be() {
    let caller = callers::named("6")[0];
    let few = Bound { states: 50, ..Bound::TESTS };
    let found = explore(&caller, caller.job.unwrap(), Fixed, few, None, |_| {});
    assert_eq!((found.exhausted, found.figures.states), (false, 50));
}

#[test]
fn more_is_found_behind_more_states() {
    let caller = callers::named("6")[0];
    let states = |faults, actions| {
        let bound = Bound { faults, actions, states: 1 << 20 };
        explore(&caller, caller.job.unwrap(), Fixed, bound, None, |_| {}).figures.states
    };
    let (none, one, two) = (states(0, 0), states(0, 1), states(1, 1));
    assert_eq!(none, 1);
    assert!(none < one && one < two, "{none} {one} {two}");
}
