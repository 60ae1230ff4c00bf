//! A tier on a disk that is slow, full or fails, as the test decides.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;

const SLOT: usize = 4096;
const LIMIT: u64 = OVERHEAD + 16 * (SLOT + RECORD) as u64;

/// A file in memory, with faults.
#[derive(Default)]
pub struct Fake {
    bytes: Mutex<Vec<u8>>,
    faults: Mutex<Faults>,
    /// Signalled when the faults change.
    changed: Condvar,
    /// Number of reads that waited for the disk.
    pub reads: AtomicUsize,
}

#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// Reads wait for the disk.
    pub cold: bool,
    /// Reads that wait for the disk take as long.
    pub slow: Duration,
    /// Reads that wait for the disk do not return.
    pub reads_hang: bool,
    pub writes_hang: bool,
    reads_fail: bool,
    writes_fail: bool,
    /// There is no space for bytes after this position.
    full: Option<u64>,
}

impl Fake {
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults.lock());
        self.changed.notify_all();
    }

    fn wait_while(&self, hangs: impl Fn(&Faults) -> bool) -> Faults {
        let mut faults = self.faults.lock();
        while hangs(&faults) {
            self.changed.wait(&mut faults);
        }
        *faults
    }
}

impl Device for Arc<Fake> {
    fn read_now(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        let faults = *self.faults.lock();
        match faults {
            Faults { cold: true, .. } => Err(io::ErrorKind::WouldBlock.into()),
            Faults { reads_fail: true, .. } => Err(io::Error::other("EIO")),
            _ => {
                let bytes = self.bytes.lock();
                let from = bytes.len().min(pos as usize);
                let count = buf.len().min(bytes.len() - from);
                buf[..count].copy_from_slice(&bytes[from..from + count]);
                Ok(count)
            }
        }
    }

