//! The guarantees of every kind of memory, one function each.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use faultin::memory::{AtomicMemory, ReadMemory, WriteMemory};
use faultin::{Access, Cause, Fault, Granularity, Scalar, Short};

use super::cases::{Case, layouts, offsets, ranges};
use super::layout::{Backend, CANARY, Memory, expected, pattern, written};

const GRANULARITIES: [Granularity; 3] = [Granularity::Page, Granularity::Line, Granularity::Tag];

fn said(fault: Fault) -> (Access, Cause, Option<usize>) {
    (fault.access(), fault.cause(), fault.address())
}

/// Checks a result in bytes against the expectation from the pages' kinds; returns the count.
fn short<M: Memory>(memory: &M, page: usize, access: Access, case: Case, result: Result<(), Short>) -> usize {
    let (done, cause) = expected(case.kinds, page, access, case.offset, case.len);
    let expected = cause.map(|cause| (done, (access, cause, Some(memory.base() + case.offset + done))));
    assert_eq!(
        result.err().map(|short| (short.done, said(short.fault))),
        expected,
        "{access:?}, pages of {page}, {case:?}"
    );
    done
}

pub fn reads_move_an_exact_prefix<B: Backend>(backend: &B) {
    let page = backend.page_size();
    ranges(backend, |memory, case| {
        let mut dst = vec![CANARY; case.len];
        let done = short(memory, page, Access::Read, case, memory.read().read(&mut dst, case.offset));
        assert!((0..done).all(|i| dst[i] == pattern(case.offset + i)), "bytes before the count, {backend:?}, {case:?}");
        assert!(dst[done..].iter().all(|b| *b == CANARY), "bytes after the count, {backend:?}, {case:?}");
        // Through the writable range as well: writable memory is readable.
        let mut again = vec![CANARY; case.len];
        short(memory, page, Access::Read, case, memory.write().as_read().read(&mut again, case.offset));
        assert_eq!(again, dst);
    });
}

pub fn writes_move_an_exact_prefix<B: Backend>(backend: &B) {
    let page = backend.page_size();
    ranges(backend, |memory, case| {
        let mut model = memory.contents();
        let src: Vec<u8> = (0..case.len).map(|i| written(case.len + i)).collect();
        let done = short(memory, page, Access::Write, case, memory.write().write(&src, case.offset));
        model[case.offset..case.offset + done].copy_from_slice(&src[..done]);
        assert!(model == memory.contents(), "bytes after a write, {backend:?}, {case:?}");
    });
}

pub fn fills_move_an_exact_prefix<B: Backend>(backend: &B) {
    let page = backend.page_size();
    let mut byte = 0_u8;
    ranges(backend, |memory, case| {
        byte = byte.wrapping_add(1);
        let mut model = memory.contents();
        let done = short(
            memory,
            page,
            Access::Write,
            case,
            memory.write().fill(case.offset..case.offset.wrapping_add(case.len), byte),
        );
        model[case.offset..case.offset + done].fill(byte);
        assert!(model == memory.contents(), "bytes after a fill, {backend:?}, {case:?}");
    });
}

/// Checks a scalar's fault. An access to more than one page reports a byte of any bad one.
fn whole<M: Memory>(memory: &M, page: usize, access: Access, case: Case, fault: Option<Fault>) -> bool {
    let bad: Vec<(usize, Cause)> = (case.offset..case.offset + case.len)
        .filter_map(|at| Some((at, case.kinds[at / page].cause(access)?)))
        .collect();
    let Some(fault) = fault else {
        assert!(bad.is_empty(), "no fault, {access:?}, pages of {page}, {case:?}");
        return true;
    };
    assert_eq!(fault.access(), access, "pages of {page}, {case:?}");
    assert!(bad.iter().any(|(_, cause)| *cause == fault.cause()), "{fault:?}, {bad:?}, pages of {page}, {case:?}");
    let at = fault.address().map(|address| address.wrapping_sub(memory.base()));
    if case.offset.is_multiple_of(case.len) && case.len <= page {
        assert_eq!(at, Some(case.offset), "aligned, pages of {page}, {case:?}");
    } else {
        let inside = at.is_none_or(|at| (case.offset..case.offset + case.len).contains(&at));
        assert!(inside, "{fault:?}, pages of {page}, {case:?}");
    }
    false
}

