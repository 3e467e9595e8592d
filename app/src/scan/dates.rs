//! Asks for the sizes and times that a listing by names left open, of what a decision turns on.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use clean_registry_core::gc::{Garbage, Settings};
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, RepoName};
use clean_registry_core::stored::{BlobId, BlobSet, Blobs, Spares, Stamp, StorageGap, Stored, StoredRepo};

use super::links::said;
use super::{LINK, READ_AT_ONCE, ScanError};
use crate::storage::{Entry, Storage, StorageError, absolute};

/// What the storage tells of some keys.
type Told = HashMap<String, Option<Entry>>;

/// Asks for the times of what `candidates` would remove, and of every link that may lead to it. What turns out not to be there
/// is forgotten.
///
/// # Errors
/// When the storage does not tell.
pub async fn date(
    storage: &dyn Storage,
    stored: &mut Stored,
    candidates: &Garbage,
    settings: &Settings,
) -> Result<(), ScanError> {
    let mut wanted = Wanted {
        blobs: stored.blobs.set(),
        repos: candidates.repositories.iter().cloned().collect(),
        wishes_dangling: settings.dangling_links.is_some(),
    };
    let ids = candidates.blobs.iter().filter_map(|blob| stored.blobs.find(blob.digest));
    let ids: Vec<BlobId> = ids.collect();
    for some in ids.chunks(READ_AT_ONCE) {
        date_blobs(storage, &mut stored.blobs, some).await?;
    }
    for blob in ids {
        wanted.blobs.insert(blob);
    }
    let names: Vec<RepoName> = stored.repos.keys().cloned().collect();
    let (mut batch, mut keys) = (Vec::new(), Vec::new());
    for name in names {
        keys.extend(wanted.keys(&stored.blobs, &name, &stored.repos[&name]));
        batch.push(name);
        if keys.len() >= READ_AT_ONCE {
            date_links(storage, stored, &wanted, (std::mem::take(&mut batch), std::mem::take(&mut keys)))
                .await?;
        }
    }
    date_links(storage, stored, &wanted, (batch, keys)).await
}

/// Asks which tags are there in repositories without manifests: only without tags are they empty.
///
/// # Errors
/// As [`date`].
pub async fn date_tags(
    storage: &dyn Storage,
    stored: &mut Stored,
    settings: &Settings,
) -> Result<(), ScanError> {
    if settings.empty_repositories.is_none() {
        return Ok(());
    }
    for (name, repo) in stored.repos.iter_mut().filter(|(_, repo)| repo.revisions.is_empty()) {
        let key = |tag| absolute(&Place::TagCurrent { repo: name.clone(), tag }.key());
        let unknown = repo.tags.iter().filter(|(_, stored)| stored.stamp == Stamp::UNKNOWN);
        let told = ask(storage, unknown.map(|(tag, _)| key(tag.clone())).collect()).await?;
        repo.tags.retain(|tag, stored| match told.get(&key(tag.clone())) {
            Some(Some(entry)) => {
                stored.stamp = entry.modified;
                true
            }
            Some(None) => false,
            None => true,
        });
    }
    Ok(())
}

async fn ask(storage: &dyn Storage, keys: Vec<String>) -> Result<Told, StorageError> {
    let told = Mutex::new(Ok(Told::with_capacity(keys.len())));
    let on_stat = |key: String, stat: Result<Option<Entry>, StorageError>| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *told, stat) {
            (Ok(all), Ok(entry)) => drop(all.insert(key, entry)),
            (Ok(_), Err(error)) => *told = Err(error),
            (Err(_), _) => {}
        }
    };
    storage.stat_all(keys, &on_stat).await;
    told.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Asks for the sizes and times of blobs of which they are not known.
pub(super) async fn date_blobs(
    storage: &dyn Storage,
    blobs: &mut Blobs,
    ids: &[BlobId],
) -> Result<(), StorageError> {
    let key = |digest: Digest| absolute(&Place::BlobData(digest).key());
    let unknown = ids.iter().map(|id| (*id, blobs.get(*id))).filter(|(_, blob)| blob.known_size().is_none());
    let unknown: Vec<(BlobId, String)> = unknown.map(|(id, blob)| (id, key(blob.digest))).collect();
    let mut told = ask(storage, unknown.iter().map(|(_, key)| key.clone()).collect()).await?;
    for (id, key) in unknown {
        match told.remove(&key) {
            Some(Some(Entry { size: Some(size), modified, .. })) => blobs.learn(id, size, modified),
            Some(None) => blobs.learn_absent(id),
            _ => {}
        }
    }
    Ok(())
}

