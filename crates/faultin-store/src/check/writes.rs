//! Conditions on writes, by one client.

use object_store::path::Path;
use object_store::{GetOptions, PutMode, UpdateVersion};

use super::client::{Client, Failure};
use super::{Check, Need::Fencing, Outcome, holds};

pub async fn probe(check: &mut Check) {
    let (created, replaced) = (check.object("created"), check.object("replaced"));
    let outcome = creates(&check.client, &created).await;
    check.row(Fencing, "a write with If-None-Match: * creates an object", outcome);
    let outcome = creates_once(&check.client, &created).await;
    check.row(Fencing, "a write with If-None-Match: * is rejected if there is one", outcome);
    let outcome = replaces(&check.client, &replaced).await;
    check.row(Fencing, "a write with If-Match of the current etag replaces it", outcome);
    let outcome = stale(&check.client, &replaced).await;
    check.row(Fencing, "a write with If-Match of an old etag is rejected", outcome);
    let outcome = removed(&check.client, &replaced).await;
    check.row(Fencing, "a write with If-Match is rejected if there is no object", outcome);
}

/// Writes if there is no object.
pub async fn create(store: &Client, path: &Path, content: &[u8]) -> Result<UpdateVersion, Failure> {
    store.put_if(path, content, PutMode::Create).await
}

/// Writes if the object has this version.
pub async fn update(
    store: &Client,
    path: &Path,
    content: &[u8],
    version: UpdateVersion,
) -> Result<UpdateVersion, Failure> {
    store.put_if(path, content, PutMode::Update(version)).await
}

/// Checks the contents of an object.
pub async fn has(store: &Client, path: &Path, content: &[u8]) -> Outcome {
    let (_, got) = store.get(path, GetOptions::default()).await?;
    let (got, expected) = (String::from_utf8_lossy(&got), String::from_utf8_lossy(content));
    holds(got == expected, format!("the object is {got:?} instead of {expected:?}"))
}

async fn creates(store: &Client, path: &Path) -> Outcome {
    match create(store, path, b"first").await {
        Ok(_) => has(store, path, b"first").await,
        Err(Failure::Exists | Failure::Condition) => holds(false, "it is rejected"),
        Err(failure) => Err(failure.into()),
    }
}

/// An object that an ordinary write has made, in case that the other could not.
async fn creates_once(store: &Client, path: &Path) -> Outcome {
    store.put(path, b"first").await?;
    match create(store, path, b"second").await {
        Ok(_) => holds(false, "the condition is ignored"),
        Err(Failure::Exists | Failure::Condition) => has(store, path, b"first").await,
        Err(failure) => Err(failure.into()),
    }
}

async fn replaces(store: &Client, path: &Path) -> Outcome {
    let first = store.put(path, b"first").await?;
    match update(store, path, b"second", first).await {
        Ok(_) => has(store, path, b"second").await,
        Err(Failure::Condition | Failure::Exists) => holds(false, "it is rejected"),
        Err(failure) => Err(failure.into()),
    }
}

async fn stale(store: &Client, path: &Path) -> Outcome {
    let first = store.put(path, b"first").await?;
    store.put(path, b"second").await?;
    match update(store, path, b"third", first).await {
        Ok(_) => holds(false, "the condition is ignored"),
        Err(Failure::Condition | Failure::Exists) => has(store, path, b"second").await,
        Err(failure) => Err(failure.into()),
    }
}

async fn removed(store: &Client, path: &Path) -> Outcome {
    let first = store.put(path, b"first").await?;
    store.delete(path).await?;
    match update(store, path, b"second", first).await {
        Ok(_) => holds(false, "the condition is ignored"),
        Err(Failure::Condition | Failure::NotFound | Failure::Exists) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}
