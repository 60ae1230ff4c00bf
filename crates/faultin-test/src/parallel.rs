//! Trying many things on every processor.

use std::ops::ControlFlow::{self, Break};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

/// Calls `each` with every item, on every processor, earlier items first, until a call returns [`Break`]: returns its value.
/// Calls that are under way by then end as usual; items that are left are not tried.
pub fn until_found<T: Sync, F: Send>(items: &[T], each: impl Fn(&T) -> ControlFlow<F> + Sync) -> Option<F> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(None));
    let is_over = || found.lock().unwrap_or_else(|error| error.into_inner()).is_some();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, |count| count.get()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Relaxed)).filter(|_| !is_over()) {
                    if let Break(value) = each(item) {
                        found.lock().unwrap_or_else(|error| error.into_inner()).get_or_insert(value);
                    }
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(|error| error.into_inner())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow::Continue;
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn every_item_is_tried_once_until_one_is_found() {
        let tried: Vec<AtomicU32> = (0..100).map(|_| AtomicU32::new(0)).collect();
        let items: Vec<usize> = (0..100).collect();
        let count = |item: &usize| tried[*item].fetch_add(1, Relaxed);
        let none = until_found(&items, |item| {
            count(item);
            Continue::<()>(())
        });
        assert!(none.is_none() && tried.iter().all(|count| count.load(Relaxed) == 1));
        let found = until_found(&items, |item| {
            count(item);
            if *item >= 30 { Break(*item) } else { Continue(()) }
        });
        assert!(found.is_some_and(|item| item >= 30), "{found:?}");
        assert!(tried[..30].iter().all(|count| count.load(Relaxed) == 2), "those before it");
    }
}
