//! Huge pages: mapped completely, and used up by another process.

use std::fs::File;
use std::os::fd::AsRawFd;

use faultin::{
    map::{Backend, Reason, Rights},
    shared::SharedOptions,
};

use crate::fixture::{serial, try_memfd};

const POOL: &str = "/proc/sys/vm/nr_hugepages";

/// Huge pages of the default size during a test; the pool is restored afterwards.
struct Pool {
    before: u64,
    page: usize,
}

fn field(name: &str) -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start_matches(':').split_whitespace().next()?.parse().ok())
}

impl Pool {
    /// Exactly one free huge page.
    fn of_one() -> Option<Pool> {
        let before = std::fs::read_to_string(POOL).ok()?.trim().parse().ok()?;
        let page = usize::try_from(field("Hugepagesize")? << 10).ok()?;
        let pool = Pool { before, page };
        if field("HugePages_Free") != Some(1) {
            let used = field("HugePages_Total")?.checked_sub(field("HugePages_Free")?)?;
            std::fs::write(POOL, (used + 1).to_string()).ok()?;
        }
        (field("HugePages_Free") == Some(1) && field("HugePages_Rsvd") == Some(0)).then_some(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // What could not be changed need not be restored.
        let _ = std::fs::write(POOL, self.before.to_string());
    }
}

/// Whether the whole file can be mapped at all; unmaps it again.
fn raw_map(file: &File, len: usize) -> std::io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, unmapped before its address is used.
    unsafe {
        match libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) {
            libc::MAP_FAILED => Err(std::io::Error::last_os_error()),
            place => {
                libc::munmap(place, len);
                Ok(())
            }
        }
    }
}

#[test]
fn huge_pages_that_somebody_else_took_are_no_space() {
    let _one = serial();
    let Some(pool) = Pool::of_one() else { return faultin_test::skipped("huge-pages", "exactly one cannot be had") };
    let (file, other) = match (try_memfd(libc::MFD_HUGETLB), try_memfd(libc::MFD_HUGETLB)) {
        (Ok(file), Ok(other)) => (file, other),
        (Err(error), _) | (_, Err(error)) => {
            return faultin_test::skipped("huge-pages", format_args!("memfds: {error}"));
        }
    };
    for file in [&file, &other] {
        file.set_len(pool.page as u64).expect("a multiple of the page");
    }
    let map = |file: &File| {
        let ours = file.try_clone().expect("a descriptor");
        SharedOptions::new().backend(Backend::Mapped).from_file(ours, 5000, Rights::ReadWrite)
    };
    if let Err(error) = raw_map(&file, pool.page) {
        // The emulator chooses addresses that are invalid for huge pages.
        return faultin_test::skipped("huge-pages", format_args!("mappings: {error}"));
    }
    // A map of a part of a huge page: all of it is mapped, and unmapped.
    for _ in 0..3 {
        let map = map(&file).expect("a huge page");
        map.store(4992, 7_u64).expect("there");
        assert_eq!(map.load::<u64>(4992).expect("there"), 7);
        assert!(map.load::<u64>(4993).is_err(), "the map ends where it was said to");
    }
    let maps = std::fs::read_to_string("/proc/self/maps").expect("they can be read");
    assert!(!maps.contains("/memfd:test"), "a part of a huge page was not unmapped:\n{maps}");
    // The peer truncates and extends it, which frees its page; another file takes that.
    let ours = map(&file).expect("a huge page");
    file.set_len(0).expect("cut");
    let error = ours.read_at(&mut [0; 10], 0).expect_err("cut");
    assert!(error.change().is_some() && error.done() == 0, "{error:?}");
    file.set_len(pool.page as u64).expect("grow");
    let theirs = match map(&other) {
        Ok(theirs) => theirs,
        Err(error) => return faultin_test::skipped("huge-pages", format_args!("a second reservation: {error}")),
    };
    theirs.store(0, 1_u8).expect("reserved for them");
    let error = ours.write_at(&[1; 100], 8).expect_err("none left");
    assert!(matches!(error.reason(), Reason::NoSpace) && error.done() == 0, "{error:?}");
    let mut seen = [0xcc; 100];
    assert_eq!(ours.read_at(&mut seen, 8).expect("the file itself has zeros there"), 100);
    assert_eq!(seen, [0; 100]);
}
