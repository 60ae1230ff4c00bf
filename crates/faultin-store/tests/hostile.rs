//! Servers that answer what no store should, and settings that cannot be used: an error with a cause, in time, and no panic.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
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

/// The words are those of `object_store`, and they come as they were written.
#[test]
fn a_setting_is_on_or_off_or_refused() {
    let Some(address) = serve(|_, at, stream| block(stream, at, &LEN.to_string(), "ETag: \"a\"\r\n")) else { return };
    let open = |name: &str, value: &str| {
        let settings = [
            ("aws_access_key_id", "key"),
            ("aws_secret_access_key", "secret"),
            ("aws_endpoint", &format!("http://{address}")),
            ("proxy_url", &format!("http://{address}")),
            ("allow_http", "true"),
            (name, value),
        ];
        let options = settings.iter().fold(options(), |options, (name, value)| options.config(name, value));
        options.build().expect("threads").open("s3://bucket/x")
    };
    for (name, value) in
        [("allow_http", "1"), ("allow_http", "yes"), ("allow_http", "True"), ("disable_system_certificates", "on")]
    {
        open(name, value).unwrap_or_else(|error| panic!("{name} {value}: {error}"));
    }
    for (name, value) in [
        ("allow_http", "off"),
        ("allow_http", "hunter22"),
        ("allow_invalid_certificates", "hunter22"),
        ("disable_system_certificates", "hunter22"),
        ("proxy_ca_certificate", "-----BEGIN CERTIFICATE-----\nhunter22\n-----END CERTIFICATE-----\n"),
    ] {
        let error = open(name, value).expect_err(name);
        assert!(matches!(error.cause(), Cause::Unsupported(_)), "{name}: {error}");
        assert!(!error.to_string().contains("hunter22"), "{error}");
    }
}

/// Some servers have no range of it, and others, such as Go's, send it as a whole.
#[test]
fn an_object_that_is_empty_can_be_opened() {
    let empty: Answers = |path, _, stream| {
        let status = if path == "/whole" { "200 OK" } else { "404 Not Found" };
        stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n{TIME}ETag: \"e\"\r\n\r\n").as_bytes())
    };
    let Some(address) = serve(empty) else { return };
    let object = open(options(), address, "whole").expect("an empty object");
    assert_eq!((object.size(), object.version().etag.as_deref()), (0, Some("\"e\"")));
    assert_eq!(object.read(&mut [0; 10], 0).expect("its end"), 0);
    assert!(matches!(open(options(), address, "none").unwrap_err().cause(), Cause::NotFound));
}

