//! Conditions on writes, by clients that race: exactly one wins each round, and the object is its.

use futures_util::future::join_all;
use object_store::UpdateVersion;
use object_store::path::Path;

use super::client::{Client, Failure};
use super::writes::{create, has, update};
use super::{Check, Need::Fencing, Outcome, Verdict, holds};

/// Number of clients; the promises name it.
const CLIENTS: usize = 8;

/// Number of rounds of each race.
const ROUNDS: usize = 20;

pub async fn probe(check: &mut Check) {
    let paths: Vec<Path> = (0..ROUNDS).map(|round| check.object(&format!("race-{round}"))).collect();
    let outcome = creations(&check.client, &paths).await;
    check.row(Fencing, "of eight clients that create an object, exactly one wins", outcome);
    let path = check.object("race");
    let outcome = replacements(&check.client, &path).await;
    check.row(Fencing, "of eight clients that replace an object, exactly one wins", outcome);
}

async fn creations(store: &Client, paths: &[Path]) -> Outcome {
    for (round, path) in paths.iter().enumerate() {
        let clients = contents().map(|content| async move {
            let result = create(store, path, content.as_bytes()).await;
            (content, result)
        });
        judge(store, path, round, join_all(clients).await).await?;
    }
    Ok(())
}

async fn replacements(store: &Client, path: &Path) -> Outcome {
    for round in 0..ROUNDS {
        let before = store.put(path, b"nobody").await?;
        let clients = contents().map(|content| {
            let before = UpdateVersion { e_tag: before.e_tag.clone(), version: before.version.clone() };
            async move {
                let result = update(store, path, content.as_bytes(), before).await;
                (content, result)
            }
        });
        judge(store, path, round, join_all(clients).await).await?;
    }
    Ok(())
}

/// What each client writes.
fn contents() -> impl Iterator<Item = String> {
    (1..=CLIENTS).map(|client| format!("client {client}"))
}

async fn judge(
    store: &Client,
    path: &Path,
    round: usize,
    results: Vec<(String, Result<UpdateVersion, Failure>)>,
) -> Outcome {
    let round = round + 1;
    let (mut won, mut reason) = (Vec::new(), None);
    for (content, result) in results {
        match result {
            Ok(_) => won.push(content),
            Err(Failure::Exists | Failure::Condition | Failure::NotModified) => {}
            // It may have won all the same.
            Err(failure) => {
                reason.get_or_insert(match failure.into() {
                    Verdict::Unknown(why) => Verdict::Unknown(format!("{why}, in round {round}")),
                    verdict => verdict,
                });
            }
        }
    }
    holds(won.len() < 2, format!("{} won round {round}", won.len()))?;
    match (won.first(), reason) {
        (_, Some(reason)) => Err(reason),
        (Some(winner), None) => has(store, path, winner.as_bytes()).await,
        (None, None) => holds(false, format!("none won round {round}")),
    }
}
