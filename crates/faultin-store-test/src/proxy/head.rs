//! [`Head`]: the first line and the header fields of an HTTP message, and how long its body is.

use std::io::{self, BufRead, Read, Write};

/// The maximum length of a line, and the maximum number of lines: so that a peer cannot fill the memory.
const LONGEST: u64 = 64 << 10;
const LINES: usize = 256;

/// The first line and the fields of a request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub first: String,
    fields: Vec<(String, String)>,
}

/// How an answer's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes.
    Length(u64),
    Chunked,
    /// With the connection.
    Connection,
}

impl Head {
    /// Makes the head of an answer.
    pub fn answer(status: u16, fields: &[(&str, &str)]) -> Head {
        let fields = fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Head { first: format!("HTTP/1.1 {status} {}", reason(status)), fields }
    }

    /// Reads a head; `None` if the peer has closed the connection before it.
    ///
    /// # Errors
    /// If the connection fails, or what it has is no head.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Head>> {
        let first = line(from)?;
        if first.is_empty() {
            return Ok(None);
        }
        let mut fields = Vec::new();
        loop {
            let line = line(from)?;
            if line.is_empty() {
                return Ok(Some(Head { first, fields }));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("a field without a colon"))?;
            if fields.len() == LINES {
                return Err(invalid("too many fields"));
            }
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        to.write_all(text.as_bytes())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn remove(&mut self, is_it: impl Fn(&str) -> bool) {
        self.fields.retain(|(name, _)| !is_it(&name.to_ascii_lowercase()));
    }

    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.remove(|other| other.eq_ignore_ascii_case(name));
        self.fields.push((name.to_owned(), value.to_string()));
    }

    /// Returns the status of an answer.
    pub fn status(&self) -> Option<u16> {
        self.first.split(' ').nth(1)?.parse().ok()
    }

    /// Returns how the body of the answer to a `method` ends.
    pub fn framing(&self, method: &str) -> io::Result<Framing> {
        let status = self.status().ok_or_else(|| invalid("no status"))?;
        if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Framing::Length(0));
        }
        if self.get("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return Ok(Framing::Chunked);
        }
        match self.get("content-length") {
            Some(len) => len.parse().map(Framing::Length).map_err(|_| invalid("a length that is no number")),
            None => Ok(Framing::Connection),
        }
    }
}

/// Reads a body in chunks; what may follow the last one is skipped.
pub fn unchunked(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(from)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(|_| invalid("a chunk without a length"))?;
        if size == 0 {
            while !line(from)?.is_empty() {}
            return Ok(body);
        }
        let read = from.by_ref().take(size).read_to_end(&mut body)?;
        if read as u64 != size || !line(from)?.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads a line without its end; an empty one if there is none.
fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.by_ref().take(LONGEST).read_line(&mut line)?;
    if !line.is_empty() && !line.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        412 => "Precondition Failed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_and_written() {
        let text = "GET /a HTTP/1.1\r\nHost: here\r\nRange: bytes=0-9\r\n\r\nbody";
        let mut from = text.as_bytes();
        let mut head = Head::read(&mut from).expect("a head").expect("not the end");
        assert_eq!(
            (head.first.as_str(), head.get("RANGE"), from),
            ("GET /a HTTP/1.1", Some("bytes=0-9"), &b"body"[..])
        );
        head.remove(|name| name == "range");
        head.set("host", "there");
        let mut written = Vec::new();
        head.write(&mut written).expect("memory");
        assert_eq!(written, b"GET /a HTTP/1.1\r\nhost: there\r\n\r\n");
        assert_eq!(Head::read(&mut &b""[..]).expect("the end"), None);
        Head::read(&mut &b"GET /a HTTP/1.1\r\nHost"[..]).expect_err("it ends early");
        Head::read(&mut &b"GET /a HTTP/1.1\r\nHost\r\n\r\n"[..]).expect_err("no field");
    }

    #[test]
    fn a_body_ends_where_it_says() {
        let framing = |text: &str, method| {
            let head = Head::read(&mut text.as_bytes()).expect("a head").expect("not the end");
            head.framing(method).expect("known")
        };
        let long = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
        assert_eq!((framing(long, "GET"), framing(long, "HEAD")), (Framing::Length(12), Framing::Length(0)));
        assert_eq!(framing("HTTP/1.1 304 Not Modified\r\n\r\n", "GET"), Framing::Length(0));
        assert_eq!(framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET"), Framing::Chunked);
        assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n", "GET"), Framing::Connection);
        let mut chunks = &b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nTrailer: 1\r\n\r\nnext"[..];
        assert_eq!((unchunked(&mut chunks).expect("whole"), chunks), (b"abcd".to_vec(), &b"next"[..]));
        unchunked(&mut &b"3\r\nab"[..]).expect_err("it ends early");
    }
}
