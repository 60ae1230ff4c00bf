//! `check` finds out what a server honours, and what something before it takes away.

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Net;
use faultin_store::check::{Need, Report, Verdict, check, check_in};
use faultin_store::object_store::local::LocalFileSystem;
use faultin_store::object_store::memory::InMemory;
use faultin_store::object_store::path::Path;
use faultin_store::{Store, StoreOptions};
use faultin_store_test::{Access, Fault, has_loopback};

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

/// A port where nobody listens: nothing was sent, so nothing can be left.
#[test]
fn a_server_that_is_not_there_has_nothing_that_is_left() {
    if !has_loopback() {
        return;
    }
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let report = check(&common::client(address).build().expect("threads"), "s3://bucket/checked").expect("a URL");
    assert!(report.rows.iter().all(|row| matches!(row.verdict, Verdict::Unknown(_))), "{report}");
    assert_eq!(report.left, Vec::<String>::new());
}

/// Connections are accepted, and have no answer.
#[test]
fn a_server_that_is_silent_ends_the_check_in_time() {
    common::watchdog();
    if !has_loopback() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let store = common::client(address).build().expect("threads");
    let (sends, receives) = std::sync::mpsc::channel();
    let began = Instant::now();
    std::thread::spawn(move || sends.send(check(&store, "s3://bucket/checked").expect("a URL")));
    // Two attempts, and one to remove what may have been made; far less than one for each promise.
    let report = receives.recv_timeout(Duration::from_secs(60)).expect("the check hangs");
    let took = began.elapsed();
    assert!(took < 7 * common::ATTEMPT, "{took:?}, {report}");
    for row in &report.rows {
        assert!(matches!(&row.verdict, Verdict::Unknown(why) if why.contains("no answer")), "{report}");
    }
    // They may be there.
    assert_eq!(report.left.len(), 2, "{report}");
}

/// A server that answers some requests only.
#[test]
fn a_range_that_has_no_answer_was_not_rejected() {
    let Some(net) = Net::new(Access::Signed, 1) else { return };
    net.proxy.set_script(|request| match request.header("range") {
        Some("bytes=70001-70010") => Fault::Silence,
        _ => Fault::None,
    });
    let report = check(&net.store(), "s3://bucket/checked").expect("a URL");
    assert_eq!(broken(&report), ["a range past the end is rejected"], "{report}");
    assert!(!report.honours(Need::Reading) && report.honours(Need::Fencing), "{report}");
}

/// Nor one that is refused for another reason.
#[test]
fn a_range_for_which_a_server_fails_was_not_rejected() {
    for status in [403, 500] {
        let Some(net) = Net::new(Access::Signed, 1) else { return };
        net.proxy.set_script(move |request| match request.header("range") {
            Some("bytes=70001-70010") => Fault::Status { status, retry_after: None },
            _ => Fault::None,
        });
        let report = check(&net.store(), "s3://bucket/checked").expect("a URL");
        assert_eq!(broken(&report), ["a range past the end is rejected"], "{report}");
        let row = report.rows.iter().find(|row| row.promise == "a range past the end is rejected").expect("a row");
        assert!(matches!(row.verdict, Verdict::Unknown(_)), "{report}");
    }
}

/// Something between here and the store repeats what it was sent, and colours it.
#[test]
fn a_report_has_nothing_of_what_a_server_says_besides_its_code() {
    const SAYS: &str = "<Code>SlowDown</Code><Message>\x1b]0;you sent hunter22hunter22</Message>";
    if !has_loopback() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A request in one piece, or in two: the answer is the same.
            let _ = stream.read(&mut [0; 100_000]);
            let head = format!("HTTP/1.1 500 Oops\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", SAYS.len());
            let _ = stream.write_all(format!("{head}{SAYS}").as_bytes());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let options = common::client(address).config("aws_session_token", "hunter22hunter22");
    let report = check(&options.build().expect("threads"), "s3://bucket/checked").expect("a URL").to_string();
    assert!(report.contains("500") && report.contains("SlowDown"), "{report}");
    assert!(!report.contains("hunter22") && !report.contains("Message") && !report.contains('\x1b'), "{report}");
}

#[test]
fn a_url_that_cannot_be_used_is_an_error() {
    let store = StoreOptions::new().build().expect("threads");
    for url in ["", "no url", "gopher://bucket/object"] {
        check(&store, url).expect_err(url);
    }
}
