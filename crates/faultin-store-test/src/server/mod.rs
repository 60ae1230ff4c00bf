//! [`Server`]: an S3 server whose objects are in memory.

mod objects;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use futures_util::FutureExt;
use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use object_store::PutMode;
use object_store::path::Path;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::sync::oneshot;

use self::objects::Objects;
use crate::{ACCESS_KEY, SECRET_KEY};

/// Which requests a [`Server`] accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Requests that are signed with [`SECRET_KEY`]: others are denied.
    Signed,
    /// Requests without a signature: for proxies that change what a signature covers.
    Anonymous,
}

/// An S3 server, in a thread of this process. Its buckets are the first parts of the paths of its objects.
///
/// Killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    objects: Objects,
    address: SocketAddr,
    access: Access,
    /// `None` while it is dead.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// The thread ends when this is dropped.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    /// Starts a server for signed requests on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is no such port, or no thread.
    pub fn start() -> io::Result<Server> {
        Server::start_at(([127, 0, 0, 1], 0).into(), Access::Signed)
    }

    /// Starts a server at `address`; port 0 is a free one.
    ///
    /// # Errors
    /// If the address cannot be bound, or there is no thread.
    pub fn start_at(address: SocketAddr, access: Access) -> io::Result<Server> {
        let mut server = Server::dead(address, access);
        server.restart()?;
        Ok(server)
    }

    /// Makes a server that does not listen until it is [restarted](Self::restart): once its objects are there.
    #[must_use]
    pub fn dead(address: SocketAddr, access: Access) -> Server {
        Server { objects: Objects::default(), address, access, running: None }
    }

    /// Returns the address that it listens at, also while it is dead.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stores an object, and returns its etag. `path` is `bucket/key`. It stays while the server is dead.
    ///
    /// # Panics
    /// If the path has no such form.
    pub fn put(&self, path: &str, bytes: Vec<u8>) -> String {
        let path = Path::parse(path).expect("a path of an object");
        let put = self.objects.put(&path, vec![bytes.into()], PutMode::Overwrite).now_or_never();
        put.expect("memory does not wait").expect("memory takes each object")
    }

    /// Kills the server: it stops in the middle of whatever it is doing, and its connections are closed.
    pub fn kill(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            drop(stop);
            // It ends without a result; a panic of it was printed.
            let _ = thread.join();
        }
    }

    /// Starts the server again after [`kill`](Self::kill), at the same address with the same objects.
    ///
    /// # Errors
    /// If the address cannot be bound, or there is no thread.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        let listener = TcpListener::bind(self.address)?;
        self.address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let service = service(self.objects.clone(), self.access);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("s3-server".into()).spawn(move || {
            runtime.block_on(async {
                let accepting = std::pin::pin!(accept(listener, service));
                if let Either::Right((error, _)) = select(stopped, accepting).await {
                    eprintln!("the server has stopped: {error}");
                }
            });
            // Dropping the runtime drops the connections, wherever they are.
        })?;
        self.running = Some(Running { stop, thread });
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn service(objects: Objects, access: Access) -> S3Service {
    let mut builder = S3ServiceBuilder::new(objects);
    if access == Access::Signed {
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    }
    builder.build()
}

/// Serves connections, each in a task; returns only if no more can be accepted.
async fn accept(listener: TcpListener, service: S3Service) -> io::Error {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // The client has gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return error,
        };
        // Answers go out in two writes, head and body: the second must not wait for the acknowledgement of the first.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let service = service.clone();
        tokio::spawn(async move {
            // An error is the client's: it has gone, or it sent something that is not HTTP.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
