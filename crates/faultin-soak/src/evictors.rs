//! Threads that only evict: occasionally, each time until every working thread has completed some operations. An operation
//! that another thread can keep from completing is stuck, which the [watch](super::watch) detects.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use faultin_test::Random;

use super::world::World;

/// Number of these threads.
pub const THREADS: usize = 2;

/// Number of operations that every thread completes meanwhile.
const OPERATIONS: u64 = 3;

/// Evicts occasionally, until the end of the run.
pub fn run(world: &World, number: usize) {
    let random = Random::for_user(world.setup.seed, 600 + number as u64);
    while !world.is_over() {
        thread::sleep(Duration::from_millis(20 + random.below(300) as u64));
        let begun: Vec<u64> = world.trails.iter().map(|trail| trail.operations()).collect();
        let has_gone_on = |number: usize| {
            let trail = &world.trails[number];
            trail.operations() >= begun[number] + OPERATIONS || trail.has_ended()
        };
        // Also at the end of the run: the operations under way must complete.
        while !(0..world.trails.len()).all(has_gone_on) {
            world.cache.drop_clean();
            world.tally.evictions.fetch_add(1, Relaxed);
        }
        world.tally.bursts.fetch_add(1, Relaxed);
    }
}
