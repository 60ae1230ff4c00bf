//! Threads that do nothing but evict: now and then, for as long as it takes until every thread that works has ended some
//! operations. One that another thread can keep from ending is stuck, which the [watch](super::watch) sees.

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use super::random::Random;
use super::world::World;

/// How many there are.
pub const THREADS: usize = 2;

/// Operations that every thread ends meanwhile.
const OPERATIONS: u64 = 3;

/// Evicts now and then, until it is over.
pub fn run(world: &World, number: usize) {
    let random = Random::new(world.setup.seed, 600 + number as u64);
    while !world.is_over() {
        thread::sleep(Duration::from_millis(20 + random.below(300) as u64));
        let begun: Vec<u64> = world.trails.iter().map(|trail| trail.operations()).collect();
        let has_gone_on = |number: usize| {
            let trail = &world.trails[number];
            trail.operations() >= begun[number] + OPERATIONS || trail.has_ended()
        };
        // Also when it is over: the operations under way are to end.
        while !(0..world.trails.len()).all(has_gone_on) {
            world.cache.drop_clean();
            world.tally.evictions.fetch_add(1, Relaxed);
        }
        world.tally.bursts.fetch_add(1, Relaxed);
    }
}
