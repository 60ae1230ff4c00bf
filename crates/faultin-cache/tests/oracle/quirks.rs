//! Named deviations of kernels from the cache. A case may deviate by one of these only. Each use is counted, and the test
//! fails if a rule is not used.

use crate::kernel::{Answer, FileSystem, KernelFile};

/// How often a rule was used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quirks {
    pub extended_by_nothing_on_tmpfs: u64,
    pub extended_by_nothing_on_ext4: u64,
    pub came_back_on_tmpfs: u64,
    pub lost_its_count_on_ext4: u64,
    pub too_large_for_ext4: u64,
}

impl Quirks {
    /// A buffered write past the end of a file that moves nothing (`EFAULT`) extends the file to its *offset*: `write_end`
    /// with nothing copied sets the size to `pos + 0`. Observed on tmpfs and ext4, 6.18. The cache keeps the length.
    ///
    /// If that has happened, this truncates the kernel's file to its old length.
    pub fn extended_by_nothing(&mut self, kernel: &KernelFile, len_before: u64, pos: u64, answer: Answer) {
        if answer != Err(libc::EFAULT) || pos <= len_before || kernel.len() != pos {
            return;
        }
        match kernel.file_system {
            FileSystem::Tmpfs => self.extended_by_nothing_on_tmpfs += 1,
            FileSystem::Ext4 => self.extended_by_nothing_on_ext4 += 1,
            // No known deviation, so the lengths differ and the test fails.
            FileSystem::Other => return,
        }
        kernel.file.set_len(len_before).unwrap();
    }

    /// Bytes that are stored through a mapping past the end of a file appear when the file grows over them. Observed on
    /// tmpfs, 6.18; ext4 zeroes them. The cache shows zeros, whatever a folio has past the end.
    ///
    /// `found` is the kernel's byte at a position where `stored` was stored. Returns whether this rule explains it.
    pub fn came_back(&mut self, kernel: &KernelFile, stored: u8, found: u8) -> bool {
        let used = kernel.file_system == FileSystem::Tmpfs && found == stored;
        self.came_back_on_tmpfs += u64::from(used);
        used
    }

    /// A direct write that was done in part returns `EFAULT` and no count. Observed on ext4, 6.18 (xfs does the same). The
    /// cache returns the count.
    ///
    /// `landed` is the number of its bytes in the file. Returns whether this rule explains the result.
    pub fn lost_its_count(&mut self, kernel: &KernelFile, answer: Answer, landed: usize) -> bool {
        let used = kernel.file_system == FileSystem::Ext4 && answer == Err(libc::EFAULT) && landed > 0;
        self.lost_its_count_on_ext4 += u64::from(used);
        used
    }

    /// The file system's maximum file size is less than 2^63, so a write beyond it is refused at once (`EFBIG`). The
    /// cache's limit is 2^63; here writeback fails, and `sync_all` reports it.
    ///
    /// Returns whether this rule explains the result.
    pub fn too_large(&mut self, kernel: &KernelFile, answer: Answer) -> bool {
        let used = kernel.file_system == FileSystem::Ext4 && answer == Err(libc::EFBIG);
        self.too_large_for_ext4 += u64::from(used);
        used
    }
}

/// Each rule on a case in which it must be used.
mod directed {
    use std::fs::OpenOptions;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    use std::sync::Arc;

    use faultin::page_size;
    use faultin_cache::store::{FileStore, MemoryStore};
    use faultin_cache::{CacheOptions, Error, FileOptions};

    use super::{FileSystem, KernelFile, Quirks};
    use crate::kernel::{Home, on_disk};
    use crate::ours::{OurFile, Way};
    use crate::region::{Kind, PAGES, Region};

    const HOMES: [Home; 2] = [Home::Memfd, Home::Disk];

    /// With a file of `len` sevens.
    fn ours(len: usize) -> OurFile {
        let cache = CacheOptions::new().block(64).limit(1 << 20).build();
        OurFile::new(&cache, Arc::new(MemoryStore::new(vec![7; len])), FileOptions::new()).unwrap()
    }

    #[test]
    fn a_write_of_nothing_extends_the_kernels_file_and_not_ours() {
        let _serial = crate::serial();
        let mut region = Region::new();
        let mut kinds = [Kind::Good; PAGES];
        kinds[1] = Kind::NoAccess;
        region.lay_out(kinds);
        let segments = [region.part(page_size(), 10)];
        for home in HOMES {
            let mut quirks = Quirks::default();
            let (kernel, ours) = (KernelFile::new(home), ours(100));
            kernel.replace(&[7; 100]);
            for pos in [0, 99, 100, 101, 5000, 100_000] {
                let answer = kernel.write(&segments, pos);
                assert_eq!(answer, Err(libc::EFAULT));
                quirks.extended_by_nothing(&kernel, 100, pos, answer);
                assert_eq!(kernel.contents(), [7; 100], "{home:?} {pos}");
                // SAFETY: a part of the region, which nothing stores to.
                let outcome = unsafe { ours.write(&segments, pos, Way::Buffered) }.unwrap();
                assert_eq!((outcome.answer, ours.contents(Way::Buffered).unwrap()), (answer, vec![7; 100]), "{pos}");
            }
            let used = match kernel.file_system {
                FileSystem::Tmpfs => quirks.extended_by_nothing_on_tmpfs,
                FileSystem::Ext4 => quirks.extended_by_nothing_on_ext4,
                FileSystem::Other => continue,
            };
            // If a kernel that counts as exact is not, the rule has to name the release.
            assert!(!kernel.is_exact() || used == 3, "{home:?}: {quirks:?}");
        }
    }

