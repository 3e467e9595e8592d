//! What is left whole at the end.

use std::collections::BTreeMap;
use std::io;
use std::sync::PoisonError;

use clean_registry::storage::Storage;
use clean_registry_core::name::Digest;

use tokio::task::{JoinError, JoinSet};

use super::client::Client;
use super::people::Ledger;
use super::snapshot::{self, Links, Lists};

/// How many manifests are fetched at a time.
const AT_A_TIME: usize = 8;

/// What was found.
#[derive(Debug, Default)]
pub struct Judged {
    /// Manifests that exist at the end, by repository.
    pub revisions: usize,
    /// Those that are not whole, each with what is missing of it.
    pub broken: Vec<String>,
    /// Tags of what nobody deletes that are gone or lead nowhere.
    pub lost: Vec<String>,
    /// Tags that lead nowhere, of what people delete: pushing a tag and deleting a digest are not serialised by any registry
    /// (FACTS section 4.4).
    pub dangling: usize,
    /// Blobs that nothing needs.
    pub garbage: usize,
}

/// Looks at everything, in the storage and through the registry, which nobody else uses by now.
///
/// # Errors
/// If the storage cannot be read.
pub async fn judge(storage: &dyn Storage, client: &Client, ledger: &Ledger) -> io::Result<Judged> {
    let links = snapshot::links(storage).await?;
    let blobs = snapshot::blobs(storage).await?;
    let mut judged = Judged { revisions: links.revisions.len(), ..Judged::default() };
    let mut pulls = JoinSet::new();
    for (repo, digest) in links.revisions.iter().cloned() {
        if let Err(why) = is_stored(storage, &blobs, digest).await? {
            judged.broken.push(format!("{repo}@{digest}: {why}"));
            continue;
        }
        let client = client.clone();
        pulls.spawn(async move {
            let whole = pull(&client, &repo, &digest.to_string()).await;
            whole.map_err(|why| format!("{repo}@{digest}: {why}"))
        });
        if pulls.len() > AT_A_TIME {
            judged.broken.extend(pulls.join_next().await.and_then(outcome));
        }
    }
    judged.broken.extend(pulls.join_all().await.into_iter().filter_map(Result::err));
    judge_tags(&mut judged, &links, client, ledger).await;
    let needed = snapshot::needed(storage, links.revisions.into_iter().map(|(_, digest)| digest)).await?;
    judged.garbage = blobs.keys().filter(|digest| !needed.contains(digest)).count();
    Ok(judged)
}

/// Why a pull is not whole.
fn outcome(pull: Result<Result<(), String>, JoinError>) -> Option<String> {
    pull.map_err(|error| error.to_string()).flatten().err()
}

/// Whether every blob of a manifest lies in the storage, at any depth.
async fn is_stored(
    storage: &dyn Storage,
    blobs: &BTreeMap<Digest, u64>,
    manifest: Digest,
) -> io::Result<Result<(), String>> {
    let mut queue = vec![manifest];
    while let Some(manifest) = queue.pop() {
        let Some(lists) = snapshot::lists(storage, manifest).await? else {
            return Ok(Err(format!("manifest {manifest} is not stored")));
        };
        if let Some((blob, _)) = lists.blobs.iter().find(|(blob, size)| blobs.get(blob) != Some(size)) {
            return Ok(Err(format!("blob {blob} is not stored")));
        }
        queue.extend(lists.children);
    }
    Ok(Ok(()))
}

/// Fetches a manifest and everything it needs, as a client does.
async fn pull(client: &Client, repo: &str, reference: &str) -> Result<(), String> {
    let failed = |what: &str, why: &dyn std::fmt::Display| format!("{what} is not served: {why}");
    let bytes = client.manifest(repo, reference).await.map_err(|error| failed(reference, &error))?;
    if reference.parse().is_ok_and(|digest: Digest| digest != Digest::of(&bytes)) {
        return Err(format!("{reference} is served with other bytes"));
    }
    let lists = Lists::read(&bytes).ok_or_else(|| format!("{reference} is no manifest"))?;
    for child in lists.children {
        Box::pin(pull(client, repo, &child.to_string())).await?;
    }
    for (blob, _) in lists.blobs {
        let bytes = client.blob(repo, blob).await.map_err(|error| failed(&blob.to_string(), &error))?;
        if Digest::of(&bytes) != blob {
            return Err(format!("{blob} is served with other bytes"));
        }
    }
    Ok(())
}

/// A tag of what is kept must lead to what is whole; of the others it is only told.
async fn judge_tags(judged: &mut Judged, links: &Links, client: &Client, ledger: &Ledger) {
    let kept = ledger.kept_tags.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (repo, tag) in &kept {
        if let Err(why) = pull(client, repo, tag).await {
            judged.lost.push(format!("{repo}:{tag}: {why}"));
        }
    }
    let leads = |repo: &str, target: Option<Digest>| {
        target.is_some_and(|digest| links.revisions.contains(&(repo.to_owned(), digest)))
    };
    let others = links.tags.iter().filter(|(tag, _)| !kept.contains(tag));
    judged.dangling = others.filter(|((repo, _), target)| !leads(repo, **target)).count();
}
