//! Servers that answer what no store should, and settings that cannot be used: an error with a cause, in time, and no panic.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use faultin_store::{Cause, Error, Object, Store, StoreOptions};

const BLOCK: usize = 4096;
const LEN: usize = 10 * BLOCK;

/// How a server answers: its request's path and first position of the range, and the connection.
type Answers = fn(&str, usize, &mut TcpStream) -> std::io::Result<()>;

/// Starts a server that lives as long as the process. `None` where there is no loopback interface.
fn serve(answers: Answers) -> Option<SocketAddr> {
    if !faultin_store_test::has_loopback() {
        return None;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(answer(answers, stream)));
        }
    });
    Some(address)
}

fn answer(answers: Answers, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let range = head.split("bytes=").nth(1).and_then(|range| range.split('-').next()?.parse().ok());
        answers(&path, range.unwrap_or(0), &mut stream)?;
    }
}

/// Answers with a block, and these headers instead of those that are right.
fn block(stream: &mut TcpStream, at: usize, total: &str, headers: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {BLOCK}\r\nContent-Range: bytes {at}-{}/{total}\r\n{headers}\r\n",
        at + BLOCK - 1
    );
    stream.write_all(&[head.as_bytes(), &[7; BLOCK]].concat())
}

fn options() -> StoreOptions {
    let options = StoreOptions::new().block(BLOCK).read_ahead(false).attempt(Duration::from_secs(5));
    options.deadline(Duration::from_secs(20)).retries(1)
}

fn open(options: StoreOptions, address: SocketAddr, path: &str) -> Result<Object, Error> {
    options.build().expect("threads").open(&format!("http://{address}/{path}"))
}

#[test]
fn a_setting_that_cannot_be_used_is_named_and_is_no_panic() {
    for (name, value) in [
        ("aws_endpoint", "127.0.0.1:9000"),
        ("aws_endpoint", "localhost:9000"),
        ("aws_endpoint", ""),
        ("aws_endpoint", "http://127.0.0.1:9000 "),
        ("aws_session_token", "hunter22\n"),
        ("aws_access_key_id", "hunter22\n"),
        ("aws_region", "hunter22\n"),
    ] {
        let settings = [
            ("aws_allow_http", "true"),
            ("aws_access_key_id", "key"),
            ("aws_secret_access_key", "secret"),
            ("aws_endpoint", "http://127.0.0.1:1"),
            (name, value),
        ];
        let options = settings.iter().fold(options(), |options, (name, value)| options.config(name, value));
        let error = options.build().expect("threads").open("s3://bucket/x").unwrap_err();
        assert!(matches!(error.cause(), Cause::Unsupported(_)), "{name}: {error}");
        let says = format!("{error} {error:?}");
        assert!(says.contains(name) && !says.contains("hunter22") && !says.contains("9000 "), "{says}");
    }
}

#[test]
fn a_refused_url_is_named_without_its_secrets() {
    let store = Store::new().expect("threads");
    for url in [
        "http://user:hun/ter22@host/x",
        "s3://AKIA:hun/ter22@bucket/k",
        "http://user:hun ter22@host/x",
        "http://user:hun?ter22@host/x",
        "http:user:hun,ter22@host/x",
        "user:hun,ter22@host/x",
        "HTTP:\\\\user:hun,ter22@host\\x",
        "http:host/x?sig=hun,ter22",
        "s3:/bucket/key?X-Amz-Signature=hun,ter22",
        "http://h/x?a=b c&sig=hun,ter22",
    ] {
        let error = store.open(url).expect_err(url);
        assert!(matches!(error.cause(), Cause::Unsupported(_)), "{error}");
        let says = format!("{error} {error:?}");
        assert!(!says.contains("hun") && !says.contains("ter22"), "{says}");
    }
}

