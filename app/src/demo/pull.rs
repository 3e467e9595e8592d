//! The proof that an image still pulls: everything it needs is fetched and its digest checked.

use std::collections::BTreeSet;

use clean_registry_core::manifest::Manifest;
use clean_registry_core::name::{Digest, RepoName};

use crate::registry::{Error, Reader, Reference};

/// No blob of the demo is larger.
const BLOB_LIMIT: u64 = 1 << 30;

/// Pulls `reference` whole: its manifest, what it lists at any depth, every blob. Returns how many things were fetched.
///
/// # Errors
/// What is missing or not what its digest says.
pub async fn pull_whole(
    reader: &Reader,
    repository: &RepoName,
    reference: Reference,
) -> Result<usize, String> {
    let mut queue = vec![reference];
    let mut fetched: BTreeSet<Digest> = BTreeSet::new();
    while let Some(reference) = queue.pop() {
        let wrong = |error: &dyn std::fmt::Display| format!("{repository} {reference}: {error}");
        let missing = || wrong(&"is not there");
        let found = reader.manifest(repository, &reference).await.map_err(|error| wrong(&error))?;
        let raw = found.ok_or_else(missing)?;
        if !fetched.insert(raw.digest) {
            continue;
        }
        let manifest =
            Manifest::parse(&raw.bytes, Some(raw.media_type.as_str())).map_err(|error| wrong(&error))?;
        queue.extend(manifest.children().iter().map(|child| Reference::Digest(child.digest)));
        for blob in manifest.blobs() {
            if fetched.insert(blob.digest) {
                let pulled: Result<_, Error> = reader.blob(repository, &blob.digest, BLOB_LIMIT).await;
                pulled
                    .map_err(|error| wrong(&error))?
                    .ok_or_else(|| format!("{repository}: {} is not there", blob.digest))?;
            }
        }
    }
    Ok(fetched.len())
}
