//! What lies in a storage, read in the plainest way: the judge of collectors shares no code with what they decide by.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, PoisonError};

use clean_registry::storage::{Depth, Storage, absolute};
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::Digest;
use serde_json::Value;

/// The manifests and tags, by repository.
#[derive(Debug, Default)]
pub struct Links {
    /// Every manifest that exists.
    pub revisions: BTreeSet<(String, Digest)>,
    /// Every tag, and what it points at.
    pub tags: BTreeMap<(String, String), Option<Digest>>,
}

/// What a manifest lists.
#[derive(Debug, Default)]
pub struct Lists {
    /// Its configuration and layers, each with its size.
    pub blobs: Vec<(Digest, u64)>,
    /// Its children.
    pub children: Vec<Digest>,
}

impl Lists {
    /// Reads the bytes of a manifest; `None` if they are none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(bytes).ok()?;
        let all = |field: &str| document[field].as_array().cloned().unwrap_or_default();
        let blobs = document.get("config").cloned().into_iter().chain(all("layers"));
        let digest = |descriptor: &Value| descriptor["digest"].as_str()?.parse::<Digest>().ok();
        let blobs =
            blobs.map(|blob| Some((digest(&blob)?, blob["size"].as_u64()?))).collect::<Option<_>>()?;
        Some(Self { blobs, children: all("manifests").iter().map(digest).collect::<Option<_>>()? })
    }
}

async fn list(storage: &dyn Storage, prefix: &str) -> io::Result<Vec<(Place, u64)>> {
    let found = Mutex::new(Vec::new());
    let sink = |entries: Vec<clean_registry::storage::Entry>| {
        let places = entries.iter().filter_map(|entry| {
            Some((Place::parse(entry.key.strip_prefix(PREFIX)?.strip_prefix('/')?)?, entry.size?.0))
        });
        found.lock().unwrap_or_else(PoisonError::into_inner).extend(places);
    };
    storage.list(&absolute(prefix), Depth::Everything, &sink).await.map_err(io::Error::other)?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The blobs with their sizes.
///
/// # Errors
/// If the storage cannot be listed.
pub async fn blobs(storage: &dyn Storage) -> io::Result<BTreeMap<Digest, u64>> {
    let places = list(storage, "blobs/").await?;
    let blob = |(place, size)| if let Place::BlobData(digest) = place { Some((digest, size)) } else { None };
    Ok(places.into_iter().filter_map(blob).collect())
}

/// The manifests and tags.
///
/// # Errors
/// If the storage cannot be listed or read.
pub async fn links(storage: &dyn Storage) -> io::Result<Links> {
    let mut links = Links::default();
    for (place, _) in list(storage, "repositories/").await? {
        match &place {
            Place::RevisionLink { repo, digest } => {
                links.revisions.insert((repo.to_string(), *digest));
            }
            Place::TagCurrent { repo, tag } => {
                let says = storage.read(&absolute(&place.key())).await.map_err(io::Error::other)?;
                let target = says.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
                links.tags.insert((repo.to_string(), tag.to_string()), target);
            }
            _ => {}
        }
    }
    Ok(links)
}

/// What a stored manifest lists; `None` if it is not stored, or is none.
///
/// # Errors
/// If the storage cannot be read.
pub async fn lists(storage: &dyn Storage, manifest: Digest) -> io::Result<Option<Lists>> {
    let bytes = storage.read(&absolute(&Place::BlobData(manifest).key())).await.map_err(io::Error::other)?;
    Ok(bytes.and_then(|bytes| Lists::read(&bytes)))
}

/// Everything that is reached from these manifests, themselves included.
///
/// # Errors
/// If the storage cannot be read.
pub async fn needed(
    storage: &dyn Storage,
    manifests: impl IntoIterator<Item = Digest>,
) -> io::Result<BTreeSet<Digest>> {
    let (mut needed, mut queue) = (BTreeSet::new(), manifests.into_iter().collect::<Vec<_>>());
    while let Some(manifest) = queue.pop() {
        if needed.insert(manifest) {
            let lists = lists(storage, manifest).await?.unwrap_or_default();
            needed.extend(lists.blobs.into_iter().map(|(digest, _)| digest));
            queue.extend(lists.children);
        }
    }
    Ok(needed)
}
