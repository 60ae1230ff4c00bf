//! How far to read ahead: the streams of sequential access to one object.
//!
//! An access that continues where another one ended belongs to its *stream*, a thread's scan for example. What a stream will
//! want next is requested before: a *window* of bytes. Whenever an access had to wait all the same, it becomes twice the largest one
//! of the object's streams: they need the same, and those that wait for each other seldom have an occasion to find out. So it
//! grows until it has what the store delivers during its latency: latency times bandwidth. Access in no order makes streams
//! of one access each, which request nothing; and a stream that is forgotten for newer ones gives up what it has requested
//! and no access has read.

use std::ops::Range;

/// Maximum number of streams of an object.
const STREAMS: usize = 16;

/// Part of the window that is requested at once: a divisor. Several requests are under way at the same time.
const PARTS: u64 = 8;

/// Number of accesses that continue another one, after which it is a scan: in an object of few blocks, one may be next to
/// another one by chance.
const HITS: u32 = 2;

/// One of several scans.
#[derive(Clone, Copy, Debug)]
struct Stream {
    /// Where the next access is expected.
    next: u64,
    /// Number of accesses that have continued it.
    hits: u32,
    /// Number of blocks to request before they are wanted; 0 until it is a scan.
    window: u64,
    /// The end of what was requested.
    requested: u64,
    /// The number of the last access.
    used: u64,
}

/// The streams of an object. Positions and lengths are in blocks.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: Vec<Stream>,
    accesses: u64,
}

/// What an access has as its consequence.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What to request, in this order, each part as one request.
    pub(crate) wanted: Vec<Range<u64>>,
    /// What no access is expected to read any more.
    pub(crate) forgotten: Option<Range<u64>>,
    /// The stream, for [`refused`](Streams::refused).
    stream: usize,
}

/// The limits of windows, in blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The end of the object.
    pub(crate) end: u64,
    /// Maximum of each window. Not of all together: scans that wait for each other, such as the threads of a mapping, have less
    /// under way than they could, so what the store has delivered is no measure for a part of them.
    pub(crate) window: u64,
    /// Maximum of all windows together.
    pub(crate) all: u64,
    /// Maximum length of a request.
    pub(crate) request: u64,
}

impl Streams {
    /// Notes an access to blocks, which had to wait for the store if `waited`.
    pub(crate) fn access(&mut self, blocks: Range<u64>, waited: bool, limits: Limits) -> Plan {
        self.accesses += 1;
        let now = self.accesses;
        let is_next = |stream: &Stream| {
            // Threads that share a scan come a little out of order. The last block may be read in several accesses.
            let slack = 2 + stream.window / 4;
            (stream.next.saturating_sub(slack)..=stream.next + slack).contains(&blocks.start)
        };
        let active = self.streams.iter().filter(|stream| stream.window > 0).count().max(1) as u64;
        let largest = self.streams.iter().map(|stream| stream.window).max().unwrap_or(0);
        let Some(at) = self.streams.iter().position(is_next) else {
            return self.begin(blocks, limits);
        };
        let stream = &mut self.streams[at];
        stream.used = now;
        if blocks.end > stream.next {
            stream.next = blocks.end;
            let len = blocks.end - blocks.start;
            stream.hits = stream.hits.saturating_add(1);
            if stream.window == 0 {
                stream.window = if stream.hits >= HITS { (2 * len).max(2) } else { 0 };
            } else if waited {
                stream.window = 2 * largest;
            }
            stream.window = stream.window.min(limits.window).min(limits.all / active);
        }
        Plan { wanted: stream.wanted(limits), forgotten: None, stream: at }
    }

    /// Begins a stream with its first access, in the place of the one that was not used for longest. One that begins with
    /// the object is expected to go on.
    fn begin(&mut self, blocks: Range<u64>, limits: Limits) -> Plan {
        let window = if blocks.start == 0 { (blocks.end).min(limits.window).min(limits.all) } else { 0 };
        let new = Stream { next: blocks.end, hits: 0, window, requested: blocks.end, used: self.accesses };
        let mut forgotten = None;
        let at = if self.streams.len() < STREAMS {
            self.streams.push(new);
            self.streams.len() - 1
        } else {
            let oldest = (0..STREAMS).min_by_key(|&at| self.streams[at].used).unwrap_or_default();
            let old = std::mem::replace(&mut self.streams[oldest], new);
            forgotten = Some(old.next..old.requested).filter(|left| !left.is_empty());
            oldest
        };
        Plan { wanted: self.streams[at].wanted(limits), forgotten, stream: at }
    }

    /// Notes that there was no room for what was planned from `block` on.
    pub(crate) fn refused(&mut self, plan: &Plan, block: u64) {
        if let Some(stream) = self.streams.get_mut(plan.stream) {
            stream.requested = stream.requested.min(block);
        }
    }

