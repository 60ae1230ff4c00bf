//! Invalid arguments and unusual register contents: each has a documented result, and nothing crashes, hangs or returns a
//! wrong count.

mod pages;

use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

use faultin::{Access, Cause, Fault, Granularity, Scalar, Short, signal::counters, testing};
use pages::{Bad, CANARY, Pages, pattern, serial};

/// Runs `test` once per vector width.
fn each_width(test: impl Fn(&str)) {
    let _one = serial();
    faultin::install().expect("install");
    for name in testing::vectors() {
        assert!(testing::select_vector(name));
        test(name);
    }
    testing::select_widest();
}

/// An address outside of the test's memory, and the cause of the fault of an access to it.
#[derive(Clone, Copy, Debug)]
struct Nowhere {
    name: &'static str,
    address: usize,
    cause: Cause,
}

fn nowhere() -> Vec<Nowhere> {
    let place = |name, address, cause| Nowhere { name, address, cause };
    let mut all = vec![
        place("null", 0, Cause::Unmapped),
        place("beside null", 1, Cause::Unmapped),
        place("the last byte", usize::MAX, Cause::Unmapped),
        place("a range that wraps", usize::MAX - 62, Cause::Unmapped),
        place("the kernel's", 0xffff_8880_0000_0000_u64 as usize, Cause::Unmapped),
    ];
    if cfg!(target_arch = "x86_64") {
        all.extend([
            place("the first that is not canonical", 1 << 47, Cause::NonCanonical),
            place("not canonical", 1 << 63, Cause::NonCanonical),
            place("the last that is not canonical", 0xffff_7fff_ffff_ffc0_u64 as usize, Cause::NonCanonical),
        ]);
    }
    all
}

fn lengths() -> [usize; 9] {
    let page = faultin::page_size();
    [1, 2, 8, 31, 64, 4 * page, isize::MAX as usize, isize::MAX as usize + 1, usize::MAX]
}

impl Nowhere {
    fn read(&self) -> *const u8 {
        std::ptr::without_provenance(self.address)
    }

    fn write(&self) -> *mut u8 {
        std::ptr::without_provenance_mut(self.address)
    }

    /// Nothing is done, for this reason; an access of fixed size may not know the address.
    fn refuses(&self, what: &str, len: usize, fault: &Fault, access: Access) {
        let what = format!("{what} of {len} bytes at {} ({:#x})", self.name, self.address);
        assert_eq!((fault.cause(), fault.access()), (self.cause, access), "{what}: {fault:?}");
        // A wide access may be two for the CPU; user-mode emulation on x86-64 reports 0 for non-canonical addresses.
        let near = |address: usize| address.wrapping_sub(self.address) < len.clamp(1, 16);
        let unknown = |address| cfg!(target_arch = "aarch64") && address == 0 && self.address >= 1 << 47;
        let told = fault.address().is_none_or(|address| near(address) || unknown(address));
        assert!(told, "{what}: {fault:?}");
    }

    fn moves_nothing(&self, what: &str, len: usize, result: Result<(), Short>, access: Access) {
        let short = result.expect_err(what);
        assert_eq!(short.done, 0, "{what} of {len} bytes at {}: {short:?}", self.name);
        assert_eq!(short.fault.address(), Some(self.address), "{what} of {len} bytes at {}: {short:?}", self.name);
        self.refuses(what, len, &short.fault, access);
    }
}

