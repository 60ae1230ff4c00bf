//! Random cases.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use faultin_cache::mutation::Bug;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::case::{Case, cases};
use crate::kernel::{FileSystem, KernelFile};
use crate::run::Bench;

/// The default number of cases.
const CASES: u64 = if cfg!(target_arch = "x86_64") { 3000 } else { 100 };

pub fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}, and should be a number")))
}

/// The generator of cases for a seed.
fn runner(seed: u64) -> TestRunner {
    let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 3000, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

#[test]
fn the_kernel_and_ours_do_the_same() {
    let _serial = crate::serial();
    let bench = Bench::new();
    if !bench.region.can_poison() {
        faultin_test::skipped("uffd-poison", "userfaultfd without UFFDIO_POISON");
    }
    let alignment = bench.alignment();
    if alignment.is_none() {
        faultin_test::skipped("o-direct", "the build directory's file system has none");
    }
    for file in bench.kernel_files() {
        if !file.is_exact() {
            faultin_test::skipped(
                "exact-counts",
                format_args!("this kernel's counts on {:?} need not be exact", file.file_system),
            );
        }
    }
    let strategy = cases(bench.region.can_poison(), alignment);
    let bench = RefCell::new(bench);
    let count = variable("FAULTIN_ORACLE_CASES").unwrap_or(CASES);
    let first = variable("FAULTIN_ORACLE_SEED").unwrap_or(0);
    for seed in first..first + count {
        let result =
            runner(seed).run(&strategy, |case: Case| bench.borrow_mut().run(&case).map_err(TestCaseError::fail));
        match result {
            Ok(()) => {}
            Err(TestError::Fail(what, case)) => panic!(
                "{what}\nThe smallest case:\n{case:?}\
                 Again: FAULTIN_ORACLE_SEED={seed} FAULTIN_ORACLE_CASES=1 cargo test -p faultin-cache --test oracle"
            ),
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    let bench = bench.into_inner();
    let tally = bench.tally;
    if count < CASES {
        return;
    }
    for (what, times) in
        [("whole", tally.whole), ("short", tally.short), ("nothing", tally.nothing), ("direct", tally.direct)]
    {
        assert!(times > count / 4, "{what}: {times} times in {count} cases: {tally:?}");
    }
    for file in bench.kernel_files().into_iter().filter(|file| file.is_exact()) {
        let used = match file.file_system {
            FileSystem::Tmpfs => tally.quirks.extended_by_nothing_on_tmpfs,
            FileSystem::Ext4 => tally.quirks.extended_by_nothing_on_ext4,
            FileSystem::Other => continue,
        };
        assert!(used > 0, "extended_by_nothing: no case on {:?} needs this rule: {tally:?}", file.file_system);
    }
}

/// Checks the oracle itself: known bugs of such loops are injected, and must be detected.
#[test]
fn bugs_of_the_past_are_found() {
    let _serial = crate::serial();
    let mut bench = Bench::new();
    if !bench.kernel_files().into_iter().any(KernelFile::is_exact) {
        return faultin_test::skipped("exact-counts", "this kernel's counts need not be exact");
    }
    let strategy = cases(bench.region.can_poison(), bench.alignment());
    for bug in [
        Bug::ShowsStaleBytes,
        Bug::FreesWrittenBlocks,
        Bug::ForgetsProgress,
        Bug::DecidesPositionAgain,
        Bug::CumulativeCount,
        Bug::LeavesZeros,
    ] {
        bench.bug = Some(bug);
        let is_found = (0..CASES).any(|seed| {
            let case = strategy.new_tree(&mut runner(seed)).unwrap().current();
            catch_unwind(AssertUnwindSafe(|| bench.run(&case))).map_or(true, |result| result.is_err())
        });
        assert!(is_found, "{bug:?} is in our writes, and {CASES} cases are as the kernel's");
    }
}
