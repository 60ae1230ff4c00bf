//! Loads, stores and atomic operations: inlined, so what counts is the loop around them.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

use super::case::{Bound, Case};
use super::measure::Bench;
use super::memory::{Kind, Memory};
use super::peers::vm;
use super::report::{Goal, Row};
use super::sample::{hot, hot_unrolled, opaque, opaque_ptr, used};
use super::stats::Random;

/// Loads of one pass over the memory.
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

/// Adds all words up, in a plain loop or in one that is unrolled by hand. `$load` loads the word `$i`, or leaves.
macro_rules! sum {
    (plain, $i:ident => $load:expr) => {{
        let mut total = 0_u64;
        for $i in 0..COUNT {
            total = total.wrapping_add($load);
        }
        total
    }};
    (unrolled, $i:ident => $load:expr) => {{
        let mut total = 0_u64;
        let mut start = 0;
        while start < COUNT {
            sum!(@ total, $load, $i, start, 0 1 2 3 4 5 6 7);
            start += 8;
        }
        total
    }};
    (@ $total:ident, $load:expr, $i:ident, $start:ident, $($k:literal)*) => {$(
        let $i = $start + $k;
        $total = $total.wrapping_add($load);
    )*};
}

/// Independent loads, one after the other. The compiler unrolls a loop of `read_volatile` by itself, but not one that
/// may leave at every load; so both are also compared in a loop that is unrolled by hand.
fn stream(bench: &mut Bench, words: *mut u64) {
    // SAFETY: the words are our own, and nobody holds a reference to them.
    let slice = unsafe { vm::slice(words.cast(), COUNT * size_of::<u64>()) };
    let slice = &slice;
    let sum = &Cell::new(0);
    // SAFETY: within the words.
    let expected = (0..COUNT).map(|i| unsafe { words.add(i).read() }).fold(0, u64::wrapping_add);
    macro_rules! case {
        ($name:literal, $form:ident) => {{
            let ours = hot(move || {
                let words = opaque_ptr(words);
                sum.set(sum!($form, i => {
                    // SAFETY: within the words.
                    match unsafe { faultin::load(words.wrapping_add(i)) } {
                        Ok(value) => value,
                        Err(_) => return false,
                    }
                }));
                true
            });
            let volatile = hot(move || {
                let words = opaque_ptr(words);
                // SAFETY: within the words.
                sum.set(sum!($form, i => unsafe { words.wrapping_add(i).read_volatile() }));
                true
            });
            let read_obj = hot(move || {
                sum.set(sum!($form, i => match vm::load(slice, i * size_of::<u64>()) {
                    Some(value) => value,
                    None => return false,
                }));
                true
            });
            Case::new($name, COUNT * size_of::<u64>(), ours)
                .per(COUNT)
                .peer(READ_VOLATILE, Some(Bound::times(1.3)), volatile)
                .peer(READ_OBJ, Some(Bound::times(0.2)), read_obj)
                .verified(1, || sum.set(0), move || same(sum.get(), expected))
        }};
    }
    bench.run(case!("u64 stream, unrolled", unrolled));
    bench.run(case!("u64 stream, plain loop", plain));
}

/// Each load's address is the result of the one before.
fn chain(bench: &mut Bench, ring: *mut u64) {
    // SAFETY: the words are our own, and nobody holds a reference to them.
    let slice = unsafe { vm::slice(ring.cast(), COUNT * size_of::<u64>()) };
    let end = &Cell::new(u64::MAX);
    let ours = hot(move || {
        let mut at = 0;
        for _ in 0..COUNT {
            // SAFETY: the ring holds indices of itself.
            match unsafe { faultin::load(ring.wrapping_add(at as usize)) } {
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
            // All of the ring leads back to its start.
            .verified(1, || end.set(u64::MAX), || same(end.get(), 0)),
    );
}

/// One load by itself, of an address the compiler does not know.
fn single(bench: &mut Bench, words: *mut u64) {
    // SAFETY: the words are our own, and nobody holds a reference to them.
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
            let ours = hot_unrolled(move || match unsafe { faultin::load(opaque_ptr(words.cast::<$ty>())) } {
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
    let ours = hot(move || {
        let words = opaque_ptr(words);
        sum!(unrolled, i => {
            // SAFETY: within the words.
            match unsafe { faultin::store(words.wrapping_add(i), i as u64) } {
                Ok(()) => 0,
                Err(_) => return false,
            }
        }) == 0
    });
    let volatile = hot(move || {
        let words = opaque_ptr(words);
        sum!(unrolled, i => {
            // SAFETY: within the words.
            unsafe { words.wrapping_add(i).write_volatile(i as u64) };
            0
        }) == 0
    });
    let verify = move || {
        // SAFETY: within the words.
        match (0..COUNT).all(|i| unsafe { words.add(i).read() } == i as u64) {
            true => Ok(()),
            false => Err("a word was not stored".to_owned()),
        }
    };
    bench.run(
        Case::new("u64 stores, unrolled", COUNT * size_of::<u64>(), ours)
            .per(COUNT)
            .peer("write_volatile", None, volatile)
            .verified(1, move || fill(words), verify),
    );
}

fn atomics(bench: &mut Bench, words: *mut u64) {
    const CORE: &str = "core::sync::atomic";
    // SAFETY: our own, aligned, and only accessed atomically while the reference lives.
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
        faultin::load_atomic(opaque_ptr(words), Ordering::Acquire),
        atomic().load(Ordering::Acquire),
        0
    ));
    bench.run(case!(
        "u64 atomic store",
        faultin::store_atomic(opaque_ptr(words), 1, Ordering::Release).map(|()| 0),
        {
            atomic().store(1, Ordering::Release);
            0
        },
        1
    ));
    bench.run(case!("u64 fetch_add", faultin::fetch_add(opaque_ptr(words), 1, order), atomic().fetch_add(1, order), 1));
    bench.run(case!(
        "u64 compare_exchange",
        faultin::compare_exchange(opaque_ptr(words), 0, 1, order, order).map(|(Ok(old) | Err(old))| old),
        match atomic().compare_exchange(0, 1, order, order) {
            Ok(old) | Err(old) => old,
        },
        1
    ));
}

fn fill(words: *mut u64) {
    let mut random = Random::new(7);
    for i in 0..COUNT {
        // SAFETY: within the words.
        unsafe { words.add(i).write(random.next()) };
    }
}

/// One ring through all words, in an order no prefetcher follows.
fn link(words: *mut u64) {
    let mut random = Random::new(3);
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

fn same(found: u64, expected: u64) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found} instead of {expected}")) }
}

fn goals(bench: &mut Bench) {
    let goals = ["unrolled", "plain loop"].into_iter().flat_map(|form| {
        let name = format!("load u64 stream, {form}");
        let against = |peer: &'static str| {
            let name = name.clone();
            move |row: &Row| row.name == name && row.peer == peer
        };
        let volatile = format!("inlined loads in a stream, {form}, against read_volatile");
        let obj = format!("inlined loads in a stream, {form}, against read_obj (5 times faster)");
        [
            Goal::worst(&volatile, 1.3, &bench.rows, against(READ_VOLATILE)),
            Goal::worst(&obj, 0.2, &bench.rows, against(READ_OBJ)),
        ]
    });
    bench.goals = goals.flatten().collect();
}