#[test]
fn a_malformed_entity_tag_pins_no_version() {
    let tags: Answers = |path, at, stream| {
        let tag = match path {
            "/empty" => "ETag:\r\n",
            "/star" => "ETag: *\r\n",
            "/bare" => "ETag: abc\r\n",
            "/list" => "ETag: \"a\", \"b\"\r\n",
            "/small" => "ETag: w/\"a\"\r\n",
            "/weak" => "ETag: W/\"a\"\r\n",
            "/two" => "ETag: \"a\"\r\nETag: \"b\"\r\n",
            _ => "ETag: \"a\"\r\n",
        };
        block(stream, at, &LEN.to_string(), &format!("{tag}Last-Modified: Mon, 30 Nov 2026 10:00:00 GMT\r\n"))
    };
    let Some(address) = serve(tags) else { return };
    for path in ["empty", "star", "bare", "list", "small", "weak", "two"] {
        let error = open(options(), address, path).expect_err(path);
        assert!(matches!(error.cause(), Cause::Unversioned), "{path}: {error}");
        let object = open(options().accept_unversioned(true), address, path).expect(path);
        assert_eq!(object.version().etag, None, "{path}");
        assert_eq!(object.read(&mut [0; 10], 2 * BLOCK as u64).expect(path), 10);
    }
    let object = open(options(), address, "strong").expect("a strong one");
    assert_eq!(object.version().etag.as_deref(), Some("\"a\""));
}

#[test]
fn without_an_entity_tag_and_a_time_nothing_is_accepted() {
    let Some(address) = serve(|_, at, stream| block(stream, at, &LEN.to_string(), "")) else { return };
    let error = open(options().accept_unversioned(true), address, "x").unwrap_err();
    assert!(matches!(error.cause(), Cause::Unversioned), "{error}");
}

/// Right in everything else: range, entity tag and length.
#[test]
fn another_form_of_the_object_is_refused() {
    let forms: Answers = |path, at, stream| {
        let headers = match path {
            "/gzip" if at > 0 => "Content-Encoding: gzip\r\nContent-Type: a/b\r\n",
            "/multi" if at > 0 => "Content-Type: multipart/byteranges; boundary=x\r\n",
            "/html" if at > 0 => "Content-Type: text/html\r\n",
            "/stored" => "Content-Encoding: gzip\r\nContent-Type: a/b\r\n",
            _ => "Content-Type: a/b\r\n",
        };
        block(stream, at, &LEN.to_string(), &format!("ETag: \"a\"\r\n{headers}"))
    };
    let Some(address) = serve(forms) else { return };
    for path in ["gzip", "multi", "html"] {
        let object = open(options(), address, path).expect(path);
        let error = object.read(&mut [0; 10], 2 * BLOCK as u64).expect_err(path);
        assert!(matches!(error.cause(), Cause::ContentType { .. }), "{path}: {error}");
        assert_eq!(error.attempts(), 1, "{path}");
    }
    for path in ["plain", "stored"] {
        let object = open(options(), address, path).expect(path);
        assert_eq!(object.read(&mut [0; 10], 2 * BLOCK as u64).expect(path), 10);
    }
}

#[test]
fn a_length_that_no_file_has_is_refused() {
    let lengths: Answers = |path, at, stream| block(stream, at, path.trim_start_matches('/'), "ETag: \"a\"\r\n");
    let Some(address) = serve(lengths) else { return };
    for len in [1_u64 << 63, u64::MAX] {
        let error = open(options(), address, &len.to_string()).unwrap_err();
        assert!(error.to_string().contains("longer than a file"), "{error}");
    }
    let most = i64::MAX as u64;
    let object = open(options(), address, &most.to_string()).expect("a file may have this length");
    // The last block is shorter: the server's answer is not of it.
    let error = object.read(&mut [0; 10], most - 5).unwrap_err();
    assert!(matches!(error.cause(), Cause::WrongRange { .. } | Cause::Length { .. }), "{error}");
}

