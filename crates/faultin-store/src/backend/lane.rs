//! [`Lane`]: the thread of one server's connections.
//!
//! The HTTP client reads interim responses (1xx) of a connection as fast as they come, and looks neither at its clock nor at other
//! connections meanwhile. A server that sends nothing else would take all threads of a runtime. So the connections of each server
//! are in a runtime of their own: it delays only itself, and requests with their deadlines are elsewhere. A connection is closed
//! when the request that it was made for is given up.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use faultin_cache::pager::without_signals;
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime with one thread, which ends with its last user.
#[derive(Debug)]
pub(crate) struct Lane {
    /// `None` once it is being dropped.
    runtime: Option<Runtime>,
    process: u32,
}

impl Lane {
    /// Starts the thread.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn new() -> io::Result<Arc<Lane>> {
        // As the store's own threads: no handler of the process runs in it.
        let runtime = without_signals(|| {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(1).thread_name("faultin-store").enable_all().build()
        })?;
        Ok(Arc::new(Lane { runtime: Some(runtime), process: faultin::process() }))
    }

    /// Runs a future where the caller is. The tasks that it starts, such as connections, run in the lane, and so does the
    /// resolution of names.
    #[cfg_attr(not(feature = "net"), allow(dead_code, reason = "for connections"))]
    pub(super) async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let handle = self.runtime.as_ref().map(Runtime::handle);
        std::future::poll_fn(|context| {
            let _entered = handle.map(Handle::enter);
            future.as_mut().poll(context)
        })
        .await
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        match self.runtime.take() {
            // The thread may be reading what a server sends.
            Some(runtime) if self.process == faultin::process() => runtime.shutdown_background(),
            // In a child of `fork`, there is no thread, and its locks may be held.
            runtime => std::mem::forget(runtime),
        }
    }
}