    #[test]
    fn what_was_stored_behind_the_end_comes_back_in_the_kernels_file_and_not_in_ours() {
        let _serial = crate::serial();
        let mut quirks = Quirks::default();
        let (page, stored) = (page_size(), 0xee);
        for home in HOMES {
            let kernel = KernelFile::new(home);
            kernel.replace(&[7; 100]);
            // SAFETY: a new mapping, unmapped after a store to its only page, which has bytes of the file in it.
            unsafe {
                let protection = libc::PROT_READ | libc::PROT_WRITE;
                let fd = kernel.file.as_raw_fd();
                let map = libc::mmap(std::ptr::null_mut(), page, protection, libc::MAP_SHARED, fd, 0);
                assert_ne!(map, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
                map.cast::<u8>().add(300).write_volatile(stored);
                libc::munmap(map, page);
            }
            kernel.file.set_len(page as u64).unwrap();
            let found = kernel.contents()[300];
            assert!(found == 0 || quirks.came_back(&kernel, stored, found), "{home:?}: {found:#x}");
            assert!(kernel.file_system != FileSystem::Tmpfs || !kernel.is_exact() || found == stored);
        }
        // The bytes past the end of the file were written to the folio before the truncation.
        for again in [301, 4096] {
            let ours = ours(0);
            ours.file.write_at(&[stored; 4096], 0).unwrap();
            ours.file.set_len(100).unwrap();
            ours.file.set_len(again).unwrap();
            let bytes = ours.contents(Way::Buffered).unwrap();
            assert!(bytes[..100].iter().all(|&byte| byte == stored));
            assert!(bytes[100..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_direct_write_of_the_kernels_forgets_what_has_landed_and_ours_counts_it() {
        let _serial = crate::serial();
        let (page, mut quirks, mut region) = (page_size(), Quirks::default(), Region::new());
        let mut kinds = [Kind::Good; PAGES];
        kinds[1] = Kind::NoAccess;
        region.lay_out(kinds);
        region.fill(1);
        let segments = [region.part(0, 2 * page)];
        let kernel = KernelFile::new(Home::Disk);
        kernel.replace(&vec![7; 2 * page]);
        let path = format!("/proc/self/fd/{}", kernel.file.as_raw_fd());
        let direct = match OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path) {
            Ok(file) => KernelFile { file, file_system: kernel.file_system },
            Err(error) => return faultin_test::skipped("o-direct", format_args!("in the build directory: {error}")),
        };
        let answer = direct.write(&segments, 0);
        let written = region.contents();
        let landed = kernel.contents().iter().zip(&written).take_while(|(a, b)| a == b).count();
        let explained = answer == Ok(landed) || quirks.lost_its_count(&kernel, answer, landed);
        assert!(explained || !kernel.is_exact(), "{answer:?}, {landed} bytes have landed");
        let is_needed = kernel.is_exact() && kernel.file_system == FileSystem::Ext4;
        assert_eq!(quirks.lost_its_count_on_ext4 == 1, is_needed, "{answer:?}, {landed} bytes have landed");

        let cache = CacheOptions::new().limit(1 << 20).build();
        let store = Arc::new(FileStore::direct(on_disk()).unwrap());
        let ours = OurFile::new(&cache, store, FileOptions::new()).unwrap();
        // SAFETY: a part of the region, which nothing stores to.
        let outcome = unsafe { ours.write(&segments, 0, Way::Direct) }.unwrap();
        assert_eq!((outcome.answer, outcome.whole), (Ok(page), false));
        assert_eq!(ours.stored().unwrap(), written[..page]);
    }

    #[test]
    fn a_file_system_with_small_files_refuses_a_write_at_once_and_ours_when_it_is_written_back() {
        let _serial = crate::serial();
        let (mut quirks, region) = (Quirks::default(), Region::new());
        let segments = [region.part(0, 10)];
        let kernel = KernelFile::new(Home::Disk);
        let answer = kernel.write(&segments, 1 << 62);
        let store = on_disk();
        let cache = CacheOptions::new().limit(1 << 20).build();
        let ours =
            OurFile::new(&cache, Arc::new(FileStore::new(store.try_clone().unwrap()).unwrap()), FileOptions::new())
                .unwrap();
        // SAFETY: a part of the region, which nothing stores to.
        let outcome = unsafe { ours.write(&segments, 1 << 62, Way::Buffered) }.unwrap();
        assert_eq!(outcome.answer, Ok(10));
        let synced = ours.file.sync_all();
        assert_eq!(synced.as_ref().err().and_then(Error::errno), answer.err());
        if synced.is_ok() {
            let mut bytes = [0; 10];
            store.read_exact_at(&mut bytes, 1 << 62).unwrap();
            assert_eq!(bytes, region.contents()[..10]);
        } else {
            assert!(quirks.too_large(&kernel, answer) || kernel.file_system == FileSystem::Other, "{answer:?}");
            assert_eq!(ours.file.dirty(), 4096, "what was not written stays");
            ours.file.set_len(0).unwrap();
            ours.file.sync_all().unwrap();
        }
        assert_eq!(quirks.too_large_for_ext4 > 0, kernel.file_system == FileSystem::Ext4);
    }
}
