//! The cost of a recovered fault.
//!
//! The bare handler and `siglongjmp` need the signals for themselves. They get them for the time of their samples: each
//! sample is preceded by a `sigaction` for both signals and followed by another that restores ours, so that both alternate
//! in one process, on one page, in one thread.

use super::case::{Bound, Case};
use super::measure::Bench;
use super::memory::{Kind, Memory};
use super::peers::guarded::{self, Mask};
use super::peers::{Handler, kernel};
use super::report::Goal;
use super::sample::{Sampler, around, hot, opaque, opaque_ptr};

const BARE: &str = "bare handler";
const READV: &str = "process_vm_readv";

pub fn run(bench: &mut Bench) -> Result<(), String> {
    let page = faultin::page_size();
    let guarded = Memory::guarded(2 * page)?;
    let buffer = Memory::resident(Kind::Anon, 4 * page)?;
    let read_only = Memory::resident(Kind::Anon, page)?;
    read_only.make_read_only(0, page)?;
    let truncated = Memory::new(Kind::Memfd, page)?;
    truncated.truncate(0)?;

    let handlers = Handlers::new();
    let no_access = guarded.ptr().wrapping_add(2 * page);
    loads(bench, &handlers, "load, no access", no_access);
    loads(bench, &handlers, "load, end of file", truncated.ptr());
    loads(bench, &handlers, "load, null page", core::ptr::without_provenance_mut(64));
    stores(bench, &handlers, read_only.ptr());
    for (name, good, len) in [
        ("copy_in, fault half-way", 128, 256),
        ("copy_in, fault half-way", page, 2 * page),
        ("copy_in, fault at once", 0, page),
    ] {
        copies(bench, &handlers, name, buffer.ptr(), no_access.wrapping_sub(good), good, len);
    }
    expected(bench, no_access);
    signal_free(bench, buffer.ptr(), guarded.ptr(), no_access);

    let rows = &bench.rows;
    let goal = "a recovered fault, against a handler that only rewrites the program counter";
    let goal = Goal::worst(goal, 1.05, rows, |row| row.peer == BARE && row.bound.is_some());
    bench.goals.extend(goal);
    Ok(())
}

/// The peers' handlers.
struct Handlers {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    bare: Handler,
    jump: Handler,
    jump_nomask: Handler,
}

impl Handlers {
    fn new() -> Self {
        Handlers {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            bare: super::peers::bare::handler(),
            jump: guarded::handler(Mask::Saved),
            jump_nomask: guarded::handler(Mask::NotSaved),
        }
    }

    fn jump(&self, mask: Mask) -> &Handler {
        match mask {
            Mask::Saved => &self.jump,
            Mask::NotSaved => &self.jump_nomask,
        }
    }
}

/// Runs an operation with `handler` installed.
fn under<'a>(handler: &'a Handler, op: impl FnMut() -> bool + 'a) -> Sampler<'a> {
    around(|| handler.install(), hot(op), || handler.restore())
}

fn loads(bench: &mut Bench, handlers: &Handlers, name: &str, bad: *mut u8) {
    let word = bad.cast::<u64>();
    let mut value = 0_u64;
    let out = (&raw mut value).cast::<u8>();
    let guarded = |mask| {
        // SAFETY: the handler that jumps is installed, and `out` is 8 bytes of our own.
        under(handlers.jump(mask), move || unsafe { !guarded::copy(mask, out, opaque_ptr(bad), size_of::<u64>()) })
    };
    // SAFETY: a load that may fault.
    let ours = hot(move || unsafe { faultin::raw::load(opaque_ptr(word)).is_err() });
    let case = Case::new(name, size_of::<u64>(), ours);
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    let case = {
        // SAFETY: the bare handler is installed.
        let bare = under(&handlers.bare, move || unsafe { super::peers::bare::load_faults(opaque_ptr(word)) });
        case.peer(BARE, Some(Bound::times(1.05)), bare)
    };
    let case = case
        .peer("sigsetjmp(1), siglongjmp", None, guarded(Mask::Saved))
        .peer("sigsetjmp(0), siglongjmp", None, guarded(Mask::NotSaved))
        // SAFETY: 8 bytes of our own.
        .peer(READV, None, hot(move || unsafe { kernel::process_vm_readv(out, opaque_ptr(bad), 8).is_none() }));
    bench.run(case);
}

