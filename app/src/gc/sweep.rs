//! Removes what was decided to be garbage, pointers before what they point at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use clean_registry_core::gc::{self, Garbage, GarbageLink, GarbageManifest, Known, needed};
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Bytes, Digest, RepoName};
use clean_registry_core::stored::Stored;
use futures_util::StreamExt as _;

use crate::storage::{Depth, Entry, Folders, Storage, StorageError, absolute};

/// Files removed in one go: progress is told and a Ctrl-C heard between two.
const BATCH: usize = 10_000;
/// Links that are looked at side by side.
pub(super) const LOOKS_AT_ONCE: usize = 64;

/// What a sweep came to.
#[derive(Debug, Default)]
pub struct Swept {
    /// Blobs that are gone.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: Bytes,
    /// Manifests, links and other files that are gone.
    pub others: u64,
    /// What could not be removed, each with the reason.
    pub failed: Vec<(String, StorageError)>,
}

/// Removes `garbage` from a storage that no registry writes to. What a manifest lists that could not be removed stays: `stored`
/// and `known` tell what that is.
pub(super) async fn sweep(
    storage: &dyn Storage,
    garbage: &mut Garbage,
    (stored, known): (&Stored, &Known),
    swept: &mut Swept,
) {
    let stay = manifests(storage, garbage, swept).await;
    if !stay.is_empty() {
        garbage.manifests.retain(|manifest| !stay.contains(manifest));
        spare(garbage, stored, known);
    }
    blobs(storage, garbage, Folders::RemoveEmpty, swept).await;
    let gone = garbage.blobs.iter().map(|blob| blob.digest).collect();
    let links = leading_nowhere(storage, &garbage.links, &gone, &mut swept.failed).await;
    others(storage, links, Folders::RemoveEmpty, swept).await;
    leftovers(storage, garbage, Folders::RemoveEmpty, swept).await;
    repositories(storage, garbage, swept).await;
}

/// Takes out of the blobs those that something needs once only the manifests of `garbage` are gone.
fn spare(garbage: &mut Garbage, stored: &Stored, known: &Known) {
    let mut gone = gc::Removed::new();
    for GarbageManifest { repository, digest } in &garbage.manifests {
        gone.entry(repository.clone()).or_default().insert(*digest);
    }
    let needed = needed(stored, known, &gone);
    let is_needed = |digest| stored.blobs.find(digest).is_some_and(|blob| needed.contains(blob));
    garbage.blobs.retain(|blob| !is_needed(blob.digest));
}

/// The keys of the links whose blob is not there. When they were found to lead nowhere, blobs that were uploaded after the blobs
/// had been listed were not known: whether one has come is looked at now that none can come any more.
pub(super) async fn leading_nowhere(
    storage: &dyn Storage,
    links: &[GarbageLink],
    gone: &BTreeSet<Digest>,
    failed: &mut Vec<(String, StorageError)>,
) -> Vec<String> {
    let looked = links.iter().filter_map(|link| Some((absolute(&link_key(link)?), link.digest.parse().ok())));
    let looked = looked.map(async |(key, named)| {
        let leads = leads_somewhere(storage, &key, named, gone).await;
        (key, leads)
    });
    let mut looked = futures_util::stream::iter(looked).buffer_unordered(LOOKS_AT_ONCE);
    let mut keys = Vec::new();
    while let Some((key, leads)) = looked.next().await {
        match leads {
            Ok(false) => keys.push(key),
            Ok(true) => {}
            Err(error) => failed.push((key, error)),
        }
    }
    keys
}

async fn leads_somewhere(
    storage: &dyn Storage,
    key: &str,
    named: Option<Digest>,
    gone: &BTreeSet<Digest>,
) -> Result<bool, StorageError> {
    let said = async || {
        let said = storage.read(key).await?.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok::<_, StorageError>(said.and_then(|text| text.parse::<Digest>().ok()))
    };
    // Under the name of another algorithm, only the link says which blob is meant.
    let target = if named.is_some() { named } else { said().await? };
    match target {
        Some(digest) if !gone.contains(&digest) => {
            Ok(storage.stat(&absolute(&Place::BlobData(digest).key())).await?.is_some())
        }
        _ => Ok(false),
    }
}

/// Blobs, each with its bytes counted if it is gone.
async fn blobs(storage: &dyn Storage, garbage: &Garbage, folders: Folders, swept: &mut Swept) {
    for batch in garbage.blobs.chunks(BATCH) {
        let keys: Vec<String> =
            batch.iter().map(|blob| absolute(&Place::BlobData(blob.digest).key())).collect();
        let failed = storage.remove(keys, folders).await;
        let stay: BTreeSet<&str> = failed.iter().map(|(key, _)| key.as_str()).collect();
        for blob in batch {
            if stay.is_empty() || !stay.contains(absolute(&Place::BlobData(blob.digest).key()).as_str()) {
                swept.blobs += 1;
                swept.bytes = swept.bytes + blob.bytes;
            }
        }
        swept.failed.extend(failed);
    }
}

