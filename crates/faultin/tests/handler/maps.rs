//! Maps with the crate's handler installed first: other handlers are installed above it, and maps that are opened or
//! refreshed later must not die of what those do with a fault.

use faultin::signal::HandlerState;
use faultin::{
    FileMap, FileMapMut, MapOptions,
    map::{Backend, Change, Rights, Watch},
    shared::SharedMap,
};

use crate::Ends;
use crate::child::{self, SIGNALS, status_is};
use crate::foreign::{self, A};

const PAGES: usize = 4;

fn file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary folder");
    std::fs::write(file.path(), vec![7; PAGES * child::page()]).expect("write");
    file
}

/// A map was opened and used, and the handler is installed.
fn used_once() {
    child::clean_slate();
    let file = file();
    let map = FileMap::open(file.path()).expect("map it");
    assert_eq!((map.load::<u8>(0).expect("a byte"), map.backend()), (7, Backend::Mapped));
    status_is!(Direct);
}

/// Like a crash reporter, it exits and passes nothing on.
extern "C" fn reports(_: i32) {
    // SAFETY: exits the process.
    unsafe { libc::_exit(70) }
}

fn reporter() -> usize {
    reports as *const () as usize
}

/// Installs a handler for both signals.
fn over_both(handler: usize, flags: i32) {
    for signal in SIGNALS {
        child::install(signal, handler, flags, &[]);
    }
}

/// Truncates the file of the map, whose accesses report it.
#[track_caller]
fn says_that_it_is_cut(map: &FileMap, file: &tempfile::NamedTempFile) {
    let page = child::page();
    file.as_file().set_len(page as u64).expect("set_len");
    let mut bytes = vec![0; PAGES * page];
    let error = map.read_at(&mut bytes, 0).expect_err("it was cut");
    let cut = Change::Shrunk { from: (PAGES * page) as u64, to: page as u64 };
    assert_eq!((error.change(), error.done()), (Some(cut), page), "{error}");
    assert_eq!(map.load::<u8>(2 * page as u64).expect_err("it was cut").change(), Some(cut));
}

