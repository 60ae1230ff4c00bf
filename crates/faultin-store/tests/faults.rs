//! Each fault of the network, through each way to read an object: no wrong byte, no hang past the deadline, an exact count, and
//! a message that names the cause. Afterwards the object can be read.

mod common;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::{ATTEMPT, BLOCK, Net, RETRIES, Short, each_reader, each_reader_with, is_range, map, read};
use faultin_cache::pager::Mode;
use faultin_store::{Cause, Object, StoreOptions};
use faultin_store_test::{Access, Fault, Proxy, Server, environment, pattern};

const LEN: usize = 40 * BLOCK + 123;

/// Returns whether a cause is one of these, or the deadline's or a dead store's last one is.
fn is(cause: &Cause, expected: fn(&Cause) -> bool) -> bool {
    match cause {
        Cause::Deadline { last: Some(last), .. } | Cause::Down { last, .. } => is(last, expected),
        cause => expected(cause),
    }
}

/// A fault that goes away is repaired by another attempt, and nothing is reported.
#[test]
fn a_fault_that_passes_is_not_noticed() {
    for (fault, count) in [
        (Fault::delay(Duration::from_millis(50)), u64::MAX),
        (Fault::Reset { after: 0 }, 2),
        (Fault::Reset { after: 10 }, 2),
        (Fault::Close { after: 10 }, 2),
        (Fault::Stall { after: 10 }, 1),
        (Fault::Silence, 1),
        (Fault::Garbage, 1),
        (Fault::Status { status: 429, retry_after: None }, 2),
        (Fault::Status { status: 429, retry_after: Some(1) }, 1),
        (Fault::Status { status: 500, retry_after: None }, 2),
        (Fault::slow_down(), 2),
    ] {
        each_reader(Access::Signed, LEN, |net, object, reader| {
            let before = net.proxy.faults();
            net.inject(fault.clone(), 0, count);
            if let Err(short) = read(reader, &net.bytes, 0, 5 * BLOCK + 7) {
                panic!("{fault:?}, {}: {}", reader.name(), short.message);
            }
            assert!(net.proxy.faults() > before, "{fault:?}, {}: it was not injected", reader.name());
            let retries = object.stats().retries;
            assert_eq!(retries, if count == u64::MAX { 0 } else { count }, "{fault:?}, {}: retries", reader.name());
        });
    }
}

/// A fault that stays: the cause, a word of the message, and whether another attempt is worthwhile.
struct Case {
    fault: Fault,
    cause: fn(&Cause) -> bool,
    says: &'static [&'static str],
    retried: bool,
    access: Access,
}

fn cases() -> Vec<Case> {
    let case = |fault, cause, says, retried| Case { fault, cause, says, retried, access: Access::Signed };
    let connection: fn(&Cause) -> bool = |cause| matches!(cause, Cause::Connection(_));
    let late: fn(&Cause) -> bool = |cause| matches!(cause, Cause::TimedOut(_));
    let length: fn(&Cause) -> bool = |cause| matches!(cause, Cause::Length { .. });
    vec![
        case(Fault::Reset { after: 0 }, connection, &["connection"], true),
        case(Fault::Reset { after: 1000 }, connection, &["connection"], true),
        case(Fault::Close { after: 1000 }, connection, &["connection"], true),
        case(Fault::Garbage, connection, &["connection"], true),
        case(Fault::Silence, late, &["no answer within"], true),
        case(Fault::Stall { after: 1000 }, late, &["no answer within"], true),
        case(
            Fault::Status { status: 429, retry_after: None },
            |cause| matches!(cause, Cause::Status { status: 429, .. }),
            &["status 429"],
            true,
        ),
        case(
            Fault::Status { status: 500, retry_after: None },
            |cause| matches!(cause, Cause::Status { status: 500, .. }),
            &["status 500", "InternalError"],
            true,
        ),
        case(
            Fault::slow_down(),
            |cause| matches!(cause, Cause::Status { status: 503, .. }),
            &["status 503", "SlowDown"],
            true,
        ),
        case(
            Fault::Status { status: 403, retry_after: None },
            |cause| matches!(cause, Cause::Status { status: 403, .. }),
            &["status 403"],
            false,
        ),
        case(
            Fault::Status { status: 304, retry_after: None },
            |cause| matches!(cause, Cause::Status { status: 304, .. }),
            &["status 304"],
            false,
        ),
        case(
            Fault::Status { status: 404, retry_after: None },
            |cause| matches!(cause, Cause::NotFound | Cause::Replaced { found: None, .. }),
            &["no such object", "replaced"],
            false,
        ),
        case(Fault::Short, length, &["instead of"], false),
        case(Fault::Long, length, &["has more than"], false),
        case(
            Fault::ErrorPage,
            |cause| matches!(cause, Cause::ContentType { .. } | Cause::WrongRange { .. }),
            &["text/html", "does not have the range"],
            false,
        ),
        case(
            Fault::PaddedErrorPage,
            |cause| matches!(cause, Cause::ContentType { .. } | Cause::Replaced { .. }),
            &["text/html", "etag"],
            false,
        ),
        case(
            Fault::ContentRange,
            |cause| matches!(cause, Cause::WrongRange { .. }),
            &["not what was requested"],
            false,
        ),
        case(Fault::Etag, |cause| matches!(cause, Cause::Replaced { .. }), &["another"], false),
        Case {
            access: Access::Anonymous,
            ..case(Fault::Whole, |cause| matches!(cause, Cause::WrongRange { .. }), &["not what was requested"], false)
        },
    ]
}

