//! Objects that cannot be mapped, and the errors for them.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use faultin::Cause;
use faultin::{
    MapError,
    map::{Backend, Reason, Rights},
    shared::{SharedMap, SharedOptions},
};

use crate::fixture::{content, each, failed, memfd, seal, serial};

const BACKENDS: [Backend; 3] = [Backend::Automatic, Backend::Mapped, Backend::Pread];

fn refused(file: &File, len: usize, rights: Rights) -> Vec<MapError> {
    let ours = || file.try_clone().expect("a descriptor");
    let map = |backend| SharedOptions::new().backend(backend).from_file(ours(), len, rights);
    BACKENDS.map(|backend| map(backend).map(drop).expect_err("refused")).into()
}

#[test]
fn no_bytes_and_too_few_are_refused() {
    each(|case| {
        let file = case.file(100);
        for error in refused(&file, 0, Rights::Read) {
            assert!(error.to_string().contains("a map of no bytes is not supported"), "{error}");
        }
        for len in [101, usize::MAX] {
            for error in refused(&file, len, Rights::Read) {
                assert!(matches!(error.reason(), Reason::PastEnd { len: 100 }), "{error:?}");
                let says = format!("mapped file: at byte {len}: beyond the end: the map has 100 bytes");
                assert_eq!(error.to_string(), says);
            }
        }
    });
    assert!(SharedMap::create("none", 0).is_err());
    assert_eq!(SharedMap::create("a\0b", 1).map(drop).expect_err("a NUL").errno(), Some(libc::EINVAL));
    assert_eq!(SharedMap::create(&"n".repeat(250), 1).map(drop).expect_err("long").errno(), Some(libc::EINVAL));
    let error = SharedMap::create("huge", usize::MAX).map(drop).expect_err("no file has so much");
    assert!(error.errno().is_some(), "{error:?}");
}

#[test]
fn descriptors_without_memory_are_refused() {
    let _one = serial();
    let folder = File::open(std::env::temp_dir()).expect("a folder");
    let null = File::options().read(true).write(true).open("/dev/null").expect("a device");
    let (pipe, _other) = std::io::pipe().expect("a pipe");
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().expect("a socket");
    let (pipe, socket) = (File::from(OwnedFd::from(pipe)), File::from(OwnedFd::from(socket)));
    for file in [folder, null, pipe, socket] {
        for error in refused(&file, 10, Rights::Read) {
            assert!(matches!(error.reason(), Reason::NotAFile(_)), "{error:?}");
        }
    }
}

#[test]
fn rights_the_descriptor_has_not_are_refused() {
    let _one = serial();
    let named = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(named.path(), content(100)).expect("write");
    let write_only = File::options().write(true).open(named.path()).expect("open");
    let read_only = File::open(named.path()).expect("open");
    let nothing = File::options().read(true).custom_flags(libc::O_PATH).open(named.path()).expect("open");
    let sealed = memfd(0);
    sealed.set_len(100).expect("room");
    seal(&sealed, libc::F_SEAL_WRITE).expect("a memfd");
    for (file, rights, errno) in [
        (&write_only, Rights::Read, libc::EACCES),
        (&write_only, Rights::ReadWrite, libc::EACCES),
        (&read_only, Rights::ReadWrite, libc::EACCES),
        (&nothing, Rights::Read, libc::EBADF),
        (&sealed, Rights::ReadWrite, libc::EPERM),
    ] {
        for error in refused(file, 100, rights) {
            assert_eq!(error.errno(), Some(errno), "{error:?}");
        }
    }
    let map = SharedMap::from_file(sealed, 100, Rights::Read).expect("to read");
    assert_eq!(map.load::<u64>(0).expect("there"), 0);
    let appending = File::options().read(true).append(true).open(named.path()).expect("open");
    let pread = SharedOptions::new().backend(Backend::Pread).from_file(appending, 100, Rights::ReadWrite);
    assert!(matches!(pread.map(drop).expect_err("would append").reason(), Reason::Unsupported(_)));
}

#[test]
fn stores_to_a_map_to_read_are_refused_and_change_nothing() {
    each(|case| {
        let file = case.file(100);
        let ours = file.try_clone().expect("a descriptor");
        let map = case.options().from_file(ours, 100, Rights::Read).expect("map it");
        let mut errors = vec![
            map.write_at(&[1], 0).expect_err("not to write"),
            map.fill(..100, 1).expect_err("not to write"),
            map.store(3, 1_u32).expect_err("not to write"),
        ];
        if case.is_mapped() && !cfg!(faultin_syscall) {
            errors.push(map.swap(8, 1_u64).map(drop).expect_err("not to write"));
        }
        let expected = if case.is_mapped() { failed(Cause::Protection) } else { Cause::Protection };
        for error in errors {
            assert!(matches!(error.reason(), Reason::Fault(f) if f.cause() == expected), "{error:?}");
            assert_eq!((error.done(), error.errno()), (0, Some(libc::EFAULT)));
        }
        let mut now = [0; 100];
        map.read_exact_at(&mut now, 0).expect("there");
        assert_eq!(now[..], content(100));
    });
}

#[test]
fn descriptors_are_passed_on() {
    let _one = serial();
    let map = SharedMap::create("passed on", 100).expect("a memfd");
    let shown = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsFd::as_fd(&map).as_raw_fd()));
    assert!(shown.expect("a link").to_string_lossy().contains("passed on"));
    let other = SharedMap::from_fd(map.try_clone_fd().expect("one more"), 100, Rights::Read).expect("map it");
    map.store(40, 5_u32).expect("there");
    drop(map);
    assert_eq!(other.load::<u32>(40).expect("there"), 5);
}
