//! Loads, stores and atomics of fixed size on and across a bad granule: all or nothing.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use faultin::{Access, Cause, Fault, Scalar};

use crate::memory::{GRANULE, GRANULES, Tagged};

const BAD: usize = 4;
const WINDOW: usize = GRANULES * GRANULE;

/// Offsets of an access of `size` bytes around the bad granule.
fn offsets(size: usize, step: usize) -> impl Iterator<Item = usize> {
    ((BAD - 1) * GRANULE..(BAD + 2) * GRANULE).step_by(step).filter(move |offset| offset + size <= WINDOW)
}

fn touches_bad(offset: usize, size: usize) -> bool {
    offset < (BAD + 1) * GRANULE && offset + size > BAD * GRANULE
}

fn check(what: &str, fault: Fault, access: Access, first: *const u8, size: usize) {
    assert_eq!((fault.cause(), fault.access()), (Cause::Tag, access), "{what}");
    let address = fault.address().unwrap();
    assert!((first.addr()..first.addr() + size).contains(&address), "{what}: {fault}");
}

fn loads_and_stores<T: Scalar + From<u8> + PartialEq + std::fmt::Debug>(memory: &mut Tagged) {
    let size = size_of::<T>();
    for offset in offsets(size, 1) {
        let what = format!("{size} bytes at {offset}");
        memory.number(6);
        let before = memory.bytes().to_vec();
        let ptr = memory.at(offset).cast::<T>();
        // SAFETY: mapped; the handler is installed.
        let (loaded, stored) =
            memory.with_bad(BAD, || unsafe { (faultin::raw::load(ptr), faultin::raw::store(ptr, T::from(0x77))) });
        assert_eq!(loaded.is_err(), touches_bad(offset, size), "{what}");
        assert_eq!(stored.is_err(), touches_bad(offset, size), "{what}");
        if let (Err(load), Err(store)) = (loaded, stored) {
            check(&what, load, Access::Read, ptr.cast(), size);
            check(&what, store, Access::Write, ptr.cast(), size);
            assert_eq!(memory.bytes(), before, "{what}: a store that failed stores nothing");
        } else {
            let bytes = &memory.bytes()[offset..offset + size];
            assert_eq!(bytes[0], 0x77, "{what}");
            assert!(bytes[1..].iter().all(|byte| *byte == 0), "{what}");
        }
    }
}

#[test]
fn loads_and_stores_are_all_or_nothing() {
    let Some(mut memory) = Tagged::new() else { return };
    loads_and_stores::<u8>(&mut memory);
    loads_and_stores::<u16>(&mut memory);
    loads_and_stores::<u32>(&mut memory);
    loads_and_stores::<u64>(&mut memory);
    loads_and_stores::<u128>(&mut memory);
}