/// Of an object that is stored compressed; also in a program in which another crate has switched on a decoder of the HTTP client
/// (`--features reqwest/gzip`).
#[test]
fn a_body_is_never_decoded() {
    let encoded: Answers =
        |_, at, stream| block(stream, at, &LEN.to_string(), "ETag: \"a\"\r\nContent-Encoding: gzip\r\n");
    let Some(address) = serve(encoded) else { return };
    let object = open(options(), address, "x").expect("it is there");
    let mut bytes = [0; 10];
    assert_eq!(object.read(&mut bytes, 2 * BLOCK as u64).expect("its bytes"), 10);
    assert_eq!((object.size(), bytes), (LEN as u64, [7; 10]));
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
        "http://h/x;sig=hun,ter22",
        "https://h/a;v=1;X-Amz-Signature=hun,ter22/b",
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
        "/bucket/encoding" if at > 0 => {
            block(stream, at, &LEN.to_string(), &format!("{TIME}ETag: \"a\"\r\nContent-Encoding: {TOKEN}\r\n"))
        }
        "/bucket/encoded" => {
            block(stream, at, &LEN.to_string(), &format!("{TIME}ETag: \"a\"\r\nContent-Encoding: {TOKEN}\r\n"))
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
    for key in ["code", "tag", "kind", "encoding", "encoded", "first"] {
        let error = match store.open(&format!("s3://bucket/{key}")) {
            Ok(object) => object.read(&mut [0; 10], 2 * BLOCK as u64).expect_err(key),
            Err(error) => error,
        };
        let says = format!("{error} {error:?} {:?}", store.events());
        assert!(!says.to_lowercase().contains(&TOKEN.to_lowercase()), "{key}: {says}");
        let is_expected = match key {
            "code" => matches!(error.cause(), Cause::Status { status: 403, .. }),
            "tag" => matches!(error.cause(), Cause::Replaced { .. }),
            "kind" | "encoding" => matches!(error.cause(), Cause::ContentType { .. }),
            _ => matches!(error.cause(), Cause::Unsupported(_)),
        };
        assert!(is_expected, "{key}: {error}");
    }
}

/// Its requests end at their deadline, and so does the work for it. Meanwhile, the store works for other servers.
#[test]
fn a_server_that_sends_interim_responses_forever_delays_only_itself() {
    static SENDING: AtomicU32 = AtomicU32::new(0);
    static ENDED: AtomicU32 = AtomicU32::new(0);

    fn repeat(stream: &mut TcpStream, response: &[u8]) -> std::io::Result<()> {
        let responses = response.repeat(1000);
        SENDING.fetch_add(1, SeqCst);
        let ended = loop {
            if let Err(error) = stream.write_all(&responses) {
                break error;
            }
        };
        ENDED.fetch_add(1, SeqCst);
        Err(ended)
    }

    const CLIENTS: u32 = 4;
    let interim: Answers = |path, at, stream| match path {
        "/100" => repeat(stream, b"HTTP/1.1 100 Continue\r\n\r\n"),
        "/103" => repeat(stream, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
        _ => block(stream, at, &LEN.to_string(), "ETag: \"a\"\r\n"),
    };
    let (Some(bad), Some(good)) = (serve(interim), serve(interim)) else { return };
    let options = options().attempt(Duration::from_secs(60)).deadline(Duration::from_secs(20)).retries(0);
    let store = options.build().expect("threads");
    let failed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (store, failed) = (&store, &failed);
            scope.spawn(move || {
                let path = if client.is_multiple_of(2) { "100" } else { "103" };
                let error = store.open(&format!("http://{bad}/{path}")).expect_err(path);
                failed.fetch_add(1, SeqCst);
                assert!(matches!(error.cause(), Cause::Deadline { .. }), "{path}: {error}");
            });
        }
        while SENDING.load(SeqCst) < CLIENTS {
            std::thread::sleep(Duration::from_millis(1));
        }
        for round in 0..10 {
            let object = store.open(&format!("http://{good}/{round}")).expect("another server works");
            for block in 1..10 {
                let read = object.read(&mut [0; 10], block * BLOCK as u64).expect("another server works");
                assert_eq!(read, 10);
            }
        }
        assert_eq!(
            failed.load(SeqCst),
            0,
            "a hundred requests to another server took as long as the deadline of these"
        );
    });
    let is_over = |_| {
        std::thread::sleep(Duration::from_millis(100));
        ENDED.load(SeqCst) == SENDING.load(SeqCst)
    };
    assert!((0..6000).any(is_over), "connections whose requests have ended are still read");
}

