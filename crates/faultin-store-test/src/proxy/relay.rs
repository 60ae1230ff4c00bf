//! A client's connection: its requests and their answers, one after the other.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::head::{Framing, Head, unchunked};
use super::{Fault, Request, Shared};

/// The unit in which bodies are passed on.
const PIECE: usize = 64 << 10;

/// The time after which a wait looks whether the client has gone.
const GLANCE: Duration = Duration::from_millis(20);

/// What becomes of the client's connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    Close,
    Reset,
}

/// Serves a client until one of both closes the connection.
///
/// # Errors
/// Those of both connections.
pub fn connection(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut relay = Relay { reader: BufReader::new(client.try_clone()?), client, server: None, shared };
    loop {
        match relay.request() {
            Ok(Next::Request) => {}
            Ok(Next::Close) => return relay.client.shutdown(Shutdown::Both),
            // The server's error must not look like the end of a body.
            Ok(Next::Reset) | Err(_) => return reset(&relay.client),
        }
    }
}

/// Makes the client get a reset, once all of its descriptors are closed.
fn reset(client: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO))?;
    Ok(())
}

struct Relay<'a> {
    client: TcpStream,
    /// Of the same connection.
    reader: BufReader<TcpStream>,
    /// Kept for the next request.
    server: Option<BufReader<TcpStream>>,
    shared: &'a Shared,
}

