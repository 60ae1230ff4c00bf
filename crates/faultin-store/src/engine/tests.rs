//! What an engine does at moments that a program meets seldom: over a store in memory, with a clock that jumps, or a disk that is slow.

use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use super::*;
use crate::backend::Redactor;
use crate::disk::DiskOptions;
use crate::disk::tests::Files;
use crate::simulation::world::{Outage, Simulated, World};

const BLOCK: usize = 4096;

const ACCESS: Access = Access { deadline: Duration::from_secs(10), retries: 0, reads_ahead: false };

fn numbers() -> Numbers {
    Numbers {
        block: BLOCK,
        memory: 64 * BLOCK,
        requests: 8,
        request_bytes: 4 * BLOCK,
        gap: 0,
        deadline: Duration::from_secs(10),
        attempt: Duration::from_secs(5),
        retries: 0,
        backoff: (Duration::from_millis(1), Duration::from_millis(1)),
        read_ahead: true,
        accept_unversioned: false,
        old_versions: false,
        seed: 1,
    }
}

fn world(blocks: usize, more: usize) -> Arc<World> {
    World::new(1, BLOCK as u64, (blocks * BLOCK + more) as u64)
}

fn backend(world: &Arc<World>) -> Arc<Backend> {
    let redactor = Arc::new(Redactor::new(std::iter::empty()));
    // Its tag is a number, and stays.
    Arc::new(Backend { is_server: true, ..Backend::new(Arc::new(Simulated(Arc::clone(world))), "", &redactor) })
}

async fn open(engine: &Arc<Engine>, backend: &Arc<Backend>, name: &str) -> Arc<Pinned> {
    let opened = engine.open(backend, &Path::from(name), &name.into(), ACCESS, Instant::now()).await;
    opened.unwrap_or_else(|error| panic!("{error}"))
}

/// Reads some blocks in a task.
async fn read(
    engine: &Arc<Engine>,
    object: &Arc<Pinned>,
    access: Access,
    blocks: Range<usize>,
) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; blocks.len() * BLOCK];
    let mut wants = [Want::new(object, (blocks.start * BLOCK) as u64, &mut bytes)];
    let result = engine.read_async(object, access, &mut wants).await.pop().expect("one range");
    result.map(|count| {
        bytes.truncate(count);
        bytes
    })
}