    /// Forgets all streams. Returns what was requested and not read.
    pub(crate) fn clear(&mut self) -> Vec<Range<u64>> {
        self.streams.drain(..).map(|stream| stream.next..stream.requested).filter(|left| !left.is_empty()).collect()
    }
}

impl Stream {
    /// Returns what to request now: parts of the window, if there is at least a whole one, or the end of the object.
    fn wanted(&mut self, limits: Limits) -> Vec<Range<u64>> {
        let mut wanted = Vec::new();
        if self.window == 0 {
            return wanted;
        }
        self.requested = self.requested.max(self.next);
        let part = (self.window / PARTS).clamp(1, limits.request.max(1));
        let until = self.next.saturating_add(self.window).min(limits.end);
        while self.requested < until && (until - self.requested >= part || until == limits.end) {
            let end = (self.requested + part).min(until);
            wanted.push(self.requested..end);
            self.requested = end;
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { end: 1 << 20, window: 512, all: 1024, request: 64 };

    #[test]
    fn a_scan_that_waits_doubles_its_window_up_to_the_limit_and_requests_each_block_once() {
        let (mut streams, mut requested) = (Streams::default(), Vec::new());
        for at in 0..2000 {
            let plan = streams.access(at..at + 1, true, LIMITS);
            for run in plan.wanted {
                assert!(run.start > at && run.end - run.start <= LIMITS.request, "{run:?} at {at}");
                assert!(run.end <= at + 1 + LIMITS.window);
                requested.extend(run);
            }
        }
        assert!(requested.windows(2).all(|two| two[0] + 1 == two[1]), "in order, each once");
        assert_eq!(streams.streams[0].window, LIMITS.window);
    }

    #[test]
    fn a_scan_that_does_not_wait_keeps_its_window() {
        let mut streams = Streams::default();
        for at in 0..100 {
            streams.access(at..at + 1, at < 5, LIMITS);
        }
        assert_eq!(streams.streams[0].window, 16);
    }

    #[test]
    fn access_in_no_order_requests_nothing() {
        let mut streams = Streams::default();
        for step in 1..5000_u64 {
            let at = step * 7_919 % LIMITS.end;
            let plan = streams.access(at..at + 1, true, LIMITS);
            assert_eq!(plan.wanted, [], "access {step} to {at}");
        }
    }

    #[test]
    fn what_a_forgotten_stream_has_requested_is_given_up() {
        let mut streams = Streams::default();
        (1000..1010).for_each(|at| drop(streams.access(at..at + 1, true, LIMITS)));
        let requested = streams.streams[0].requested;
        let plans: Vec<_> =
            (0..STREAMS as u64).map(|at| streams.access(9000 + at * 1000..9001 + at * 1000, true, LIMITS)).collect();
        let forgotten: Vec<_> = plans.into_iter().filter_map(|plan| plan.forgotten).collect();
        assert_eq!((forgotten.len(), forgotten.first()), (1, Some(&(1010..requested))));
        assert!(requested > 1010);
    }

    #[test]
    fn threads_with_a_part_each_have_a_stream_each_and_share_the_limit() {
        let mut streams = Streams::default();
        for at in 0..500 {
            for thread in 0..4 {
                let start = thread * 100_000 + at;
                streams.access(start..start + 1, true, LIMITS);
            }
        }
        assert_eq!(streams.streams.len(), 4);
        assert!(streams.streams.iter().all(|stream| stream.window == LIMITS.all / 4));
    }

    /// As the threads of a mapping do, whose faults are resolved one after the other.
    #[test]
    fn scans_that_wait_for_each_other_grow_as_fast_as_one() {
        let waits = |scans: u64| {
            let mut streams = Streams::default();
            let mut waits = 0;
            // Blocks arrive once an access waits, all that were requested before.
            let (mut requested, mut arrived) = (std::collections::HashSet::new(), std::collections::HashSet::new());
            for at in 0..256 / scans {
                for scan in 0..scans {
                    let block = 1000 * (scan + 1) + at;
                    let waited = !arrived.contains(&block);
                    let plan = streams.access(block..block + 1, waited, LIMITS);
                    requested.extend(plan.wanted.into_iter().flatten());
                    if waited {
                        waits += 1;
                        arrived.extend(requested.drain());
                    }
                }
            }
            waits
        };
        assert!(waits(1) <= 12 && waits(4) <= 20, "{} and {}", waits(1), waits(4));
    }

    #[test]
    fn refused_parts_are_planned_again_and_the_end_is_the_end() {
        let mut streams = Streams::default();
        let limits = Limits { end: 20, ..LIMITS };
        streams.access(0..4, true, limits);
        let plan = streams.access(4..8, true, limits);
        assert_eq!(plan.wanted.last().map(|run| run.end), Some(16));
        streams.refused(&plan, 10);
        let plan = streams.access(8..12, true, limits);
        assert_eq!(
            (plan.wanted.first().map(|run| run.start), plan.wanted.last().map(|run| run.end)),
            (Some(12), Some(20))
        );
    }
}