/// The status is known before the body, which never ends.
#[test]
fn an_error_whose_body_never_ends_is_its_status() {
    let slow: Answers = |_, at, stream| {
        if at == 0 {
            return block(stream, at, &LEN.to_string(), "ETag: \"a\"\r\n");
        }
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1000000\r\n\r\n")?;
        loop {
            stream.write_all(b" ")?;
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let Some(address) = serve(slow) else { return };
    let object = open(options(), address, "x").expect("it is there");
    let error = object.read(&mut [0; 10], 2 * BLOCK as u64).unwrap_err();
    assert!(matches!(error.cause(), Cause::Status { status: 403, .. }), "{error}");
    assert_eq!(error.attempts(), 1, "{error}");
}

#[test]
fn what_a_server_says_is_told_without_secrets() {
    const TOKEN: &str = "TOKENabc123TOKEN";
    let says: Answers = |path, at, stream| match path {
        "/bucket/code" if at > 0 => {
            let body = format!("<Error><Code>{TOKEN}</Code></Error>");
            let head = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes())
        }
        "/bucket/tag" if at > 0 => block(stream, at, &LEN.to_string(), &format!("{TIME}ETag: \"{TOKEN}\"\r\n")),
        "/bucket/kind" if at > 0 => {
            block(stream, at, &LEN.to_string(), &format!("{TIME}ETag: \"a\"\r\nContent-Type: {TOKEN}\r\n"))
        }
        "/bucket/first" => block(stream, at, &LEN.to_string(), &format!("{TIME}ETag: \"{TOKEN}\"\r\n")),
        _ => block(stream, at, &LEN.to_string(), &format!("{TIME}ETag: \"a\"\r\nContent-Type: a/b\r\n")),
    };
    let Some(address) = serve(says) else { return };
    let endpoint = format!("http://{address}");
    let settings = [
        ("aws_allow_http", "true"),
        ("aws_access_key_id", "key"),
        ("aws_secret_access_key", "secret"),
        ("aws_session_token", TOKEN),
        ("aws_endpoint", &*endpoint),
    ];
    let options = settings.iter().fold(options(), |options, (name, value)| options.config(name, value));
    let store = options.build().expect("threads");
    for key in ["code", "tag", "kind", "first"] {
        let error = match store.open(&format!("s3://bucket/{key}")) {
            Ok(object) => object.read(&mut [0; 10], 2 * BLOCK as u64).expect_err(key),
            Err(error) => error,
        };
        let says = format!("{error} {error:?} {:?}", store.events());
        assert!(!says.to_lowercase().contains(&TOKEN.to_lowercase()), "{key}: {says}");
        let is_expected = match key {
            "code" => matches!(error.cause(), Cause::Status { status: 403, .. }),
            "tag" => matches!(error.cause(), Cause::Replaced { .. }),
            "kind" => matches!(error.cause(), Cause::ContentType { .. }),
            _ => matches!(error.cause(), Cause::Unsupported(_)),
        };
        assert!(is_expected, "{key}: {error}");
    }
}

/// Its requests end with the deadline as their cause, and the store works for other servers afterwards.
#[test]
fn a_server_that_sends_interim_responses_for_ever_does_not_stop_the_store() {
    let interim: Answers = |path, at, stream| match path {
        "/100" => loop {
            stream.write_all(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000))?;
        },
        "/103" => loop {
            stream.write_all(&b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(1000))?;
        },
        _ => block(stream, at, &LEN.to_string(), "ETag: \"a\"\r\n"),
    };
    let (Some(bad), Some(good)) = (serve(interim), serve(interim)) else { return };
    let options = options().attempt(Duration::from_millis(300)).deadline(Duration::from_secs(1));
    let store = options.build().expect("threads");
    for path in ["100", "103"] {
        let error = store.open(&format!("http://{bad}/{path}")).expect_err(path);
        assert!(matches!(error.cause(), Cause::TimedOut(_) | Cause::Deadline { .. }), "{path}: {error}");
    }
    // Until the client has read what was sent before the connection is closed, other requests are late.
    let access = |object: &Object| object.read(&mut [0; 10], 2 * BLOCK as u64).expect("another server works");
    let opened = (0..20).find_map(|_| store.open(&format!("http://{good}/x")).ok());
    assert_eq!(access(&opened.expect("another server works")), 10);
}

const TIME: &str = "Last-Modified: Mon, 30 Nov 2026 10:00:00 GMT\r\n";