fn stores(bench: &mut Bench, handlers: &Handlers, bad: *mut u8) {
    let word = bad.cast::<u64>();
    // SAFETY: a store to our own memory, which is read-only.
    let case = Case::new(
        "store, read-only",
        size_of::<u64>(),
        hot(move || unsafe { faultin::raw::store(opaque_ptr(word), 1).is_err() }),
    );
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    let case = {
        // SAFETY: the bare handler is installed; the memory is our own.
        let bare = under(&handlers.bare, move || unsafe { super::peers::bare::store_faults(opaque_ptr(word), 1) });
        case.peer(BARE, Some(Bound::times(1.05)), bare)
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = handlers;
    bench.run(case);
}

/// Measures copies of `len` bytes of which the first `good` are accessible. All except `siglongjmp` copy those and report
/// their count.
fn copies(bench: &mut Bench, handlers: &Handlers, name: &str, dst: *mut u8, src: *mut u8, good: usize, len: usize) {
    let guarded = |mask| {
        // SAFETY: the handler that jumps is installed, and `dst` is our own and longer.
        under(handlers.jump(mask), move || unsafe { !guarded::copy(mask, dst, opaque_ptr(src), opaque(len)) })
    };
    // SAFETY: `dst` is our own and longer; `src` may fault.
    let ours = hot(move || match unsafe { faultin::raw::copy_in(dst, opaque_ptr(src), opaque(len)) } {
        Ok(()) => false,
        Err(short) => short.done == good,
    });
    let case = Case::new(name, len, ours);
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    let case = {
        // SAFETY: the bare handler is installed; `dst` is our own and longer; the length is a multiple of 16.
        let bare = move || unsafe { super::peers::bare::copy(dst, opaque_ptr(src), opaque(len)) == good };
        case.peer(BARE, Some(Bound::times(1.05)), under(&handlers.bare, bare))
    };
    // A call that moves nothing fails.
    let readv = move || {
        // SAFETY: `dst` is our own and longer.
        let done = unsafe { kernel::process_vm_readv(dst, opaque_ptr(src), opaque(len)) };
        done.unwrap_or(0) == good
    };
    let case = case
        .lesser_peer("sigsetjmp(1), siglongjmp", guarded(Mask::Saved))
        .lesser_peer("sigsetjmp(0), siglongjmp", guarded(Mask::NotSaved))
        .peer(READV, None, hot(readv))
        .verified(
            1,
            // SAFETY: our own and longer.
            move || unsafe { core::ptr::write_bytes(dst, 0xa5, len) },
            move || {
                // SAFETY: our own and initialised; only the accessible part of `src`.
                let (dst, src) =
                    unsafe { (core::slice::from_raw_parts(dst, len), core::slice::from_raw_parts(src, good)) };
                if dst[..good] != *src {
                    return Err("the bytes before the fault differ".to_owned());
                }
                match dst[good..].iter().all(|byte| *byte == 0xa5) {
                    true => Ok(()),
                    false => Err("bytes after the fault changed".to_owned()),
                }
            },
        );
    bench.run(case);
}

/// Measures an expected bad address: checking first, instead of taking the signal.
fn expected(bench: &mut Bench, bad: *mut u8) {
    let one = core::num::NonZeroUsize::MIN;
    // SAFETY: a load that may fault.
    let ours = hot(move || unsafe { faultin::raw::fault_in_readable(opaque_ptr(bad), one).is_err() });
    let populate = hot(move || !kernel::populate_read(opaque_ptr(bad), faultin::page_size()));
    bench.run(Case::new("fault_in, no access", 1, ours).peer("MADV_POPULATE_READ", None, populate));
}

/// Measures the mode without a handler, against the system call that it makes.
fn signal_free(bench: &mut Bench, dst: *mut u8, good: *mut u8, bad: *mut u8) {
    for (name, src, fails) in [("signal_free::copy_in", good, false), ("signal_free::copy_in, no access", bad, true)] {
        for len in [8, faultin::page_size()] {
            // SAFETY: `dst` is our own and longer.
            let ours = hot(move || unsafe {
                faultin::signal_free::copy_in(dst, opaque_ptr(src), opaque(len)).is_err() == fails
            });
            // SAFETY: `dst` is our own and longer.
            let readv =
                hot(move || unsafe { kernel::process_vm_readv(dst, opaque_ptr(src), opaque(len)).is_none() == fails });
            bench.run(Case::new(name, len, ours).peer(READV, None, readv));
        }
    }
}
