//! Each fault, as a client sees it that reads the connection byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use faultin_store_test::{Access, Fault, Proxy, Server, has_loopback, pattern};

const LEN: usize = 1000;

/// What a client has got: the head in lower case, the body, and the error that ended the connection.
type Got = (String, Vec<u8>, Option<ErrorKind>);

/// Sends a request for bytes 100 to 199 of the object, and reads until the connection ends or has nothing for a while.
fn get(address: SocketAddr, more: &str) -> Got {
    let mut stream = TcpStream::connect(address).expect("the proxy listens");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a limit");
    let request = format!("GET /bucket/object HTTP/1.1\r\nHost: {address}\r\nRange: bytes=100-199\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let (mut all, mut piece, mut error) = (Vec::new(), [0; 4096], None);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => all.extend(&piece[..read]),
            Err(other) => {
                error = Some(other.kind());
                break;
            }
        }
    }
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").map_or(all.len(), |end| end + 4);
    let body = all.split_off(end);
    (String::from_utf8_lossy(&all).to_ascii_lowercase(), body, error)
}

/// Returns what a client gets under a fault, and the object.
fn under(fault: Fault) -> Option<(Got, Vec<u8>)> {
    if !has_loopback() {
        return None;
    }
    let server = Server::start_at(([127, 0, 0, 1], 0).into(), Access::Anonymous).expect("a server");
    let bytes = pattern(0, LEN);
    server.put("bucket/object", bytes.clone());
    let injected = fault.clone();
    let proxy = Proxy::start(server.address(), move |_| injected.clone()).expect("a proxy");
    let got = get(proxy.address(), "");
    assert_eq!((proxy.requests(), proxy.faults()), (1, u64::from(fault != Fault::None)));
    Some((got, bytes))
}

#[test]
fn an_answer_passes() {
    for fault in [Fault::None, Fault::delay(Duration::from_millis(5))] {
        let Some(((head, body, _), bytes)) = under(fault) else { return };
        assert!(head.starts_with("http/1.1 206"), "{head}");
        assert!(head.contains("content-range: bytes 100-199/1000"), "{head}");
        assert_eq!(body, bytes[100..200]);
    }
}

#[test]
fn a_connection_ends_where_it_is_to() {
    let Some(((head, body, error), bytes)) = under(Fault::Close { after: 10 }) else { return };
    assert!(head.contains("content-length: 100"), "{head}");
    assert_eq!((body.as_slice(), error), (&bytes[100..110], None));
    let Some(((_, body, error), bytes)) = under(Fault::Reset { after: 10 }) else { return };
    assert_eq!((body.as_slice(), error), (&bytes[100..110], Some(ErrorKind::ConnectionReset)));
    let Some(((head, _, error), _)) = under(Fault::Reset { after: 0 }) else { return };
    assert_eq!((head.as_str(), error), ("", Some(ErrorKind::ConnectionReset)));
}

#[test]
fn a_connection_stays_open() {
    let Some(((head, body, error), bytes)) = under(Fault::Stall { after: 7 }) else { return };
    assert!(head.contains("content-length: 100"), "{head}");
    assert_eq!((body.as_slice(), error), (&bytes[100..107], Some(ErrorKind::WouldBlock)));
    let Some(((head, _, error), _)) = under(Fault::Silence) else { return };
    assert_eq!((head.as_str(), error), ("", Some(ErrorKind::WouldBlock)));
}

#[test]
fn a_body_has_another_length() {
    let Some(((head, body, _), bytes)) = under(Fault::Short) else { return };
    assert!(head.contains("content-length: 99") && head.contains("bytes 100-199/1000"), "{head}");
    assert_eq!(body, bytes[100..199]);
    let Some(((head, body, _), bytes)) = under(Fault::Long) else { return };
    assert!(head.contains("content-length: 101"), "{head}");
    assert_eq!((&body[..100], body.len()), (&bytes[100..200], 101));
    let Some(((_, body, _), bytes)) = under(Fault::Trickle { every: Duration::ZERO }) else { return };
    assert_eq!(body, bytes[100..200]);
}

#[test]
fn an_answer_is_another_one() {
    for (fault, status, field) in [
        (Fault::Status { status: 429, retry_after: Some(3) }, "429", "retry-after: 3"),
        (Fault::slow_down(), "503", "application/xml"),
        (Fault::ErrorPage, "200", "text/html"),
        (Fault::PaddedErrorPage, "206", "bytes 100-199/"),
        (Fault::ContentRange, "206", "bytes 101-200/1000"),
        (Fault::Etag, "206", "etag: \"another\""),
        (Fault::Whole, "200", "content-length: 1000"),
        (Fault::Redirect { to: ([127, 0, 0, 1], 1).into() }, "307", "location: http://127.0.0.1:1/bucket/object"),
    ] {
        let Some(((head, body, _), _)) = under(fault.clone()) else { return };
        assert!(head.starts_with(&format!("http/1.1 {status}")) && head.contains(field), "{fault:?}: {head}");
        let len = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        assert_eq!(len, Some(body.len()), "{fault:?}: {head}");
    }
    let Some(((head, _, _), _)) = under(Fault::Garbage) else { return };
    assert!(!head.starts_with("http"), "{head}");
}

/// Without the field, the server sends what the field forbids.
#[test]
fn conditions_are_stripped() {
    if !has_loopback() {
        return;
    }
    let server = Server::start_at(([127, 0, 0, 1], 0).into(), Access::Anonymous).expect("a server");
    server.put("bucket/object", pattern(0, LEN));
    let proxy = Proxy::start(server.address(), |_| Fault::None).expect("a proxy");
    let stale = "If-Match: \"stale\"\r\n";
    assert!(get(proxy.address(), stale).0.starts_with("http/1.1 412"));
    proxy.set_script(|_| Fault::StripConditions);
    assert!(get(proxy.address(), stale).0.starts_with("http/1.1 206"));
}

/// The script chooses by the request, and may act first.
#[test]
fn a_script_sees_the_request() {
    if !has_loopback() {
        return;
    }
    let server = Arc::new(Server::start_at(([127, 0, 0, 1], 0).into(), Access::Anonymous).expect("a server"));
    server.put("bucket/object", pattern(0, LEN));
    let (replacing, seen) = (Arc::clone(&server), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&seen);
    let proxy = Proxy::start(server.address(), move |request| {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/bucket/object"));
        assert_eq!((request.range(), request.header("x-mine")), (Some((100, 199)), Some("yes")));
        counted.fetch_add(1, SeqCst);
        if request.number == 1 {
            replacing.put("bucket/object", pattern(9, LEN));
        }
        Fault::None
    });
    let proxy = proxy.expect("a proxy");
    assert_eq!(get(proxy.address(), "X-Mine: yes\r\n").1, pattern(0, LEN)[100..200]);
    assert_eq!(get(proxy.address(), "X-Mine: yes\r\n").1, pattern(9, LEN)[100..200]);
    assert_eq!(seen.load(SeqCst), 2);
}

/// A server that dies is a connection that ends, not an answer.
#[test]
fn a_server_that_is_dead_is_a_reset() {
    if !has_loopback() {
        return;
    }
    let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a port");
    let proxy = Proxy::start(free, |_| Fault::None).expect("a proxy");
    let (head, _, error) = get(proxy.address(), "");
    assert_eq!((head.as_str(), error), ("", Some(ErrorKind::ConnectionReset)));
}