/// Runs a future until it waits, and returns whether it does.
async fn is_pending(mut future: Pin<&mut impl Future>) -> bool {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

/// Runs a test with a clock that jumps to the next event.
fn paused<F: Future<Output = ()>>(test: F) {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime").block_on(test);
}

/// A probe whose deadline comes before its turn has found out nothing.
#[test]
fn a_probe_that_never_gets_its_turn_leaves_room_for_another_one() {
    paused(async {
        let engine = Arc::new(Engine::new(Numbers { requests: 1, ..numbers() }, None, Handle::current()));
        let world = world(40, 0);
        let backend = backend(&world);
        let object = open(&engine, &backend, "a").await;
        // One that has begun before the store goes down has the only turn.
        world.set_outage(Some(Outage::Hangs));
        let mut first = pin!(read(&engine, &object, ACCESS, 1..2));
        assert!(is_pending(first.as_mut()).await);
        sleep(Duration::from_millis(1)).await;
        let begun = Instant::now();
        assert!(backend.health.failed(begun, begun, 1, &Cause::Connection("refused".into())));
        sleep(Duration::from_secs(1)).await;
        {
            let short = Access { deadline: Duration::from_millis(50), ..ACCESS };
            let mut probe = pin!(read(&engine, &object, short, 3..4));
            assert!(is_pending(probe.as_mut()).await);
            // The flight ends before its access looks again.
            sleep(Duration::from_millis(200)).await;
            let error = probe.await.expect_err("it has no turn");
            assert!(matches!(error.cause(), Cause::Deadline { .. }), "{error}");
        }
        let now = Instant::now();
        let admission = backend.health.admit(now, now + Duration::from_secs(1), 0);
        assert!(matches!(admission, Admission::Probe), "{admission:?}");
    });
}

#[test]
fn scans_that_were_left_do_not_stop_the_readahead_of_others_for_ever() {
    paused(async {
        let engine = Arc::new(Engine::new(numbers(), None, Handle::current()));
        let world = world(200, 0);
        let backend = backend(&world);
        let scans = Access { reads_ahead: true, ..ACCESS };
        let mut left = Vec::new();
        for number in 0..40 {
            let object = open(&engine, &backend, &format!("left{number}")).await;
            for block in 0..4 {
                read(&engine, &object, scans, block..block + 1).await.expect("it works");
            }
            left.push(object);
        }
        let object = open(&engine, &backend, "new").await;
        let ahead = async |blocks: Range<usize>| {
            for block in blocks {
                read(&engine, &object, scans, block..block + 1).await.expect("it works");
            }
            object.counters.stats().ahead
        };
        // Others are as recent: it has only the room of what it reads itself.
        let first = ahead(0..10).await;
        let second = ahead(10..30).await;
        sleep(Duration::from_secs(6)).await;
        let third = ahead(30..50).await;
        assert!(third - second >= second - first + 5, "{first}, {second}, {third} blocks");
        // No more memory than before.
        assert!(engine.pool.used() <= engine.pool.limit());
    });
}

#[test]
fn the_first_block_makes_room_for_a_flight_that_waits_for_some() {
    paused(async {
        let engine = Arc::new(Engine::new(numbers(), None, Handle::current()));
        let world = world(4, 0);
        let object = open(&engine, &backend(&world), "a").await;
        assert_eq!(engine.pool.used(), 1);
        engine.close(&object);
        let mut buffer = engine.pool.try_room(1).and_then(|mut room| room.take()).expect("there is room");
        buffer.bytes_mut().push(1);
        let all = engine.pool.try_room(engine.pool.limit() - 1);
        let mut waits = pin!(engine.pool.room(1, || {}));
        assert!(is_pending(waits.as_mut()).await);
        engine.keep_first(&object, buffer);
        let room = timeout_at(Instant::now(), waits).await.expect("what was kept has made room");
        drop((room, all));
        assert_eq!(engine.pool.used(), 0);
    });
}

/// A scan wants it next.
#[test]
fn no_more_of_what_was_read_ahead_is_evicted_than_requests_wait_for() {
    paused(async {
        let engine = Arc::new(Engine::new(numbers(), None, Handle::current()));
        let backend = backend(&world(4, 0));
        let mut room = engine.pool.try_room(engine.pool.limit()).expect("it is empty");
        let mut blocks = Vec::new();
        for _ in 0..8 {
            let mut buffer = room.take().expect("there is room");
            buffer.bytes_mut().push(1);
            blocks.push(buffer.freeze());
        }
        let arrive = |numbers: Range<u64>, blocks: &mut Vec<Bytes>| {
            let mut table = engine.table.lock();
            numbers.for_each(|number| table.keep((1, number), blocks.pop().expect("a block"), 0, true));
            let evicted = engine.make_room(&mut table);
            drop(evicted);
            table.ahead()
        };
        assert_eq!(arrive(0..2, &mut blocks), 2);
        let mut waits = pin!(engine.room(engine.share(&backend), 4));
        assert!(is_pending(waits.as_mut()).await);
        assert_eq!(engine.table.lock().ahead(), 0);
        // Two more are enough, and then none: it has got its room, though it does not run yet.
        assert_eq!(arrive(2..6, &mut blocks), 2);
        assert_eq!(arrive(6..8, &mut blocks), 4);
        assert!(timeout_at(Instant::now(), waits).await.expect("it has room").is_some());
    });
}

/// A handler of a signal that has interrupted the access that holds them may wait for the request.
#[test]
fn a_request_does_not_wait_for_what_was_evicted_and_does_not_come_back() {
    paused(async {
        let engine = Arc::new(Engine::new(numbers(), None, Handle::current()));
        let backend = backend(&world(40, 0));
        let object = open(&engine, &backend, "a").await;
        // It does not run when its blocks have arrived.
        let mut reader = pin!(read(&engine, &object, ACCESS, 4..8));
        assert!(is_pending(reader.as_mut()).await);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(engine.pool.used(), 5);
        let mut ahead = engine.pool.try_room(4).expect("there is room");
        for number in 20..24 {
            let mut buffer = ahead.take().expect("a buffer");
            buffer.bytes_mut().push(1);
            engine.table.lock().keep((object.number, number), buffer.freeze(), 0, true);
        }
        let _rest = engine.pool.try_room(engine.pool.limit() - 9).expect("the rest");
        let waits = timeout_at(Instant::now() + Duration::from_secs(1), engine.room(engine.share(&backend), 4));
        assert!(waits.await.expect("in time").is_some());
        assert_eq!(reader.await.expect("it works").len(), 4 * BLOCK);
    });
}

#[test]
fn requests_and_hits_are_counted_exactly() {
    paused(async {
        let engine = Arc::new(Engine::new(numbers(), None, Handle::current()));
        let world = world(40, 0);
        let backend = backend(&world);
        let object = open(&engine, &backend, "a").await;
        world.set_outage(Some(Outage::Hangs));
        let mut long = pin!(read(&engine, &object, Access { deadline: Duration::from_secs(60), ..ACCESS }, 5..6));
        assert!(is_pending(long.as_mut()).await);
        sleep(Duration::from_millis(1)).await;
        let begun = Instant::now();
        backend.health.failed(begun, begun, 1, &Cause::Connection("refused".into()));
        let error = read(&engine, &object, ACCESS, 5..6).await.expect_err("the store is down");
        assert!(matches!(error.cause(), Cause::Down { .. }), "{error}");
        assert_eq!(object.counters.stats().memory_hits, 0, "what is under way is not waited for");
        // The question which version the store has now is a request, too.
        world.set_outage(None);
        world.replace(false);
        backend.health.answered(Instant::now());
        let before = object.counters.stats().requests;
        let error = read(&engine, &object, ACCESS, 9..10).await.expect_err("another version");
        assert!(matches!(error.cause(), Cause::Replaced { .. }), "{error}");
        assert_eq!(object.counters.stats().requests - before, 2);
    });
}

/// An engine with a disk tier, in real time.
struct OnDisk {
    runtime: Runtime,
    engine: Arc<Engine>,
    world: Arc<World>,
    object: Arc<Pinned>,
    files: Files,
}

impl OnDisk {
    /// Makes one whose first blocks are on disk, and in no memory.
    fn new(patience: Duration, blocks: usize) -> OnDisk {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("threads");
        let files = Files::default();
        let disk = Arc::new(files.open_with(&DiskOptions::new(8 << 20).slot(BLOCK).patience(patience)));
        let engine = Arc::new(Engine::new(numbers(), Some(Arc::clone(&disk)), runtime.handle().clone()));
        let world = world(blocks, 0);
        let object = runtime.block_on(open(&engine, &backend(&world), "a"));
        let on_disk = OnDisk { runtime, engine, world, object, files };
        for block in 0..blocks {
            // The first one has come with the object, and is not stored.
            on_disk.read(ACCESS, block..block + 1);
            while (disk.stats().stored as usize) < block {
                thread::sleep(Duration::from_millis(1));
            }
        }
        on_disk.engine.close(&on_disk.object);
        on_disk.world.requested();
        on_disk
    }

    /// Reads some blocks in this thread. The bytes are right.
    fn read(&self, access: Access, blocks: Range<usize>) {
        let mut bytes = vec![0; blocks.len() * BLOCK];
        let mut wants = [Want::new(&self.object, (blocks.start * BLOCK) as u64, &mut bytes)];
        let result = self.engine.read(&self.object, access, &mut wants).pop().expect("one range");
        let count = result.unwrap_or_else(|error| panic!("{blocks:?}: {error}"));
        assert_eq!(count, bytes.len());
        assert!(bytes == self.world.bytes()[blocks.start * BLOCK..blocks.end * BLOCK], "{blocks:?}");
    }
}

#[test]
fn a_slow_disk_adds_its_patience_to_an_access_once() {
    let on_disk = OnDisk::new(Duration::from_millis(50), 17);
    let data = &on_disk.files.data;
    on_disk.read(ACCESS, 1..17);
    assert_eq!(on_disk.world.requested().len(), 0, "all of it is on disk");
    on_disk.engine.close(&on_disk.object);
    // None of these reads is late.
    data.set(|faults| (faults.cold, faults.slow) = (true, Duration::from_millis(40)));
    let before = data.reads.load(Relaxed);
    on_disk.read(ACCESS, 1..17);
    let reads = data.reads.load(Relaxed) - before;
    assert!((1..=2).contains(&reads), "{reads} reads of 40 ms");
    assert!(on_disk.world.requested().len() >= 14, "the store has the rest");
}

/// Memory is full of blocks that were read in part: one of them makes room.
#[test]
fn a_block_of_the_disk_takes_its_memory_from_the_limit() {
    let on_disk = OnDisk::new(Duration::from_secs(60), 17);
    let (engine, object) = (&on_disk.engine, &on_disk.object);
    let mut others = 1000..;
    while let Some(mut buffer) = engine.pool.try_room(1).and_then(|mut room| room.take()) {
        buffer.bytes_mut().push(1);
        let id = (object.number, others.next().expect("a number"));
        engine.table.lock().keep(id, buffer.freeze(), 0, false);
    }
    let mut bytes = [0; 10];
    let mut wants = [Want::new(object, BLOCK as u64, &mut bytes)];
    assert_eq!(engine.read(object, ACCESS, &mut wants).pop().expect("one range").expect("it is on disk"), 10);
    assert_eq!(bytes[..], on_disk.world.bytes()[BLOCK..][..10]);
    assert_eq!(on_disk.world.requested().len(), 0);
    assert!(engine.table.lock().has((object.number, 1)), "it is in no memory of the engine");
    assert_eq!(engine.pool.used(), engine.pool.limit());
}

#[test]
fn a_disk_that_hangs_leaves_time_for_the_store_before_the_deadline() {
    let on_disk = OnDisk::new(Duration::from_secs(600), 17);
    on_disk.files.data.set(|faults| (faults.cold, faults.reads_hang) = (true, true));
    let access = Access { deadline: Duration::from_secs(3), ..ACCESS };
    // One block, and several.
    on_disk.read(access, 1..2);
    on_disk.read(access, 2..17);
    on_disk.files.data.set(|faults| faults.reads_hang = false);
}

#[test]
fn what_is_ahead_takes_few_threads_for_the_disk() {
    let on_disk = OnDisk::new(Duration::from_secs(600), 150);
    let (data, requests) = (&on_disk.files.data, 20);
    let before = data.reads.load(Relaxed);
    data.set(|faults| (faults.cold, faults.reads_hang) = (true, true));
    // As readahead does.
    let terms = crate::flight::Terms {
        deadline: Instant::now() + Duration::from_secs(60),
        time: Duration::from_secs(60),
        retries: 0,
    };
    for block in 0..requests {
        let flight = Flight::new(100 + block..101 + block, Instant::now(), terms, true, false);
        let mut table = on_disk.engine.table.lock();
        table.depart(on_disk.object.number, &flight);
        let room = on_disk.engine.pool.try_room(1);
        let _entered = on_disk.runtime.enter();
        on_disk.engine.launch(&on_disk.object, &flight, room);
    }
    while data.reads.load(Relaxed) - before < DISK_TURNS {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(300));
    let begun = data.reads.load(Relaxed) - before;
    data.set(|faults| faults.reads_hang = false);
    assert_eq!(begun, DISK_TURNS);
    on_disk.read(ACCESS, 100..120);
    assert_eq!(on_disk.world.requested().len(), 0, "all of it is on disk");
}

#[test]
fn a_disk_that_hangs_keeps_an_eighth_of_the_memory_also_of_short_blocks() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("threads");
    let files = Files::default();
    let disk = Arc::new(files.open_with(&DiskOptions::new(8 << 20).slot(BLOCK)));
    let engine = Arc::new(Engine::new(numbers(), Some(disk), runtime.handle().clone()));
    files.data.set(|faults| faults.writes_hang = true);
    let world = world(1, 1);
    let backend = backend(&world);
    for number in 0..200 {
        let object = runtime.block_on(open(&engine, &backend, &format!("{number}")));
        let access = Access { deadline: Duration::from_secs(5), ..ACCESS };
        let bytes = runtime.block_on(read(&engine, &object, access, 1..2));
        assert_eq!(bytes.unwrap_or_else(|error| panic!("{number}: {error}")).len(), 1);
        engine.close(&object);
    }
    let waiting = engine.to_disk.load(Relaxed);
    assert!((1..=8).contains(&waiting), "{waiting}");
    files.data.set(|faults| faults.writes_hang = false);
}