#[test]
fn addresses_where_nothing_is_move_nothing_whatever_the_length() {
    each_width(|_| {
        let mut own = [CANARY; 256];
        for place in nowhere() {
            for len in lengths() {
                // SAFETY: nothing is accessible at the foreign side, so nothing beyond the first byte of the private side
                // is touched.
                unsafe {
                    let (to, from) = (own.as_mut_ptr(), own.as_ptr());
                    place.moves_nothing("copy_in", len, faultin::raw::copy_in(to, place.read(), len), Access::Read);
                    let unpredictable = faultin::raw::copy_unpredictable(to, place.read(), len);
                    place.moves_nothing("copy_unpredictable", len, unpredictable, Access::Read);
                    if len <= own.len() {
                        // Bytes past the source's end must not be read.
                        let out = faultin::raw::copy_out(place.write(), from, len);
                        place.moves_nothing("copy_out", len, out, Access::Write);
                        let init = std::slice::from_raw_parts_mut(to.cast::<MaybeUninit<u8>>(), len);
                        let half = faultin::raw::read_uninit(init, place.read()).expect_err("read_uninit");
                        assert_eq!((half.init.len(), half.uninit.len()), (0, len));
                        place.refuses("read_uninit", len, &half.fault, Access::Read);
                    }
                    place.moves_nothing("fill", len, faultin::raw::fill(place.write(), 1, len), Access::Write);
                    let compare = faultin::raw::compare(place.read(), place.read(), len).map(|_| ());
                    place.moves_nothing("compare", len, compare, Access::Read);
                    let zeroed = faultin::raw::is_zeroed(place.read(), len).map(|_| ());
                    place.moves_nothing("is_zeroed", len, zeroed, Access::Read);
                    let length = faultin::raw::strnlen(place.read(), len).map(|_| ());
                    place.moves_nothing("strnlen", len, length, Access::Read);
                    let string = faultin::raw::strncpy(to, place.read(), len).map(|_| ());
                    place.moves_nothing("strncpy", len, string, Access::Read);
                    for granularity in [Granularity::Page, Granularity::Line, Granularity::Tag] {
                        let read = faultin::raw::probe_read(place.read(), len, granularity);
                        assert_eq!(read.map_err(|short| short.done), Err(0), "probe_read at {}", place.name);
                        let write = faultin::raw::probe_write(place.write(), len, granularity);
                        assert_eq!(write.map_err(|short| short.done), Err(0), "probe_write at {}", place.name);
                    }
                    let some = NonZeroUsize::new(len).expect("not 0");
                    let fault = faultin::raw::fault_in_readable(place.read(), some).expect_err(place.name);
                    place.refuses("fault_in_readable", len, &fault, Access::Read);
                    let fault = faultin::raw::fault_in_writeable(place.write(), some).expect_err(place.name);
                    place.refuses("fault_in_writeable", len, &fault, Access::Write);
                }
            }
        }
        assert_eq!(own, [CANARY; 256], "private memory was touched");
    });
}

fn scalars_fail<T: Scalar + std::fmt::Debug + Default>(place: &Nowhere) {
    let (at, size) = (place.write().cast::<T>(), size_of::<T>());
    let zero = T::default();
    // SAFETY: nothing is accessible there.
    unsafe {
        place.refuses("load", size, &faultin::raw::load(at.cast_const()).expect_err("load"), Access::Read);
        place.refuses("store", size, &faultin::raw::store(at, zero).expect_err("store"), Access::Write);
        let atomic = [
            ("swap", faultin::raw::swap(at, zero)),
            ("fetch_add", faultin::raw::fetch_add(at, zero, Ordering::SeqCst)),
            ("fetch_or", faultin::raw::fetch_or(at, zero, Ordering::SeqCst)),
            ("fetch_max", faultin::raw::fetch_max(at, zero, Ordering::SeqCst)),
        ];
        for (what, result) in atomic {
            let fault = result.expect_err(what);
            if place.address.is_multiple_of(size) {
                if fault.cause() != Cause::Unsupported {
                    place.refuses(what, size, &fault, Access::Write);
                }
            } else {
                assert_eq!(fault.cause(), Cause::Alignment, "{what} at {}: {fault:?}", place.name);
            }
        }
    }
}

#[test]
fn fixed_size_accesses_to_nowhere_fail_with_the_reason() {
    let _one = serial();
    faultin::install().expect("install");
    for place in nowhere() {
        scalars_fail::<u8>(&place);
        scalars_fail::<u16>(&place);
        scalars_fail::<u32>(&place);
        scalars_fail::<u64>(&place);
        scalars_fail::<u128>(&place);
    }
}