/// Asks for the times of `keys`, which are links of the repositories of `batch`.
async fn date_links(
    storage: &dyn Storage,
    stored: &mut Stored,
    wanted: &Wanted,
    (batch, keys): (Vec<RepoName>, Vec<String>),
) -> Result<(), ScanError> {
    let told = ask(storage, keys).await?;
    let mut damaged = Vec::new();
    for name in batch {
        if let Some(repo) = stored.repos.get_mut(&name) {
            let key = |digest| link(&name, digest);
            damaged.extend(wanted.fill(&stored.blobs, (&name, repo), &told).into_iter().map(key));
        }
    }
    note_damaged(storage, stored, damaged).await;
    Ok(())
}

/// Links that are not as long as one is: what they say is told, as that of all such links is where sizes are listed.
async fn note_damaged(storage: &dyn Storage, stored: &mut Stored, keys: Vec<String>) {
    let gaps = Mutex::new(Vec::new());
    let on_read = |key: String, bytes: Result<Option<Vec<u8>>, StorageError>| {
        let path = key.strip_prefix(&absolute("")).unwrap_or(&key).to_owned();
        if let Err(why) = said(bytes) {
            let repository = Place::split(&path).and_then(|(name, _)| name.parse().ok());
            let gap = StorageGap { path, repository, spares: Spares::Nothing, why };
            gaps.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
        }
    };
    storage.read_all(keys, &on_read).await;
    stored.gaps.extend(gaps.into_inner().unwrap_or_else(PoisonError::into_inner));
}

fn link(repo: &RepoName, digest: Digest) -> String {
    absolute(&Place::LayerLink { repo: repo.clone(), digest }.key())
}

/// Which links are asked for.
struct Wanted {
    /// Those that lead to these.
    blobs: BlobSet,
    /// All of these repositories, which go if they are old.
    repos: BTreeSet<RepoName>,
    /// All that lead nowhere.
    wishes_dangling: bool,
}

impl Wanted {
    fn is_layer(&self, name: &RepoName, (blob, stamp): (BlobId, Stamp)) -> bool {
        stamp == Stamp::UNKNOWN && (self.blobs.contains(blob) || self.repos.contains(name))
    }

    fn is_dangling(&self, name: &RepoName, stamp: Stamp) -> bool {
        stamp == Stamp::UNKNOWN && (self.wishes_dangling || self.repos.contains(name))
    }

    fn keys(&self, blobs: &Blobs, name: &RepoName, repo: &StoredRepo) -> Vec<String> {
        let layers = repo.layers.iter().filter(|layer| self.is_layer(name, **layer));
        let layers = layers.map(|(blob, _)| blobs.get(*blob).digest);
        let dangling = repo.dangling.iter().filter(|(_, stamp)| self.is_dangling(name, *stamp));
        layers.chain(dangling.map(|(digest, _)| *digest)).map(|digest| link(name, digest)).collect()
    }

    /// Fills in what was told; returns the links that are too short or too long.
    fn fill(&self, blobs: &Blobs, (name, repo): (&RepoName, &mut StoredRepo), told: &Told) -> Vec<Digest> {
        let mut damaged = Vec::new();
        repo.layers.retain_mut(|(blob, stamp)| {
            if !self.is_layer(name, (*blob, *stamp)) {
                return true;
            }
            let digest = blobs.get(*blob).digest;
            let Some(entry) = told.get(&link(name, digest)) else { return true };
            let Some(entry) = entry else { return false };
            *stamp = entry.modified;
            damaged.extend((entry.size != Some(LINK)).then_some(digest));
            true
        });
        repo.dangling.retain_mut(|(digest, stamp)| {
            if !self.is_dangling(name, *stamp) {
                return true;
            }
            let Some(entry) = told.get(&link(name, *digest)) else { return true };
            let Some(entry) = entry else { return false };
            *stamp = entry.modified;
            damaged.extend((entry.size != Some(LINK)).then_some(*digest));
            entry.size == Some(LINK)
        });
        let leads_nowhere = |(blob, _): &mut (BlobId, Stamp)| blobs.is_absent(*blob);
        let nowhere: Vec<(BlobId, Stamp)> = repo.layers.extract_if(.., leads_nowhere).collect();
        let nowhere = nowhere.into_iter().map(|(blob, stamp)| (blobs.get(blob).digest, stamp));
        repo.dangling.extend(nowhere.filter(|(digest, _)| !damaged.contains(digest)));
        damaged
    }
}
