//! The command `faultin-store-test`: the server and the proxy as processes, which can be killed.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use faultin_store_test::{Access, Fault, Proxy, Server, environment, mixture, pattern};

/// An S3 server in memory, and a proxy that injects faults
#[derive(Parser)]
#[command(name = "faultin-store-test")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve objects until the process is killed; prints the variables of a client
    Serve {
        /// Where to listen; port 0 is a free one
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Store a file as an object
        #[arg(long, value_name = "BUCKET/KEY=FILE")]
        put: Vec<String>,
        /// Store this many bytes as an object; each differs from those next to it
        #[arg(long, value_name = "BUCKET/KEY=BYTES")]
        pattern: Vec<String>,
        /// Accept requests without a signature, and none that has one
        #[arg(long)]
        anonymous: bool,
    },
    /// Pass requests on, with faults, until the process is killed; prints the variables of a client
    Proxy {
        /// Where to listen; port 0 is a free one
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// The server
        #[arg(long, value_name = "ADDRESS")]
        upstream: SocketAddr,
        /// A delay of each request, in milliseconds
        #[arg(long, value_name = "MS", default_value_t = 0)]
        delay: u64,
        /// A fault, such as reset:1000, status:503, stall:10, short, long, error-page, etag or silence; may be repeated
        #[arg(long, value_name = "FAULT")]
        fault: Vec<Fault>,
        /// One request of this many has a fault
        #[arg(long, value_name = "N", default_value_t = 1)]
        once_in: u64,
        /// Seed of the random numbers
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    match Cli::parse().command {
        Command::Serve { listen, put, pattern: patterns, anonymous } => {
            let access = if anonymous { Access::Anonymous } else { Access::Signed };
            let mut server = Server::dead(listen, access);
            for object in &put {
                let (path, file) = object.split_once('=').ok_or("--put takes BUCKET/KEY=FILE")?;
                server.put(path, std::fs::read(PathBuf::from(file))?);
            }
            for object in &patterns {
                let (path, len) = object.split_once('=').ok_or("--pattern takes BUCKET/KEY=BYTES")?;
                server.put(path, pattern(0, len.parse()?));
            }
            // Before, a client would be told that there are no such objects.
            server.restart()?;
            serve(server.address())
        }
        Command::Proxy { listen, upstream, delay, fault, once_in, seed } => {
            let script = mixture(seed, once_in, fault);
            let by = Duration::from_millis(delay);
            let proxy = Proxy::start_at(listen, upstream, move |request| match script(request) {
                fault if by.is_zero() => fault,
                fault => Fault::Delay { by, then: Box::new(fault) },
            })?;
            serve(proxy.address())
        }
    }
}

/// Prints the variables of a client of `address`, and waits to be killed.
fn serve(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    for (variable, value) in environment(address) {
        writeln!(out, "export {variable}={value}")?;
    }
    out.flush()?;
    loop {
        std::thread::park();
    }
}
