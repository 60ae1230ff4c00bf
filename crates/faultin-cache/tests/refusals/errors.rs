//! An `io::Error` keeps everything of the cache's error.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use faultin_cache::lock::Deadlock;
use faultin_cache::pager::AttachError;
use faultin_cache::store::MemoryStore;
use faultin_cache::{Cache, Error, Partial, errno};

#[test]
fn a_question_mark_keeps_the_count_and_the_cause() {
    let write = || -> io::Result<usize> {
        let file = Cache::new().open(MemoryStore::with_capacity([], 5))?;
        file.write_at(&[7; 5], 0)?;
        file.sync_all()?;
        Ok(file.write_at(&[7; 5], u64::MAX - 2)?)
    };
    let error = write().expect_err("no file has such a position");
    let partial = error.get_ref().and_then(|inner| inner.downcast_ref::<Partial>()).expect("the whole error");
    assert!(partial.done == 0 && matches!(partial.error, Error::TooLarge { .. }), "{partial:?}");
    assert_eq!((error.kind(), errno(&error)), (ErrorKind::InvalidInput, Some(libc::EINVAL)));
    assert!(error.source().is_some_and(|source| source.is::<Error>()));
    assert_eq!(error.to_string(), partial.to_string());
}

#[test]
fn an_error_of_a_store_keeps_its_number_however_deep_it_is() {
    let full = || io::Error::from_raw_os_error(libc::ENOSPC);
    let inner: io::Error = Partial { done: 3, error: Error::Store(Arc::new(full())) }.into();
    assert_eq!((inner.kind(), errno(&inner), inner.raw_os_error()), (ErrorKind::StorageFull, Some(libc::ENOSPC), None));
    // A cache over a store that is itself a cache.
    let outer: io::Error = Error::Store(Arc::new(inner)).into();
    assert_eq!((outer.kind(), errno(&outer)), (ErrorKind::StorageFull, Some(libc::ENOSPC)));
    let outer = outer.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).expect("the whole error");
    assert_eq!(outer.errno(), Some(libc::ENOSPC));
    let fault = faultin::Fault::rejected(faultin::Access::Read, faultin::Cause::Unmapped, 0x1000);
    let error: io::Error = Error::Fault(fault).into();
    assert_eq!(errno(&error), Some(libc::EFAULT));
    assert!(error.source().is_some_and(|source| source.is::<faultin::Fault>()));
}

#[test]
fn the_rest_keeps_what_it_says() {
    let error: io::Error = Deadlock { cycle: Vec::new() }.into();
    assert_eq!(error.kind(), ErrorKind::Deadlock);
    assert!(error.get_ref().is_some_and(|inner| inner.is::<Deadlock>()));
    let error: io::Error = AttachError::Start { start: 1, page: 4096 }.into();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.get_ref().is_some_and(|inner| inner.is::<AttachError>()));
}
