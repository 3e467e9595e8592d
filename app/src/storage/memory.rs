//! A storage in memory: what tests run against, and what shows that the trait asks for nothing that only disks have.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clean_registry_core::name::{Bytes, Digest};
use clean_registry_core::stored::Stamp;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use super::{
    Depth, Entry, Folders, Hidden, Multipart, OnDigest, OnRead, OnStat, QUARANTINE, Sink, Storage,
    StorageError, StorageLock,
};

/// A storage in memory.
#[derive(Debug, Default)]
pub struct Memory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, File>,
    uploads: Vec<Multipart>,
    faults: Vec<Fault>,
    requests: u64,
    changes: u64,
    now: Option<Timestamp>,
}

#[derive(Debug, Clone)]
struct File {
    bytes: Vec<u8>,
    modified: Stamp,
}

/// What is asked of a storage, to say what of it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Listing a prefix that the key lies below, or that is the key.
    List,
    /// Reading the key, or asking for its entry.
    Read,
    /// Writing it.
    Write,
    /// Removing it, or purging what is hidden at it.
    Remove,
    /// Hiding it.
    Hide,
    /// Bringing it back.
    Restore,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Not allowed.
    Denied,
    /// Too much to do, or not reachable.
    Unavailable,
}

#[derive(Debug)]
struct Fault {
    deed: Deed,
    key: String,
    failure: Failure,
}

impl Memory {
    /// An empty storage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file there that was written at `modified`, uncounted.
    pub fn put(&self, key: &str, bytes: impl Into<Vec<u8>>, modified: Stamp) {
        self.state().files.insert(key.to_owned(), File { bytes: bytes.into(), modified });
    }

    /// Puts a multipart upload there, uncounted.
    pub fn put_upload(&self, upload: Multipart) {
        self.state().uploads.push(upload);
    }

    /// From now on this fails.
    pub fn fail(&self, deed: Deed, key: &str, failure: Failure) {
        self.state().faults.push(Fault { deed, key: key.to_owned(), failure });
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Stops its clock at `now`.
    pub fn set_now(&self, now: Timestamp) {
        self.state().now = Some(now);
    }

    /// How many calls so far were to change something, whether they did or failed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Every key with its bytes, of what is hidden too.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.state().files.iter().map(|(key, file)| (key.clone(), file.bytes.clone())).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ask(&mut self, deed: Deed, key: &str) -> Result<(), StorageError> {
        self.requests += 1;
        if !matches!(deed, Deed::List | Deed::Read) {
            self.changes += 1;
        }
        let concerns = |fault: &&Fault| {
            fault.deed == deed && (fault.key == key || (deed == Deed::List && fault.key.starts_with(key)))
        };
        match self.faults.iter().find(concerns) {
            None => Ok(()),
            Some(fault) => Err(failed(key, fault.failure)),
        }
    }

    fn entry(&self, key: &str) -> Option<Entry> {
        let file = self.files.get(key)?;
        let size = Some(Bytes(file.bytes.len() as u64));
        Some(Entry { key: key.to_owned(), size, modified: file.modified, md5: None })
    }

    fn below(&self, prefix: &str) -> Vec<Entry> {
        let from = self.files.range(prefix.to_owned()..);
        let keys = from.map(|(key, _)| key).take_while(|key| key.starts_with(prefix));
        keys.filter_map(|key| self.entry(key)).collect()
    }

    fn stat(&mut self, key: &str) -> Result<Option<Entry>, StorageError> {
        self.ask(Deed::Read, key)?;
        Ok(self.entry(key))
    }

    fn read(&mut self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.ask(Deed::Read, key)?;
        Ok(self.files.get(key).map(|file| file.bytes.clone()))
    }

    fn now(&self) -> Timestamp {
        self.now.unwrap_or_else(Timestamp::now)
    }

    fn hide(&mut self, key: &str, run: &str) -> Result<(), StorageError> {
        self.ask(Deed::Hide, key)?;
        if let Some(file) = self.files.remove(key) {
            self.files.insert(format!("{QUARANTINE}/{run}/{key}"), file);
        }
        Ok(())
    }

    fn restore(&mut self, hidden: &Hidden) -> Result<(), StorageError> {
        self.ask(Deed::Restore, &hidden.key)?;
        if let Some(file) = self.files.remove(&hidden.place) {
            self.files.entry(hidden.key.clone()).or_insert(file);
        }
        Ok(())
    }

    fn purge(&mut self, hidden: &Hidden) -> Result<(), StorageError> {
        self.ask(Deed::Remove, &hidden.key)?;
        self.files.remove(&hidden.place);
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<(), StorageError> {
        self.ask(Deed::Remove, key)?;
        self.files.remove(key);
        Ok(())
    }
}

fn failed(key: &str, failure: Failure) -> StorageError {
    let (key, message) = (key.to_owned(), "as the test wants it".to_owned());
    match failure {
        Failure::Denied => StorageError::Denied { key, message },
        Failure::Unavailable => StorageError::Unavailable { key, message },
    }
}

/// `<quarantine>/<run>/<key>`
fn hidden(entry: Entry) -> Option<Hidden> {
    let Entry { key: place, size, .. } = entry;
    let (run, key) = place.strip_prefix(QUARANTINE)?.strip_prefix('/')?.split_once('/')?;
    Some(Hidden { run: run.to_owned(), key: key.to_owned(), size: size?, place: place.clone() })
}

/// Does `work` for each of `items`; returns those that failed.
fn each<T>(items: Vec<T>, mut work: impl FnMut(&T) -> Result<(), StorageError>) -> Vec<(T, StorageError)> {
    let failed = items.into_iter().filter_map(|item| match work(&item) {
        Ok(()) => None,
        Err(error) => Some((item, error)),
    });
    failed.collect()
}

impl Storage for Memory {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn requests(&self) -> u64 {
        self.state().requests
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        _: Depth,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            let entries = {
                let mut state = self.state();
                state.ask(Deed::List, prefix)?;
                state.below(prefix)
            };
            sink(entries);
            Ok(())
        })
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StorageError>> {
        Box::pin(async move { self.state().read(key) })
    }

