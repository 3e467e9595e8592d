//! The collector of the in-process registry: marks and sweeps a local storage that nobody writes to meanwhile.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use clean_registry_core::gc::{Blocked, Garbage, Marking, Stored};
use clean_registry_core::layout::{Place, may_be_a_root};
use clean_registry_core::name::{Bytes, Digest};
use thiserror::Error;

use super::store::Store;

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// The blobs that are gone, with their sizes.
    pub removed: BTreeMap<Digest, Bytes>,
    /// All bytes in the storage before, as measured.
    pub before: Bytes,
    /// All bytes in the storage after, as measured.
    pub after: Bytes,
}

impl Swept {
    /// The bytes the storage has shrunk by.
    #[must_use]
    pub fn freed(&self) -> Bytes {
        Bytes(self.before.0.saturating_sub(self.after.0))
    }
}

/// Why nothing was swept, or not all of it.
#[derive(Debug, Error)]
pub enum SweepError {
    /// The storage cannot be read or written.
    #[error("storage: {0}")]
    Storage(#[from] io::Error),
    /// What a manifest needs is not known.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// A manifest may exist under a name we do not understand.
    #[error("{0} may make a manifest exist and is not understood")]
    StrangeLink(String),
}

/// Removes every blob nobody needs. The registry must be stopped or closed to writes (FACTS section 4.4, *offline*).
///
/// # Errors
/// [`SweepError`]; unless it is about the storage, nothing was removed.
pub fn sweep(store: &Store) -> Result<Swept, SweepError> {
    let before = measure(store)?;
    let garbage = mark(store)?;
    for digest in garbage.blobs.keys() {
        store.remove_folder(&Place::BlobData(*digest))?;
    }
    Ok(Swept { removed: garbage.blobs, before, after: measure(store)? })
}

/// What a sweep would remove; changes nothing.
///
/// # Errors
/// As [`sweep`].
pub fn mark(store: &Store) -> Result<Garbage, SweepError> {
    let mut marking = Marking::new(scan(store)?);
    loop {
        let unread = marking.unread();
        if unread.is_empty() {
            return Ok(marking.sweep()?);
        }
        for digest in unread {
            if let Some(bytes) = store.read(&Place::BlobData(digest))? {
                marking.read(digest, &bytes);
            }
        }
    }
}

fn measure(store: &Store) -> io::Result<Bytes> {
    Ok(store.files()?.into_iter().map(|(_, size)| Bytes(size)).sum())
}

fn scan(store: &Store) -> Result<Stored, SweepError> {
    let mut stored = Stored::default();
    for (key, size) in store.files()? {
        match Place::parse(&key) {
            Some(place) => note(store, &mut stored, place, Bytes(size))?,
            None if may_be_a_root(&key) => return Err(SweepError::StrangeLink(key)),
            None => {}
        }
    }
    Ok(stored)
}

fn note(store: &Store, stored: &mut Stored, place: Place, size: Bytes) -> io::Result<()> {
    match &place {
        Place::BlobData(digest) => {
            stored.blobs.insert(*digest, size);
        }
        Place::RevisionLink { digest, .. } => {
            stored.roots.insert(*digest);
            stored.roots.extend(target(store, &place)?);
        }
        Place::Signature { signature, .. } => {
            stored.spared.insert(*signature);
        }
        Place::LayerLink { digest, .. } => {
            let other = target(store, &place)?.filter(|target| target != digest);
            if let Some(other) = other {
                stored.aliases.entry(digest.to_string()).or_default().insert(other);
            }
        }
        Place::LayerAlias { alias, .. } => {
            stored.aliases.entry(alias.to_string()).or_default().extend(target(store, &place)?);
        }
        Place::TagCurrent { .. } | Place::TagHistory { .. } | Place::Upload { .. } => {}
    }
    Ok(())
}

/// What a link says. One that a crash left empty says nothing: its path counts all the same (FACTS section 3, S6).
fn target(store: &Store, link: &Place) -> io::Result<Option<Digest>> {
    match store.link(link) {
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(None),
        result => result,
    }
}
