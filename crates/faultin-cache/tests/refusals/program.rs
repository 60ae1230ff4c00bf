//! A program that makes all system calls of this library, one step after the other. Each step gives the right bytes or an
//! error; any other outcome is a panic.
//!
//! It runs in a thread with a filter. A thread that was started before the filter does the program's own work: truncating
//! files, reading files for comparison, printing.

use std::error::Error;
use std::fs::File;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faultin::map::{Advice, Backend, Rights, Watch};
use faultin::shared::{SharedMap, SharedOptions};
use faultin::signal_free::{KernelReadView, KernelWriteView, Process};
use faultin::{FileMap, Granularity, MapError, MapOptions, ReadView, WriteView, page_size};
use faultin_cache::pager::Mode;
use faultin_cache::store::{FileStore, Store};
use faultin_cache::{CacheOptions, CachedFile};

use crate::filter::{self, What};

type Outcome = Result<(), Box<dyn Error>>;
type Task = Box<dyn FnOnce() + Send>;

/// The thread without a filter.
struct Elsewhere {
    task: Mutex<Option<Task>>,
    is_wanted: AtomicBool,
}

impl Elsewhere {
    /// Runs the task there. Waits without a system call.
    fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let answer = Arc::new(Mutex::new(None));
        let put = Arc::clone(&answer);
        *self.task.lock().unwrap() = Some(Box::new(move || *put.lock().unwrap() = Some(task())));
        self.is_wanted.store(true, Ordering::Release);
        while self.is_wanted.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        answer.lock().unwrap().take().expect("it was done")
    }

    fn work(&self) {
        loop {
            if self.is_wanted.load(Ordering::Acquire) {
                if let Some(task) = self.task.lock().unwrap().take() {
                    task();
                }
                self.is_wanted.store(false, Ordering::Release);
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }
}

/// Resources from before the filter.
struct Place {
    folder: PathBuf,
    text: Vec<u8>,
    /// Files for the steps to take.
    files: Mutex<Vec<File>>,
    /// An accessible page before an inaccessible one.
    pages: usize,
    me: i32,
    elsewhere: Arc<Elsewhere>,
    report: Mutex<String>,
    panic: Arc<Mutex<String>>,
}

/// Runs the program as the word says: `tell`, `plain`, or a call's number and an errno; then exits the process.
pub fn main(word: &str) -> ! {
    let what = match word.split_once(' ') {
        Some((call, errno)) => Some(What::Refuse(call.parse().unwrap(), errno.parse().unwrap())),
        None if word == "tell" => Some(What::Tell),
        None => None,
    };
    roomy();
    let elsewhere = Arc::new(Elsewhere { task: Mutex::new(None), is_wanted: AtomicBool::new(false) });
    let place = Place::new(&elsewhere);
    let (said, over) = (Arc::clone(&place.panic), Arc::new(AtomicBool::new(false)));
    // (Printing takes system calls.)
    std::panic::set_hook(Box::new(move |info| *said.lock().unwrap() = info.to_string().replace('\n', " ")));
    let listener = Arc::new(Mutex::new(None));
    let worker = Arc::clone(&elsewhere);
    let (set, ended) = (Arc::clone(&listener), Arc::clone(&over));
    std::thread::spawn(move || {
        if let Some(what) = what {
            *set.lock().unwrap() = Some(filter::set(what));
        } else {
            *set.lock().unwrap() = Some(Ok(None));
        }
        place.step("all", || {
            all(&place);
            Ok(())
        });
        let report = std::mem::take(&mut *place.report.lock().unwrap());
        place.elsewhere.run(move || {
            print!("{report}");
            let folder = &place.folder;
            let _ = std::fs::remove_dir_all(folder);
        });
        ended.store(true, Ordering::Release);
        // Exiting a thread may be refused.
        loop {
            std::hint::spin_loop();
        }
    });
    std::thread::spawn(move || worker.work());
    let descriptor = loop {
        if let Ok(mut set) = listener.try_lock()
            && let Some(set) = set.take()
        {
            break set;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    match descriptor {
        Err(error) => println!("no filter: {error}"),
        Ok(Some(listener)) => {
            let made = filter::listen(listener, || over.load(Ordering::Acquire));
            println!("made: {}", made.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        }
        Ok(None) => {
            while !over.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    println!("the end");
    std::process::exit(0)
}

/// Makes the allocator get all of its memory from the kernel now, so that later refusals concern this library.
fn roomy() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets parameters before other threads allocate.
    unsafe {
        const M_TRIM_THRESHOLD: i32 = -1;
        const M_TOP_PAD: i32 = -2;
        const M_MMAP_THRESHOLD: i32 = -3;
        const M_ARENA_MAX: i32 = -8;
        libc::mallopt(M_ARENA_MAX, 1);
        libc::mallopt(M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(M_TOP_PAD, 128 << 20);
    }
    let fits = vec![1_u8; 16 << 20];
    std::hint::black_box(&fits);
}

impl Place {
    fn new(elsewhere: &Arc<Elsewhere>) -> Place {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder").keep();
        let text: Vec<u8> = (0..16_384).flat_map(|line| format!("line {line:06}\n").into_bytes()).collect();
        for name in ["read", "cut", "written", "appended"] {
            std::fs::write(folder.join(name), &text).expect("write it");
        }
        let options = File::options().read(true).write(true).create(true).truncate(true).clone();
        let files = (0..8).map(|i| options.open(folder.join(format!("file{i}"))).expect("a file")).collect();
        let (page, none) = (page_size(), std::ptr::null_mut());
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, of which the second half becomes inaccessible.
        let pages = unsafe {
            let pages = libc::mmap(none, 2 * page, rights, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
            assert_ne!(pages, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(pages.byte_add(page), page, libc::PROT_NONE), 0);
            pages.expose_provenance()
        };
        Place {
            folder,
            text,
            files: Mutex::new(files),
            pages,
            me: i32::try_from(std::process::id()).expect("a number"),
            elsewhere: Arc::clone(elsewhere),
            report: Mutex::new(String::new()),
            panic: Arc::default(),
        }
    }

    /// Runs one step and records its result.
    fn step(&self, name: &str, step: impl FnOnce() -> Outcome) {
        let end = match catch_unwind(AssertUnwindSafe(step)) {
            Ok(Ok(())) => "right".into(),
            Ok(Err(error)) => {
                let (mut says, mut source) = (error.to_string(), error.source());
                while let Some(inner) = source {
                    says += &format!(" < {inner}");
                    source = inner.source();
                }
                format!("error: {}", says.replace('\n', " "))
            }
            Err(_) => format!("panic: {}", self.panic.lock().unwrap()),
        };
        self.report.lock().unwrap().push_str(&format!("step {name} = {end}\n"));
    }

    /// Like [`step`](Self::step), for values that later steps use.
    fn made<T>(&self, name: &str, make: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Option<T> {
        let mut made = None;
        self.step(name, || {
            made = Some(make()?);
            Ok(())
        });
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn given(&self) -> File {
        self.files.lock().unwrap().pop().expect("enough files")
    }

    /// The bytes of a file.
    fn contents(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        self.elsewhere.run(move || std::fs::read(path).expect("read it"))
    }

    fn set_len(&self, name: &str, len: u64) {
        let path = self.path(name);
        self.elsewhere.run(move || File::options().write(true).open(path).unwrap().set_len(len).unwrap());
    }
}

fn all(place: &Place) {
    place.step("install", || Ok(faultin::install()?));
    for (name, options) in [
        ("map", MapOptions::new()),
        ("map over pread", MapOptions::new().backend(Backend::Pread).advise(Advice::Sequential).populate(true)),
        ("map of a log", MapOptions::new().watch(Watch::Appending).advise(Advice::Random).populate(true)),
        ("map unwatched", MapOptions::new().watch(Watch::Nothing).huge_pages(true)),
    ] {
        if let Some(map) = place.made(name, || Ok(options.open(place.path("read"))?)) {
            reading(place, name, &map);
        }
        cut(place, name, &options);
    }
    for (name, options) in
        [("writes", MapOptions::new()), ("writes over pread", MapOptions::new().backend(Backend::Pread))]
    {
        writing(place, name, &options);
    }
    for backend in [Backend::Automatic, Backend::Pread] {
        shared(place, backend);
    }
    views(place);
    without_signals(place);
    for (name, direct) in [("cache", false), ("direct cache", true)] {
        cache(place, name, direct);
    }
    for mode in Mode::ALL {
        pager(place, mode);
    }
}

fn reading(place: &Place, of: &str, map: &FileMap) {
    let text = &place.text;
    let step = |name: &str, step: &dyn Fn() -> Outcome| place.step(&format!("{of}, {name}"), step);
    step("read_at", &|| {
        let mut bytes = vec![0; text.len() + 9];
        assert_eq!(map.read_at(&mut bytes, 0)?, text.len());
        assert!(bytes[..text.len()] == text[..]);
        Ok(())
    });
    step("try_read_at", &|| {
        let mut bytes = vec![0; 5000];
        map.try_read_at(&mut bytes, 100)?;
        assert!(bytes == text[100..5100]);
        Ok(())
    });
    step("load", &|| {
        assert_eq!(map.load::<u32>(12)?.to_ne_bytes(), text[12..16]);
        Ok(())
    });
    step("find", &|| {
        assert_eq!(map.find(b"line 010000", ..)?, Some(120_000));
        assert_eq!(map.rfind(b"line", ..)?, Some(text.len() as u64 - 12));
        assert_eq!(map.count_byte(b'\n', ..)?, 16_384);
        Ok(())
    });
    step("lines", &|| {
        let (mut lines, mut seen) = (map.lines(..), 0);
        while let Some(line) = lines.next_line()? {
            assert_eq!(line.bytes, &text[seen * 12..seen * 12 + 11]);
            seen += 1;
        }
        assert_eq!(seen, 16_384);
        Ok(())
    });
    step("chunks", &|| {
        let mut bytes = Vec::new();
        map.chunks(..).for_each(|chunk| bytes.extend_from_slice(chunk))?;
        assert!(bytes == *text);
        Ok(())
    });
    step("reader", &|| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut map.reader(), &mut bytes)?;
        assert!(bytes == *text);
        Ok(())
    });
    step("with_slice", &|| {
        // SAFETY: nothing relies on the bytes.
        let is_same = unsafe { map.with_slice(.., |bytes| *bytes == text[..]) };
        assert!(is_same.map_err(MapError::from)?);
        Ok(())
    });
    step("verify", &|| Ok(map.verify()?));
    step("refresh", &|| {
        assert!(map.refresh()?.is_none());
        Ok(())
    });
    step("lengths", &|| {
        assert_eq!((map.file_len()?, map.valid_up_to()?), (text.len() as u64, text.len() as u64));
        Ok(())
    });
}

/// The result of an operation on a map whose file was truncated: the change, or the error that preceded it.
fn seen<T>(result: Result<T, MapError>) -> Outcome {
    match result {
        Ok(_) => panic!("it has read what is not there"),
        Err(error) if error.change().is_some() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn cut(place: &Place, of: &str, options: &MapOptions) {
    place.set_len("cut", place.text.len() as u64);
    let Some(map) = place.made(&format!("{of} that is cut"), || Ok(options.open(place.path("cut"))?)) else { return };
    place.set_len("cut", 5000);
    let step = |name: &str, step: &dyn Fn() -> Outcome| place.step(&format!("{of} that is cut, {name}"), step);
    step("read_at", &|| seen(map.read_at(&mut vec![0; 10_000], 3000)));
    step("find", &|| seen(map.find(b"never there", ..)));
    step("with_slice", &|| {
        // SAFETY: nothing relies on the bytes.
        let sum = unsafe { map.with_slice(.., |bytes| bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>()) };
        seen(sum.map_err(MapError::from))
    });
    step("verify", &|| seen(map.verify()));
    step("refresh", &|| {
        map.refresh()?;
        assert_eq!(map.len(), 5000);
        Ok(())
    });
}

fn writing(place: &Place, of: &str, options: &MapOptions) {
    let Some(map) = place.made(of, || Ok(options.open_mut(place.path("written"))?)) else { return };
    let step = |name: &str, step: &dyn Fn() -> Outcome| place.step(&format!("{of}, {name}"), step);
    step("write_at", &|| {
        map.write_at(b"written here", 70_000)?;
        assert!(place.contents("written")[70_000..].starts_with(b"written here"));
        Ok(())
    });
    step("fill", &|| {
        map.fill(80_000..100_000, 9)?;
        assert!(place.contents("written")[80_000..100_000].iter().all(|&byte| byte == 9));
        Ok(())
    });
    step("store", &|| {
        map.store(8, 0x0102_0304_u32)?;
        assert_eq!(place.contents("written")[8..12], 0x0102_0304_u32.to_ne_bytes());
        Ok(())
    });
    step("flush", &|| Ok(map.flush()?));
    step("flush_range", &|| Ok(map.flush_range(100..1100)?));
    step("allocate", &|| {
        map.allocate(..300_000)?;
        assert!(map.len() >= 300_000 && place.contents("written").len() >= 300_000);
        Ok(())
    });
}

fn shared(place: &Place, backend: Backend) {
    let of = format!("shared memory, {backend:?}");
    let options = SharedOptions::new().backend(backend);
    let Some(map) = place.made(&of, || Ok(options.create("shared", 100_000)?)) else { return };
    place.step(&format!("{of}, read and write"), || {
        map.write_at(&place.text[..5000], 50_000)?;
        map.fill(90_000..100_000, 5)?;
        map.store(0, 7_u64)?;
        let mut bytes = vec![0; 5000];
        map.read_exact_at(&mut bytes, 50_000)?;
        assert!(bytes == place.text[..5000]);
        assert_eq!((map.load::<u64>(0)?, map.load::<u8>(99_999)?), (7, 5));
        Ok(())
    });
    let Some(descriptor) = place.made(&format!("{of}, clone"), || Ok(map.try_clone_fd()?)) else { return };
    let Some(peer) = place
        .made(&format!("{of}, from a descriptor"), || Ok(SharedMap::from_fd(descriptor, 100_000, Rights::ReadWrite)?))
    else {
        return;
    };
    place.step(&format!("{of}, of the peer"), || {
        peer.write_at(b"peer", 10)?;
        let mut bytes = [0; 4];
        map.read_exact_at(&mut bytes, 10)?;
        assert_eq!(&bytes, b"peer");
        Ok(())
    });
    place.step(&format!("{of}, seal"), || {
        map.seal_shrink()?;
        assert!(map.is_sealed());
        Ok(peer.verify()?)
    });
}

fn views(place: &Place) {
    let page = page_size();
    let pages = std::ptr::with_exposed_provenance_mut::<u8>(place.pages);
    // SAFETY: pages of `place`, which stay mapped.
    let Some(view) = place.made("view", || Ok(unsafe { WriteView::new(pages, 2 * page) }?)) else { return };
    place.step("view, short", || {
        view.write(&[7; 100], 0)?;
        let (mut bytes, read): (_, ReadView<'_>) = (vec![0; 2 * page], view.as_read());
        let short = read.read(&mut bytes[..200], page - 50).expect_err("the second page is none");
        assert_eq!(short.done, 50);
        read.read(&mut bytes[..100], 0)?;
        assert!(bytes[..100] == [7; 100]);
        let short = view.write(&[1; 10], page - 3).expect_err("the second page is none");
        assert_eq!(short.done, 3);
        Ok(())
    });
    place.step("view, fault_in and probe", || {
        let all = NonZeroUsize::new(2 * page).expect("not 0");
        assert_eq!(view.fault_in(0, all)?.get(), page);
        assert!(view.fault_in(page, NonZeroUsize::MIN).is_err());
        view.probe(0..page, Granularity::Page)?;
        assert_eq!(view.probe(0..2 * page, Granularity::Page).expect_err("the second page is none").done, page);
        Ok(())
    });
}

fn without_signals(place: &Place) {
    let page = page_size();
    let pages = std::ptr::with_exposed_provenance_mut::<u8>(place.pages);
    // SAFETY: pages of `place`, which stay mapped.
    let (read, write) = unsafe { (KernelReadView::new(pages, 2 * page), KernelWriteView::new(pages, 2 * page)) };
    place.step("signal-free, copies", || {
        write.write(&[9; 20], 10)?;
        let mut bytes = vec![0; 200];
        read.read(&mut bytes[..30], 0)?;
        assert!(bytes[10..30] == [9; 20]);
        assert_eq!(read.read(&mut bytes, page - 50).expect_err("the second page is none").done, 50);
        assert_eq!(write.write(&bytes, page - 50).expect_err("the second page is none").done, 50);
        Ok(())
    });
    place.step("signal-free, fault_in and probe", || {
        let all = NonZeroUsize::new(2 * page).expect("not 0");
        assert_eq!(read.fault_in(0, all)?.get(), page);
        assert_eq!(write.fault_in(0, all)?.get(), page);
        assert_eq!(read.probe(0..2 * page, Granularity::Page).expect_err("the second page is none").done, page);
        Ok(())
    });
    let me = place.me;
    let Some(process) = place.made("process", || Ok(Process::from_pid(me)?)) else { return };
    place.step("process, read", || {
        let mut bytes = [0; 20];
        process.read(&mut bytes, place.pages + 10)?;
        // (As far as it could be written.)
        assert_eq!(bytes, std::array::from_fn(|i| place_byte(place, 10 + i)));
        assert_eq!(process.read(&mut bytes, place.pages + page - 5).expect_err("the second page is none").done(), 5);
        Ok(())
    });
}

fn place_byte(place: &Place, at: usize) -> u8 {
    // SAFETY: in the first of `place`'s pages.
    unsafe { std::ptr::with_exposed_provenance::<u8>(place.pages + at).read_volatile() }
}

fn cache(place: &Place, of: &str, direct: bool) {
    let given = place.given();
    let make = || Ok(if direct { FileStore::direct(given)? } else { FileStore::new(given)? });
    let Some(store) = place.made(of, make) else { return };
    place.step(&format!("{of}, the store's space"), || {
        store.allocate(0..1 << 20)?;
        store.trim(0)?;
        Ok(())
    });
    let Some(file) = place.made(&format!("{of}, open"), || Ok(CacheOptions::new().block(4096).build().open(store)?))
    else {
        return;
    };
    let text = &place.text;
    let step = |name: &str, step: &dyn Fn() -> Outcome| place.step(&format!("{of}, {name}"), step);
    step("write and sync", &|| {
        write_all(&file, text, 0)?;
        file.sync_all()?;
        Ok(())
    });
    step("scattered writes", &|| {
        for at in (0..16).map(|i| i * 3 * 4096) {
            write_all(&file, &text[at..at + 4096], at as u64)?;
        }
        file.sync_data()?;
        Ok(())
    });
    step("read again", &|| {
        if file.len()? < text.len() as u64 || file.dirty() > 0 {
            // It could not be written.
            return Ok(());
        }
        file.dont_need(0..u64::MAX)?;
        file.will_need(0..100_000)?;
        let (mut bytes, mut done) = (vec![0; text.len()], 0);
        while done < bytes.len() {
            let read = file.read_at(&mut bytes[done..], done as u64)?;
            assert_ne!(read, 0);
            done += read;
        }
        assert!(bytes == *text);
        Ok(())
    });
    step("lengths and holes", &|| {
        file.punch_hole(4096..8192)?;
        file.set_len(150_000)?;
        file.sync_all()?;
        let mut bytes = [1; 10];
        file.read_at(&mut bytes, 5000)?;
        assert_eq!((file.len()?, bytes), (150_000, [0; 10]));
        Ok(())
    });
    step("around the cache", &|| {
        let bytes = vec![3; 8192];
        let mut from = faultin::iov::IovSource::<ReadView<'_>>::one(&bytes[..]);
        assert_eq!(file.write_direct(&mut from, 8192)?, 8192);
        let mut back = vec![0; 8192];
        let mut to = faultin::iov::IovDest::<WriteView<'_>>::one(&mut back[..]);
        assert_eq!(file.read_direct(&mut to, 8192)?, 8192);
        drop(to);
        assert!(back == bytes);
        Ok(())
    });
}

fn write_all(file: &CachedFile, mut bytes: &[u8], mut pos: u64) -> Outcome {
    while !bytes.is_empty() {
        let written = file.write_at(bytes, pos)?;
        assert_ne!(written, 0);
        (bytes, pos) = (&bytes[written..], pos + written as u64);
    }
    Ok(())
}

fn pager(place: &Place, mode: Mode) {
    let of = format!("pager, {mode:?}");
    let given = place.given();
    given_text(place, &given);
    let open = || Ok(CacheOptions::new().block(page_size()).build().open(FileStore::new(given)?)?);
    let Some(file) = place.made(&format!("{of}, open"), open) else { return };
    let text = &place.text;
    let map = || Ok(file.map(0..text.len() as u64, Rights::ReadWrite, mode)?);
    let Some(mapping) = place.made(&format!("{of}, map"), map) else { return };
    let step = |name: &str, step: &dyn Fn() -> Outcome| place.step(&format!("{of}, {name}"), step);
    // The restart rule: copy, then fault in.
    step("read", &|| {
        let (view, mut bytes, mut done) = (mapping.read_view()?, vec![0; text.len()], 0);
        while done < bytes.len() {
            match view.read(&mut bytes[done..], done) {
                Ok(()) => break,
                Err(short) => done += short.done,
            }
            let left = NonZeroUsize::new(text.len() - done).expect("it came back short");
            if let Err(fault) = view.fault_in(done, left) {
                return Err(mapping.last_error().map_or_else(|| fault.into(), Box::<dyn Error>::from));
            }
        }
        assert!(bytes == *text);
        Ok(())
    });
    step("write and sync", &|| {
        let view = mapping.write_view()?;
        for at in [10, 100_000] {
            if let Err(fault) = view.fault_in(at, NonZeroUsize::new(5).expect("not 0")) {
                return Err(mapping.last_error().map_or_else(|| fault.into(), Box::<dyn Error>::from));
            }
            view.write(b"paged", at)?;
        }
        file.sync_all()?;
        let mut bytes = [0; 5];
        file.read_at(&mut bytes, 100_000)?;
        assert_eq!(&bytes, b"paged");
        Ok(())
    });
    step("shorter", &|| {
        file.set_len(50_000)?;
        let (view, mut bytes) = (mapping.read_view()?, [0; 10]);
        assert!(view.read(&mut bytes, 120_000).is_err());
        Ok(())
    });
    step("the end", &|| Ok(file.sync_all()?));
    place.step(&format!("{of}, unmap"), || {
        drop(mapping);
        Ok(())
    });
}

/// Has the text written to a file by the other thread.
fn given_text(place: &Place, given: &File) {
    use std::os::fd::{AsFd, AsRawFd};
    let (descriptor, text) = (given.as_fd().as_raw_fd(), place.text.clone());
    let path = format!("/proc/self/fd/{descriptor}");
    place.elsewhere.run(move || std::fs::write(path, text).expect("write it"));
}
