//! What the tests of `faultin-store` need of a network: an S3 [server](Server) in memory, and a [proxy](Proxy) between it and
//! its clients that injects [faults](Fault). Both are on the loopback interface unless the caller asks for another one, and
//! both have a command line: `faultin-store-test serve` and `faultin-store-test proxy`.
//!
//! ```no_run
//! use faultin_store_test::{Fault, Proxy, Server};
//!
//! let server = Server::start()?;
//! server.put("bucket/object", vec![7; 100_000]);
//! // The third request ends after 10 bytes of its answer's body; the others pass.
//! let proxy = Proxy::start(server.address(), |request| match request.number {
//!     2 => Fault::Reset { after: 10 },
//!     _ => Fault::None,
//! })?;
//! for (variable, value) in faultin_store_test::environment(proxy.address()) {
//!     println!("{variable}={value}");
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod proxy;
mod server;

use std::net::{SocketAddr, TcpListener};

pub use proxy::{Fault, Proxy, Request, Script, mixture};
pub use server::{Access, Server};

/// The access key that a [`Server`] accepts.
pub const ACCESS_KEY: &str = "faultin-test-key";

/// The secret of [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "faultin-test-secret";

/// The region that requests to a [`Server`] are signed for.
pub const REGION: &str = "us-east-1";

/// Returns the usual variables of a client of the server, or of the proxy, at `address`.
#[must_use]
pub fn environment(address: SocketAddr) -> [(&'static str, String); 5] {
    [
        ("AWS_ENDPOINT", format!("http://{address}")),
        ("AWS_ALLOW_HTTP", "true".into()),
        ("AWS_REGION", REGION.into()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.into()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.into()),
    ]
}

/// Returns whether the loopback interface can be used. If not, the test is reported as skipped, for `loopback`.
#[must_use]
pub fn has_loopback() -> bool {
    match TcpListener::bind(("127.0.0.1", 0)) {
        Ok(_) => true,
        Err(error) => {
            faultin_test::skipped("loopback", format_args!("no socket on 127.0.0.1: {error}"));
            false
        }
    }
}

/// Returns `len` bytes that identify their position, and the version of the object that they are: two versions differ in
/// every byte.
#[must_use]
pub fn pattern(version: u8, len: usize) -> Vec<u8> {
    let byte = |at: usize| (at ^ (at >> 8) ^ (at >> 16)) as u8;
    (0..len).map(|at| byte(at).wrapping_add(version)).collect()
}
