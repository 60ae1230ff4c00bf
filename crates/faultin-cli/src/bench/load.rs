//! Loads, stores and atomic operations: inlined, so what counts is the loop around them.

use core::sync::atomic::{AtomicU64, Ordering};

use super::measure::{Bench, Bound, Case, Random, hot, opaque_ptr, used};
use super::memory::{Kind, Memory};
use super::peers::vm;
use super::report::{Goal, Row};

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

/// The sum of independent loads.
fn stream(bench: &mut Bench, words: *mut u64) {
    // SAFETY: the words are our own, and nobody holds a reference to them.
    let slice = unsafe { vm::slice(words.cast(), COUNT * size_of::<u64>()) };
    let expected = core::cell::Cell::new(0);
    let sum = &core::cell::Cell::new(0);
    let ours = hot(move || {
        let words = opaque_ptr(words);
        let mut total = 0_u64;
        for i in 0..COUNT {
            // SAFETY: within the words.
            match unsafe { faultin::load(words.wrapping_add(i)) } {
                Ok(value) => total = total.wrapping_add(value),
                Err(_) => return false,
            }
        }
        sum.set(total);
        true
    });
    let volatile = hot(move || {
        let words = opaque_ptr(words);
        let mut total = 0_u64;
        for i in 0..COUNT {
            // SAFETY: within the words.
            total = total.wrapping_add(unsafe { words.add(i).read_volatile() });
        }
        sum.set(total);
        true
    });
    let read_obj = hot(move || {
        let mut total = 0_u64;
        for i in 0..COUNT {
            match vm::load(&slice, i * size_of::<u64>()) {
                Some(value) => total = total.wrapping_add(value),
                None => return false,
            }
        }
        sum.set(total);
        true
    });
    let prepare = || {
        sum.set(0);
        // SAFETY: within the words.
        let words = (0..COUNT).map(|i| unsafe { words.add(i).read() });
        expected.set(words.fold(0, u64::wrapping_add));
    };
    bench.run(
        Case::new("u64 stream", COUNT * size_of::<u64>(), ours)
            .per(COUNT)
            .peer(READ_VOLATILE, Some(Bound::times(1.3)), volatile)
            .peer(READ_OBJ, Some(Bound::times(0.2)), read_obj)
            .verified(1, prepare, || same(sum.get(), expected.get())),
    );
}

/// Each load's address is the result of the one before.
fn chain(bench: &mut Bench, ring: *mut u64) {
    // SAFETY: the words are our own, and nobody holds a reference to them.
    let slice = unsafe { vm::slice(ring.cast(), COUNT * size_of::<u64>()) };
    let end = &core::cell::Cell::new(u64::MAX);
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
    let read_obj = hot(move || match vm::load(&slice, super::measure::opaque(0)) {
        Some(value) => {
            used(value);
            true
        }
        None => false,
    });
    macro_rules! of {
        ($ty:ty) => {{
            // SAFETY: our own, aligned.
            let ours = hot(move || match unsafe { faultin::load(opaque_ptr(words.cast::<$ty>())) } {
                Ok(value) => {
                    used(value as u64);
                    true
                }
                Err(_) => false,
            });
            let volatile = hot(move || {
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
        for i in 0..COUNT {
            // SAFETY: within the words.
            if unsafe { faultin::store(words.wrapping_add(i), i as u64) }.is_err() {
                return false;
            }
        }
        true
    });
    let volatile = hot(move || {
        let words = opaque_ptr(words);
        for i in 0..COUNT {
            // SAFETY: within the words.
            unsafe { words.add(i).write_volatile(i as u64) };
        }
        true
    });
    let verify = move || {
        // SAFETY: within the words.
        match (0..COUNT).all(|i| unsafe { words.add(i).read() } == i as u64) {
            true => Ok(()),
            false => Err("a word was not stored".to_owned()),
        }
    };
    bench.run(
        Case::new("u64 store stream", COUNT * size_of::<u64>(), ours)
            .per(COUNT)
            .peer("write_volatile", None, volatile)
            .verified(1, move || fill(words), verify),
    );
}

fn atomics(bench: &mut Bench, words: *mut u64) {
    const CORE: &str = "core::sync::atomic";
    // SAFETY: our own, aligned, and only accessed atomically while the reference lives.
    let atomic = || unsafe { AtomicU64::from_ptr(opaque_ptr(words)) };
    // SAFETY: our own, aligned.
    let ours = hot(move || match unsafe { faultin::load_atomic(opaque_ptr(words), Ordering::Acquire) } {
        Ok(value) => {
            used(value);
            true
        }
        Err(_) => false,
    });
    let core = hot(move || {
        used(atomic().load(Ordering::Acquire));
        true
    });
    bench.run(Case::new("u64 atomic load", size_of::<u64>(), ours).peer(CORE, None, core));

    let reset = move || {
        atomic().store(0, Ordering::SeqCst);
    };
    let is_one = move || same(atomic().load(Ordering::SeqCst), 1);
    // SAFETY: our own, aligned.
    let ours = hot(move || match unsafe { faultin::fetch_add(opaque_ptr(words), 1, Ordering::SeqCst) } {
        Ok(old) => {
            used(old);
            true
        }
        Err(_) => false,
    });
    let core = hot(move || {
        used(atomic().fetch_add(1, Ordering::SeqCst));
        true
    });
    bench.run(Case::new("u64 fetch_add", size_of::<u64>(), ours).peer(CORE, None, core).verified(1, reset, is_one));

    let ours = hot(move || {
        // SAFETY: our own, aligned.
        let old = unsafe {
            let (success, failure) = (Ordering::SeqCst, Ordering::SeqCst);
            faultin::compare_exchange(opaque_ptr(words), 0, 1, success, failure)
        };
        match old {
            Ok(Ok(old) | Err(old)) => {
                used(old);
                true
            }
            Err(_) => false,
        }
    });
    let core = hot(move || {
        let (Ok(old) | Err(old)) = atomic().compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        used(old);
        true
    });
    bench.run(
        Case::new("u64 compare_exchange", size_of::<u64>(), ours).peer(CORE, None, core).verified(1, reset, is_one),
    );
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
    let against = |peer: &'static str| move |row: &Row| row.name == "load u64 stream" && row.peer == peer;
    let rows = &bench.rows;
    let goals = [
        Goal::worst("inlined loads in a stream, against read_volatile", 1.3, rows, against(READ_VOLATILE)),
        Goal::worst("inlined loads in a stream, against read_obj (5 times faster)", 0.2, rows, against(READ_OBJ)),
    ];
    bench.goals.extend(goals.into_iter().flatten());
}