#[test]
fn a_fault_that_stays_is_a_count_and_a_cause() {
    for case in cases() {
        let Case { fault, cause, says, retried, access } = case;
        // What waits for an attempt's time waits for a short one.
        let is_late = matches!(fault, Fault::Silence | Fault::Stall { .. });
        let attempt = if is_late { Duration::from_millis(150) } else { ATTEMPT };
        each_reader_with(
            access,
            LEN,
            |options| options.attempt(attempt),
            |net, object, reader| {
                let name = format!("{fault:?}, {}", reader.name());
                read(reader, &net.bytes, 0, 3).unwrap_or_else(|short| panic!("{name}: {}", short.message));
                net.inject(fault.clone(), 0, u64::MAX);
                let Err(Short { error, message, .. }) = read(reader, &net.bytes, 20 * BLOCK, BLOCK) else {
                    panic!("{name}: it was read");
                };
                assert!(is(error.cause(), cause), "{name}: {message}");
                assert!(says.iter().any(|word| message.contains(word)), "{name}: {message}");
                assert!(message.contains(object.url()), "{name}: {message}");
                let range = error.range().unwrap_or_else(|| panic!("{name}: no range in {message}"));
                assert!(range.contains(&(20 * BLOCK as u64)), "{name}: {message}");
                // A store that is known to be down may not be asked again.
                let attempts = if retried { 1..=RETRIES + 1 } else { 1..=1 };
                let is_down = matches!(error.cause(), Cause::Down { .. });
                assert!(is_down || attempts.contains(&error.attempts()), "{name}: {message}");
                // It heals by itself, if it was the same version.
                net.heal();
                heals(&name, net, reader);
            },
        );
    }
}