impl Relay<'_> {
    /// Serves the next request.
    fn request(&mut self) -> io::Result<Next> {
        let Some(mut head) = Head::read(&mut self.reader)? else { return Ok(Next::Close) };
        if head.get("expect").is_some() {
            self.client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            head.remove(|name| name == "expect");
        }
        let body = if head.get("transfer-encoding").is_some() {
            head.remove(|name| name == "transfer-encoding");
            let body = unchunked(&mut self.reader)?;
            head.set("Content-Length", body.len());
            body
        } else {
            let len: u64 = head.get("content-length").map_or(Some(0), |len| len.parse().ok()).unwrap_or_default();
            let mut body = Vec::new();
            (&mut self.reader).take(len).read_to_end(&mut body)?;
            body
        };
        let mut words = head.first.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let number = self.shared.requests.fetch_add(1, SeqCst);
        let request = Request { number, method, target, head };
        let mut fault = self.shared.choose(&request);
        while let Fault::Delay { by, then } = fault {
            std::thread::sleep(by);
            fault = *then;
        }
        self.perform(&request, &body, &fault)
    }

    fn perform(&mut self, request: &Request, body: &[u8], fault: &Fault) -> io::Result<Next> {
        match fault {
            Fault::Silence => self.wait_for_the_end(),
            Fault::Reset { after: 0 } => Ok(Next::Reset),
            Fault::Garbage => {
                self.client.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")?;
                Ok(Next::Close)
            }
            Fault::Status { status, retry_after } => self.answer_status(request, *status, *retry_after),
            Fault::ErrorPage => {
                let head = Head::answer(200, &[("Content-Type", "text/html")]);
                self.answer(request, head, PAGE.as_bytes())
            }
            Fault::PaddedErrorPage => {
                let (first, last) = request.range().unwrap_or((0, PAGE.len() as u64 - 1));
                let size = self.shared.object_len.load(SeqCst).max(last + 1);
                let range = format!("bytes {first}-{last}/{size}");
                let head = Head::answer(206, &[("Content-Type", "text/html"), ("Content-Range", &range)]);
                let mut page = PAGE.as_bytes().to_vec();
                page.resize((last + 1 - first) as usize, b' ');
                self.answer(request, head, &page)
            }
            Fault::Redirect { to } => {
                let location = format!("http://{to}{}", request.target);
                self.answer(request, Head::answer(307, &[("Location", &location)]), b"")
            }
            _ => self.pass(request, body, fault),
        }
    }

    /// Answers in the server's place, as S3 describes errors.
    fn answer_status(&mut self, request: &Request, status: u16, retry_after: Option<u64>) -> io::Result<Next> {
        let code = match status {
            412 => "PreconditionFailed",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "SlowDown",
            _ => "Injected",
        };
        let mut head = Head::answer(status, &[("Content-Type", "application/xml")]);
        if let Some(seconds) = retry_after {
            head.set("Retry-After", seconds);
        }
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>injected</Message></Error>"
        );
        self.answer(request, head, if status == 304 { b"" } else { text.as_bytes() })
    }

    fn answer(&mut self, request: &Request, mut head: Head, body: &[u8]) -> io::Result<Next> {
        head.set("Content-Length", body.len());
        head.write(&mut self.client)?;
        if request.method != "HEAD" {
            self.send(body)?;
        }
        Ok(Next::Request)
    }

    /// Passes the request to the server, and its answer to the client, with the fault in one of both.
    fn pass(&mut self, request: &Request, body: &[u8], fault: &Fault) -> io::Result<Next> {
        let mut head = request.head.clone();
        let signature = |name: &str| name == "authorization" || name.starts_with("x-amz-");
        match fault {
            Fault::StripConditions => head.remove(|name| name.starts_with("if-") || signature(name)),
            Fault::Whole => head.remove(|name| name == "range" || signature(name)),
            _ => {}
        }
        let mut server = self.server(&head, body)?;
        let mut answer = loop {
            let head = Head::read(&mut server)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if head.status() != Some(100) {
                break head;
            }
        };
        if let Some(size) = answer.get("content-range").and_then(|range| range.rsplit('/').next()?.parse().ok()) {
            self.shared.object_len.store(size, SeqCst);
        }
        let framing = answer.framing(&request.method)?;
        let whole = match framing {
            Framing::Length(_) => None,
            Framing::Chunked => Some(unchunked(&mut server)?),
            Framing::Connection => {
                let mut whole = Vec::new();
                server.read_to_end(&mut whole)?;
                Some(whole)
            }
        };
        if let Some(whole) = &whole {
            answer.remove(|name| name == "transfer-encoding");
            answer.set("Content-Length", whole.len());
        }
        let len = match (&whole, framing) {
            (Some(whole), _) => whole.len() as u64,
            (None, Framing::Length(len)) => len,
            (None, _) => 0,
        };
        // Faults of the body are for bodies that matter: not for those of errors, and of HEAD.
        let is_good = matches!(answer.status(), Some(200..=299)) && request.method == "GET";
        let fault = if is_good { fault } else { &Fault::None };
        match fault {
            Fault::Short if len > 0 => answer.set("Content-Length", len - 1),
            Fault::Long => answer.set("Content-Length", len + 1),
            Fault::ContentRange => {
                let shifted = answer.get("content-range").and_then(shifted);
                answer.set("Content-Range", shifted.unwrap_or_else(|| format!("bytes 1-{len}/{}", len + 1)));
            }
            Fault::Etag => answer.set("ETag", "\"another\""),
            _ => {}
        }
        answer.write(&mut self.client)?;
        let mut from: Box<dyn Read + '_> = match &whole {
            Some(whole) => Box::new(whole.as_slice()),
            None => Box::new((&mut server).take(len)),
        };
        let next = match *fault {
            Fault::Reset { after } => {
                self.copy(&mut from, after)?;
                // The client gets these bytes before the reset.
                std::thread::sleep(GLANCE);
                Next::Reset
            }
            Fault::Close { after } => {
                self.copy(&mut from, after)?;
                Next::Close
            }
            Fault::Stall { after } => {
                self.copy(&mut from, after)?;
                self.wait_for_the_end()?
            }
            Fault::Trickle { every } => {
                for _ in 0..len {
                    if self.copy(&mut from, 1)? == 0 {
                        break;
                    }
                    std::thread::sleep(every);
                }
                Next::Request
            }
            Fault::Short => {
                self.copy(&mut from, len.saturating_sub(1))?;
                Next::Close
            }
            Fault::Long => {
                self.copy(&mut from, len)?;
                self.send(b"!")?;
                Next::Request
            }
            _ => {
                // Otherwise the answer would lack bytes that its length has.
                if self.copy(&mut from, len)? != len {
                    return Ok(Next::Reset);
                }
                Next::Request
            }
        };
        drop(from);
        let is_read = next == Next::Request && framing != Framing::Connection;
        let closes = answer.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.server = (is_read && !closes).then_some(server);
        Ok(if closes && next == Next::Request { Next::Close } else { next })
    }

    /// Returns a connection to the server to which the request was sent.
    fn server(&mut self, head: &Head, body: &[u8]) -> io::Result<BufReader<TcpStream>> {
        let kept = self.server.take().filter(|server| is_open(server.get_ref()));
        let server = match kept {
            Some(server) => server,
            None => BufReader::new(connect(self.shared.upstream)?),
        };
        let mut to = server.get_ref();
        head.write(&mut to)?;
        to.write_all(body)?;
        Ok(server)
    }

    /// Passes up to `len` bytes on; returns their number.
    fn copy(&mut self, from: &mut dyn Read, len: u64) -> io::Result<u64> {
        let (mut piece, mut left) = (vec![0; PIECE.min(usize::try_from(len).unwrap_or(PIECE))], len);
        while left > 0 {
            let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = from.read(&mut piece[..most])?;
            if read == 0 {
                break;
            }
            self.send(&piece[..read])?;
            left -= read as u64;
        }
        Ok(len - left)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.client.write_all(bytes)?;
        self.shared.sent.fetch_add(bytes.len() as u64, SeqCst);
        Ok(())
    }

    /// Waits until the client closes the connection, or the proxy ends.
    fn wait_for_the_end(&mut self) -> io::Result<Next> {
        self.client.set_read_timeout(Some(GLANCE))?;
        while !self.shared.stopped.load(SeqCst) {
            match self.client.peek(&mut [0]) {
                Ok(0) => break,
                // It sends more, which nobody answers.
                Ok(_) => std::thread::sleep(GLANCE),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        Ok(Next::Close)
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let server = TcpStream::connect(address)?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Returns whether the server has neither closed a connection nor sent something that nobody asked for.
fn is_open(server: &TcpStream) -> bool {
    let is_quiet = server.set_nonblocking(true).is_ok()
        && server.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
    server.set_nonblocking(false).is_ok() && is_quiet
}

/// Returns a `Content-Range` of the same number of bytes, one byte later.
fn shifted(range: &str) -> Option<String> {
    let (range, size) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let size: u64 = size.parse().ok()?;
    Some(format!("bytes {}-{}/{}", first + 1, last + 1, size.max(last + 2)))
}

const PAGE: &str = "<html><head><title>Service unavailable</title></head><body>Try again later.</body></html>\n";