/// Runs `check` at every offset near a boundary where a `T` fits.
fn scalars<B: Backend, T: Scalar>(backend: &B, mut check: impl FnMut(&B::Memory, Case)) {
    let (page, len) = (backend.page_size(), size_of::<T>());
    layouts(backend, |memory, kinds| {
        let mut at: Vec<usize> = offsets(kinds.len(), page);
        at.extend((1..=kinds.len()).flat_map(|n| (1..=2 * len).map(move |i| (n * page).wrapping_sub(i))));
        at.sort_unstable();
        at.dedup();
        for offset in at.into_iter().filter(|at| at.checked_add(len).is_some_and(|end| end <= kinds.len() * page)) {
            check(memory, Case { kinds, offset, len });
        }
    });
}

macro_rules! scalar_types {
    ($run:ident($backend:expr)) => {
        $run!($backend, u8, i16, u32, i64, usize, u128)
    };
}

pub fn loads_give_the_whole_value_or_a_fault<B: Backend>(backend: &B) {
    let page = backend.page_size();
    macro_rules! run {
        ($backend:expr, $($ty:ty),*) => {$(
            scalars::<B, $ty>($backend, |memory, case| {
                let loaded = memory.read().load::<$ty>(case.offset);
                if whole(memory, page, Access::Read, case, loaded.err()) {
                    let bytes = std::array::from_fn(|i| pattern(case.offset + i));
                    assert_eq!(loaded, Ok(<$ty>::from_ne_bytes(bytes)), "{backend:?}, {case:?}");
                }
            });
        )*};
    }
    scalar_types!(run(backend));
}

pub fn stores_change_the_whole_value_or_nothing<B: Backend>(backend: &B) {
    let page = backend.page_size();
    macro_rules! run {
        ($backend:expr, $($ty:ty),*) => {$(
            let mut round = 0;
            scalars::<B, $ty>($backend, |memory, case| {
                round += 1;
                let mut model = memory.contents();
                let bytes = std::array::from_fn(|i| written(round + i));
                let stored = memory.write().store(case.offset, <$ty>::from_ne_bytes(bytes));
                if whole(memory, page, Access::Write, case, stored.err()) {
                    model[case.offset..case.offset + case.len].copy_from_slice(&bytes);
                }
                assert!(model == memory.contents(), "bytes after a store, {backend:?}, {case:?}");
            });
        )*};
    }
    scalar_types!(run(backend));
}

pub fn atomics_change_the_whole_value_or_nothing<B: Backend>(backend: &B) {
    let page = backend.page_size();
    macro_rules! run {
        ($backend:expr, $($ty:ty),*) => {$(
            scalars::<B, $ty>($backend, |memory, case| {
                if !case.offset.is_multiple_of(size_of::<$ty>()) {
                    return;
                }
                let (write, at) = (memory.write(), case.offset..case.offset + case.len);
                let mut model = memory.contents();
                let mut old = <$ty>::from_ne_bytes(model[at.clone()].try_into().expect("the value's length"));
                let new = <$ty>::from_ne_bytes(std::array::from_fn(|i| written(case.offset + i)));
                let mut check = |name, result: Result<Result<$ty, $ty>, Fault>, says, then: $ty| {
                    if whole(memory, page, Access::Write, case, result.err()) {
                        assert_eq!(result, Ok(says), "{name}, {backend:?}, {case:?}");
                        model[at.clone()].copy_from_slice(&then.to_ne_bytes());
                    }
                    assert!(model == memory.contents(), "bytes after {name}, {backend:?}, {case:?}");
                };
                check("swap", write.swap(case.offset, new).map(Ok), Ok(old), new);
                check("fetch_add", write.fetch_add(case.offset, 3, AcqRel).map(Ok), Ok(new), new.wrapping_add(3));
                old = new.wrapping_add(3);
                let fails = write.compare_exchange(case.offset, new, 7, SeqCst, Relaxed);
                check("a compare_exchange that fails", fails, Err(old), old);
                let succeeds = write.compare_exchange(case.offset, old, 7, AcqRel, Acquire);
                check("a compare_exchange that succeeds", succeeds, Ok(old), 7);
                check("fetch_add that wraps", write.fetch_add(case.offset, <$ty>::MAX, Relaxed).map(Ok), Ok(7),
                    (7 as $ty).wrapping_add(<$ty>::MAX));
            });
        )*};
    }
    scalar_types!(run(backend));
}