    fn read(&self, buf: &mut [u8], pos: u64) -> io::Result<()> {
        self.reads.fetch_add(1, Relaxed);
        let faults = self.wait_while(|faults| faults.reads_hang);
        thread::sleep(faults.slow);
        if faults.reads_fail {
            return Err(io::Error::other("EIO"));
        }
        let bytes = self.bytes.lock();
        let from = bytes.get(pos as usize..pos as usize + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(from);
        Ok(())
    }

    fn write(&self, from: &[u8], pos: u64) -> io::Result<()> {
        let faults = self.wait_while(|faults| faults.writes_hang);
        let end = pos + from.len() as u64;
        if faults.writes_fail {
            return Err(io::Error::other("EIO"));
        }
        if faults.full.is_some_and(|full| end > full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = self.bytes.lock();
        let len = bytes.len().max(end as usize);
        bytes.resize(len, 0);
        bytes[pos as usize..end as usize].copy_from_slice(from);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes.lock().resize(len as usize, 0);
        Ok(())
    }
}

/// The files of a tier, which outlive it.
#[derive(Default)]
pub struct Files {
    index: Arc<Fake>,
    pub data: Arc<Fake>,
}

impl Files {
    pub fn open_with(&self, options: &DiskOptions) -> Disk {
        let (index, data) = (Arc::clone(&self.index), Arc::clone(&self.data));
        let sizes = options.sizes().expect("valid options");
        let open =
            move || -> io::Result<writer::Files> { Ok((Box::new(Arc::clone(&index)), Arc::new(Arc::clone(&data)))) };
        options.start(sizes, Box::new(open)).expect("a thread")
    }

    fn open(&self) -> Disk {
        self.open_with(&options())
    }
}

fn options() -> DiskOptions {
    DiskOptions::new(LIMIT).slot(SLOT)
}

fn key(block: u64) -> Key {
    Key {
        object: "s3://bucket/object".into(),
        version: "\"1\"".into(),
        range: block * SLOT as u64..(block + 1) * SLOT as u64,
    }
}

fn bytes(block: u64) -> Vec<u8> {
    faultin_test::Random::new(block).bytes(SLOT)
}

fn put(disk: &Disk, blocks: Range<u64>) {
    blocks.for_each(|block| disk.put(key(block), bytes(block).into()));
    assert!(disk.flush(Duration::from_secs(60)));
}

/// Returns whether the tier has the block. Its bytes must be right.
fn has(disk: &Disk, block: u64) -> bool {
    let mut buf = vec![0; SLOT];
    let found = disk.get(&key(block), &mut buf);
    assert!(found.is_none_or(|len| len == SLOT && buf == bytes(block)), "block {block}");
    found.is_some()
}

#[test]
fn a_read_that_does_not_return_holds_no_caller() {
    let files = Files::default();
    let disk = files.open();
    put(&disk, 0..4);
    files.data.set(|faults| (faults.cold, faults.reads_hang) = (true, true));
    assert!(!has(&disk, 0) && !has(&disk, 1));
    files.data.set(|faults| faults.reads_hang = false);
    assert!((0..4).all(|block| has(&disk, block)), "the disk answers again");
    let stats = disk.stats();
    assert_eq!((stats.late, stats.damaged, stats.errors, stats.hits), (2, 0, 0, 4));
}

#[test]
fn a_slow_disk_is_left_alone_and_tried_again_by_one_read() {
    let files = Files::default();
    let disk = files.open();
    put(&disk, 0..4);
    files.data.set(|faults| (faults.cold, faults.reads_hang) = (true, true));
    let reads = || files.data.reads.load(Relaxed);
    let before = reads();
    for _ in 0..10 {
        assert!(!has(&disk, 0));
    }
    // A wait for a pause that is over can only make more.
    let tried = reads() - before;
    assert!((3..10).contains(&tried), "{tried}");
    assert_eq!(disk.stats().late, 10);
    files.data.set(|faults| faults.reads_hang = false);
    while !has(&disk, 0) {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(has(&disk, 1), "and then by all");
}

#[test]
fn without_patience_only_what_is_at_hand_is_read() {
    let files = Files::default();
    let disk = files.open_with(&options().patience(Duration::ZERO));
    put(&disk, 0..1);
    assert!(has(&disk, 0));
    files.data.set(|faults| faults.cold = true);
    assert!(!has(&disk, 0));
    assert_eq!(files.data.reads.load(Relaxed), 0);
    let mut buf = vec![0; SLOT];
    assert_eq!(disk.get_within(&key(0), &mut buf, Duration::MAX), Some(SLOT));
}

#[test]
fn many_threads_read_a_cold_disk() {
    let files = Files::default();
    let disk = files.open_with(&options().patience(Duration::from_secs(60)));
    put(&disk, 0..16);
    files.data.set(|faults| faults.cold = true);
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| (0..16).for_each(|block| assert!(has(&disk, block))));
        }
    });
}

#[test]
fn a_block_that_cannot_be_read_is_stored_again() {
    for cold in [false, true] {
        let files = Files::default();
        let disk = files.open();
        put(&disk, 0..2);
        files.data.set(|faults| (faults.cold, faults.reads_fail) = (cold, true));
        assert!(!has(&disk, 0) && !has(&disk, 0));
        files.data.set(|faults| faults.reads_fail = false);
        assert!(!has(&disk, 0) && has(&disk, 1));
        put(&disk, 0..1);
        assert!(has(&disk, 0));
        assert_eq!((disk.stats().errors, disk.stats().damaged), (1, 0));
    }
}

#[test]
fn a_block_that_is_evicted_while_it_is_read_is_not_damaged() {
    let files = Files::default();
    let disk = files.open_with(&options().patience(Duration::from_secs(60)));
    put(&disk, 0..16);
    files.data.set(|faults| (faults.cold, faults.reads_hang) = (true, true));
    let found = thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|block| {
                scope.spawn({
                    let disk = &disk;
                    move || has(disk, block)
                })
            })
            .collect();
        while files.data.reads.load(Relaxed) < 4 {
            thread::yield_now();
        }
        // The blocks that are being read stay longer than others, but not than those that come back again and again.
        (0..10).for_each(|_| put(&disk, 100..118));
        files.data.set(|faults| faults.reads_hang = false);
        readers.into_iter().map(|reader| reader.join().expect("no panic")).filter(|found| *found).count()
    });
    let stats = disk.stats();
    assert_eq!((found, stats.damaged), (0, 0), "{stats:?}");
}