crate::scenarios! {
    map_opened_below_a_reporter_of_sigbus_stands_above_it => Ends::Well, |_| {
        used_once();
        child::install(libc::SIGBUS, reporter(), 0, &[]);
        assert_eq!(faultin::signal::status().bus, HandlerState::Below(reporter()));
        let file = file();
        let map = FileMap::open(file.path()).expect("map it");
        status_is!(Direct);
        assert_eq!(map.backend(), Backend::Mapped);
        says_that_it_is_cut(&map, &file);
    };
    map_opened_below_a_reporter_of_sigsegv_stands_above_it => Ends::Well, |_| {
        used_once();
        child::install(libc::SIGSEGV, reporter(), libc::SA_ONSTACK, &[]);
        let status = faultin::signal::status();
        assert_eq!((status.segv, status.bus), (HandlerState::Below(reporter()), HandlerState::Direct));
        let file = file();
        let map = FileMap::open(file.path()).expect("map it");
        status_is!(Direct);
        says_that_it_is_cut(&map, &file);
    };
    writable_and_shared_maps_stand_above_a_reporter => Ends::Well, |_| {
        for shared in [false, true] {
            used_once();
            over_both(reporter(), 0);
            let (file, page) = (file(), child::page());
            if shared {
                let map = SharedMap::from_file(file.reopen().expect("open"), PAGES * page, Rights::Read).expect("map it");
                status_is!(Direct);
                file.as_file().set_len(100).expect("set_len");
                assert_eq!(map.read_at(&mut vec![0; PAGES * page], 0).expect_err("it was cut").done(), 100);
            } else {
                let map = FileMapMut::open(file.path()).expect("map it");
                status_is!(Direct);
                file.as_file().set_len(100).expect("set_len");
                assert_eq!(map.write_at(&vec![1; PAGES * page], 0).expect_err("it was cut").done(), 100);
            }
        }
    };
    refresh_stands_above_a_reporter_that_came_after_the_map => Ends::Well, |_| {
        used_once();
        for watch in [Watch::Reader, Watch::Appending, Watch::Contents, Watch::Nothing] {
            let file = file();
            let map = MapOptions::new().watch(watch).open(file.path()).expect("map it");
            over_both(reporter(), 0);
            assert_eq!(map.refresh().expect("nothing happened"), None);
            status_is!(Direct);
            assert_eq!(map.backend(), Backend::Mapped);
            says_that_it_is_cut(&map, &file);
        }
    };
    what_is_not_ours_still_arrives_at_the_handler_we_were_raised_above => Ends::Well, |_| {
        used_once();
        for signal in SIGNALS {
            foreign::install(A, signal, libc::SA_SIGINFO | libc::SA_NODEFER, &[], foreign::repair);
        }
        let file = file();
        let map = FileMap::open(file.path()).expect("map it");
        says_that_it_is_cut(&map, &file);
        assert_eq!(foreign::seen(A).calls, 0);
        for signal in SIGNALS {
            foreign::forget();
            child::foreign_fault(signal);
            assert_eq!((foreign::seen(A).calls, foreign::seen(A).signal), (1, signal));
        }
    };
    map_opened_after_a_reset_installs_again => Ends::Well, |_| {
        for reset in [libc::SIG_DFL, libc::SIG_IGN] {
            used_once();
            over_both(reset, 0);
            status_is!(Absent);
            let file = file();
            let map = FileMap::open(file.path()).expect("map it");
            status_is!(Direct);
            assert_eq!(map.backend(), Backend::Mapped);
            says_that_it_is_cut(&map, &file);
        }
    };
    where_there_is_no_room_above_maps_are_read => Ends::Well, |_| {
        used_once();
        let [before, after] = [file(), file()];
        let earlier = FileMap::open(before.path()).expect("map it");
        for handler in child::distinct_handlers() {
            over_both(handler, libc::SA_SIGINFO);
            if faultin::signal::raise_to_top().is_err() {
                break;
            }
        }
        status_is!(Below);
        // None of them passes a signal on.
        let map = FileMap::open(after.path()).expect("open it");
        assert_eq!(map.backend(), Backend::Pread);
        says_that_it_is_cut(&map, &after);
        assert_eq!((earlier.backend(), earlier.refresh().expect("nothing happened")), (Backend::Mapped, None));
        assert_eq!(earlier.backend(), Backend::Pread);
        says_that_it_is_cut(&earlier, &before);
        // SAFETY: a sum does not rely on the bytes.
        let damaged = unsafe { earlier.with_slice(.., |bytes| bytes.iter().map(|&b| u64::from(b)).sum::<u64>()) };
        assert_eq!(damaged.expect_err("it was cut").value, Some(7 * child::page() as u64));
    };
    map_that_would_append_cannot_be_written_once_it_is_read => Ends::Well, |_| {
        used_once();
        let file = file();
        let appending = std::fs::File::options().read(true).append(true).open(file.path()).expect("open");
        let map = FileMapMut::from_file(appending).expect("map it");
        map.write_at(&[1], 0).expect("mapped");
        for handler in child::distinct_handlers() {
            over_both(handler, libc::SA_SIGINFO);
            let _ = faultin::signal::raise_to_top();
        }
        map.refresh().expect("nothing happened");
        assert_eq!(map.backend(), Backend::Pread);
        assert_eq!(map.write_at(&[2], 0).expect_err("it would append").errno(), Some(libc::EOPNOTSUPP));
        assert_eq!(std::fs::read(file.path()).expect("read").len(), PAGES * child::page());
        assert_eq!(map.load::<u8>(0).expect("read"), 1);
    };
    nothing_is_raised_for_a_host_that_owns_the_handler => Ends::Well, |_| {
        /// This crate's handler first, then the host's own.
        fn host(_: usize, signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
            // SAFETY: the kernel's arguments; this handler returns normally.
            assert_eq!(unsafe { faultin::signal::try_handle(signal, info, context) }, faultin::signal::SignalOutcome::Recovered);
        }
        child::clean_slate();
        faultin::signal::host_owns_handler().unwrap();
        for signal in SIGNALS {
            foreign::install(A, signal, libc::SA_SIGINFO | libc::SA_NODEFER, &[], host);
        }
        let file = file();
        let map = FileMap::open(file.path()).expect("map it");
        map.refresh().expect("nothing happened");
        status_is!(Host);
        assert_eq!(map.backend(), Backend::Mapped);
        says_that_it_is_cut(&map, &file);
        assert!(foreign::seen(A).calls > 0);
    };
}