/// Every read-modify-write operation of `T`, with `a` on memory that holds `m`: its result and the memory afterwards.
fn read_modify_writes<T: Scalar + PartialEq + std::fmt::Debug>(memory: &mut Tagged, convert: fn(u64) -> T) {
    type Operation<T> = unsafe fn(*mut T, T) -> Result<T, Fault>;
    macro_rules! operation {
        ($p:ident, $v:ident, $call:expr) => {
            |$p, $v| {
                // SAFETY: called with a mapped address, and with the handler installed.
                unsafe { $call }
            }
        };
    }
    let (m, a) = (0x35_u64, 0x53_u64);
    let operations: [(&str, Operation<T>, u64); 13] = [
        ("swap", operation!(p, v, faultin::raw::swap(p, v)), a),
        ("fetch_add relaxed", operation!(p, v, faultin::raw::fetch_add(p, v, Relaxed)), m + a),
        ("fetch_add acquire", operation!(p, v, faultin::raw::fetch_add(p, v, Acquire)), m + a),
        ("fetch_add release", operation!(p, v, faultin::raw::fetch_add(p, v, Release)), m + a),
        ("fetch_add", operation!(p, v, faultin::raw::fetch_add(p, v, SeqCst)), m + a),
        ("fetch_and", operation!(p, v, faultin::raw::fetch_and(p, v, AcqRel)), m & a),
        ("fetch_or", operation!(p, v, faultin::raw::fetch_or(p, v, SeqCst)), m | a),
        ("fetch_xor", operation!(p, v, faultin::raw::fetch_xor(p, v, SeqCst)), m ^ a),
        ("fetch_max", operation!(p, v, faultin::raw::fetch_max(p, v, SeqCst)), m.max(a)),
        ("fetch_min", operation!(p, v, faultin::raw::fetch_min(p, v, SeqCst)), m.min(a)),
        ("store relaxed", operation!(p, v, faultin::raw::store_atomic(p, v, Relaxed).and(faultin::raw::load(p))), a),
        ("store release", operation!(p, v, faultin::raw::store_atomic(p, v, Release).and(faultin::raw::load(p))), a),
        ("store", operation!(p, v, faultin::raw::store_atomic(p, v, SeqCst).and(faultin::raw::load(p))), a),
    ];
    let size = size_of::<T>();
    for offset in offsets(size, size) {
        let ptr = memory.at(offset).cast::<T>();
        for (name, operation, after) in operations {
            let what = format!("{name} of {size} bytes at {offset}");
            memory.number(7);
            // SAFETY: mapped; the handler is installed.
            unsafe { faultin::raw::store(ptr, convert(m)) }.unwrap();
            let before = memory.bytes().to_vec();
            // SAFETY: as above.
            let result = memory.with_bad(BAD, || unsafe { operation(ptr, convert(a)) });
            if touches_bad(offset, size) {
                check(&what, result.unwrap_err(), Access::Write, ptr.cast(), size);
                assert_eq!(memory.bytes(), before, "{what}");
            } else {
                assert_eq!(result, Ok(convert(if name.starts_with("store") { a } else { m })), "{what}");
                // SAFETY: as above.
                assert_eq!(unsafe { faultin::raw::load(ptr) }, Ok(convert(after)), "{what}");
            }
        }
        for (current, new, same) in [(m, a, true), (a, m + 1, false)] {
            let what = format!("compare_exchange of {size} bytes at {offset}");
            // SAFETY: as above.
            unsafe { faultin::raw::store(ptr, convert(m)) }.unwrap();
            let before = memory.bytes().to_vec();
            for (success, failure) in [(Relaxed, Relaxed), (Acquire, Relaxed), (Release, Acquire), (SeqCst, SeqCst)] {
                // SAFETY: as above.
                let result = memory.with_bad(BAD, || unsafe {
                    faultin::raw::compare_exchange(ptr, convert(current), convert(new), success, failure)
                });
                if touches_bad(offset, size) {
                    check(&what, result.unwrap_err(), Access::Write, ptr.cast(), size);
                    assert_eq!(memory.bytes(), before, "{what}");
                    continue;
                }
                assert_eq!(result, Ok(if same { Ok(convert(m)) } else { Err(convert(m)) }), "{what}");
                // SAFETY: as above.
                assert_eq!(unsafe { faultin::raw::load(ptr) }, Ok(convert(if same { new } else { m })), "{what}");
                // SAFETY: as above.
                unsafe { faultin::raw::store(ptr, convert(m)) }.unwrap();
            }
        }
    }
}

#[test]
fn read_modify_writes_are_all_or_nothing() {
    let Some(mut memory) = Tagged::new() else { return };
    read_modify_writes::<u8>(&mut memory, |value| value as u8);
    read_modify_writes::<i16>(&mut memory, |value| value as i16);
    read_modify_writes::<u32>(&mut memory, |value| value as u32);
    read_modify_writes::<i64>(&mut memory, |value| value as i64);
    // Both halves are used.
    read_modify_writes::<u128>(&mut memory, |value| u128::from(value) << 60 | u128::from(value));
}

#[test]
fn atomic_loads_fault_as_loads() {
    let Some(mut memory) = Tagged::new() else { return };
    memory.number(8);
    for offset in offsets(8, 8) {
        for order in [Relaxed, Acquire, SeqCst] {
            let ptr = memory.at(offset).cast::<u64>();
            // SAFETY: mapped; the handler is installed.
            let result = memory.with_bad(BAD, || unsafe { faultin::raw::load_atomic(ptr, order) });
            match result {
                Ok(value) => assert_eq!(value.to_ne_bytes(), memory.bytes()[offset..offset + 8]),
                Err(fault) => check("load_atomic", fault, Access::Read, ptr.cast(), 8),
            }
            assert_eq!(result.is_err(), touches_bad(offset, 8));
        }
    }
}
