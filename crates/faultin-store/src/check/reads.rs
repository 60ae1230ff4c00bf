//! Ranges, etags, read-after-write, and conditions on reads.

use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange};

use super::client::{Client, Failure};
use super::{Check, Need::Reading, Outcome, Verdict, holds, same};

/// Bytes of the object whose ranges are read: more than one block of the disk tier, and no multiple of anything.
const LEN: usize = 70_001;

/// Number of times that an object is overwritten and read: a store that is sometimes late is found out by chance only.
const OVERWRITES: u8 = 10;

fn content(version: u8) -> Bytes {
    (0..LEN).map(|at| (at ^ (at >> 8)) as u8 ^ version).collect()
}

pub async fn probe(check: &mut Check) {
    let path = check.object("read");
    let outcome = written(&check.client, &path).await;
    let is_written = outcome.is_ok();
    check.row(Reading, "a read after a write has the bytes", outcome);
    if !is_written {
        // Without an object there is nothing to find out.
        return;
    }
    let outcome = ends(&check.client, &path).await;
    check.row(Reading, "a range has exactly its bytes, at both ends of the object", outcome);
    let outcome = across(&check.client, &path).await;
    check.row(Reading, "a range across the end has the bytes that there are", outcome);
    let outcome = past(&check.client, &path).await;
    check.row(Reading, "a range past the end is rejected", outcome);
    let outcome = etags(&check.client, &path).await;
    check.row(Reading, "HEAD and GET report the same etag and length", outcome);
    let outcome = overwritten(&check.client, &path).await;
    check.row(Reading, "a read after an overwrite has the new bytes", outcome);
    let outcome = changes(&check.client, &path).await;
    check.row(Reading, "an overwrite changes the etag", outcome);
    let outcome = matching(&check.client, &path).await;
    check.row(Reading, "a read with If-Match of the current etag has the bytes", outcome);
    let outcome = stale(&check.client, &path, false).await;
    check.row(Reading, "a read with If-Match of an old etag is rejected", outcome);
    let outcome = stale(&check.client, &path, true).await;
    check.row(Reading, "HEAD with If-Match of an old etag is rejected", outcome);
    let outcome = removed(&check.client, &path).await;
    check.row(Reading, "a read after a removal finds no object", outcome);
}

async fn written(store: &Client, path: &Path) -> Outcome {
    store.put(path, &content(0)).await?;
    same(&whole(store, path).await?, &content(0))
}

async fn ends(store: &Client, path: &Path) -> Outcome {
    let content = content(0);
    for range in [0..1, 0..4096, LEN - 1..LEN, LEN - 4096..LEN, 1..LEN - 1, 65_535..65_537, 0..LEN] {
        let got = part(store, path, range.clone()).await?;
        same(&got, &content[range.clone()]).map_err(|verdict| at(verdict, &range))?;
    }
    Ok(())
}

async fn across(store: &Client, path: &Path) -> Outcome {
    for start in [LEN - 1, LEN - 100] {
        let range = start..LEN + 100;
        same(&part(store, path, range.clone()).await?, &content(0)[start..]).map_err(|verdict| at(verdict, &range))?;
    }
    Ok(())
}

