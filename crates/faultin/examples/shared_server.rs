//! A server that sums up buffers which other processes share with it, and outlives them: one that is honest, one that
//! announces more than it has, one that shrinks its buffer while it is read, one that is gone before it is served.
//!
//! `cargo run --example shared_server` starts the server and the clients.

use std::ffi::CStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use faultin::map::SharedMap;

const LEN: usize = 8 << 20;
const NAME: &CStr = c"shared_server";
const CLIENTS: [&str; 5] = ["honest", "liar", "shrinking", "gone", "honest"];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One request: "who process descriptor length". The answer is the sum, or why there is none.
fn serve(request: &str) -> Result<u64> {
    let mut words = request.split_whitespace().skip(1);
    let mut number = || -> Result<usize> { Ok(words.next().ok_or("three numbers are needed")?.parse()?) };
    let (process, descriptor, len) = (number()?, number()?, number()?);
    let file = File::open(format!("/proc/{process}/fd/{descriptor}"))?;
    let map = SharedMap::read_only(file, len)?;
    let (mut sum, mut copy) = (0, [0; 4096]);
    for at in (0..len).step_by(copy.len()) {
        // Copied once: what is summed up does not change any more.
        let part = &mut copy[..(len - at).min(4096)];
        map.read_at(part, at).map_err(|short| format!("after {} bytes: {}", at + short.done, short.fault))?;
        sum += part.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    }
    Ok(sum)
}

fn server(listener: &UnixListener) -> Result<()> {
    for _ in CLIENTS {
        let (mut client, _) = listener.accept()?;
        let mut request = String::new();
        BufReader::new(&client).read_line(&mut request)?;
        let who = request.split_whitespace().next().unwrap_or("nobody");
        let answer = match serve(&request) {
            Ok(sum) => format!("{sum}"),
            Err(error) => format!("no sum: {error}"),
        };
        println!("{who}: {answer}");
        // It may not be there to hear it.
        let _ = client.write_all(answer.as_bytes());
    }
    println!("still here");
    Ok(())
}

fn client(who: &str, socket: &Path) -> Result<()> {
    let map = SharedMap::create(NAME, LEN)?;
    map.view_mut().fill(0, 1, LEN)?;
    let announced = if who == "liar" { 2 * LEN } else { LEN };
    let mut server = UnixStream::connect(socket)?;
    let descriptor = map.file().as_raw_fd();
    if who == "gone" {
        drop(map);
    } else if who == "shrinking" {
        // A moment later, when it is being read.
        let file = File::options().write(true).open(format!("/proc/self/fd/{descriptor}"))?;
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(1));
            file.set_len(5000)
        });
    }
    writeln!(server, "{who} {} {descriptor} {announced}", std::process::id())?;
    server.read_to_string(&mut String::new())?;
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, who, socket] = &arguments[..] {
        return client(who, Path::new(socket));
    }
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket)?;
    let mut clients = Vec::new();
    for who in CLIENTS {
        clients.push(Command::new(std::env::current_exe()?).arg(who).arg(&socket).spawn()?);
    }
    let served = server(&listener);
    clients.iter_mut().try_for_each(|client| client.wait().map(|_| ()))?;
    served
}