/// The client of a server has the system's certificates, which this test's file never delivers.
#[test]
fn a_client_that_is_not_made_in_time_fails_in_time_and_delays_no_other() {
    const HANGS: &str = "FAULTIN_CERTIFICATES_HANG";
    if std::env::var_os(HANGS).is_some() {
        return opens_while_certificates_hang();
    }
    let folder = tempfile::tempdir().expect("a directory");
    let fifo = folder.path().join("certificates");
    let name = std::ffi::CString::new(fifo.as_os_str().as_encoded_bytes()).expect("a name");
    // SAFETY: makes a file of this name.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0, "{}", std::io::Error::last_os_error());
    let test = "a_client_that_is_not_made_in_time_fails_in_time_and_delays_no_other";
    let program = std::env::current_exe().expect("this program");
    let output = faultin_test::processes::run(program)
        .args([test, "--exact", "--nocapture"])
        .env(HANGS, "1")
        .env("SSL_CERT_FILE", &fifo)
        .output()
        .expect("this program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn opens_while_certificates_hang() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("data");
    std::fs::write(&path, "to be").expect("a file");
    let store = options().deadline(Duration::from_millis(200)).build().expect("threads");
    let without = options().config("disable_system_certificates", "yes").build().expect("threads");
    let (sends, receives) = std::sync::mpsc::channel();
    let opens = store.clone();
    std::thread::spawn(move || {
        for _ in 0..2 {
            let error = opens.open("http://127.0.0.1:1/x").expect_err("no certificates");
            assert!(matches!(error.cause(), Cause::Deadline { .. }), "{error}");
        }
        let file = opens.open(&format!("file://{}", path.display())).expect("another kind of store works");
        let error = without.open("http://127.0.0.1:1/x").expect_err("nobody is there");
        assert!(matches!(error.cause(), Cause::Connection(_)), "{error}");
        sends.send(file.size()).expect("the test waits");
    });
    // Far longer than it takes: it would wait for the certificates forever.
    assert_eq!(receives.recv_timeout(Duration::from_secs(100)), Ok(5));
}

/// A decoder shows what it cannot decode.
#[test]
fn a_key_that_is_broken_json_is_not_shown() {
    for key in [
        r#"{"private_key": 22334455667788, "private_key_id": "hunter22"}"#,
        r#"{"private_key": "hunter22", "disable_oauth": "hunter22"}"#,
        r#"{"private_key": "hunter22", "private_key_id": hunter22}"#,
        r#"["hunter22"]"#,
        r#""hunter22""#,
        "hunter22",
        "22334455667788",
    ] {
        for name in ["google_service_account_key", "google_application_credentials", "google_service_account"] {
            let folder = tempfile::tempdir().expect("a directory");
            let path = folder.path().join("key");
            std::fs::write(&path, key).expect("a file");
            let path = path.to_str().expect("a name");
            let value = if name.ends_with("key") { key } else { path };
            let store = options().config(name, value).build().expect("threads");
            let error = store.open("gs://bucket/x").expect_err("no key");
            assert!(matches!(error.cause(), Cause::Unsupported(_)), "{error}");
            let says = format!("{error} {error:?}");
            assert!(!says.contains("hunter22") && !says.contains("22334455667788"), "{name}, {key}: {says}");
            assert!(says.contains("not the JSON that is expected"), "{name}, {key}: {says}");
        }
    }
}

/// The server of a container's credentials answers with a key that is not one.
#[test]
fn credentials_that_cannot_be_read_are_not_shown() {
    let answers: Answers = |path, at, stream| {
        let body = match path {
            "/number" => r#"{"AccessKeyId": "hunter22", "SecretAccessKey": 22334455667788, "Token": "hunter22"}"#,
            "/list" => r#"["hunter22", "22334455667788"]"#,
            "/text" => r#""hunter22""#,
            _ => return block(stream, at, &LEN.to_string(), "ETag: \"a\"\r\n"),
        };
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
    };
    let Some(address) = serve(answers) else { return };
    let folder = tempfile::tempdir().expect("a directory");
    let token = folder.path().join("token");
    std::fs::write(&token, "hunter22").expect("a file");
    for path in ["number", "list", "text"] {
        let settings = [
            ("aws_allow_http", "true"),
            ("aws_endpoint", &format!("http://{address}")),
            ("aws_container_credentials_full_uri", &format!("http://{address}/{path}")),
            ("aws_container_authorization_token_file", token.to_str().expect("a name")),
        ];
        let options = settings.iter().fold(options(), |options, (name, value)| options.config(name, value));
        let error = options.build().expect("threads").open("s3://bucket/x").expect_err("no credentials");
        let says = format!("{error} {error:?}");
        assert!(!says.contains("hunter22") && !says.contains("22334455667788"), "{path}: {says}");
        assert!(says.contains("not the JSON that is expected, at line 1, column "), "{path}: {says}");
    }
}

/// The server of credentials is busy, once: so is the store.
#[test]
fn credentials_that_are_not_there_yet_are_tried_again() {
    static BUSY: AtomicU32 = AtomicU32::new(0);
    let answers: Answers = |path, at, stream| {
        let json = r#"{"AccessKeyId": "key", "SecretAccessKey": "secret", "Token": "t", "Expiration": "2100-01-01T00:00:00Z"}"#;
        match (path, BUSY.load(SeqCst)) {
            ("/credentials", 0) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", json.len());
                stream.write_all(format!("{head}{json}").as_bytes())
            }
            ("/credentials", status) => {
                BUSY.store(0, SeqCst);
                stream.write_all(format!("HTTP/1.1 {status} Busy\r\nContent-Length: 0\r\n\r\n").as_bytes())
            }
            _ => block(stream, at, &LEN.to_string(), &format!("{TIME}ETag: \"a\"\r\n")),
        }
    };
    let Some(address) = serve(answers) else { return };
    let folder = tempfile::tempdir().expect("a directory");
    let token = folder.path().join("token");
    std::fs::write(&token, "hunter22").expect("a file");
    let settings = [
        ("aws_allow_http", "true"),
        ("aws_endpoint", &format!("http://{address}")),
        ("aws_container_credentials_full_uri", &format!("http://{address}/credentials")),
        ("aws_container_authorization_token_file", token.to_str().expect("a name")),
    ];
    for status in [503, 429, 500] {
        let options = settings.iter().fold(options(), |options, (name, value)| options.config(name, value));
        BUSY.store(status, SeqCst);
        let store = options.build().expect("threads");
        let error = store.open("s3://bucket/x").err();
        assert!(error.is_none(), "{status}: {error:?}");
        assert_eq!(store.stats().objects.retries, 1, "{status}");
        let options =
            settings.iter().fold(options_without_retries(), |options, (name, value)| options.config(name, value));
        BUSY.store(status, SeqCst);
        let error = options.build().expect("threads").open("s3://bucket/x").expect_err("no credentials");
        assert!(matches!(error.cause(), Cause::Status { status: said, .. } if u32::from(*said) == status), "{error}");
    }
}

fn options_without_retries() -> StoreOptions {
    options().retries(0)
}

const TIME: &str = "Last-Modified: Mon, 30 Nov 2026 10:00:00 GMT\r\n";