/// Uploads and what a crash of the registry left: nobody points at them. Where a registry is at work, the folders stay: it may be
/// about to write in them.
pub(super) async fn leftovers(storage: &dyn Storage, garbage: &Garbage, folders: Folders, swept: &mut Swept) {
    let mut keys: Vec<String> = garbage.temporary_files.iter().map(|file| absolute(&file.key)).collect();
    keys.extend(garbage.uploads.iter().flat_map(|upload| &upload.keys).map(|key| absolute(key)));
    let ours: BTreeSet<String> = keys.iter().cloned().collect();
    others(storage, keys, folders, swept).await;
    if garbage.uploads.is_empty() {
        return;
    }
    match storage.multipart_uploads(&absolute("repositories/")).await {
        Ok(uploads) => {
            for upload in uploads.into_iter().filter(|upload| ours.contains(&upload.key)) {
                if let Err(error) = storage.abort(&upload).await {
                    swept.failed.push((upload.key, error));
                }
            }
        }
        Err(error) => swept.failed.push((absolute("repositories/"), error)),
    }
}

async fn others(storage: &dyn Storage, keys: Vec<String>, folders: Folders, swept: &mut Swept) {
    for batch in keys.chunks(BATCH) {
        let failed = storage.remove(batch.to_vec(), folders).await;
        swept.others += (batch.len() - failed.len()) as u64;
        swept.failed.extend(failed);
    }
}

/// The revision links, and what tags remember of them. Returns the manifests that are still there.
async fn manifests(storage: &dyn Storage, garbage: &Garbage, swept: &mut Swept) -> BTreeSet<GarbageManifest> {
    let mut by_repo: BTreeMap<&RepoName, BTreeSet<Digest>> = BTreeMap::new();
    for manifest in &garbage.manifests {
        by_repo.entry(&manifest.repository).or_default().insert(manifest.digest);
    }
    let before = swept.failed.len();
    for (name, digests) in by_repo {
        let mut keys: Vec<String> =
            digests.iter().map(|digest| absolute(&revision(name, *digest).key())).collect();
        match history(storage, name, &digests).await {
            Ok(remembered) => keys.extend(remembered),
            Err(error) => swept.failed.push((name.to_string(), error)),
        }
        others(storage, keys, Folders::RemoveEmpty, swept).await;
    }
    let failed = swept.failed[before..].iter().filter_map(|(key, _)| place(key));
    let stay = failed.filter_map(|place| match place {
        Place::RevisionLink { repo, digest } => Some(GarbageManifest { repository: repo, digest }),
        _ => None,
    });
    stay.collect()
}

pub(super) fn revision(repo: &RepoName, digest: Digest) -> Place {
    Place::RevisionLink { repo: repo.clone(), digest }
}

async fn history(
    storage: &dyn Storage,
    name: &RepoName,
    digests: &BTreeSet<Digest>,
) -> Result<Vec<String>, StorageError> {
    let found = Mutex::new(Vec::new());
    let sink = |entries: Vec<Entry>| {
        let keys = entries.into_iter().map(|entry| entry.key).filter(
            |key| matches!(place(key), Some(Place::TagHistory { digest, .. }) if digests.contains(&digest)),
        );
        found.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
    };
    let tags = absolute(&format!("repositories/{name}/_manifests/tags/"));
    storage.list(&tags, Depth::Everything, &sink).await?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

pub(super) fn place(key: &str) -> Option<Place> {
    Place::parse(key.strip_prefix(PREFIX)?.strip_prefix('/')?)
}

/// What is left of repositories without manifests: links. What the layout does not know stays, and so does its folder.
async fn repositories(storage: &dyn Storage, garbage: &Garbage, swept: &mut Swept) {
    for name in &garbage.repositories {
        let found = Mutex::new(Vec::new());
        let sink = |entries: Vec<Entry>| {
            let keys = entries.into_iter().map(|entry| entry.key).filter(|key| is_of(key, name));
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
        };
        let folder = absolute(&format!("repositories/{name}/"));
        if let Err(error) = storage.list(&folder, Depth::Everything, &sink).await {
            swept.failed.push((folder, error));
            continue;
        }
        let keys = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        others(storage, keys, Folders::RemoveEmpty, swept).await;
        if let Err(error) = storage.remove_empty_folders(&folder).await {
            swept.failed.push((folder, error));
        }
    }
}

/// Whether a file is a link of this very repository, not of one inside it.
fn is_of(key: &str, name: &RepoName) -> bool {
    matches!(
        place(key),
        Some(Place::LayerLink { repo, .. } | Place::LayerAlias { repo, .. } | Place::TagHistory { repo, .. }) if repo == *name
    )
}

/// The key of a layer link below `docker/registry/v2`.
fn link_key(link: &GarbageLink) -> Option<String> {
    let (algorithm, hex) = link.digest.split_once(':')?;
    Some(format!("repositories/{}/_layers/{algorithm}/{hex}/link", link.repository))
}
