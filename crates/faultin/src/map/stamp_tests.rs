//! The reliability of a stamp, and of a sequence of stamps.

use super::error::Change;
use super::record::Record;
use super::stamp::{Observation, Stamp, Time};
use super::state::tick;

const SECOND: i64 = 1_000_000_000;

#[test]
fn a_stamp_is_fresh_within_a_tick_and_what_times_are_rounded_to() {
    let tick = tick().as_nanos() as i64;
    assert!((1_000_000..=10_000_000).contains(&tick), "{tick}");
    // A time with full resolution, one of hundredths, and one of seconds.
    let cases = [(7 * SECOND + 123_456_789, 0), (7 * SECOND + 120_000_000, SECOND / 100), (7 * SECOND, 2 * SECOND)];
    for (time, rounding) in cases {
        for (after, fresh) in [
            (0, true),
            (tick / 2, true),
            (rounding + tick, true),
            (rounding + tick + 1, false),
            // The clock may have been set back a little, or a lot.
            (-tick, true),
            (-rounding - tick - 1, false),
            (1000 * SECOND, false),
        ] {
            assert_eq!(Time(time).is_fresh_at(Time(time + after)), fresh, "{time} {after}");
        }
    }
}

#[test]
fn a_file_that_was_just_written_is_fresh_and_settles() {
    let file = tempfile::tempfile().expect("a file");
    let ask = || Stamp::of(&file);
    // The test may need more than a tick to get here.
    let fresh = (0..100).any(|i| {
        file.set_len(i + 1).expect("set_len");
        !Observation::of(ask).expect("asked").settled
    });
    assert!(fresh, "never within a tick");
    let settled = Observation::of(ask).and_then(|seen| seen.settle(ask, |_| true)).expect("asked");
    assert!(settled.settled && settled.still_holds(&Stamp::of(&file).expect("asked")));
    assert!(Observation::of(ask).expect("asked").settled);
}

#[test]
fn a_change_time_that_is_left_out_is_no_change() {
    let stamp = Stamp { size: 1, changed: Time(5), modified: Time(3), device: 1, inode: 2 };
    let later = Stamp { changed: Time(6), ..stamp };
    assert_eq!(later.change_since(&stamp), Some(Change::Touched));
    assert_eq!(later.without_change_time().change_since(&stamp.without_change_time()), None);
    let rewritten = Stamp { modified: Time(4), ..later };
    let (rewritten, before) = (rewritten.without_change_time(), stamp.without_change_time());
    assert_eq!(rewritten.change_since(&before), Some(Change::Rewritten));
}

#[test]
fn a_time_that_moves_after_the_size_is_of_the_same_append() {
    let ticks = 2 * tick().as_nanos() as i64;
    let seen = |size, modified, seen| {
        let stamp = Stamp { size, changed: Time(modified), modified: Time(modified), device: 1, inode: 2 };
        Observation { stamp, settled: true, seen: Time(seen) }
    };
    let before = seen(10, 5, 100);
    assert!(before.appended(&seen(10, 150, 200)).is_none(), "the size is to come, or it was rewritten");
    assert_eq!(before.appended(&seen(10, 5, 200)).map(|same| same.settled), Some(true));
    for first in [5, 150] {
        let grown = before.appended(&seen(20, first, 200)).expect("it has grown");
        assert!(!grown.settled);
        let then = grown.appended(&seen(20, 200 + ticks, 200 + 2 * ticks)).expect("the time of the append");
        assert!(then.appended(&seen(20, 200 + ticks + 1, 200 + 2 * ticks)).is_none(), "rewritten");
        assert!(grown.appended(&seen(20, 200 + ticks + 1, 200 + 2 * ticks)).is_none(), "rewritten");
        assert_eq!(grown.appended(&seen(20, first, 200 + ticks)), Some(grown), "it may still come");
        let settled = grown.appended(&seen(20, first, 200 + ticks + 1)).expect("nothing has changed");
        assert!(settled.settled && settled.appended(&seen(20, 201, 300)).is_none(), "rewritten");
    }
}

#[test]
fn a_record_keeps_its_size_when_an_observation_is_accepted() {
    let stamp = Stamp { size: 10, changed: Time(5), modified: Time(3), device: 1, inode: 2 };
    let record = Record::new(Observation { stamp, settled: true, seen: Time(7) });
    let grown = Observation { stamp: Stamp { size: 20, ..stamp }, settled: false, seen: Time(8) };
    record.accept(&grown, |_| false);
    assert_eq!((record.get().size, record.get().last), (10, grown));
    assert_eq!(record.base().stamp.size, 10);
    record.accept(&Observation { stamp, settled: true, seen: Time(7) }, |last| last.stamp.size > 10);
    assert_eq!(record.get().last, grown, "an older one is not");
    record.set(&record.lock(), &grown);
    assert_eq!((record.get().size, record.base().stamp.size), (20, 20));
}