pub fn misaligned_atomics_are_refused<B: Backend>(backend: &B) {
    layouts(backend, |memory, kinds| {
        let write = memory.write();
        let before = memory.contents();
        let last = kinds.len() * backend.page_size() - 4;
        for offset in [1, 2, 3, last.wrapping_sub(1), last.wrapping_sub(2)] {
            if offset.saturating_add(4) > write.len() {
                continue;
            }
            let refused = Some((Access::Write, Cause::Alignment, Some(memory.base() + offset)));
            let add = write.fetch_add(offset, 1_u32, Relaxed);
            let exchange = write.compare_exchange(offset, 0_u32, 1, Relaxed, Relaxed);
            assert_eq!(write.swap(offset, 1_u32).err().map(said), refused, "{backend:?}, {kinds:?}");
            assert_eq!(add.err().map(said), refused, "{backend:?}, {kinds:?}");
            assert_eq!(exchange.err().map(said), refused, "{backend:?}, {kinds:?}");
        }
        assert!(before == memory.contents(), "{backend:?}, {kinds:?}");
    });
}

pub fn orderings_that_cannot_be_are_refused<B: Backend>(backend: &B) {
    layouts(backend, |memory, kinds| {
        for failure in [Release, AcqRel] {
            let result = memory.write().compare_exchange(0, u32::from_ne_bytes([0, 31, 62, 29]), 1, SeqCst, failure);
            let refused = (Access::Write, Cause::Unsupported, Some(memory.base()));
            assert_eq!(result.err().map(said), Some(refused), "{backend:?}, {kinds:?}");
        }
    });
}

pub fn fault_in_returns_the_accessible_prefix<B: Backend>(backend: &B) {
    let page = backend.page_size();
    ranges(backend, |memory, case| {
        let before = memory.contents();
        let len = NonZeroUsize::new(case.len).expect("cases have bytes");
        let (read, write) = (memory.read(), memory.write());
        for (access, result) in
            [(Access::Read, read.fault_in(case.offset, len)), (Access::Write, write.fault_in(case.offset, len))]
        {
            let (done, cause) = expected(case.kinds, page, access, case.offset, case.len);
            let fault = || (access, cause.expect("a bad page"), Some(memory.base() + case.offset));
            let expected = NonZeroUsize::new(done).ok_or_else(fault);
            assert_eq!(result.map_err(said), expected, "{access:?}, {backend:?}, {case:?}");
        }
        assert!(before == memory.contents(), "{backend:?}, {case:?}");
    });
}

pub fn probes_prove_the_accessible_prefix<B: Backend>(backend: &B) {
    let page = backend.page_size();
    ranges(backend, |memory, case| {
        let before = memory.contents();
        for granularity in GRANULARITIES {
            let read = memory.read().probe(case.offset..case.offset.wrapping_add(case.len), granularity);
            short(memory, page, Access::Read, case, read);
            let write = memory.write().probe(case.offset..case.offset.wrapping_add(case.len), granularity);
            short(memory, page, Access::Write, case, write);
        }
        assert!(before == memory.contents(), "{backend:?}, {case:?}");
    });
}

pub fn what_leaves_the_range_is_refused<B: Backend>(backend: &B) {
    layouts(backend, |memory, kinds| {
        let len = kinds.len() * backend.page_size();
        let (read, write) = (memory.read(), memory.write());
        let before = memory.contents();
        for (offset, size) in [
            (len - 1, 2),
            (len, 1),
            (0, len + 1),
            (len - 3, 4),
            (len + 1, 1),
            (usize::MAX, 1),
            (usize::MAX, 4),
            (usize::MAX - 3, 4),
        ] {
            let refused = |access| Some((access, Cause::OutOfRange, Some(memory.base().wrapping_add(offset))));
            let check = |access, name, fault: Option<Fault>| {
                assert_eq!(fault.map(said), refused(access), "{name} at {offset} + {size}, {backend:?}, {kinds:?}");
            };
            let nothing_done = |short: Short| {
                assert_eq!(short.done, 0);
                short.fault
            };
            let many = NonZeroUsize::new(size).expect("not empty");
            let mut dst = vec![CANARY; size];
            let read_result = read.read(&mut dst, offset);
            assert!(dst.iter().all(|b| *b == CANARY));
            check(Access::Read, "read", read_result.err().map(nothing_done));
            check(Access::Read, "fault_in", read.fault_in(offset, many).err());
            check(Access::Write, "write", write.write(&dst, offset).err().map(nothing_done));
            check(Access::Write, "fill", write.fill(offset..offset.wrapping_add(size), 1).err().map(nothing_done));
            check(Access::Write, "fault_in", write.fault_in(offset, many).err());
            for granularity in GRANULARITIES {
                check(
                    Access::Read,
                    "probe",
                    read.probe(offset..offset.wrapping_add(size), granularity).err().map(nothing_done),
                );
                check(
                    Access::Write,
                    "probe",
                    write.probe(offset..offset.wrapping_add(size), granularity).err().map(nothing_done),
                );
            }
            if size <= 4 {
                let value = u32::MAX;
                check(Access::Read, "load", read.load::<u32>(offset).err());
                check(Access::Write, "store", write.store(offset, value).err());
                // Before alignment is checked.
                check(Access::Write, "swap", write.swap(offset, value).err());
                check(Access::Write, "fetch_add", write.fetch_add(offset, value, Relaxed).err());
                let exchange = write.compare_exchange(offset, value, value, Relaxed, Relaxed);
                check(Access::Write, "compare_exchange", exchange.err());
            }
        }
        assert!(before == memory.contents(), "{backend:?}, {kinds:?}");
    });
}

