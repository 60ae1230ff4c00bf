//! `check` finds out what a server honours, and what something before it takes away.

mod common;

use std::sync::Arc;

use common::Net;
use faultin_store::check::{Need, Report, Verdict, check, check_in};
use faultin_store::object_store::local::LocalFileSystem;
use faultin_store::object_store::memory::InMemory;
use faultin_store::object_store::path::Path;
use faultin_store::{Store, StoreOptions};
use faultin_store_test::{Access, Fault};

/// The promises that are not kept.
fn broken(report: &Report) -> Vec<&'static str> {
    report.rows.iter().filter(|row| row.verdict != Verdict::Honoured).map(|row| row.promise).collect()
}

#[test]
fn a_store_in_memory_honours_everything() {
    let (store, memory) = (Store::new().expect("threads"), Arc::new(InMemory::new()));
    let report = check_in(&store, memory, &Path::from("a/folder")).expect("this process's");
    assert_eq!((broken(&report), &report.left), (vec![], &vec![]), "{report}");
    assert!(report.honours(Need::Reading) && report.honours(Need::Fencing));
}

/// A folder has no condition on replacing a file.
#[test]
fn a_folder_can_be_read_and_not_fenced() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).expect("it is there"));
    let report = check_in(&Store::new().expect("threads"), files, &Path::from("a/folder")).expect("this process's");
    assert!(report.honours(Need::Reading), "{report}");
    assert!(!report.honours(Need::Fencing), "{report}");
    let unsupported = report.rows.iter().filter(|row| row.verdict == Verdict::Unsupported).count();
    assert_eq!(broken(&report).len(), unsupported, "{report}");
    let files = |path| std::fs::read_dir(path).expect("a folder").flatten().map(|entry| entry.path());
    let mut left: Vec<_> = files(folder.path().to_owned()).collect();
    while let Some(path) = left.pop() {
        assert!(path.is_dir(), "{} was left", path.display());
        left.extend(files(path));
    }
}

#[test]
fn a_server_honours_everything() {
    let Some(net) = Net::new(Access::Signed, 1) else { return };
    let report = check(&net.store(), "s3://bucket/checked").expect("a URL");
    assert_eq!((broken(&report), &report.left), (vec![], &vec![]), "{report}");
    assert!(net.proxy.requests() > 400, "{} requests", net.proxy.requests());
}

/// A server that accepts conditions and ignores them, as some do: what it answers is what it would answer if they held.
#[test]
fn a_server_that_ignores_conditions_is_found_out() {
    let Some(net) = Net::new(Access::Anonymous, 1) else { return };
    net.proxy.set_script(|_| Fault::StripConditions);
    let report = check(&net.store(), "s3://bucket/checked").expect("a URL");
    assert_eq!(
        broken(&report),
        [
            "a read with If-Match of an old etag is rejected",
            "HEAD with If-Match of an old etag is rejected",
            "a write with If-None-Match: * is rejected if there is one",
            "a write with If-Match of an old etag is rejected",
            "a write with If-Match is rejected if there is no object",
            "of eight clients that create an object, exactly one wins",
            "of eight clients that replace an object, exactly one wins",
        ],
        "{report}"
    );
    for row in report.rows.iter().filter(|row| row.verdict != Verdict::Honoured) {
        assert!(matches!(row.verdict, Verdict::Broken(_)), "{report}");
    }
    assert!(!report.honours(Need::Reading) && !report.honours(Need::Fencing));
    assert_eq!(report.left, Vec::<String>::new());
}

/// Conditions on writes alone.
#[test]
fn a_server_that_ignores_conditions_on_writes_is_found_out() {
    let Some(net) = Net::new(Access::Anonymous, 1) else { return };
    net.proxy.set_script(|request| match request.method.as_str() {
        "PUT" => Fault::StripConditions,
        _ => Fault::None,
    });
    let report = check(&net.store(), "s3://bucket/checked").expect("a URL");
    assert!(report.honours(Need::Reading) && !report.honours(Need::Fencing), "{report}");
    assert_eq!(broken(&report).len(), 5, "{report}");
}

/// A server that sends something else than the range.
#[test]
fn a_server_without_ranges_is_found_out() {
    let Some(net) = Net::new(Access::Anonymous, 1) else { return };
    net.proxy.set_script(|_| Fault::Whole);
    let report = check(&net.store(), "s3://bucket/checked").expect("a URL");
    assert!(!report.honours(Need::Reading), "{report}");
    let row = report.rows.iter().find(|row| row.promise.starts_with("a range has exactly its bytes"));
    let row = row.expect("a row");
    assert!(matches!(row.verdict, Verdict::Broken(_)), "{report}");
}

/// A server that is down is no server that breaks its promises.
#[test]
fn a_server_that_is_down_is_unknown() {
    let Some(net) = Net::new(Access::Signed, 1) else { return };
    net.server().kill();
    let report = check(&net.store(), "s3://bucket/checked").expect("a URL");
    assert!(!report.honours(Need::Reading) && !report.honours(Need::Fencing), "{report}");
    assert!(report.rows.iter().all(|row| matches!(row.verdict, Verdict::Unknown(_))), "{report}");
    assert!(!report.to_string().contains(faultin_store_test::SECRET_KEY), "{report}");
}

#[test]
fn a_url_that_cannot_be_used_is_an_error() {
    let store = StoreOptions::new().build().expect("threads");
    for url in ["", "no url", "gopher://bucket/object"] {
        check(&store, url).expect_err(url);
    }
}
