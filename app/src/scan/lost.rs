//! Whether what tags point at can matter where nobody asks which manifests are tagged.
//!
//! What a tag points at is needed even where the link that makes the manifest exist is lost, and so is all that it lists. Such a
//! manifest is among the blobs that nothing is known to need. Where none of those may be one, no tag has to be read.

use std::sync::atomic::{AtomicBool, Ordering};

use clean_registry_core::gc::{Known, LARGEST_MANIFEST, Removed, needed};
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Bytes, Digest};
use clean_registry_core::stored::{BlobId, Stored};

use super::{ScanError, dates, learn, links};
use crate::state::ReferencesFile;
use crate::storage::{Storage, StorageError, absolute};

/// Bytes of blobs that are looked at for each tag that need not be read then: a file is opened for either.
const BYTES_PER_TAG: u64 = 16 << 10;

/// Reads the tags that were only listed, and the manifests that they lead to, unless none of them can matter.
///
/// # Errors
/// When the storage does not tell how large the blobs are that nothing needs.
pub async fn read_tags_that_matter(
    storage: &dyn Storage,
    stored: &mut Stored,
    known: &mut Known,
    memory: Option<&ReferencesFile>,
) -> Result<(), ScanError> {
    if may_one_be_lost(storage, stored, known).await? {
        links::read_tags(storage, stored).await;
        learn(storage, stored, known, memory).await;
    }
    Ok(())
}

/// Whether a manifest may be among what nothing needs, be it young or spared: what it lists may be neither. Where it takes less to
/// read the tags than to find out, it may.
async fn may_one_be_lost(
    storage: &dyn Storage,
    stored: &mut Stored,
    known: &Known,
) -> Result<bool, ScanError> {
    let needed = needed(stored, known, &Removed::new());
    let unneeded: Vec<BlobId> = stored.blobs.ids().filter(|blob| !needed.contains(*blob)).collect();
    let tags: usize = stored.repos.values().map(|repo| repo.tags.len()).sum();
    if unneeded.len() > tags {
        return Ok(true);
    }
    dates::date_blobs(storage, &mut stored.blobs, &unneeded).await?;
    let blobs = unneeded.iter().filter(|blob| !stored.blobs.is_absent(**blob));
    // One whose size is not told is read.
    let sized = blobs
        .map(|blob| stored.blobs.get(*blob))
        .map(|blob| (blob.digest, blob.known_size().unwrap_or_default()));
    let small: Vec<(Digest, Bytes)> = sized.filter(|(_, size)| *size <= LARGEST_MANIFEST).collect();
    if small.iter().map(|(_, size)| size.0).sum::<u64>() > BYTES_PER_TAG * tags as u64 {
        return Ok(true);
    }
    let digests: Vec<Digest> = small.into_iter().map(|(digest, _)| digest).collect();
    Ok(is_any_a_manifest(storage, &digests).await)
}

async fn is_any_a_manifest(storage: &dyn Storage, digests: &[Digest]) -> bool {
    let is_any = AtomicBool::new(false);
    let on_read = |key: String, bytes: Result<Option<Vec<u8>>, StorageError>| {
        if may_be_a_manifest(&key, bytes) {
            is_any.store(true, Ordering::Relaxed);
        }
    };
    let keys = digests.iter().map(|digest| absolute(&Place::BlobData(*digest).key()));
    storage.read_all(keys.collect(), &on_read).await;
    is_any.into_inner()
}

/// All manifests are objects of JSON; what is damaged may have been one.
fn may_be_a_manifest(key: &str, bytes: Result<Option<Vec<u8>>, StorageError>) -> bool {
    let Ok(bytes) = bytes else { return true };
    bytes.is_some_and(|bytes| {
        let is_whole = Place::parse(&key[PREFIX.len() + 1..]) == Some(Place::BlobData(Digest::of(&bytes)));
        !is_whole || bytes.trim_ascii_start().starts_with(b"{")
    })
}
