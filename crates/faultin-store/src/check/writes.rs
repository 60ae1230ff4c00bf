//! Conditions on writes, by one client.

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult, UpdateVersion};

use super::{Check, Need::Fencing, Outcome, Verdict, failed, holds};

pub async fn probe(check: &mut Check) {
    let (created, replaced) = (check.object("created"), check.object("replaced"));
    let store = std::sync::Arc::clone(&check.backend);
    let store = store.as_ref();
    let outcome = creates(store, &created).await;
    check.row(Fencing, "a write with If-None-Match: * creates an object", outcome);
    let outcome = creates_once(store, &created).await;
    check.row(Fencing, "a write with If-None-Match: * is rejected if there is one", outcome);
    let outcome = replaces(store, &replaced).await;
    check.row(Fencing, "a write with If-Match of the current etag replaces it", outcome);
    let outcome = stale(store, &replaced).await;
    check.row(Fencing, "a write with If-Match of an old etag is rejected", outcome);
    let outcome = removed(store, &replaced).await;
    check.row(Fencing, "a write with If-Match is rejected if there is no object", outcome);
}

/// Writes if there is no object.
pub async fn create(store: &dyn ObjectStore, path: &Path, content: &[u8]) -> Result<PutResult, Error> {
    let options = PutOptions { mode: PutMode::Create, ..Default::default() };
    store.put_opts(path, content.to_vec().into(), options).await
}

/// Writes if the object has this version.
pub async fn update(
    store: &dyn ObjectStore,
    path: &Path,
    content: &[u8],
    version: UpdateVersion,
) -> Result<PutResult, Error> {
    let options = PutOptions { mode: PutMode::Update(version), ..Default::default() };
    store.put_opts(path, content.to_vec().into(), options).await
}

/// Writes without a condition, and returns the version.
pub async fn version(store: &dyn ObjectStore, path: &Path, content: &[u8]) -> Result<UpdateVersion, Verdict> {
    let put = store.put(path, content.to_vec().into()).await.map_err(|error| failed(&error))?;
    Ok(UpdateVersion::from(put))
}

/// Checks the contents of an object.
pub async fn has(store: &dyn ObjectStore, path: &Path, content: &[u8]) -> Outcome {
    let got = store.get(path).await.map_err(|error| failed(&error))?;
    let got = got.bytes().await.map_err(|error| failed(&error))?;
    let (got, expected) = (String::from_utf8_lossy(&got), String::from_utf8_lossy(content));
    holds(got == expected, format!("the object is {got:?} instead of {expected:?}"))
}

async fn creates(store: &dyn ObjectStore, path: &Path) -> Outcome {
    match create(store, path, b"first").await {
        Ok(_) => has(store, path, b"first").await,
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => holds(false, "it is rejected"),
        Err(error) => Err(failed(&error)),
    }
}

/// An object that an ordinary write has made, in case that the other could not.
async fn creates_once(store: &dyn ObjectStore, path: &Path) -> Outcome {
    version(store, path, b"first").await?;
    match create(store, path, b"second").await {
        Ok(_) => holds(false, "the condition is ignored"),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => has(store, path, b"first").await,
        Err(error) => Err(failed(&error)),
    }
}

async fn replaces(store: &dyn ObjectStore, path: &Path) -> Outcome {
    let first = version(store, path, b"first").await?;
    match update(store, path, b"second", first).await {
        Ok(_) => has(store, path, b"second").await,
        Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => holds(false, "it is rejected"),
        Err(error) => Err(failed(&error)),
    }
}

async fn stale(store: &dyn ObjectStore, path: &Path) -> Outcome {
    let first = version(store, path, b"first").await?;
    version(store, path, b"second").await?;
    match update(store, path, b"third", first).await {
        Ok(_) => holds(false, "the condition is ignored"),
        Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => has(store, path, b"second").await,
        Err(error) => Err(failed(&error)),
    }
}

async fn removed(store: &dyn ObjectStore, path: &Path) -> Outcome {
    let first = version(store, path, b"first").await?;
    store.delete(path).await.map_err(|error| failed(&error))?;
    match update(store, path, b"second", first).await {
        Ok(_) => holds(false, "the condition is ignored"),
        Err(Error::Precondition { .. } | Error::NotFound { .. } | Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(failed(&error)),
    }
}
