//! A map that several Python objects and running calls have.

use core::mem::ManuallyDrop;
use core::ops::Deref;
use std::sync::Arc;

use pyo3::prelude::*;

/// A reference to a map. The last one releases the file without the interpreter's lock: `munmap` and `close` may wait for a
/// file server.
pub(crate) struct Shared<T: Send>(ManuallyDrop<Arc<T>>);

impl<T: Send> Shared<T> {
    pub(crate) fn new(map: T) -> Self {
        Shared(ManuallyDrop::new(Arc::new(map)))
    }
}

impl<T: Send> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<T: Send> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Send> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: nothing uses the field afterwards.
        let reference = unsafe { ManuallyDrop::take(&mut self.0) };
        if let Some(map) = Arc::into_inner(reference) {
            let mut map = Some(map);
            // (An interpreter that is ending may not be there any more: then the map is dropped here.)
            let _ = Python::try_attach(|py| py.detach(|| drop(map.take())));
        }
    }
}