async fn past(store: &Client, path: &Path) -> Outcome {
    let range = LEN..LEN + 10;
    match store.get(path, GetOptions { range: Some(bytes(&range)), ..Default::default() }).await {
        Ok((_, got)) => holds(false, format!("{} bytes were sent", got.len())),
        Err(Failure::NotFound) => holds(false, "the object is said not to exist"),
        Err(Failure::Range(_)) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

async fn etags(store: &Client, path: &Path) -> Outcome {
    let head = store.head(path).await?;
    let options = GetOptions { range: Some(bytes(&(5..10))), ..Default::default() };
    let (get, _) = store.get(path, options).await?;
    let etag = head.e_tag.ok_or_else(|| Verdict::Broken("there is no etag".into()))?;
    holds(!etag.starts_with("W/"), format!("the etag {etag} is weak"))?;
    holds(get.e_tag.as_ref() == Some(&etag), format!("{etag}, then {:?}", get.e_tag))?;
    holds(head.size == LEN as u64 && get.size == LEN as u64, format!("{}, then {}", head.size, get.size))
}

async fn overwritten(store: &Client, path: &Path) -> Outcome {
    for version in 1..=OVERWRITES {
        store.put(path, &content(version)).await?;
        let late = |verdict| match verdict {
            Verdict::Broken(what) => Verdict::Broken(format!("{what}, after overwrite {version}")),
            other => other,
        };
        same(&whole(store, path).await?, &content(version)).map_err(late)?;
        same(&part(store, path, 7..9).await?, &content(version)[7..9]).map_err(late)?;
    }
    Ok(())
}

/// Within one second, and to the same length.
async fn changes(store: &Client, path: &Path) -> Outcome {
    let mut last = current(store, path).await?;
    for version in 100..105 {
        store.put(path, &content(version)).await?;
        let next = current(store, path).await?;
        holds(next != last, format!("it stays {next}"))?;
        last = next;
    }
    Ok(())
}

async fn matching(store: &Client, path: &Path) -> Outcome {
    let if_match = Some(current(store, path).await?);
    let options = GetOptions { if_match, range: Some(bytes(&(10..20))), ..Default::default() };
    match store.get(path, options).await {
        Ok((_, got)) => same(&got, &content(104)[10..20]),
        Err(Failure::Condition | Failure::NotModified) => holds(false, "it is rejected"),
        Err(failure) => Err(failure.into()),
    }
}

async fn stale(store: &Client, path: &Path, head: bool) -> Outcome {
    let old = current(store, path).await?;
    store.put(path, &content(200 + u8::from(head))).await?;
    let range = (!head).then(|| bytes(&(10..20)));
    match store.get(path, GetOptions { if_match: Some(old), range, head, ..Default::default() }).await {
        Ok(_) => holds(false, "the condition is ignored"),
        Err(Failure::Condition) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

async fn removed(store: &Client, path: &Path) -> Outcome {
    store.delete(path).await?;
    match store.get(path, GetOptions::default()).await {
        Ok(_) => holds(false, "the object is there"),
        Err(Failure::NotFound) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

async fn whole(store: &Client, path: &Path) -> Result<Bytes, Verdict> {
    Ok(store.get(path, GetOptions::default()).await?.1)
}

async fn part(store: &Client, path: &Path, range: Range<usize>) -> Result<Bytes, Verdict> {
    let options = GetOptions { range: Some(bytes(&range)), ..Default::default() };
    match store.get(path, options).await {
        Ok((_, bytes)) => Ok(bytes),
        Err(failure) => Err(at(not_the_range(failure), &range)),
    }
}

/// Returns the verdict for a range that could not be read. The client compares the answer's range with the requested one, and
/// has no other name for a difference than its message.
fn not_the_range(failure: Failure) -> Verdict {
    let text = failure.to_string();
    let differs = text.contains("non-partial") || text.contains("Content-Range") || text.starts_with("Requested ");
    if differs { Verdict::Broken(text) } else { failure.into() }
}

async fn current(store: &Client, path: &Path) -> Result<String, Verdict> {
    let meta = store.head(path).await?;
    meta.e_tag.ok_or_else(|| Verdict::Broken("there is no etag".into()))
}

fn bytes(range: &Range<usize>) -> GetRange {
    GetRange::Bounded(range.start as u64..range.end as u64)
}

/// Adds the range to a verdict.
fn at(verdict: Verdict, range: &Range<usize>) -> Verdict {
    let named = |what: String| format!("{what}, for bytes {} to {} of {LEN}", range.start, range.end);
    match verdict {
        Verdict::Broken(what) => Verdict::Broken(named(what)),
        Verdict::Unknown(what) => Verdict::Unknown(named(what)),
        other => other,
    }
}