/// Reads all until it works: a store that was down is tried again now and then.
fn heals(name: &str, net: &Net, reader: &dyn common::Reader) {
    let mut last = None;
    for _ in 0..200 {
        match read(reader, &net.bytes, 0, net.bytes.len()) {
            Ok(()) => return,
            Err(short) => last = Some(short.message),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{name}: it does not heal: {last:?}");
}

/// Bytes before the fault are counted, and right.
#[test]
fn a_scan_ends_where_the_fault_is() {
    for fault in [Fault::Reset { after: 0 }, Fault::Short, Fault::slow_down(), Fault::PaddedErrorPage] {
        each_reader(Access::Signed, LEN, |net, _, reader| {
            let bad = 12 * BLOCK as u64;
            let injected = fault.clone();
            net.proxy.set_script(move |request| match request.range() {
                Some((first, last)) if first <= bad && bad <= last => injected.clone(),
                _ => Fault::None,
            });
            let name = format!("{fault:?}, {}", reader.name());
            let block = |block: usize| read(reader, &net.bytes, block * BLOCK, BLOCK);
            let (at, short) = (0..40).find_map(|number| Some((number, block(number).err()?))).expect(&name);
            // A mapping brings several pages in at once, and they fail at once.
            let range = short.error.range().unwrap_or_else(|| panic!("{name}: no range in {}", short.message));
            assert!(at <= 12 && short.done == 0, "{name}: block {at}, {}", short.message);
            assert!(range.contains(&(at as u64 * BLOCK as u64)), "{name}: {}", short.message);
            let is_down = matches!(short.error.cause(), Cause::Down { .. });
            assert!(is_down || range.contains(&bad), "{name}: {}", short.message);
            // A longer read is requested together, and fails together.
            let Err(short) = read(reader, &net.bytes, 100, LEN - 100) else { panic!("{name}: it was read") };
            assert!(short.done <= 12 * BLOCK - 100, "{name}: {} bytes", short.done);
            net.heal();
            heals(&name, net, reader);
        });
    }
}

/// Neither a server that says to come back in an hour nor one that sends a byte now and then holds a reader longer than its
/// deadline. (A hang ends the process.)
#[test]
fn the_deadline_covers_everything() {
    let hour = Some(3600);
    for fault in [
        Fault::Status { status: 429, retry_after: hour },
        Fault::Status { status: 503, retry_after: hour },
        Fault::Trickle { every: Duration::from_millis(100) },
        Fault::delay(Duration::from_secs(30)),
    ] {
        let short = |options: StoreOptions| options.deadline(Duration::from_millis(700));
        each_reader_with(Access::Signed, LEN, short, |net, _, reader| {
            let name = format!("{fault:?}, {}", reader.name());
            net.inject(fault.clone(), 0, u64::MAX);
            let Err(Short { error, message, .. }) = read(reader, &net.bytes, 20 * BLOCK, 1) else {
                panic!("{name}: it was read");
            };
            let expected: fn(&Cause) -> bool = |cause| {
                matches!(cause, Cause::Deadline { .. } | Cause::TimedOut(_) | Cause::Status { status: 429 | 503, .. })
            };
            assert!(is(error.cause(), expected), "{name}: {message}");
        });
    }
}

/// Opening is no exception: a server that says to come back in an hour is asked once.
#[test]
fn a_pause_past_the_deadline_ends_an_opening_at_once() {
    let Some(net) = Net::new(Access::Signed, LEN) else { return };
    for (seconds, requests) in [(3600, 1), (1, 2)] {
        let (count, store) = (Arc::new(AtomicU64::new(0)), net.store());
        let counted = Arc::clone(&count);
        net.proxy.set_script(move |_| match counted.fetch_add(1, SeqCst) {
            0 => Fault::Status { status: 503, retry_after: Some(seconds) },
            _ => Fault::None,
        });
        let begun = std::time::Instant::now();
        let opened = store.open(common::URL);
        assert_eq!(count.load(SeqCst), requests, "{seconds} s");
        match opened {
            Ok(_) => assert!(seconds == 1 && begun.elapsed() >= Duration::from_secs(1)),
            Err(error) => {
                assert!(seconds == 3600 && matches!(error.cause(), Cause::Status { status: 503, .. }), "{error}");
            }
        }
    }
}

/// The object is replaced after the first range was read.
#[test]
fn a_replaced_object_is_never_mixed() {
    // The other one may be as long, shorter than the position that is read, or longer.
    for len in [LEN, 10, 2 * LEN] {
        each_reader(Access::Signed, LEN, |net, object, reader| {
            let name = format!("{len} bytes, {}", reader.name());
            let (server, count) = (Arc::clone(&net.server), Arc::new(AtomicU64::new(0)));
            let (etag, replacing) = (Arc::new(Mutex::new(String::new())), Arc::clone(&count));
            let new = Arc::clone(&etag);
            net.proxy.set_script(move |request| {
                if is_range(request) && replacing.fetch_add(1, SeqCst) == 2 {
                    *new.lock().unwrap() = server.lock().unwrap().put(common::PATH, pattern(77, len));
                }
                Fault::None
            });
            replaced(&name, net, object, reader, &etag);
            assert!(count.load(SeqCst) > 2, "{name}");
        });
    }
}

/// Reads until the object is *replaced*, and checks both versions; then takes the new one.
fn replaced(name: &str, net: &Net, object: &Object, reader: &dyn common::Reader, etag: &Mutex<String>) {
    let pinned = object.version().clone();
    let Short { done, error, message } = (0..LEN / BLOCK)
        .find_map(|block| read(reader, &net.bytes, block * BLOCK, BLOCK).err())
        .unwrap_or_else(|| panic!("{name}: all of it was read"));
    assert_eq!(done, 0, "{name}: {message}");
    let etag = etag.lock().unwrap().clone();
    match error.cause() {
        Cause::Replaced { pinned: was, found } => {
            assert_eq!(*was, pinned, "{name}: {message}");
            let found = found.as_ref().and_then(|found| found.etag.as_deref());
            assert_eq!(found, Some(etag.as_str()), "{name}: {message}");
        }
        _ => panic!("{name}: {message}"),
    }
    let old = pinned.etag.as_deref().expect("the server has etags");
    assert!(message.contains(old) && message.contains(&etag), "{name}: {message}");
    // It stays so for this handle, also for what was not read yet.
    let again = read(reader, &net.bytes, LEN - BLOCK, BLOCK).expect_err("another version");
    assert!(matches!(again.error.cause(), Cause::Replaced { .. }), "{name}: {}", again.message);
    net.heal();
    let new = object.refresh().unwrap_or_else(|error| panic!("{name}: {error}"));
    let bytes = pattern(77, new.size() as usize);
    read(&new, &bytes, 0, bytes.len()).unwrap_or_else(|short| panic!("{name}: {}", short.message));
    assert_ne!(new.version(), &pinned, "{name}");
}

/// A store that ignores `If-Match`, as some do: the answer's own etag is compared. A shorter version does not have the range.
#[test]
fn a_replaced_object_is_found_out_without_if_match() {
    for len in [LEN, 10, 2 * LEN] {
        is_found_out_without_if_match(len);
    }
}

fn is_found_out_without_if_match(len: usize) {
    each_reader(Access::Anonymous, LEN, |net, object, reader| {
        let (server, count) = (Arc::clone(&net.server), AtomicU64::new(0));
        let etag = Arc::new(Mutex::new(String::new()));
        let new = Arc::clone(&etag);
        net.proxy.set_script(move |request| {
            if is_range(request) && count.fetch_add(1, SeqCst) == 2 {
                *new.lock().unwrap() = server.lock().unwrap().put(common::PATH, pattern(77, len));
            }
            Fault::StripConditions
        });
        let name = format!("conditions stripped, {len} bytes, {}", reader.name());
        let pinned = object.version().clone();
        let short = (0..LEN / BLOCK)
            .find_map(|block| read(reader, &net.bytes, block * BLOCK, BLOCK).err())
            .unwrap_or_else(|| panic!("{name}: all of it was read"));
        assert!(matches!(short.error.cause(), Cause::Replaced { .. }), "{name}: {}", short.message);
        let etag = etag.lock().unwrap().clone();
        let old = pinned.etag.as_deref().expect("the server has etags");
        assert!(short.message.contains(old) && short.message.contains(&etag), "{name}: {}", short.message);
    });
}

/// The store says that the version is another one, and then not which one it has.
#[test]
fn a_replaced_object_is_an_error_in_time_though_its_new_version_is_not_told() {
    let Some(net) = Net::new(Access::Signed, LEN) else { return };
    let deadline = Duration::from_secs(1);
    let store = net.options().attempt(Duration::from_secs(10)).deadline(deadline).build().expect("threads");
    let object = store.open(common::URL).expect("it is there");
    net.replace(5, LEN);
    net.proxy.set_script(|request| if request.method == "HEAD" { Fault::Silence } else { Fault::None });
    let Short { error, message, .. } = read(&object, &net.bytes, 20 * BLOCK, BLOCK).expect_err("another version");
    assert!(matches!(error.cause(), Cause::Replaced { found: None, .. }), "{message}");
    assert_eq!(store.stats().down, None, "it has answered");
}

/// Its accesses fail after one answer. Accesses that would be tried again are tried.
#[test]
fn a_handle_with_few_retries_takes_the_store_down_for_its_like_only() {
    let faults = [503, 429].map(|status| Fault::Status { status, retry_after: None });
    for fault in faults.into_iter().chain([Fault::Reset { after: 0 }]) {
        let Some(net) = Net::new(Access::Signed, LEN) else { return };
        let object = net.store().open(common::URL).expect("it is there");
        net.inject(fault.clone(), 0, 1);
        let few = object.with_retries(0);
        let Err(short) = read(&few, &net.bytes, 20 * BLOCK, BLOCK) else { panic!("{fault:?}: it was read") };
        assert_eq!(short.error.attempts(), 1, "{fault:?}: {}", short.message);
        let Err(short) = read(&few, &net.bytes, 25 * BLOCK, BLOCK) else { panic!("{fault:?}: it was read") };
        assert!(matches!(short.error.cause(), Cause::Down { .. }), "{fault:?}: {}", short.message);
        read(&object, &net.bytes, 30 * BLOCK, BLOCK).unwrap_or_else(|short| panic!("{fault:?}: {}", short.message));
        assert_eq!(object.store().stats().down, None, "{fault:?}");
    }
}

/// A redirect is an error: requests have credentials, which are for one server.
#[test]
fn a_redirect_is_not_followed() {
    if !faultin_store_test::has_loopback() {
        return;
    }
    let other = Server::start().expect("a server");
    other.put(common::PATH, pattern(99, LEN));
    let elsewhere = Proxy::start(other.address(), |_| Fault::None).expect("a proxy");
    let to = elsewhere.address();
    each_reader(Access::Signed, LEN, |net, _, reader| {
        net.inject(Fault::Redirect { to }, 0, u64::MAX);
        let Err(Short { error, message, .. }) = read(reader, &net.bytes, 20 * BLOCK, BLOCK) else {
            panic!("{}: it was read", reader.name());
        };
        assert!(is(error.cause(), |cause| matches!(cause, Cause::Redirected { .. })), "{}: {message}", reader.name());
        assert!(message.contains("redirect") && message.contains("127.0.0.1"), "{}: {message}", reader.name());
    });
    assert_eq!(elsewhere.requests(), 0, "requests to the other server");
}

/// Also when the object is opened.
#[test]
fn a_redirect_is_not_followed_by_open() {
    let Some(net) = Net::new(Access::Signed, LEN) else { return };
    let other = Server::start().expect("a server");
    let elsewhere = Proxy::start(other.address(), |_| Fault::None).expect("a proxy");
    let to = elsewhere.address();
    net.proxy.set_script(move |_| Fault::Redirect { to });
    let error = net.store().open(common::URL).expect_err("a redirect");
    assert!(is(error.cause(), |cause| matches!(cause, Cause::Redirected { .. })), "{error}");
    assert_eq!(elsewhere.requests(), 0, "requests to the other server");
}

/// The server is killed in the middle of a scan: a count and a reason. It is started again: the scan goes on where it was.
#[test]
fn a_server_that_dies_in_a_scan_is_a_count_and_a_reason() {
    each_reader(Access::Signed, LEN, |net, _, reader| {
        let name = reader.name();
        let half = 20 * BLOCK;
        read(reader, &net.bytes, 0, half).unwrap_or_else(|short| panic!("{name}: {}", short.message));
        net.server().kill();
        let Err(Short { done, error, message }) = read(reader, &net.bytes, half - 10, LEN - half) else {
            panic!("{name}: it was read");
        };
        // At least what was read before, which is ten bytes, and what a mapping has brought in with it.
        assert!((10..LEN - half).contains(&done), "{name}: {done} bytes");
        assert!(is(error.cause(), |cause| matches!(cause, Cause::Connection(_))), "{name}: {message}");
        net.server().restart().expect("the same port");
        heals(&name, net, reader);
    });
}

/// Without a proxy, too: the port is closed, and connections that were kept are dead.
#[test]
fn a_server_that_dies_is_noticed_by_a_direct_client() {
    let Some(net) = Net::new(Access::Signed, LEN) else { return };
    let address = net.server().address();
    let object = common::client(address).build().expect("threads").open(common::URL).expect("it is there");
    read(&object, &net.bytes, 0, BLOCK).unwrap_or_else(|short| panic!("{}", short.message));
    net.server().kill();
    let Err(Short { error, message, .. }) = read(&object, &net.bytes, 5 * BLOCK, BLOCK) else { panic!("it was read") };
    assert!(is(error.cause(), |cause| matches!(cause, Cause::Connection(_))), "{message}");
    net.server().restart().expect("the same port");
    heals("a direct client", &net, &object);
}

/// A program that is ended with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the path of the example `weights`, which tests of the whole package have built.
fn weights() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let profile = test.ancestors().nth(2).expect("target/debug/deps/…");
    let path = profile.join("examples/weights");
    if !path.exists() {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
        build.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--offline", "--quiet", "--example", "weights"]);
        build.arg("--target-dir").arg(profile.parent().expect("target"));
        assert!(build.status().expect("cargo").success());
    }
    path
}

/// The example: a server that is killed in the middle is a count and a reason, and the sum is whole once it is back.
#[test]
fn the_example_goes_on_when_its_server_is_back() {
    let len = (24 << 20) + 123;
    let Some(net) = Net::new(Access::Signed, len) else { return };
    let (sent, asked) = mpsc::channel();
    let (number, killed) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
    let is_killed = Arc::clone(&killed);
    net.proxy.set_script(move |request| {
        if is_range(request) {
            let _ = sent.send(());
            // What is left is there only after the server has been away.
            if number.fetch_add(1, SeqCst) >= 8 && !is_killed.load(SeqCst) {
                return Fault::Silence;
            }
        }
        Fault::delay(Duration::from_millis(50))
    });
    let mut example = faultin_test::processes::run(weights());
    example.arg(common::URL).envs(environment(net.proxy.address())).stdout(Stdio::piped());
    let mut running = Running(example.spawn().expect("the example"));
    let mut lines = BufReader::new(running.0.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    // Each of its four threads waits for some of its part.
    (0..8).for_each(|_| asked.recv_timeout(Duration::from_secs(120)).expect("requests"));
    net.server().kill();
    killed.store(true, SeqCst);
    let counted = lines.next().expect("a count");
    let done: usize = counted.split(' ').next().and_then(|count| count.parse().ok()).expect("a number of bytes");
    assert!(done < len && counted.contains(&format!(" of {len} bytes of etag ")), "{counted}");
    let reason = lines.next().expect("a reason");
    assert!(reason.starts_with("then: ") && reason.contains(common::URL), "{reason}");
    net.server().restart().expect("the same port");
    let last = lines.last().expect("the end");
    let sum: u64 = net.bytes.iter().map(|&byte| u64::from(byte)).sum();
    assert!(
        last.starts_with(&format!("{len} of {len} bytes of ")) && last.ends_with(&format!(": sum {sum}")),
        "{last}"
    );
    assert!(running.0.wait().expect("it ends").success());
}

/// Many threads touch different pages of a store that is down: none of them waits for the others' deadlines in turn. Those that
/// come at the same time have their own deadlines, with three attempts each; once these are over, accesses fail at once, except
/// a probe now and then.
#[test]
fn a_dead_store_does_not_hold_threads_in_turn() {
    const THREADS: usize = 24;
    for mode in Mode::ALL {
        let Some(net) = Net::new(Access::Signed, 800 * BLOCK) else { return };
        let options = net.options().deadline(3 * ATTEMPT).retries(1000);
        let object = options.build().expect("threads");
        let object = object.open(common::URL).expect("nothing is wrong yet");
        let Some(mapping) = map(&common::cached(&object), mode) else { continue };
        net.inject(Fault::Silence, 0, u64::MAX);
        let mapping = &mapping;
        let mut before = 0;
        for (round, most) in [4 * THREADS, THREADS].into_iter().enumerate() {
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let bytes = &net.bytes;
                    scope.spawn(move || {
                        let block = (round * THREADS + thread + 1) * 16;
                        let Err(short) = read(mapping, bytes, block * BLOCK, BLOCK) else { panic!("it was read") };
                        let expected: fn(&Cause) -> bool =
                            |cause| matches!(cause, Cause::TimedOut(_) | Cause::Deadline { .. } | Cause::Connection(_));
                        assert!(is(short.error.cause(), expected), "{mode:?}: {}", short.message);
                    });
                }
            });
            let requests = net.proxy.faults() as usize - before;
            println!("{mode:?}, round {round}: {requests} requests");
            assert!(requests < most, "{mode:?}, round {round}: {requests} requests");
            before += requests;
        }
        net.heal();
        heals(&format!("{mode:?}"), &net, mapping);
    }
}

