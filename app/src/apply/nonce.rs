//! The proof that a registry stores where it was read: an upload that is begun over HTTP must appear there.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clean_registry_core::layout::{Place, UploadFile};
use clean_registry_core::name::RepoName;

use crate::registry::{OpenUpload, Refusal, Writer};
use crate::storage::{Depth, Entry, Folders, Storage, absolute};
use crate::survey::ProofError;

/// Where an upload is begun if there is no repository.
const NOWHERE: &str = "clean-registry-probe";
/// How often the storage is looked at.
const LOOKS: u32 = 3;
/// How long to wait between two looks.
const BETWEEN: Duration = Duration::from_millis(100);

/// Proves that what `writer` changes is stored in `storage`. The upload is cancelled, and nothing is left of it; in a registry that
/// stores elsewhere, the state of a hash is, as of every upload that is cancelled there.
///
/// `repositories` are tried in turn, until one is found that this user may push to.
///
/// # Errors
/// When it is another registry's storage, or this user may push nowhere.
pub async fn prove_by_upload(
    writer: &Writer,
    storage: &dyn Storage,
    repositories: impl Iterator<Item = &RepoName>,
) -> Result<(), Unproven> {
    let nowhere = NOWHERE.parse::<RepoName>().ok();
    let mut candidates: Vec<&RepoName> = repositories.collect();
    if candidates.is_empty() {
        candidates.extend(&nowhere);
    }
    let mut refused = None;
    for repository in candidates {
        match writer.open_upload(repository).await {
            Ok(None) => return Ok(()),
            Ok(Some(upload)) => return look_for(writer, storage, upload).await,
            Err(refusal @ Refusal::Forbidden { .. }) => refused = refused.or(Some(refusal)),
            Err(refusal) => return Err(refusal.into()),
        }
    }
    refused.map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// Why it is not proven.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// Two registries.
    #[error(transparent)]
    Different(#[from] ProofError),
    /// The registry lets no upload begin.
    #[error("whether the registry stores where it was read cannot be tried: {0}")]
    Refused(#[from] Refusal),
    /// The storage.
    #[error(transparent)]
    Storage(#[from] crate::storage::StorageError),
}

async fn look_for(writer: &Writer, storage: &dyn Storage, upload: OpenUpload) -> Result<(), Unproven> {
    let repo = upload.repository.clone();
    let place = Place::Upload { repo: repo.clone(), id: upload.id.clone(), file: UploadFile::StartedAt };
    let key = absolute(&place.key());
    let mut seen = storage.stat(&key).await;
    for _ in 1..LOOKS {
        if !matches!(seen, Ok(None)) {
            break;
        }
        tokio::time::sleep(BETWEEN).await;
        seen = storage.stat(&key).await;
    }
    // What was begun is ended, whatever was seen.
    let cancelled = writer.cancel_upload(upload).await;
    if seen?.is_none() {
        return Err(different(writer, storage, &repo).into());
    }
    cancelled?;
    tidy(storage, &repo, key.trim_end_matches("startedat")).await
}

/// Removes what both generations leave of an upload that was cancelled: `hashstates/sha256/0`.
async fn tidy(storage: &dyn Storage, repo: &RepoName, folder: &str) -> Result<(), Unproven> {
    let left = Mutex::new(Vec::new());
    let sink = |entries: Vec<Entry>| {
        let keys = entries.into_iter().map(|entry| entry.key);
        left.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
    };
    storage.list(folder, Depth::Everything, &sink).await?;
    let left = left.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, error)) = storage.remove(left, Folders::Keep).await.into_iter().next() {
        return Err(error.into());
    }
    let emptied = if repo.as_str() == NOWHERE { &absolute(&format!("repositories/{repo}/")) } else { folder };
    storage.remove_empty_folders(emptied).await?;
    Ok(())
}

fn different(writer: &Writer, storage: &dyn Storage, repo: &RepoName) -> ProofError {
    ProofError::Different {
        host: writer.reader().host().to_owned(),
        storage: storage.location(),
        what: format!("an upload to {repo} that was begun in the first does not appear in the second"),
    }
}