pub fn no_bytes_need_no_access<B: Backend>(backend: &B) {
    layouts(backend, |memory, kinds| {
        let end = kinds.len() * backend.page_size();
        for offset in offsets(kinds.len(), backend.page_size()).into_iter().chain([end]) {
            let (read, write) = (memory.read(), memory.write());
            let mut results = vec![read.read(&mut [], offset), write.write(&[], offset), write.fill(offset..offset, 1)];
            for granularity in GRANULARITIES {
                results.extend([read.probe(offset..offset, granularity), write.probe(offset..offset, granularity)]);
            }
            assert!(results.iter().all(Result::is_ok), "{results:?} at {offset}, {backend:?}, {kinds:?}");
        }
    });
}

pub fn parts_are_ranges_of_their_own<B: Backend>(backend: &B) {
    let page = backend.page_size();
    layouts(backend, |memory, kinds| {
        let len = kinds.len() * page;
        let (read, write) = (memory.read(), memory.write());
        assert_eq!((read.len(), write.len(), read.is_empty(), write.is_empty()), (len, len, false, false));
        assert_eq!((read.page_size(), write.as_read().page_size()), (page, page));
        assert!(read.subslice(0..len + 1).is_none() && write.subslice(0..len + 1).is_none());
        #[allow(clippy::reversed_empty_ranges)] // a wrong range is the point
        let wrong = 2..1;
        assert!(read.subslice(wrong.clone()).is_none() && write.subslice(wrong).is_none());
        assert!(read.subslice(len..len).is_some_and(|part| part.is_empty()));
        for start in offsets(kinds.len(), page) {
            assert_eq!(read.to_page_end(start), page - start % page);
            let (part, out) = (read.subslice(start..len), write.subslice(start..len));
            let (part, out) = (part.expect("a part"), out.expect("a part"));
            assert_eq!((part.len(), out.len(), out.as_read().len()), (len - start, len - start, len - start));
            assert_eq!(part.to_page_end(0), page - start % page);
            let mut byte = [CANARY];
            let case = Case { kinds, offset: start, len: 1 };
            short(memory, page, Access::Read, case, part.read(&mut byte, 0));
            short(memory, page, Access::Write, case, out.probe(0..1, Granularity::Page));
            let beyond = part.read(&mut byte, len - start).expect_err("beyond the end");
            assert_eq!(said(beyond.fault), (Access::Read, Cause::OutOfRange, Some(memory.base() + len)));
        }
    });
}

/// Copies first, faults in only after zero progress, and gives up only when nothing can be faulted in.
fn read_all<M: ReadMemory>(from: &M, offset: usize, dst: &mut [u8]) -> Result<(), Short> {
    let mut done = 0;
    while done < dst.len() {
        match from.read(&mut dst[done..], offset + done) {
            Ok(()) => return Ok(()),
            Err(short) if short.done > 0 => done += short.done,
            Err(_) => {
                let rest = NonZeroUsize::new(dst.len() - done).expect("bytes are left");
                from.fault_in(offset + done, rest).map_err(|fault| Short { done, fault })?;
            }
        }
    }
    Ok(())
}

pub fn a_loop_by_the_restart_rule_moves_everything_accessible<B: Backend>(backend: &B) {
    let page = backend.page_size();
    ranges(backend, |memory, case| {
        let mut dst = vec![CANARY; case.len];
        let result = read_all(&memory.read(), case.offset, &mut dst);
        let done = short(memory, page, Access::Read, case, result);
        assert!((0..done).all(|i| dst[i] == pattern(case.offset + i)), "{backend:?}, {case:?}");
        assert!(dst[done..].iter().all(|b| *b == CANARY), "{backend:?}, {case:?}");
    });
}
