//! [`Rate`]: how fast a store delivers, and how long it takes to begin.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The weight of what is old when something new is measured, in percent.
const OLD: u64 = 98;

/// The latency and the bandwidth of the requests of late.
#[derive(Debug, Default)]
pub(crate) struct Rate(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Number of bytes that were delivered so far.
    delivered: u64,
    /// The shortest time to a first byte, in nanoseconds; grows slowly, in case the way has changed. 0 at first.
    latency: u64,
    /// The largest number of bytes a second; falls slowly.
    bandwidth: u64,
}

/// The state when a request was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    at: Instant,
    delivered: u64,
}

impl Rate {
    /// Notes that a request is sent.
    pub(crate) fn sent(&self, now: Instant) -> Sent {
        Sent { at: now, delivered: self.0.lock().delivered }
    }

    /// Notes that its first byte has arrived.
    pub(crate) fn first(&self, sent: &Sent, now: Instant) {
        let latency = nanoseconds(now.saturating_duration_since(sent.at)).max(1);
        let mut state = self.0.lock();
        let old = state.latency + state.latency * (100 - OLD) / 100;
        state.latency = if state.latency == 0 { latency } else { latency.min(old) };
    }

    /// Notes that it has delivered `bytes` bytes, and ends.
    pub(crate) fn ended(&self, sent: &Sent, bytes: u64, now: Instant) {
        let time = nanoseconds(now.saturating_duration_since(sent.at)).max(1);
        let mut state = self.0.lock();
        state.delivered += bytes;
        // Of all requests, since this one was sent.
        let all = u128::from(state.delivered - sent.delivered);
        let bandwidth = u64::try_from(all * 1_000_000_000 / u128::from(time)).unwrap_or(u64::MAX);
        state.bandwidth = bandwidth.max(state.bandwidth / 100 * OLD);
    }

    /// Returns twice the number of bytes that are under way when the store delivers as fast as it has: what a window has to
    /// have, and as much again, without which more would never be measured.
    pub(crate) fn window(&self) -> u64 {
        let state = self.0.lock();
        let product = 2 * u128::from(state.bandwidth) * u128::from(state.latency) / 1_000_000_000;
        u64::try_from(product).unwrap_or(u64::MAX)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests of 1 MiB, `many` at once, each 20 ms long.
    fn run(rate: &Rate, many: usize, start: Instant) -> Instant {
        let sent: Vec<_> = (0..many).map(|_| rate.sent(start)).collect();
        let end = start + Duration::from_millis(20);
        sent.iter().for_each(|sent| rate.first(sent, end));
        sent.iter().for_each(|sent| rate.ended(sent, 1 << 20, end));
        end
    }

    #[test]
    fn the_window_is_twice_what_is_under_way() {
        let rate = Rate::default();
        let mut now = Instant::now();
        assert_eq!(rate.window(), 0);
        for many in [1, 4, 16] {
            now = run(&rate, many, now);
            let window = rate.window() / (many as u64);
            assert!((2_000_000..=2 << 20).contains(&window), "{many}: {window}");
        }
        // A slow reader makes it smaller, after a while.
        for _ in 0..200 {
            now = run(&rate, 1, now);
        }
        assert!(rate.window() <= 3 << 20, "{}", rate.window());
    }
}