/// Neither a message nor a debug output has a credential.
#[test]
fn no_message_has_a_credential() {
    let secrets = [faultin_store_test::SECRET_KEY, faultin_store_test::ACCESS_KEY, "AWS4-HMAC", "user:password"];
    let check = |what: &str, text: &str| {
        for secret in secrets {
            assert!(!text.contains(secret), "{what}: {text}");
        }
    };
    let Some(net) = Net::new(Access::Signed, LEN) else { return };
    let options = net.options();
    check("the options", &format!("{options:?}"));
    let store = options.build().expect("threads");
    check("the store", &format!("{store:?}"));
    let object = store.open(common::URL).expect("nothing is wrong yet");
    check("the object", &format!("{object:?}"));
    for fault in [Fault::Status { status: 403, retry_after: None }, Fault::Reset { after: 0 }, Fault::ErrorPage] {
        net.inject(fault, 0, u64::MAX);
        let Err(short) = read(&object, &net.bytes, 20 * BLOCK, 1) else { panic!("it was read") };
        check("a message", &short.message);
        check("an error", &format!("{:?}", short.error));
    }
    for url in ["s3://user:password@bucket/none", "http://user:password@127.0.0.1:1/none?token=user:password"] {
        let error = store.open(url).expect_err("there is no such object");
        check(url, &format!("{error}, {error:?}"));
    }
}
