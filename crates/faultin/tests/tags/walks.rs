//! Operations that access memory piecewise: strings, scans, fault_in and probe.

use std::num::NonZeroUsize;

use faultin::{Access, Cause, Granularity, Short};

use crate::memory::{GRANULE, GRANULES, Tagged, good_prefix};

const WINDOW: usize = GRANULES * GRANULE;

#[test]
fn a_string_that_ends_before_the_bad_granule_is_whole() {
    let Some(mut memory) = Tagged::new() else { return };
    let mut copy = [0; WINDOW];
    for bad in 2..5 {
        for start in GRANULE..bad * GRANULE {
            for nul in [bad * GRANULE - 1, bad * GRANULE, bad * GRANULE + 5] {
                memory.bytes().fill(b'x');
                memory.bytes()[nul] = 0;
                let max = WINDOW - start;
                let (len, copied) = memory.with_bad(bad, || {
                    copy.fill(0xee);
                    // SAFETY: mapped; `copy` holds `max` bytes; the handler is installed.
                    unsafe {
                        (
                            faultin::raw::strnlen(memory.at(start), max),
                            faultin::raw::strncpy(copy.as_mut_ptr(), memory.at(start), max),
                        )
                    }
                });
                let what = format!("from {start}, NUL at {nul}, granule {bad} bad");
                let done = bad * GRANULE - start;
                if nul < bad * GRANULE {
                    assert_eq!((len, copied), (Ok(nul - start), Ok(nul - start)), "{what}");
                } else {
                    assert_eq!(len.unwrap_err().done, done, "{what}");
                    assert_eq!(copied.unwrap_err().done, done, "{what}");
                    assert_eq!(copied.unwrap_err().fault.cause(), Cause::Tag, "{what}");
                    assert!(copy[done..].iter().all(|byte| *byte == 0xee), "{what}");
                }
            }
        }
    }
}

#[test]
fn scans_stop_at_the_bad_granule_unless_they_found_something_before() {
    let Some(mut memory) = Tagged::new() else { return };
    let zeros = [0; WINDOW];
    for offset in GRANULE..2 * GRANULE {
        for len in [1, 15, 16, 17, 63, 64, 65, 100, 128, 200] {
            for bad in 1..GRANULES - 1 {
                let done = good_prefix(offset, len, bad);
                let what = format!("{len} bytes at {offset}, granule {bad} bad");
                memory.bytes().fill(0);
                // SAFETY: mapped; `zeros` has `len` bytes; the handler is installed.
                let (zeroed, difference) = memory.with_bad(bad, || unsafe {
                    (
                        faultin::raw::is_zeroed(memory.at(offset), len),
                        faultin::raw::compare(zeros.as_ptr(), memory.at(offset), len),
                    )
                });
                if done == len {
                    assert_eq!((zeroed, difference), (Ok(true), Ok(None)), "{what}");
                } else {
                    assert_eq!(zeroed.unwrap_err().done, done, "{what}");
                    assert_eq!(difference.unwrap_err().done, done, "{what}");
                }
                if done == 0 {
                    continue;
                }
                memory.bytes()[offset + done - 1] = 1;
                // SAFETY: as above.
                let (zeroed, difference) = memory.with_bad(bad, || unsafe {
                    (
                        faultin::raw::is_zeroed(memory.at(offset), len),
                        faultin::raw::compare(zeros.as_ptr(), memory.at(offset), len),
                    )
                });
                assert_eq!((zeroed, difference), (Ok(false), Ok(Some(done - 1))), "{what}");
            }
        }
    }
}

#[test]
fn fault_in_sees_a_bad_granule_at_its_first_byte_only() {
    let Some(mut memory) = Tagged::new() else { return };
    memory.number(9);
    let before = memory.bytes().to_vec();
    let len = NonZeroUsize::new(100).unwrap();
    for offset in 2 * GRANULE..4 * GRANULE {
        // SAFETY: mapped; the handler is installed.
        let (readable, writable) = memory.with_bad(2, || unsafe {
            (
                faultin::raw::fault_in_readable(memory.at(offset), len),
                faultin::raw::fault_in_writeable(memory.at(offset), len),
            )
        });
        if offset < 3 * GRANULE {
            let (read, write) = (readable.unwrap_err(), writable.unwrap_err());
            assert_eq!((read.cause(), read.access()), (Cause::Tag, Access::Read), "at {offset}");
            assert_eq!((write.cause(), write.access()), (Cause::Tag, Access::Write), "at {offset}");
        } else {
            assert_eq!((readable, writable), (Ok(len), Ok(len)), "at {offset}");
        }
        assert_eq!(memory.bytes(), before);
    }
}

#[test]
fn a_probe_of_tags_proves_every_granule() {
    let Some(mut memory) = Tagged::new() else { return };
    memory.number(10);
    let before = memory.bytes().to_vec();
    for offset in GRANULE..2 * GRANULE {
        for len in [0, 1, 15, 16, 17, 100, 300] {
            for bad in 0..GRANULES {
                // SAFETY: mapped; the handler is installed.
                let (read, write) = memory.with_bad(bad, || unsafe {
                    (
                        faultin::raw::probe_read(memory.at(offset), len, Granularity::Tag),
                        faultin::raw::probe_write(memory.at(offset), len, Granularity::Tag),
                    )
                });
                let done = good_prefix(offset, len, bad);
                let count = |result: Result<(), Short>| result.map_or_else(|short| short.done, |()| len);
                let what = format!("{len} bytes at {offset}, granule {bad} bad");
                assert_eq!((count(read), count(write)), (done, done), "{what}");
            }
        }
    }
    assert_eq!(memory.bytes(), before);
}

#[test]
fn machine_state_stops_at_a_bad_granule() {
    let Some(memory) = Tagged::new() else { return };
    use faultin::fpstate::{ALIGN, Image, image_size, restore, save};
    // The state is larger than the window, and the memory around it is good.
    let start = memory.at(0).addr().next_multiple_of(ALIGN) - memory.at(0).addr();
    let state = Image::patterned(11);
    // SAFETY: the mapping extends more than a page past the window, and outlives the view.
    let view = unsafe { faultin::WriteView::new(memory.at(start), image_size()) }.unwrap();
    save(&view, &state).unwrap();
    assert!(restore(&view.as_read()).unwrap().same_registers(&state));
    for bad in start.div_ceil(GRANULE)..GRANULES {
        let (saved, restored) = memory.with_bad(bad, || (save(&view, &state), restore(&view.as_read())));
        let (saved, restored) = (saved.unwrap_err(), restored.err().unwrap());
        assert_eq!((saved.cause(), saved.access()), (Cause::Tag, Access::Write));
        assert_eq!((restored.cause(), restored.access()), (Cause::Tag, Access::Read));
    }
}
