//! What a registry that was stopped in the middle of a push has left of a manifest. Registry 2.8 writes one in place on a disk, and
//! takes what is there for whole when it is pushed again: it answers `201`, and nobody can pull it (FACTS section 1).
//!
//! Only where the registry is closed: a file that is being written looks the same.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use clean_registry_core::gc::{Garbage, GarbageBlob, Known, Removed, needed};
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Bytes, Digest};
use clean_registry_core::stored::Stored;

use super::sweep::place;
use crate::scan::{self, ScanError};
use crate::storage::{Depth, Entry, Storage, StorageError, absolute};

/// Registries take no larger manifest.
const LARGEST: Bytes = Bytes(4 << 20);

/// The blobs that no link leads to, that are not garbage for another reason, and whose bytes are not what their digest says.
/// None on an object store, where a file is written whole or not at all.
///
/// # Errors
/// When the storage cannot be listed. A file that cannot be read is not torn, as far as anybody knows.
pub(super) async fn find(
    storage: &dyn Storage,
    (stored, known): (&Stored, &Known),
    garbage: &Garbage,
) -> Result<Vec<GarbageBlob>, ScanError> {
    if storage.directory().is_none() {
        return Ok(Vec::new());
    }
    let small = small(storage, unlinked(storage, stored, known, garbage).await?).await;
    let torn = Mutex::new(BTreeSet::new());
    let on_digest = |key: String, digest: Result<Option<Digest>, StorageError>| {
        if let (Some(named), Ok(Some(found))) = (named(&key), digest)
            && named != found
        {
            torn.lock().unwrap_or_else(PoisonError::into_inner).insert(named);
        }
    };
    storage.digest_all(small.iter().map(|blob| key(blob.digest)).collect(), &on_digest).await;
    let torn = torn.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(small.into_iter().filter(|blob| torn.contains(&blob.digest)).collect())
}

/// Listed anew: what was torn by the closing was not there before.
async fn unlinked(
    storage: &dyn Storage,
    stored: &Stored,
    known: &Known,
    garbage: &Garbage,
) -> Result<Vec<Digest>, ScanError> {
    let (listed, _) = scan::blobs(storage, Depth::Names).await?;
    let mut held = needed(stored, known, &Removed::new());
    let mut named: BTreeSet<Digest> = garbage.blobs.iter().map(|blob| blob.digest).collect();
    named.extend(stored.odd.roots.iter().copied());
    for repo in stored.repos.values() {
        for (blob, _) in &repo.layers {
            held.insert(*blob);
        }
        named.extend(repo.revisions.keys().chain(repo.dangling.iter().map(|(digest, _)| digest)).copied());
        named.extend(repo.tagged());
    }
    let is_held = |digest| stored.blobs.find(digest).is_some_and(|blob| held.contains(blob));
    let digests = listed.iter().map(|(_, blob)| blob.digest);
    Ok(digests.filter(|digest| !named.contains(digest) && !is_held(*digest)).collect())
}

/// Those that may be a manifest.
async fn small(storage: &dyn Storage, digests: Vec<Digest>) -> Vec<GarbageBlob> {
    let small = Mutex::new(Vec::new());
    let on_stat = |key: String, entry: Result<Option<Entry>, StorageError>| {
        let size = entry.ok().flatten().and_then(|entry| entry.size);
        if let (Some(digest), Some(bytes)) = (named(&key), size.filter(|size| *size <= LARGEST)) {
            small.lock().unwrap_or_else(PoisonError::into_inner).push(GarbageBlob { digest, bytes });
        }
    };
    storage.stat_all(digests.into_iter().map(key).collect(), &on_stat).await;
    small.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn key(digest: Digest) -> String {
    absolute(&Place::BlobData(digest).key())
}

fn named(key: &str) -> Option<Digest> {
    match place(key) {
        Some(Place::BlobData(digest)) => Some(digest),
        _ => None,
    }
}