#[test]
fn a_disk_that_cannot_be_written_keeps_what_it_has_and_is_tried_again() {
    for fails in ["index", "data"] {
        let files = Files::default();
        let disk = files.open();
        put(&disk, 0..4);
        let file = if fails == "index" { &files.index } else { &files.data };
        file.set(|faults| faults.writes_fail = true);
        put(&disk, 4..8);
        assert!((0..4).all(|block| has(&disk, block)) && (4..8).all(|block| !has(&disk, block)), "{fails}");
        let stats = disk.stats();
        assert_eq!((stats.stored, stats.dropped, stats.errors), (4, 4, 1), "one was tried: {fails}");
        file.set(|faults| faults.writes_fail = false);
        while !has(&disk, 4) {
            put(&disk, 4..5);
        }
    }
}

#[test]
fn a_disk_that_could_not_be_written_for_a_while_has_all_of_its_slots_again() {
    let files = Files::default();
    let disk = files.open();
    put(&disk, 0..16);
    let all = disk.stats().blocks;
    files.data.set(|faults| faults.writes_fail = true);
    while disk.stats().errors < 3 {
        put(&disk, 20..21);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(disk.stats().blocks, all - 3);
    files.data.set(|faults| faults.writes_fail = false);
    while !has(&disk, 20) {
        put(&disk, 20..21);
        thread::sleep(Duration::from_millis(20));
    }
    put(&disk, 30..40);
    assert_eq!(disk.stats().blocks, all);
}

/// It fails alone: a disk's damaged sector.
#[test]
fn a_slot_that_cannot_be_written_is_left_out() {
    let files = Files::default();
    let disk = files.open();
    put(&disk, 0..16);
    let all = disk.stats().blocks;
    files.data.set(|faults| faults.writes_fail = true);
    put(&disk, 20..21);
    files.data.set(|faults| faults.writes_fail = false);
    while !has(&disk, 20) {
        put(&disk, 20..21);
    }
    put(&disk, 30..60);
    assert_eq!((disk.stats().blocks, disk.stats().errors), (all - 1, 1));
}

#[test]
fn a_full_disk_holds_as_many_blocks_as_it_has_space_for() {
    let files = Files::default();
    files.data.set(|faults| faults.full = Some(10 * SLOT as u64));
    let disk = files.open();
    put(&disk, 0..100);
    let stats = disk.stats();
    assert_eq!((stats.blocks, stats.stored, stats.dropped), (10, 100, 0), "{stats:?}");
    assert_eq!((0..100).filter(|&block| has(&disk, block)).count(), 10);
    assert!(has(&disk, 99), "the newest one");
}

#[test]
fn a_disk_without_any_space_stores_nothing() {
    let files = Files::default();
    files.data.set(|faults| faults.full = Some(0));
    let disk = files.open();
    put(&disk, 0..3);
    assert!((0..3).all(|block| !has(&disk, block)));
    assert_eq!((disk.stats().stored, disk.stats().dropped), (0, 3));
}

#[test]
fn blocks_that_the_disk_is_too_slow_for_are_dropped() {
    const LEN: u64 = 1 << 20;
    let files = Files::default();
    let disk = files.open_with(&DiskOptions::new(64 << 20));
    files.data.set(|faults| faults.writes_hang = true);
    let key = |block| Key { range: block * LEN..(block + 1) * LEN, ..key(0) };
    for block in 0..40 {
        disk.put(key(block), vec![block as u8; LEN as usize].into());
    }
    assert_eq!(disk.stats().dropped, 25, "15 and what belongs to them are less than 16 MiB");
    assert!(!disk.flush(Duration::from_millis(1)), "it hangs");
    let mut buf = vec![0; LEN as usize];
    assert_eq!(disk.get(&key(0), &mut buf), None);
    files.data.set(|faults| faults.writes_hang = false);
    assert!(disk.flush(Duration::from_secs(60)));
    assert_eq!(disk.get(&key(14), &mut buf), Some(LEN as usize));
    assert!(buf.iter().all(|&byte| byte == 14));
    disk.put(key(20), vec![20; LEN as usize].into());
    assert!(disk.flush(Duration::from_secs(60)) && disk.get(&key(20), &mut buf).is_some(), "there is room again");
}

#[test]
fn a_tier_that_hangs_can_be_dropped() {
    let files = Files::default();
    let disk = files.open();
    put(&disk, 0..1);
    files.data.set(|faults| (faults.cold, faults.reads_hang, faults.writes_hang) = (true, true, true));
    disk.put(key(1), bytes(1).into());
    assert!(!has(&disk, 0));
    drop(disk);
    files.data.set(|faults| *faults = Faults::default());
}

#[test]
fn a_tier_that_could_not_be_opened_is_tried_again() {
    let files = Files::default();
    let (index, data) = (Arc::clone(&files.index), Arc::clone(&files.data));
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let open = move || -> io::Result<writer::Files> {
        if broken.load(Relaxed) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok((Box::new(Arc::clone(&index)), Arc::new(Arc::clone(&data))))
    };
    let disk = options().start(options().sizes().expect("valid"), Box::new(open)).expect("a thread");
    put(&disk, 0..1);
    assert!(!has(&disk, 0));
    assert_eq!((disk.stats().state, disk.stats().dropped), (DiskState::Failed(io::ErrorKind::ReadOnlyFilesystem), 1));
    is_broken.store(false, Relaxed);
    while !has(&disk, 0) {
        thread::sleep(Duration::from_millis(20));
        put(&disk, 0..1);
    }
    assert_eq!(disk.stats().state, DiskState::Ready);
}

#[test]
fn files_of_another_version_are_emptied() {
    let files = Files::default();
    put(&files.open(), 0..4);
    let disk = files.open();
    assert!((0..4).all(|block| has(&disk, block)), "of this version");
    drop(disk);
    files.index.bytes.lock()[..RECORD].copy_from_slice(&format::header_of(2, SLOT as u32));
    let disk = files.open();
    assert!((0..4).all(|block| !has(&disk, block)));
    put(&disk, 0..4);
    drop(disk);
    let other = files.open_with(&DiskOptions::new(LIMIT + (1 << 20)).slot(2 * SLOT));
    assert_eq!(other.stats().blocks, 0, "slots of another size");
    assert_eq!(other.stats().state, DiskState::Ready);
}

#[test]
fn an_index_that_cannot_be_read_is_empty() {
    let files = Files::default();
    put(&files.open(), 0..4);
    files.index.set(|faults| faults.reads_fail = true);
    let disk = files.open();
    assert!((0..4).all(|block| !has(&disk, block)));
    put(&disk, 0..4);
    assert!((0..4).all(|block| has(&disk, block)));
}

#[test]
fn a_smaller_limit_drops_what_is_past_it_and_a_larger_one_nothing() {
    let files = Files::default();
    put(&files.open(), 0..16);
    let small = files.open_with(&DiskOptions::new(OVERHEAD + 8 * (SLOT + RECORD) as u64).slot(SLOT));
    assert_eq!((0..16).filter(|&block| has(&small, block)).count(), 8);
    drop(small);
    assert_eq!(files.data.len().expect("a length"), 8 * SLOT as u64);
    let large = files.open_with(&DiskOptions::new(OVERHEAD + 32 * (SLOT + RECORD) as u64).slot(SLOT));
    assert_eq!((0..16).filter(|&block| has(&large, block)).count(), 8);
    put(&large, 16..40);
    assert_eq!(large.stats().blocks, 32);
}

#[test]
fn ranges_are_cut_at_the_slots() {
    let all = |range| pieces(&range, 4096).collect::<Vec<_>>();
    assert_eq!(all(0..4097), [0..4096, 4096..4097]);
    assert_eq!(all(10..10), []);
    assert_eq!(all(100..8193), [100..4096, 4096..8192, 8192..8193]);
    assert_eq!(all(u64::MAX - 10..u64::MAX).len(), 1);
}
