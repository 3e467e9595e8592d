//! Hiding where removals are for good: the bytes are copied to `<quarantine>/<run>/<key>`, the copy is looked at, and only then
//! the file is removed.

use std::collections::BTreeMap;

use opendal::{ErrorKind, Metadata};

use super::failure::failed;
use super::s3::again;
use super::{Object, side_by_side};
use crate::storage::{Entry, Folders, Hidden, QUARANTINE, Storage as _, StorageError};

/// Copies that are made side by side: the store moves the bytes, not we.
const COPIES: usize = 16;

impl Object {
    /// Copies each into quarantine and removes it.
    pub(super) async fn hide_copies(&self, keys: Vec<String>, run: &str) -> Vec<(String, StorageError)> {
        let copies = keys.into_iter().map(|key| async move {
            let copied = self.copy(&key, &format!("{QUARANTINE}/{run}/{key}")).await;
            (key, copied)
        });
        let (mut copied, mut failed) = (Vec::new(), Vec::new());
        for (key, outcome) in side_by_side(copies.collect(), COPIES).await {
            match outcome {
                Ok(Some(metadata)) => copied.push((key, metadata)),
                Ok(None) => {}
                Err(error) => failed.push((key, error)),
            }
        }
        failed.extend(self.remove_as_copied(copied).await);
        failed
    }

    /// Copies and looks at the copy. Returns what was copied; `None` if there was nothing.
    async fn copy(&self, from: &str, to: &str) -> Result<Option<Metadata>, StorageError> {
        let Some(source) = self.metadata(from).await? else { return Ok(None) };
        match self.operator.copy(from, to).await {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(from, &error)),
        }
        let copy = self.metadata(to).await?;
        let size = |metadata: &Metadata| metadata.content_length();
        if copy.as_ref().map(size) == Some(size(&source)) {
            return Ok(Some(source));
        }
        let message = "its copy is not as large as itself".to_owned();
        Err(StorageError::Other { key: from.to_owned(), message })
    }

    /// Removes what was copied, unless it has been written to since.
    async fn remove_as_copied(&self, copied: Vec<(String, Metadata)>) -> Vec<(String, StorageError)> {
        if self.bucket.is_some() {
            // What is removed is named by its content: whatever is at the key now, the copy is the same.
            let keys = copied.into_iter().map(|(key, _)| key).collect();
            return self.remove(keys, Folders::Keep).await;
        }
        self.delete(copied.into_iter().map(|(key, metadata)| (key, self.unchanged(&metadata))).collect())
            .await
    }

    /// What is hidden among the files of the quarantine.
    pub(super) fn hidden_copies(entries: Vec<Entry>) -> Vec<Hidden> {
        let hidden = |Entry { key: place, size, .. }: Entry| {
            let (run, key) = place.strip_prefix(QUARANTINE)?.strip_prefix('/')?.split_once('/')?;
            Some(Hidden { run: run.to_owned(), key: key.to_owned(), size: size?, place: place.clone() })
        };
        entries.into_iter().filter_map(hidden).filter(|hidden| hidden.key.contains('/')).collect()
    }

    /// Copies it back, unless something is at its key again, and drops the copy.
    pub(super) async fn restore_copy(&self, hidden: &Hidden) -> Result<(), StorageError> {
        if self.metadata(&hidden.key).await?.is_none() {
            self.copy(&hidden.place, &hidden.key).await?;
        }
        match self.remove(vec![hidden.place.clone()], Folders::Keep).await.pop() {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }

    /// Removes copies.
    pub(super) async fn purge_copies(&self, hidden: Vec<Hidden>) -> Vec<(Hidden, StorageError)> {
        let places = hidden.iter().map(|hidden| hidden.place.clone()).collect();
        let failed: BTreeMap<String, StorageError> =
            self.remove(places, Folders::Keep).await.into_iter().collect();
        let of = |hidden: Hidden| failed.get(&hidden.place).map(again).map(|error| (hidden, error));
        hidden.into_iter().filter_map(of).collect()
    }
}
