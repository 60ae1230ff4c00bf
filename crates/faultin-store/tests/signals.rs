//! A handler of a signal reads a mapping of an object while the thread that it interrupts opens the object, or reads it.

mod common;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use faultin::ReadView;
use faultin_cache::CacheOptions;
use faultin_cache::pager::Mode;
use faultin_store::StoreOptions;
use faultin_store::object_store::path::Path;
use support::{PATH, Scripted, pattern};

const BLOCK: usize = 4096;
const BLOCKS: usize = 2000;

static VIEW: AtomicPtr<ReadView<'static>> = AtomicPtr::new(std::ptr::null_mut());
static HANDLERS: AtomicU64 = AtomicU64::new(0);
static READ: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

extern "C" fn handle(_: libc::c_int) {
    // SAFETY: it is set before the handler is, to a view that is leaked.
    let view = unsafe { &*VIEW.load(Ordering::SeqCst) };
    let number = HANDLERS.fetch_add(1, Ordering::SeqCst);
    let (mut byte, at) = ([0], number as usize * 3 % BLOCKS * BLOCK);
    if view.read(&mut byte, at).is_ok() {
        READ.fetch_add(1, Ordering::SeqCst);
        WRONG.fetch_add(u64::from(byte[0] != (at / BLOCK) as u8), Ordering::SeqCst);
    }
}

#[test]
fn a_handler_may_read_a_mapping_while_its_thread_opens_or_reads_the_object() {
    common::watchdog();
    // Each block begins with its number.
    let mut bytes = pattern(BLOCKS * BLOCK, 1);
    bytes.chunks_mut(BLOCK).enumerate().for_each(|(number, block)| block[0] = number as u8);
    let store = Scripted::new(&bytes);
    for mode in Mode::ALL {
        let options = StoreOptions::new().block(BLOCK).memory(64 * BLOCK).read_ahead(false);
        let object =
            options.build().unwrap().open_in(Arc::clone(&store) as _, &Path::from(PATH), "test:///data").unwrap();
        let file = CacheOptions::new().block(BLOCK.max(faultin::page_size())).limit(1 << 20).build();
        let file = common::open_in(&file, &object);
        let Some(map) = common::map(&file, mode) else { continue };
        let map = Box::leak(Box::new(map));
        VIEW.store(Box::leak(Box::new(map.read_view().unwrap())), Ordering::SeqCst);
        READ.store(0, Ordering::SeqCst);
        // SAFETY: the handler calls only what a handler may call.
        unsafe { libc::signal(libc::SIGUSR1, handle as *const () as libc::sighandler_t) };
        // SAFETY: returns the thread's own name.
        let (reader, is_over) = (unsafe { libc::pthread_self() }, AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    // SAFETY: the thread waits for this one before it ends.
                    unsafe { libc::pthread_kill(reader, libc::SIGUSR1) };
                    thread::sleep(Duration::from_micros(100));
                }
            });
            let mut read = vec![0; 3 * BLOCK];
            for step in 0..1500_usize {
                let block = step * 777 % (BLOCKS - 3);
                assert_eq!(object.read(&mut read, (block * BLOCK) as u64).unwrap(), read.len());
                assert!(read == bytes[block * BLOCK..][..read.len()], "{mode:?}: {block}");
                if step.is_multiple_of(5) {
                    assert_eq!(object.refresh().unwrap().version(), object.version(), "{mode:?}");
                    assert!(object.store().stats().objects.reads > 0, "{mode:?}");
                    assert!(object.store().events().len() <= 256, "{mode:?}");
                }
            }
            is_over.store(true, Ordering::SeqCst);
        });
        // Elsewhere, a fault in a handler is not resolved.
        let reads = mode != Mode::Thread || READ.load(Ordering::SeqCst) > 0;
        assert!(reads, "{mode:?}: no handler has read the mapping: {:?}", map.last_error());
        assert_eq!(WRONG.load(Ordering::SeqCst), 0, "{mode:?}");
    }
}
