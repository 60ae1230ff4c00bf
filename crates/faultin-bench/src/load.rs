//! Loads, stores and atomic operations: inlined, so the loop around them counts.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

use faultin_test::Random;

use super::case::{Bound, Case};
use super::measure::Bench;
use super::memory::{Kind, Memory};
use super::peers::vm;
use super::report::{Goal, Row};
use super::sample::{hot, hot_unrolled, opaque, opaque_ptr, used};
use vm_memory::VolatileSlice;

/// Number of loads in one pass over the memory.
const COUNT: usize = 512;

const READ_VOLATILE: &str = "read_volatile";
const READ_OBJ: &str = "read_obj";

pub fn run(bench: &mut Bench) -> Result<(), String> {
    let memory = Memory::resident(Kind::Anon, COUNT * size_of::<u64>())?;
    let words = memory.ptr().cast::<u64>();
    let ring = Memory::resident(Kind::Anon, COUNT * size_of::<u64>())?;
    let ring_words = ring.ptr().cast::<u64>();
    fill(words);
    link(ring_words);

    stream(bench, words);
    chain(bench, ring_words);
    single(bench, words);
    stores(bench, words);
    atomics(bench, words);
    goals(bench);
    Ok(())
}

/// Functions that add up any number of words (a multiple of 8), as in ordinary programs: `$load` loads the word `$i` of
/// `$from`, or returns. `$unrolled` does 8 at a time.
///
/// The compiler unrolls a loop of volatile accesses by itself, but not one that may return at each of them; and the time of
/// a loop of so few instructions depends on its address. So the unrolled form is compared; the plain one is shown.
macro_rules! sum {
    ($plain:ident, $unrolled:ident, $from:ident: $ty:ty, $i:ident => $load:expr) => {
        #[inline(never)]
        fn $plain($from: $ty, count: usize) -> Option<u64> {
            let mut total = 0_u64;
            for $i in 0..count {
                total = total.wrapping_add($load);
            }
            Some(total)
        }

        #[inline(never)]
        fn $unrolled($from: $ty, count: usize) -> Option<u64> {
            let mut total = 0_u64;
            let mut start = 0;
            while start < count {
                sum!(@ total, $load, $i, start, 0 1 2 3 4 5 6 7);
                start += 8;
            }
            Some(total)
        }
    };
    (@ $total:ident, $load:expr, $i:ident, $start:ident, $($k:literal)*) => {$(
        let $i = $start + $k;
        $total = $total.wrapping_add($load);
    )*};
}
sum!(sum_ours, sum8_ours, words: *const u64, i => {
    // SAFETY: within the words that the caller passes.
    unsafe { faultin::raw::load(words.wrapping_add(i)) }.ok()?
});
sum!(sum_volatile, sum8_volatile, words: *const u64, i => {
    // SAFETY: as above.
    unsafe { words.wrapping_add(i).read_volatile() }
});
sum!(sum_read_obj, sum8_read_obj, slice: &VolatileSlice<'_>, i => vm::load(slice, i * size_of::<u64>())?);
sum!(store_ours, store8_ours, words: *mut u64, i => {
    // SAFETY: as above.
    unsafe { faultin::raw::store(words.wrapping_add(i), i as u64) }.ok()?;
    1
});
sum!(store_volatile, store8_volatile, words: *mut u64, i => {
    // SAFETY: as above.
    unsafe { words.wrapping_add(i).write_volatile(i as u64) };
    1
});

/// Independent loads, one after the other.
fn stream(bench: &mut Bench, words: *mut u64) {
    // SAFETY: the words are our own, and no reference to them exists.
    let slice = unsafe { vm::slice(words.cast(), COUNT * size_of::<u64>()) };
    let slice = &slice;
    let sum = &Cell::new(None);
    // SAFETY: within the words.
    let expected = (0..COUNT).map(|i| unsafe { words.add(i).read() }).fold(0, u64::wrapping_add);
    let done = move |total: Option<u64>| {
        sum.set(total);
        total.is_some()
    };
    let mut case = |name, bounds: [Option<Bound>; 2], ours: Sum, volatile: Sum, read_obj: SumSlice| {
        let case = Case::new(name, COUNT * size_of::<u64>(), hot(move || done(ours(opaque_ptr(words), opaque(COUNT)))))
            .per(COUNT)
            .peer(READ_VOLATILE, bounds[0], hot(move || done(volatile(opaque_ptr(words), opaque(COUNT)))))
            .peer(READ_OBJ, bounds[1], hot(move || done(read_obj(slice, opaque(COUNT)))))
            .verified(1, || sum.set(None), move || same(sum.get(), Some(expected)));
        bench.run(case);
    };
    let bounds = [Some(Bound::times(1.3)), Some(Bound::times(0.2))];
    case("u64 stream", bounds, sum8_ours, sum8_volatile, sum8_read_obj);
    case("u64 stream, plain loop", [None; 2], sum_ours, sum_volatile, sum_read_obj);
}

type Sum = fn(*const u64, usize) -> Option<u64>;
type SumSlice = fn(&VolatileSlice<'_>, usize) -> Option<u64>;

/// Each load's address is the result of the one before.
fn chain(bench: &mut Bench, ring: *mut u64) {
    // SAFETY: the words are our own, and no reference to them exists.
    let slice = unsafe { vm::slice(ring.cast(), COUNT * size_of::<u64>()) };
    let end = &Cell::new(u64::MAX);
    let ours = hot(move || {
        let mut at = 0;
        for _ in 0..COUNT {
            // SAFETY: the ring holds indices of itself.
            match unsafe { faultin::raw::load(ring.wrapping_add(at as usize)) } {
                Ok(next) => at = next,
                Err(_) => return false,
            }
        }
        end.set(at);
        true
    });
    let volatile = hot(move || {
        let mut at = 0;
        for _ in 0..COUNT {
            // SAFETY: the ring holds indices of itself.
            at = unsafe { ring.add(at as usize).read_volatile() };
        }
        end.set(at);
        true
    });
    let read_obj = hot(move || {
        let mut at = 0;
        for _ in 0..COUNT {
            match vm::load(&slice, at as usize * size_of::<u64>()) {
                Some(next) => at = next,
                None => return false,
            }
        }
        end.set(at);
        true
    });
    bench.run(
        Case::new("u64 dependent chain", COUNT * size_of::<u64>(), ours)
            .per(COUNT)
            .peer(READ_VOLATILE, None, volatile)
            .peer(READ_OBJ, None, read_obj)
            // The whole ring leads back to its start.
            .verified(1, || end.set(u64::MAX), || same(end.get(), 0)),
    );
}

/// A single load, of an address that the compiler does not know.
fn single(bench: &mut Bench, words: *mut u64) {
    // SAFETY: the words are our own, and no reference to them exists.
    let slice = unsafe { vm::slice(words.cast(), COUNT * size_of::<u64>()) };
    let read_obj = hot_unrolled(move || match vm::load(&slice, opaque(0)) {
        Some(value) => {
            used(value);
            true
        }
        None => false,
    });
    macro_rules! of {
        ($ty:ty) => {{
            // SAFETY: our own, aligned.
            let ours = hot_unrolled(move || match unsafe { faultin::raw::load(opaque_ptr(words.cast::<$ty>())) } {
                Ok(value) => {
                    used(value as u64);
                    true
                }
                Err(_) => false,
            });
            let volatile = hot_unrolled(move || {
                // SAFETY: our own, aligned.
                used(unsafe { opaque_ptr(words.cast::<$ty>()).read_volatile() } as u64);
                true
            });
            let name = concat!(stringify!($ty), " alone");
            Case::new(name, size_of::<$ty>(), ours).peer(READ_VOLATILE, None, volatile)
        }};
    }
    bench.run(of!(u8));
    bench.run(of!(u16));
    bench.run(of!(u32));
    bench.run(of!(u64).peer(READ_OBJ, None, read_obj));
    bench.run(of!(u128));
}

/// A store to each word.
fn stores(bench: &mut Bench, words: *mut u64) {
    let verify = move || {
        // SAFETY: within the words.
        match (0..COUNT).all(|i| unsafe { words.add(i).read() } == i as u64) {
            true => Ok(()),
            false => Err("a word was not stored".to_owned()),
        }
    };
    let mut case = |name, ours: StoreAll, volatile: StoreAll| {
        let all = move |store: StoreAll| store(opaque_ptr(words), opaque(COUNT)) == Some(COUNT as u64);
        let case = Case::new(name, COUNT * size_of::<u64>(), hot(move || all(ours)))
            .per(COUNT)
            .peer("write_volatile", None, hot(move || all(volatile)))
            .verified(1, move || fill(words), verify);
        bench.run(case);
    };
    case("u64 store stream", store8_ours, store8_volatile);
    case("u64 store stream, plain loop", store_ours, store_volatile);
}

type StoreAll = fn(*mut u64, usize) -> Option<u64>;

fn atomics(bench: &mut Bench, words: *mut u64) {
    const CORE: &str = "core::sync::atomic";
    // SAFETY: our own, aligned, and only accessed atomically while the reference exists.
    let atomic = move || unsafe { AtomicU64::from_ptr(opaque_ptr(words)) };
    let reset = move || atomic().store(0, Ordering::SeqCst);
    // `$ours` is what we return for the value that `$core` returns.
    macro_rules! case {
        ($name:literal, $ours:expr, $core:expr, $expected:literal) => {{
            // SAFETY: our own, aligned.
            let ours = hot_unrolled(move || match unsafe { $ours } {
                Ok(value) => {
                    used(value);
                    true
                }
                Err(_) => false,
            });
            let core = hot_unrolled(move || {
                used($core);
                true
            });
            let verify = move || same(atomic().load(Ordering::SeqCst), $expected);
            Case::new($name, size_of::<u64>(), ours).peer(CORE, None, core).verified(1, reset, verify)
        }};
    }
    let order = Ordering::SeqCst;
    bench.run(case!(
        "u64 atomic load",
        faultin::raw::load_atomic(opaque_ptr(words), Ordering::Acquire),
        atomic().load(Ordering::Acquire),
        0
    ));
    bench.run(case!(
        "u64 atomic store",
        faultin::raw::store_atomic(opaque_ptr(words), 1, Ordering::Release).map(|()| 0),
        {
            atomic().store(1, Ordering::Release);
            0
        },
        1
    ));
    bench.run(case!(
        "u64 fetch_add",
        faultin::raw::fetch_add(opaque_ptr(words), 1, order),
        atomic().fetch_add(1, order),
        1
    ));
    bench.run(case!(
        "u64 compare_exchange",
        faultin::raw::compare_exchange(opaque_ptr(words), 0, 1, order, order).map(|(Ok(old) | Err(old))| old),
        match atomic().compare_exchange(0, 1, order, order) {
            Ok(old) | Err(old) => old,
        },
        1
    ));
}

fn fill(words: *mut u64) {
    let random = Random::new(7);
    for i in 0..COUNT {
        // SAFETY: within the words.
        unsafe { words.add(i).write(random.next()) };
    }
}

/// Links all words into one ring, in an order that no prefetcher follows.
fn link(words: *mut u64) {
    let random = Random::new(3);
    let mut order: Vec<usize> = (0..COUNT).collect();
    // Index 0 stays where it is, so that the ring begins and ends there.
    for i in (2..COUNT).rev() {
        order.swap(i, 1 + random.below(i));
    }
    for (i, &from) in order.iter().enumerate() {
        // SAFETY: within the words.
        unsafe { words.add(from).write(order[(i + 1) % COUNT] as u64) };
    }
}

fn same<T: PartialEq + core::fmt::Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

fn goals(bench: &mut Bench) {
    let against = |peer: &'static str| move |row: &Row| row.name == "load u64 stream" && row.peer == peer;
    let rows = &bench.rows;
    let goals = [
        Goal::worst("inlined loads in a stream, against read_volatile", 1.3, rows, against(READ_VOLATILE)),
        Goal::worst("inlined loads in a stream, against read_obj (5 times faster)", 0.2, rows, against(READ_OBJ)),
    ];
    bench.goals = goals.into_iter().flatten().collect();
}
