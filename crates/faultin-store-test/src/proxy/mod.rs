//! [`Proxy`]: passes HTTP requests to a server, and injects [`Fault`]s. Each connection has a thread.

mod fault;
mod head;
mod relay;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

pub use fault::{Fault, mixture};
use head::Head;

/// A request that has arrived at a [`Proxy`].
#[derive(Clone, Debug)]
pub struct Request {
    /// The number of requests that arrived before it.
    pub number: u64,
    /// `GET`, `HEAD`, `PUT`, …
    pub method: String,
    /// The path, with the query.
    pub target: String,
    head: Head,
}

impl Request {
    /// Returns a field of the header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// Returns the first and the last byte of the requested range, if it has both.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u64)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    }
}

/// Chooses what happens to a request. It may take a while, and do something first, such as to replace the object.
pub type Script = Arc<dyn Fn(&Request) -> Fault + Send + Sync>;

/// A proxy in threads of this process. Its connections are closed when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: SocketAddr,
    script: Mutex<Script>,
    /// Number of requests.
    requests: AtomicU64,
    /// Number of requests with a fault.
    faults: AtomicU64,
    /// Number of bytes of bodies that were sent to clients.
    sent: AtomicU64,
    /// The length of an object in the last answer that had a range.
    object_len: AtomicU64,
    stopped: AtomicBool,
    /// Clients' connections, to close them.
    clients: Mutex<HashMap<u64, TcpStream>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1, which passes requests to `upstream` as `script` says.
    ///
    /// # Errors
    /// If there is no such port, or no thread.
    pub fn start(
        upstream: SocketAddr,
        script: impl Fn(&Request) -> Fault + Send + Sync + 'static,
    ) -> io::Result<Proxy> {
        Proxy::start_at(([127, 0, 0, 1], 0).into(), upstream, script)
    }

    /// Starts a proxy at `address`; port 0 is a free one.
    ///
    /// # Errors
    /// If the address cannot be bound, or there is no thread.
    pub fn start_at(
        address: SocketAddr,
        upstream: SocketAddr,
        script: impl Fn(&Request) -> Fault + Send + Sync + 'static,
    ) -> io::Result<Proxy> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            script: Mutex::new(Arc::new(script)),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            object_len: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            clients: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("proxy".into()).spawn(move || accept(&listener, &accepting))?;
        Ok(Proxy { shared, address, thread: Some(thread) })
    }

    /// Returns the address that it listens at.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(SeqCst)
    }

    /// Returns the number of requests so far that something happened to.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(SeqCst)
    }

    /// Returns the number of bytes of bodies that were sent to clients so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(SeqCst)
    }

    /// Replaces the script, for requests that arrive from now on.
    pub fn set_script(&self, script: impl Fn(&Request) -> Fault + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(script);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        // Ends the wait for the next connection.
        let ip = match self.address {
            SocketAddr::V4(address) if address.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(address) if address.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            address => address.ip(),
        };
        let woken = TcpStream::connect((ip, self.address.port()));
        if let Some(thread) = self.thread.take()
            && woken.is_ok()
        {
            let _ = thread.join();
        }
        for client in self.shared.clients().values() {
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn clients(&self) -> std::sync::MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choose(&self, request: &Request) -> Fault {
        let script = Arc::clone(&self.script.lock().unwrap_or_else(PoisonError::into_inner));
        let fault = script(request);
        if fault != Fault::None {
            self.faults.fetch_add(1, SeqCst);
        }
        fault
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for number in 0.. {
        let accepted = listener.accept();
        if shared.stopped.load(SeqCst) {
            return;
        }
        let client = match accepted {
            Ok((client, _)) => client,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return eprintln!("the proxy has stopped: {error}"),
        };
        let (Ok(to_close), Ok(())) = (client.try_clone(), client.set_nodelay(true)) else { continue };
        shared.clients().insert(number, to_close);
        let own = Arc::clone(shared);
        let spawned = std::thread::Builder::new().name("connection".into()).spawn(move || {
            // An error is that of one of the connections, which ends both.
            let _ = relay::connection(client, &own);
            own.clients().remove(&number);
        });
        if spawned.is_err() {
            shared.clients().remove(&number);
        }
    }
}