#[test]
fn nothing_is_accessed_for_a_length_of_zero() {
    each_width(|width| {
        let before = counters();
        let mut own = [CANARY; 64];
        for place in nowhere() {
            // SAFETY: no byte is requested.
            unsafe {
                let (to, from) = (own.as_mut_ptr(), own.as_ptr());
                let what = format!("{} ({width})", place.name);
                assert_eq!(faultin::raw::copy_in(to, place.read(), 0), Ok(()), "{what}");
                assert_eq!(faultin::raw::copy_out(place.write(), from, 0), Ok(()), "{what}");
                assert_eq!(faultin::raw::copy(place.write(), place.read(), 0), Ok(()), "{what}");
                assert_eq!(faultin::raw::copy_unpredictable(place.write(), place.read(), 0), Ok(()), "{what}");
                assert_eq!(faultin::raw::fill(place.write(), 1, 0), Ok(()), "{what}");
                assert_eq!(faultin::raw::compare(place.read(), place.read(), 0), Ok(None), "{what}");
                assert_eq!(faultin::raw::is_zeroed(place.read(), 0), Ok(true), "{what}");
                assert_eq!(faultin::raw::strnlen(place.read(), 0), Ok(0), "{what}");
                assert_eq!(faultin::raw::strncpy(to, place.read(), 0), Ok(0), "{what}");
                assert_eq!(faultin::raw::probe_read(place.read(), 0, Granularity::Tag), Ok(()), "{what}");
                assert_eq!(faultin::raw::probe_write(place.write(), 0, Granularity::Tag), Ok(()), "{what}");
                assert_eq!(faultin::raw::copy_struct_in(to, 0, place.read(), 0), Ok(()), "{what}");
            }
        }
        assert_eq!(own, [CANARY; 64]);
        assert_eq!(counters(), before, "signals were taken");
    });
}

#[test]
fn a_length_that_no_memory_has_ends_where_the_memory_does() {
    each_width(|width| {
        for bad in Bad::ALL {
            let page = faultin::page_size();
            let mut pages = Pages::new(bad, page);
            for good in [0, 1, 7, 33, 300, page] {
                for len in [isize::MAX as usize, isize::MAX as usize + 1, usize::MAX - page, usize::MAX] {
                    let what = format!("{len:#x} bytes, {good} good before {bad:?} ({width})");
                    let at = pages.boundary().wrapping_sub(good);
                    for access in [Access::Read, Access::Write] {
                        let Some(cause) = bad.cause(access) else { continue };
                        pages.all().fill(b'x');
                        let mut own = vec![CANARY; page + 64];
                        // SAFETY: the range is not accessible after `good` bytes, for which the buffer is long enough.
                        let results = unsafe {
                            match access {
                                Access::Read => vec![
                                    ("copy_in", faultin::raw::copy_in(own.as_mut_ptr(), at, len)),
                                    ("strnlen", faultin::raw::strnlen(at, len).map(|_| ())),
                                    ("probe_read", faultin::raw::probe_read(at, len, Granularity::Page)),
                                    ("probe_read by line", faultin::raw::probe_read(at, len, Granularity::Line)),
                                ],
                                Access::Write => vec![
                                    ("fill", faultin::raw::fill(at, b'x', len)),
                                    ("probe_write", faultin::raw::probe_write(at, len, Granularity::Page)),
                                    ("probe_write by line", faultin::raw::probe_write(at, len, Granularity::Line)),
                                ],
                            }
                        };
                        for (name, result) in results {
                            let short = result.expect_err(name);
                            assert_eq!((short.done, short.fault.cause()), (good, cause), "{name} of {what}");
                        }
                        let copied = if access == Access::Read { good } else { 0 };
                        assert!(own[..copied].iter().all(|byte| *byte == b'x'), "{what}");
                        assert!(own[copied..].iter().all(|byte| *byte == CANARY), "{what}");
                        assert!(pages.all().iter().all(|byte| *byte == b'x'), "{what}");
                    }
                }
            }
        }
    });
}

#[test]
fn with_both_sides_nowhere_a_copy_moves_nothing() {
    each_width(|width| {
        for from in nowhere() {
            for to in nowhere() {
                for len in lengths() {
                    // SAFETY: nothing is accessible on either side.
                    let short =
                        unsafe { faultin::raw::copy(to.write(), from.read(), len) }.expect_err("nothing to copy");
                    let what = format!("{len:#x} bytes from {} to {} ({width}): {short:?}", from.name, to.name);
                    assert_eq!(short.done, 0, "{what}");
                    match short.fault.cause() {
                        Cause::Overlap => {
                            assert!(to.address > from.address, "{what}");
                            assert_eq!(short.fault.address(), Some(to.address), "{what}");
                        }
                        cause if short.fault.access() == Access::Read => {
                            assert_eq!((cause, short.fault.address()), (from.cause, Some(from.address)), "{what}");
                        }
                        cause => assert_eq!((cause, short.fault.address()), (to.cause, Some(to.address)), "{what}"),
                    }
                }
            }
        }
    });
}

