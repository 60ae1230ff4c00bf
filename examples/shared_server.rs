//! A server that draws from buffers that its clients share with it, as a compositor does. The clients are other processes,
//! and each does something to a buffer that would kill a server with a plain mapping, or deceive one that trusts its input.
//! The server survives all of them, reports it, and ends.
//!
//! `cargo run --example shared_server`. A client is a forked process: it makes a memfd and sends requests over its socket,
//! and the server opens the memfd by `/proc`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use faultin::shared::ring::{Consumer, RingLayout};
use faultin::{map::Rights, shared::SharedMap};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Size of a client's buffer in bytes.
const LEN: usize = 1 << 20;

/// The ring of drawing requests: positions and lengths, two numbers each.
const REQUESTS: RingLayout = RingLayout { head: 0, tail: 64, data: 128, entry: 8, capacity: 64 };

const DEEDS: [&str; 8] = ["honest", "sealed", "shrinks", "short", "lies", "tail", "flickers", "dies"];

/// Handles one client until it hangs up; returns the number of bytes drawn, and of failed requests.
fn serve(client: libc::pid_t, socket: UnixStream) -> Outcome<(u64, u32)> {
    let mut lines = BufReader::new(socket.try_clone()?);
    let mut next = || -> Outcome<String> {
        // A client that sends no end of a line takes no memory for it.
        let mut line = String::new();
        match lines.by_ref().take(64).read_line(&mut line)? {
            0 => Err("it hung up".into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    };
    let (descriptor, len) = (next()?.parse::<u32>()?, next()?.parse()?);
    let file = File::options().read(true).write(true).open(format!("/proc/{client}/fd/{descriptor}"))?;
    let shared = SharedMap::from_file(file, len, Rights::ReadWrite)?;
    let mut requests = Consumer::new(&shared, REQUESTS)?;
    let (mut drawn, mut failed) = (0, 0);
    // A line for each request: the client waits for our answer.
    while next().is_ok() {
        let mut request = [0; 8];
        if requests.consume(&mut request)? == 0 {
            return Err("it asks for nothing".into());
        }
        // A private copy: the checked value is the one that is used.
        let [at, len] =
            [0, 4].map(|i| u32::from_ne_bytes([request[i], request[i + 1], request[i + 2], request[i + 3]]));
        let mut tile = [0; 4096];
        let drawing = match tile.get_mut(..len as usize) {
            None => Err(format!("it asks for {len} bytes at once")),
            Some(tile) => shared.read_exact_at(tile, u64::from(at)).map_err(|error| error.to_string()),
        };
        match drawing {
            Ok(()) => drawn += u64::from(len),
            Err(why) if failed == 0 => {
                failed = 1;
                println!("    a request failed: {why}");
            }
            Err(_) => failed += 1,
        }
        if (&socket).write_all(b"served\n").is_err() {
            break;
        }
    }
    Ok((drawn, failed))
}

/// Runs a client: queues requests, and misbehaves in between.
fn client(deed: &str, mut socket: &UnixStream) -> Outcome<()> {
    let mut answers = BufReader::new(socket.try_clone()?).lines();
    let shared = SharedMap::create(deed, LEN)?;
    let file = File::from(shared.try_clone_fd()?);
    if deed == "sealed" {
        shared.seal_shrink()?;
    }
    let told = if deed == "short" { 2 * LEN } else { LEN };
    writeln!(socket, "{}\n{told}", file.as_raw_fd())?;
    for round in 0_u32..1000 {
        let (at, len) = (round % 200 * 4096, if deed == "lies" && round % 2 == 1 { u32::MAX } else { 4096 });
        if deed == "flickers" {
            // Everything but the page with the requests is truncated and restored, forever.
            file.set_len(if round % 3 == 2 { 4096 } else { LEN as u64 })?;
        }
        let place = REQUESTS.data + u64::from(round % REQUESTS.capacity) * 8;
        shared.store(place, at)?;
        shared.store(place + 4, len)?;
        shared.store(REQUESTS.tail, if deed == "tail" && round == 9 { 5000 } else { round + 1 })?;
        match (deed, round) {
            ("shrinks", 500) => file.set_len(0)?,
            ("dies", 500) => std::process::abort(),
            _ => {}
        }
        socket.write_all(b"serve\n")?;
        let Some(_) = answers.next() else { break }; // it has had enough of us
    }
    Ok(())
}

fn main() -> Outcome<()> {
    for deed in DEEDS {
        let (ours, theirs) = UnixStream::pair()?;
        println!("client \"{deed}\"");
        // SAFETY: this process has one thread, so the child is not restricted.
        let child = match unsafe { libc::fork() } {
            0 => {
                drop(ours);
                std::process::exit(client(deed, &theirs).is_err().into());
            }
            child if child > 0 => child,
            _ => return Err(std::io::Error::last_os_error().into()),
        };
        drop(theirs);
        match serve(child, ours) {
            Ok((drawn, failed)) => println!("    drew {drawn} bytes; {failed} requests failed"),
            Err(error) => println!("    sent away: {error}"),
        }
        // SAFETY: our own child, which ends once its socket is closed.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    }
    println!("served {} clients, still alive; {} faults survived", DEEDS.len(), faultin::signal::counters().total());
    Ok(())
}