    fn read_all<'a>(&'a self, keys: Vec<String>, on_read: OnRead<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for key in keys {
                let read = self.state().read(&key);
                on_read(key, read);
            }
        })
    }

    fn digest_all<'a>(&'a self, keys: Vec<String>, on_digest: OnDigest<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for key in keys {
                let read = self.state().read(&key);
                on_digest(key, read.map(|bytes| bytes.map(|bytes| Digest::of(&bytes))));
            }
        })
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StorageError>> {
        Box::pin(async move { self.state().stat(key) })
    }

    fn stat_all<'a>(&'a self, keys: Vec<String>, on_stat: OnStat<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for key in keys {
                let stat = self.state().stat(&key);
                on_stat(key, stat);
            }
        })
    }

    fn write<'a>(&'a self, key: &'a str, bytes: Vec<u8>) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            let mut state = self.state();
            state.ask(Deed::Write, key)?;
            let modified = Stamp::of(state.now());
            state.files.insert(key.to_owned(), File { bytes, modified });
            Ok(())
        })
    }

    fn remove<'a>(&'a self, keys: Vec<String>, _: Folders) -> BoxFuture<'a, Vec<(String, StorageError)>> {
        Box::pin(async move {
            let mut state = self.state();
            each(keys, |key| state.remove(key))
        })
    }

    fn remove_empty_folders<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<u64, StorageError>> {
        Box::pin(async { Ok(0) })
    }

    fn hide<'a>(&'a self, keys: Vec<String>, run: &'a str) -> BoxFuture<'a, Vec<(String, StorageError)>> {
        Box::pin(async move {
            let mut state = self.state();
            each(keys, |key| state.hide(key, run))
        })
    }

    fn hidden(&self) -> BoxFuture<'_, Result<Vec<Hidden>, StorageError>> {
        Box::pin(async move {
            let mut state = self.state();
            let prefix = format!("{QUARANTINE}/");
            state.ask(Deed::List, &prefix)?;
            Ok(state.below(&prefix).into_iter().filter_map(hidden).collect())
        })
    }

    fn restore<'a>(&'a self, hidden: &'a Hidden) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move { self.state().restore(hidden) })
    }

    fn purge<'a>(&'a self, hidden: Vec<Hidden>) -> BoxFuture<'a, Vec<(Hidden, StorageError)>> {
        Box::pin(async move {
            let mut state = self.state();
            each(hidden, |hidden| state.purge(hidden))
        })
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StorageError>> {
        Box::pin(async move { Ok(self.state().now()) })
    }

    fn directory(&self) -> Option<&std::path::Path> {
        None
    }

    fn lock(&self) -> BoxFuture<'_, Result<Option<StorageLock>, StorageError>> {
        Box::pin(async { Ok(Some(StorageLock::none())) })
    }

    fn multipart_uploads<'a>(
        &'a self,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Multipart>, StorageError>> {
        Box::pin(async move {
            let mut state = self.state();
            state.ask(Deed::List, prefix)?;
            Ok(state.uploads.iter().filter(|upload| upload.key.starts_with(prefix)).cloned().collect())
        })
    }

    fn abort<'a>(&'a self, upload: &'a Multipart) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            let mut state = self.state();
            state.ask(Deed::Remove, &upload.key)?;
            state.uploads.retain(|other| other.id != upload.id);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_to_fail_fails_and_nothing_else() {
        let memory = Memory::new();
        for key in ["a/1", "a/2", "b/1"] {
            memory.put(key, "x", Stamp::from_second(1));
        }
        memory.fail(Deed::Read, "a/1", Failure::Denied);
        memory.fail(Deed::List, "a/2", Failure::Unavailable);
        memory.fail(Deed::Remove, "b/1", Failure::Denied);
        assert!(matches!(memory.read("a/1").await, Err(StorageError::Denied { .. })));
        assert!(memory.read("a/2").await.is_ok());
        let list = async |prefix: &str| memory.list(prefix, Depth::Layout, &|_| ()).await;
        assert!(matches!(list("a/").await, Err(StorageError::Unavailable { .. })));
        assert!(matches!(list("").await, Err(StorageError::Unavailable { .. })));
        assert!(list("b/").await.is_ok());
        assert_eq!(memory.changes(), 0);
        let failed = memory.remove(vec!["a/1".into(), "b/1".into()], Folders::Keep).await;
        assert_eq!(failed.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), ["b/1"]);
        assert_eq!(memory.files().into_keys().collect::<Vec<_>>(), ["a/2", "b/1"]);
        assert_eq!(memory.changes(), 2);
        memory.heal();
        assert!(memory.remove(vec!["b/1".into()], Folders::Keep).await.is_empty());
    }
}