#[test]
fn overlap_is_moved_down_refused_upwards_and_checked_in_place() {
    each_width(|width| {
        let page = faultin::page_size();
        let mut pages = Pages::new(Bad::NoAccess, page);
        for len in [1, 2, 15, 16, 17, 64, 65, 200, 700, 2000] {
            for distance in [0, 1, 2, 15, 16, 31, 64, 199, 1999] {
                if distance >= len {
                    continue;
                }
                let what = format!("{len} bytes by {distance} ({width})");
                for (at, byte) in pages.before().iter_mut().enumerate() {
                    *byte = pattern(at);
                }
                // Ends 10 bytes before the bad page, or 10 bytes into it.
                for over in [-10, 10] {
                    let high = pages.boundary().wrapping_offset(over - len as isize);
                    let low = high.wrapping_sub(distance);
                    let before = pages.before().to_vec();
                    // SAFETY: foreign memory on both sides.
                    let up = unsafe { faultin::raw::copy(high, low, len) };
                    if distance > 0 {
                        let short = up.expect_err(&what);
                        assert_eq!((short.done, short.fault.cause()), (0, Cause::Overlap), "{what}");
                        assert_eq!(pages.before(), before, "{what}: something moved");
                    }
                    // SAFETY: as above.
                    let down = unsafe { faultin::raw::copy(low, high, len) };
                    let readable = if over > 0 { len - len.min(over as usize) } else { len };
                    let mut expected = before;
                    let (to, from) =
                        (page.wrapping_add_signed(over) - len - distance, page.wrapping_add_signed(over) - len);
                    if readable > 0 {
                        expected.copy_within(from..from + readable, to);
                    }
                    assert_eq!(
                        down.map_err(|short| short.done),
                        if readable == len { Ok(()) } else { Err(readable) },
                        "{what}"
                    );
                    assert_eq!(pages.before(), expected, "{what}");
                }
            }
        }
    });
}

#[cfg(target_arch = "x86_64")]
mod registers {
    //! Flags and control registers keep the program's values.

    use std::arch::asm;

    use super::*;

