//! The collector of the in-process registry: marks and sweeps a local storage that nobody writes to meanwhile.

use std::collections::BTreeMap;

use clean_registry_core::gc::{Decided, GarbageBlob, Known, Removed, Settings, decide};
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Bytes, Digest};
use clean_registry_core::stored::{Age, Stamp};
use jiff::Timestamp;

use super::store::Store;
use crate::scan::{self, ScanError, Tags};
use crate::storage::{Depth, Folders, Local, Storage as _, absolute};

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// The blobs that are gone, with their sizes.
    pub removed: BTreeMap<Digest, Bytes>,
}

/// Removes every blob nobody needs. The registry must be stopped or closed to writes (FACTS section 4.4, *offline*).
///
/// # Errors
/// When the storage cannot be read: nothing was removed then.
pub async fn sweep(store: &Store) -> Result<Swept, ScanError> {
    let storage = Local::open(store.root())?;
    let decided = mark(&storage).await?;
    let keys = decided.garbage.blobs.iter().map(|blob| absolute(&Place::BlobData(blob.digest).key()));
    if let Some((_, error)) = storage.remove(keys.collect(), Folders::RemoveEmpty).await.into_iter().next() {
        return Err(error.into());
    }
    let removed = decided.garbage.blobs.iter().map(|GarbageBlob { digest, bytes }| (*digest, *bytes));
    Ok(Swept { removed: removed.collect() })
}

/// What a sweep would remove; changes nothing.
///
/// # Errors
/// As [`sweep`].
pub async fn mark(storage: &Local) -> Result<Decided, ScanError> {
    let (blobs, _) = scan::blobs(storage, Depth::Layout).await?;
    let stored = scan::repositories(storage, blobs, Tags::List, Depth::Layout).await?;
    let mut known = Known::default();
    scan::learn(storage, &stored, &mut known, None).await;
    // Nobody pushes meanwhile: nothing is too young.
    let settings = Settings::blobs_only(Stamp::of(Timestamp::now()), Age(0));
    Ok(decide(&stored, &known, &Removed::new(), &settings))
}
