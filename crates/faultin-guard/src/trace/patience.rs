//! Waiting without sleep: to fall asleep and be woken on an idle processor takes longer than what is waited for.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// So many chances are left out after a wait in vain: programs whose faults come far apart pay for few of them.
const LEFT_OUT: u32 = 15;

/// When such waits are worth it.
#[derive(Debug)]
pub(super) struct Patience {
    longest: Duration,
    left_out: u32,
}

impl Patience {
    /// Waits of at most this time; none on a single processor, where nothing happens meanwhile.
    pub fn new(longest: Duration) -> Patience {
        let processors = available_parallelism().map_or(1, NonZeroUsize::get);
        Patience::with(if processors > 1 { longest } else { Duration::ZERO })
    }

    fn with(longest: Duration) -> Patience {
        Patience { longest, left_out: 0 }
    }

    /// Asks until there is a value, or until that takes too long.
    pub fn wait<T>(&mut self, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
        if self.longest.is_zero() {
            return None;
        }
        if self.left_out > 0 {
            self.left_out -= 1;
            return None;
        }
        let begun = Instant::now();
        loop {
            if let Some(value) = ask() {
                return Some(value);
            }
            if begun.elapsed() >= self.longest {
                self.left_out = LEFT_OUT;
                return None;
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_in_vain_are_rare() {
        let mut patience = Patience::with(Duration::from_micros(1));
        let mut asked = 0;
        let mut turns = Vec::new();
        for turn in 0..40 {
            let before = asked;
            let found = patience.wait(|| {
                asked += 1;
                std::thread::sleep(Duration::from_micros(2));
                None::<()>
            });
            assert_eq!(found, None);
            if asked > before {
                turns.push(turn);
            }
        }
        assert_eq!(turns, [0, 16, 32]);
        assert_eq!(Patience::with(Duration::from_secs(60)).wait(|| Some(5)), Some(5));
        assert_eq!(Patience::with(Duration::ZERO).wait(|| Some(5)), None, "a single processor");
    }

    #[test]
    fn a_wait_that_was_worth_it_is_repeated() {
        let mut patience = Patience::with(Duration::from_secs(60));
        for _ in 0..100 {
            let mut asked = 0;
            let found = patience.wait(|| {
                asked += 1;
                (asked == 3).then_some(asked)
            });
            assert_eq!(found, Some(3));
        }
    }
}