    /// The function that [`under`] calls, and its argument.
    struct Call<'a> {
        function: &'a mut dyn FnMut(),
    }

    extern "sysv64" fn trampoline(call: &mut Call<'_>) {
        (call.function)();
    }

    /// Calls `function` with these bits of the flags set.
    fn under(flags: u64, function: &mut dyn FnMut()) {
        let mut call = Call { function };
        // SAFETY: the flags are set only around one call. The stack is aligned as required for a call, below the red zone.
        unsafe {
            asm!(
                "mov r12, rsp",
                "sub rsp, 256",
                "and rsp, -16",
                "pushfq",
                "pushfq",
                "or qword ptr [rsp], {flags}",
                "popfq",
                "sub rsp, 8",
                "call {trampoline}",
                "add rsp, 8",
                "popfq",
                "mov rsp, r12",
                flags = in(reg) flags,
                trampoline = sym trampoline,
                in("rdi") &raw mut call,
                out("r12") _,
                clobber_abi("sysv64"),
            );
        }
    }

    fn mxcsr() -> u32 {
        let mut value = 0_u32;
        // SAFETY: stores four bytes.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
        value
    }

    fn set_mxcsr(value: u32) {
        // SAFETY: there is no floating-point operation before the old value is restored.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags)) };
    }

    /// Copies and fills of sizes on every path, complete and short, with their expected results.
    fn exercise(what: &str, pages: &mut Pages, own: &mut [u8]) {
        for len in [1, 3, 9, 20, 40, 100, 300, 800, 1200, 1600] {
            for good in [len, len - 1, len / 2, 0] {
                let at = pages.boundary().wrapping_sub(good);
                own.fill(CANARY);
                // SAFETY: a buffer that is long enough, and foreign memory.
                let copied = unsafe { faultin::raw::copy_in(own.as_mut_ptr(), at, len) };
                // SAFETY: as above.
                let filled = unsafe { faultin::raw::fill(at, 0x33, len) };
                // SAFETY: as above.
                let stored = unsafe { faultin::raw::copy_out(at, own.as_ptr(), len) };
                let expected = if good == len { Ok(()) } else { Err(good) };
                let count = |result: Result<(), Short>| result.map_err(|short| short.done);
                let results = [("copy_in", count(copied)), ("fill", count(filled)), ("copy_out", count(stored))];
                for (name, result) in results {
                    assert_eq!(result, expected, "{what}: {name} of {len} bytes, {good} good");
                }
                assert!(own[good..].iter().all(|byte| *byte == CANARY), "{what}: {len} bytes, {good} good");
            }
        }
    }

    fn each_path(test: impl Fn(&str, &mut Pages, &mut [u8])) {
        each_width(|width| {
            let usual = testing::thresholds();
            testing::set_thresholds([700, 1100, 1500]);
            let mut pages = Pages::new(Bad::Unmapped, faultin::page_size());
            for (at, byte) in pages.before().iter_mut().enumerate() {
                *byte = pattern(at);
            }
            test(width, &mut pages, &mut [0; 2048]);
            assert!(
                pages.before().iter().enumerate().all(|(at, byte)| *byte == pattern(at)),
                "{width}: what was copied in and out again is another"
            );
            testing::set_thresholds(usual);
        });
    }

    #[test]
    fn the_direction_flag_changes_nothing() {
        const DIRECTION: u64 = 1 << 10;
        each_path(|width, pages, own| {
            // Only the copies run with the flag set; the checks are compiled code, which needs it clear.
            for len in [1, 16, 40, 300, 800, 1600] {
                for good in [len, len / 2, 0] {
                    let at = pages.boundary().wrapping_sub(good);
                    own.fill(CANARY);
                    let (to, mut done) = (own.as_mut_ptr(), [usize::MAX; 3]);
                    under(DIRECTION, &mut || {
                        // SAFETY: a buffer that is long enough, and foreign memory.
                        unsafe {
                            done[0] = count(faultin::raw::copy_in(to, at, len), len);
                            done[1] = count(faultin::raw::copy_unpredictable(to, at, len), len);
                            done[2] = count(faultin::raw::copy_out(at, to, len), len);
                        }
                    });
                    assert_eq!(done, [good; 3], "{len} bytes, {good} good ({width})");
                    let from = faultin::page_size() - good;
                    let right = |at: usize| if at < good { pattern(from + at) } else { CANARY };
                    assert!((0..own.len()).all(|at| own[at] == right(at)), "{len} bytes, {good} good ({width})");
                    under(DIRECTION, &mut || {
                        // SAFETY: as above.
                        unsafe { done[0] = count(faultin::raw::fill(at, 0x44, len), len) };
                    });
                    assert_eq!(done[0], good, "fill of {len} bytes, {good} good ({width})");
                    for (at, byte) in pages.before().iter_mut().enumerate() {
                        assert_eq!(*byte, if at < from { pattern(at) } else { 0x44 }, "fill of {len} ({width})");
                        *byte = pattern(at);
                    }
                }
            }
        });
    }

    fn count(result: Result<(), Short>, len: usize) -> usize {
        match result {
            Ok(()) => len,
            Err(short) => short.done,
        }
    }

    #[test]
    fn floating_point_control_changes_nothing_and_is_not_changed() {
        const ALL_UNMASKED: u32 = 0;
        const FLUSH_AND_ZERO: u32 = 0x9fc0;
        const ROUND_TO_ZERO: u32 = 0x7f80;
        const FLAGS_PENDING: u32 = 0x1fbf;
        each_path(|width, pages, own| {
            let usual = mxcsr();
            for control in [ALL_UNMASKED, FLUSH_AND_ZERO, ROUND_TO_ZERO, FLAGS_PENDING] {
                set_mxcsr(control);
                exercise(&format!("mxcsr {control:#x} ({width})"), pages, own);
                let left = mxcsr();
                set_mxcsr(usual);
                assert_eq!(left, control, "mxcsr was changed ({width})");
            }
        });
    }
}
