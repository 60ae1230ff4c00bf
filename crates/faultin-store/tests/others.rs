//! A server for S3 that others wrote, if there is one: `FAULTIN_STORE_ENDPOINT` is its address. It has the bucket `bucket`, and
//! accepts the keys of `faultin-store-test`. `cargo xtask env stores` starts one.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use common::{BLOCK, Reader, cached, client, is_range, map, read};
use faultin_cache::pager::Mode;
use faultin_store::check::{Need, check};
use faultin_store::object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path};
use faultin_store::{Cause, Object, Store};
use faultin_store_test::{Fault, Proxy, mixture, pattern};

const LEN: usize = 100 * BLOCK + 77;

/// The server, and a proxy before it.
struct Other {
    proxy: Proxy,
    store: Store,
    backend: Arc<dyn ObjectStore>,
    path: Path,
    url: String,
    runtime: tokio::runtime::Runtime,
}

impl Other {
    fn new(name: &str) -> Option<Other> {
        common::watchdog();
        let Ok(endpoint) = std::env::var("FAULTIN_STORE_ENDPOINT") else {
            faultin_test::skipped("other-server", "FAULTIN_STORE_ENDPOINT is not set: cargo xtask env stores sets it");
            return None;
        };
        let endpoint: SocketAddr = endpoint.parse().expect("an address");
        let proxy = Proxy::start(endpoint, |_| Fault::None).expect("a proxy");
        // A virtual disk may be slow.
        let options = client(proxy.address()).attempt(Duration::from_secs(5)).deadline(Duration::from_secs(60));
        // Many requests, so that some of them have faults.
        let store = options.retries(20).request_bytes(4 * BLOCK).build().expect("threads");
        let url = format!("s3://bucket/{name}-{}", std::process::id());
        let (backend, path) = store.backend(&url).expect("a URL");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Some(Other { proxy, store, backend, path, url, runtime: runtime.expect("a runtime") })
    }

    fn put(&self, bytes: &[u8]) -> String {
        let payload = PutPayload::from(bytes.to_vec());
        let put = self.runtime.block_on(self.backend.put(&self.path, payload)).expect("the server takes it");
        put.e_tag.expect("it has etags")
    }

    fn open(&self) -> Object {
        self.store.open(&self.url).expect("it is there")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.proxy.set_script(|_| Fault::None);
        let _ = self.runtime.block_on(self.backend.delete(&self.path));
    }
}

#[test]
fn what_reading_needs_is_honoured() {
    let Some(other) = Other::new("check") else { return };
    let report = check(&other.store, "s3://bucket/checked").expect("a URL");
    println!("{report}");
    assert!(report.honours(Need::Reading), "{report}");
    assert_eq!(report.left, Vec::<String>::new());
}

#[test]
fn an_object_is_read_through_faults() {
    let Some(other) = Other::new("faults") else { return };
    let bytes = pattern(5, LEN);
    other.put(&bytes);
    let object = other.open();
    let file = cached(&object);
    let mappings: Vec<_> = Mode::ALL.into_iter().filter_map(|mode| map(&cached(&object), mode)).collect();
    let status = |status| Fault::Status { status, retry_after: None };
    let faults = vec![
        Fault::Reset { after: 0 },
        Fault::Reset { after: 1000 },
        Fault::Close { after: 1000 },
        Fault::Garbage,
        status(429),
        status(500),
        status(503),
        Fault::delay(Duration::from_millis(5)),
    ];
    other.proxy.set_script(mixture(7, 4, faults));
    let mut readers: Vec<&dyn Reader> = vec![&object, &file];
    readers.extend(mappings.iter().map(|mapping| mapping as &dyn Reader));
    for reader in readers {
        read(reader, &bytes, 0, LEN).unwrap_or_else(|short| panic!("{}: {}", reader.name(), short.message));
    }
    assert!(other.proxy.faults() > 10, "{} faults", other.proxy.faults());
}

#[test]
fn a_replaced_object_is_reported_with_both_versions() {
    let Some(other) = Other::new("replaced") else { return };
    let bytes = pattern(5, LEN);
    let before = other.put(&bytes);
    let object = other.open();
    let file = cached(&object);
    read(&file, &bytes, 0, BLOCK).unwrap_or_else(|short| panic!("{}", short.message));
    let after = other.put(&pattern(6, LEN));
    let short = read(&file, &bytes, 50 * BLOCK, BLOCK).expect_err("another version");
    assert!(matches!(short.error.cause(), Cause::Replaced { .. }), "{}", short.message);
    assert!(short.message.contains(&before) && short.message.contains(&after), "{}", short.message);
    let new = object.refresh().expect("it is there");
    read(&new, &pattern(6, LEN), 0, LEN).unwrap_or_else(|short| panic!("{}", short.message));
}

/// Bodies that are not what was requested.
#[test]
fn a_wrong_body_is_an_error() {
    let Some(other) = Other::new("bodies") else { return };
    let bytes = pattern(5, LEN);
    other.put(&bytes);
    for fault in [Fault::Short, Fault::Long, Fault::ErrorPage, Fault::PaddedErrorPage, Fault::ContentRange, Fault::Etag]
    {
        let object = other.open();
        let count = AtomicU64::new(0);
        let injected = fault.clone();
        other.proxy.set_script(move |request| {
            let is_first = is_range(request) && count.fetch_add(1, SeqCst) == 0;
            if is_first { injected.clone() } else { Fault::None }
        });
        let short = read(&object, &bytes, 20 * BLOCK, BLOCK).expect_err("a wrong body");
        assert_eq!(short.done, 0, "{fault:?}: {}", short.message);
        other.proxy.set_script(|_| Fault::None);
    }
}
