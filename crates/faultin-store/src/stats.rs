//! What a store and its objects have done so far.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What an [`Object`](crate::Object), with all of its handles, has done since it was opened. Each number is exact; together
/// they are no snapshot, as long as other threads use the object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectStats {
    /// Number of ranges that were wanted, by a cache or by other callers.
    pub reads: u64,
    /// Number of bytes that these have returned.
    pub read: u64,
    /// Number of these that failed at their first byte.
    pub errors: u64,
    /// Number of requests that were sent to the store, retries included.
    pub requests: u64,
    /// Number of these that repeated a request that had failed.
    pub retries: u64,
    /// Number of bytes that the store has sent in bodies, also in those that were rejected.
    pub received: u64,
    /// Number of blocks that were found in memory, or under way for another thread, or read ahead.
    pub memory_hits: u64,
    /// Number of blocks that were found on disk.
    pub disk_hits: u64,
    /// Number of blocks that had to be requested.
    pub misses: u64,
    /// Number of blocks that were requested before they were wanted.
    pub ahead: u64,
    /// Number of requests that were given up because no thread waited for them any more.
    pub cancelled: u64,
    /// The time that threads have waited for the store.
    pub waited: Duration,
    /// The time that requests have taken, together.
    pub io_time: Duration,
}

/// What a [`Store`](crate::Store) has done since it was made, and what it uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The sum over all objects, also those that were dropped.
    pub objects: ObjectStats,
    /// Number of bytes of buffers now.
    pub memory: u64,
    /// The limit of that.
    pub memory_limit: u64,
    /// Number of requests under way now.
    pub in_flight: u64,
    /// How long the bucket or server has not worked that has not worked for longest. `None` if all work.
    pub down: Option<Duration>,
}

macro_rules! counters {
    ($($name:ident)*) => {
        impl AddAssign for ObjectStats {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
                self.waited += other.waited;
                self.io_time += other.io_time;
            }
        }

        /// The counters of an object, or of all.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            /// Nanoseconds.
            pub(crate) waited: AtomicU64,
            /// Nanoseconds.
            pub(crate) io_time: AtomicU64,
        }

        impl Counters {
            pub(crate) fn stats(&self) -> ObjectStats {
                let time = |counter: &AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
                ObjectStats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    waited: time(&self.waited),
                    io_time: time(&self.io_time),
                }
            }
        }
    };
}

counters!(reads read errors requests retries received memory_hits disk_hits misses ahead cancelled);

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
