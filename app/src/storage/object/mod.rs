//! A storage in an object store: Amazon S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.
//!
//! Requests go through `opendal`; what it cannot ask of S3 is in [`s3`]. Keys are kept as Distribution's drivers keep them, the
//! root directory without its leading slash before them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clean_registry_core::layout::PREFIX;
use clean_registry_core::name::{Bytes, Digest};
use clean_registry_core::stored::Stamp;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use opendal::options::DeleteOptions;
use opendal::{ErrorKind, Metadata, Operator};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use self::failure::failed;
use self::held::Guard;
use self::listing::{Listing, Manner, entry, odd};
use self::s3::{Bucket, Doomed, Mark, Versioning, again};
use self::transport::Counter;
use self::versions::{delete_all, is_version, run_of_note};
use super::{
    Depth, Entry, Folders, Hidden, Multipart, OnDigest, OnRead, OnStat, Sink, Storage, StorageError,
    StorageLock,
};

mod copies;
mod failure;
mod held;
mod leftovers;
mod listing;
pub(super) mod lock;
pub(super) mod open;
mod s3;
mod transport;
mod versions;
mod xml;

/// How much is done side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breadth {
    /// Files that are read.
    pub reads: usize,
    /// Parts of a listing.
    pub listings: usize,
}

impl Default for Breadth {
    fn default() -> Self {
        Self { reads: 64, listings: 16 }
    }
}

/// Batches that are removed side by side.
const REMOVALS: usize = 4;

/// Does all of it, so much at a time.
async fn side_by_side<F: Future>(work: Vec<F>, most: usize) -> Vec<F::Output> {
    stream::iter(work).buffer_unordered(most).collect().await
}

/// Which store, where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    S3,
    Gcs,
    Azure,
}

impl Kind {
    fn manner(self) -> Manner {
        match self {
            Self::S3 => Manner { page: 1000, starts_after: true, etag_is_md5: true },
            Self::Gcs => Manner { page: 1000, starts_after: true, etag_is_md5: false },
            Self::Azure => Manner { page: 5000, starts_after: false, etag_is_md5: false },
        }
    }

    /// The most keys of one removal.
    fn batch(self) -> usize {
        match self {
            Self::S3 => s3::BATCH,
            Self::Gcs => 100,
            Self::Azure => 256,
        }
    }
}

/// A storage in an object store.
pub struct Object {
    kind: Kind,
    operator: Operator,
    /// The same store without a root directory: to see whether the layout is one we know.
    outside: Operator,
    /// Of S3.
    bucket: Option<Arc<Bucket>>,
    location: String,
    counter: Counter,
    breadth: Breadth,
    versioning: OnceCell<Versioning>,
    was_checked: AtomicBool,
    guard: Guard,
    numbers: AtomicU64,
}

impl fmt::Debug for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Object").field(&self.location).finish()
    }
}

impl Object {
    /// Does so much side by side from now on.
    #[must_use]
    pub fn with_breadth(self, breadth: Breadth) -> Self {
        Self { breadth, ..self }
    }

    /// The digest of a file's bytes, a piece at a time: a layer may be larger than the memory.
    async fn digest_now(&self, key: &str) -> Result<Option<Digest>, StorageError> {
        let opened = async { self.operator.reader(key).await?.into_bytes_stream(0..).await };
        let mut pieces = match opened.await {
            Ok(pieces) => pieces,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(key, &error)),
        };
        let mut hash = Sha256::new();
        loop {
            match pieces.try_next().await {
                Ok(Some(piece)) => hash.update(&piece),
                Ok(None) => return Ok(Some(Digest::from_bytes(hash.finalize().into()))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => {
                    return Err(StorageError::Unavailable {
                        key: key.to_owned(),
                        message: error.to_string(),
                    });
                }
            }
        }
    }

    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The bucket, if it keeps old versions of what is written, and whether it does so now.
    async fn versioned(&self) -> Result<Option<(&Bucket, Versioning)>, StorageError> {
        let Some(bucket) = &self.bucket else { return Ok(None) };
        let versioning = *self.versioning.get_or_try_init(|| self.find_versioning(bucket)).await?;
        Ok((versioning != Versioning::Never).then_some((bucket, versioning)))
    }

    /// Not every key may ask, and not every store knows the question: what it says of a file that is written tells too.
    async fn find_versioning(&self, bucket: &Bucket) -> Result<Versioning, StorageError> {
        match bucket.versioning().await {
            Ok(versioning) => Ok(versioning),
            Err(StorageError::Unavailable { key, message }) => {
                Err(StorageError::Unavailable { key, message })
            }
            Err(_) => self.try_versioning(bucket).await,
        }
    }

    async fn try_versioning(&self, bucket: &Bucket) -> Result<Versioning, StorageError> {
        let key = self.probe();
        let written = self.operator.write(&key, Vec::<u8>::new()).await;
        let version = written.map_err(|error| failed(&key, &error))?.version().map(str::to_owned);
        let versioning = match version.as_deref() {
            None => Versioning::Never,
            Some("null") => Versioning::Suspended,
            Some(_) => Versioning::Enabled,
        };
        match delete_all(bucket, vec![Doomed { key, version }]).await.pop() {
            None => Ok(versioning),
            Some((_, error)) => Err(error),
        }
    }

    async fn metadata(&self, key: &str) -> Result<Option<Metadata>, StorageError> {
        match self.operator.stat(key).await {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(key, &error)),
        }
    }

    async fn stat_now(&self, key: &str) -> Result<Option<Entry>, StorageError> {
        let metadata = self.metadata(key).await?;
        Ok(metadata.and_then(|metadata| entry(key.to_owned(), &metadata, self.kind.manner())))
    }

    async fn read_now(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        match self.operator.read(key).await {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(key, &error)),
        }
    }

    /// What is removed only if it is still what `metadata` tells of.
    fn unchanged(&self, metadata: &Metadata) -> DeleteOptions {
        let etag = metadata.etag().map(str::to_owned);
        let version = metadata.version().map(str::to_owned);
        match self.kind {
            Kind::S3 => DeleteOptions::default(),
            Kind::Gcs => DeleteOptions { if_version_match: version, ..DeleteOptions::default() },
            Kind::Azure => DeleteOptions { if_match: etag, ..DeleteOptions::default() },
        }
    }

    /// Removes through opendal: in batches, and one by one where a batch fails, to learn which of it.
    async fn delete(&self, doomed: Vec<(String, DeleteOptions)>) -> Vec<(String, StorageError)> {
        let batches = doomed.chunks(self.kind.batch()).map(|batch| async move {
            let lost = |(key, _): &(String, _)| self.guard.check(key).err().map(|error| (key.clone(), error));
            let lost: Vec<_> = batch.iter().filter_map(lost).collect();
            if !lost.is_empty() {
                return lost;
            }
            let all = self.operator.delete_iter(batch.to_vec()).await;
            if all.is_ok() { Vec::new() } else { self.delete_singly(batch).await }
        });
        side_by_side(batches.collect(), REMOVALS).await.into_iter().flatten().collect()
    }

    async fn delete_singly(&self, doomed: &[(String, DeleteOptions)]) -> Vec<(String, StorageError)> {
        let each = doomed.iter().map(|(key, options)| async move {
            match self.operator.delete_options(key, options.clone()).await {
                Ok(()) => None,
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                // A condition fails too where nothing is left.
                Err(error) if error.kind() == ErrorKind::ConditionNotMatch => {
                    let left = self.metadata(key).await;
                    (!matches!(left, Ok(None))).then(|| (key.clone(), failed(key, &error)))
                }
                Err(error) => Some((key.clone(), failed(key, &error))),
            }
        });
        side_by_side(each.collect(), self.breadth.listings).await.into_iter().flatten().collect()
    }

    /// Refuses keys that begin with a slash, once, where nothing is found: opendal shows them without it.
    async fn refuse_odd_layout(&self) -> Result<(), StorageError> {
        if self.was_checked.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let first = self.outside.lister_with("/").recursive(true).limit(1).await;
        let Ok(mut first) = first else { return Ok(()) };
        match first.try_next().await {
            Ok(Some(entry)) if entry.path().starts_with(&format!("{PREFIX}/")) && self.has_no_root() => {
                match self.metadata(entry.path()).await? {
                    Some(_) => Ok(()),
                    None => Err(odd(&format!("/{}", entry.path()))),
                }
            }
            // What cannot be seen beside the root directory is not ours to judge.
            _ => Ok(()),
        }
    }

    fn has_no_root(&self) -> bool {
        self.operator.info().root() == "/"
    }

    fn listing<'a>(&'a self, sink: Sink<'a>) -> Listing<'a> {
        Listing { operator: &self.operator, manner: self.kind.manner(), sink, most: self.breadth.listings }
    }

    async fn hidden_now(&self) -> Result<Vec<Hidden>, StorageError> {
        let entries = self.quarantine().await?;
        let (notes, copies): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| run_of_note(&entry.key).is_some());
        let mut hidden = Self::hidden_copies(copies);
        if let (Some(bucket), false) = (&self.bucket, notes.is_empty()) {
            hidden.extend(self.hidden_versions(bucket, &notes).await?.hidden);
        }
        hidden.sort();
        Ok(hidden)
    }

    async fn purge_now(&self, hidden: Vec<Hidden>) -> Vec<(Hidden, StorageError)> {
        let mut runs: Vec<String> = hidden.iter().map(|hidden| hidden.run.clone()).collect();
        runs.sort();
        runs.dedup();
        let (versions, copies): (Vec<_>, Vec<_>) = hidden.into_iter().partition(is_version);
        let mut failed = if copies.is_empty() { Vec::new() } else { self.purge_copies(copies).await };
        if let Some(bucket) = &self.bucket {
            if !versions.is_empty() {
                failed.extend(self.purge_versions(bucket, versions).await);
            }
            // Notes that stay are read once more next time, and cost nothing else.
            let _ = self.tidy(bucket, &runs).await;
        }
        failed
    }

    async fn uploads(&self, prefix: &str) -> Result<Vec<Multipart>, StorageError> {
        let Some(bucket) = &self.bucket else { return Ok(Vec::new()) };
        let (mut all, mut mark) = (Vec::new(), Some(Mark::default()));
        while let Some(after) = mark {
            let (page, more) = bucket.uploads(prefix, &after).await?;
            all.extend(page);
            mark = more.filter(|more| *more != after);
        }
        let sized = all.into_iter().map(|(key, id, began)| async move {
            // One that was completed or aborted meanwhile is none any more.
            let Some(size) = bucket.parts(&key, &id).await?.map(Bytes) else { return Ok(None) };
            let began = began.parse::<Timestamp>().map_or(Stamp::UNKNOWN, Stamp::of);
            Ok(Some(Multipart { key, id, began, size }))
        });
        let sized = side_by_side(sized.collect(), self.breadth.listings).await;
        let sized = sized.into_iter().collect::<Result<Vec<_>, StorageError>>()?;
        let mut sized: Vec<Multipart> = sized.into_iter().flatten().collect();
        sized.sort();
        Ok(sized)
    }
}

impl Storage for Object {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn requests(&self) -> u64 {
        self.counter.count()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        _: Depth,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            let any = self.listing(sink).run(prefix).await?;
            if any { Ok(()) } else { self.refuse_odd_layout().await }
        })
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StorageError>> {
        Box::pin(self.read_now(key))
    }

    fn read_all<'a>(&'a self, keys: Vec<String>, on_read: OnRead<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let reads = stream::iter(keys).map(|key| async move {
                let read = self.read_now(&key).await;
                on_read(key, read);
            });
            reads.buffer_unordered(self.breadth.reads).collect::<()>().await;
        })
    }

    fn digest_all<'a>(&'a self, keys: Vec<String>, on_digest: OnDigest<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let digests = stream::iter(keys).map(|key| async move {
                let digest = self.digest_now(&key).await;
                on_digest(key, digest);
            });
            digests.buffer_unordered(self.breadth.listings).collect::<()>().await;
        })
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StorageError>> {
        Box::pin(self.stat_now(key))
    }

    fn stat_all<'a>(&'a self, keys: Vec<String>, on_stat: OnStat<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let stats = stream::iter(keys).map(|key| async move {
                let stat = self.stat_now(&key).await;
                on_stat(key, stat);
            });
            stats.buffer_unordered(self.breadth.reads).collect::<()>().await;
        })
    }

    fn write<'a>(&'a self, key: &'a str, bytes: Vec<u8>) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            self.operator.write(key, bytes).await.map(drop).map_err(|error| failed(key, &error))
        })
    }

    fn remove<'a>(&'a self, keys: Vec<String>, _: Folders) -> BoxFuture<'a, Vec<(String, StorageError)>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Vec::new();
            }
            match (self.versioned().await, &self.bucket) {
                (Err(error), _) => keys.into_iter().map(|key| (key, again(&error))).collect(),
                (Ok(Some((bucket, _))), _) => self.remove_versions(bucket, keys).await,
                (Ok(None), Some(bucket)) => {
                    let doomed = keys.into_iter().map(|key| Doomed { key, version: None }).collect();
                    let failed = delete_all(bucket, doomed).await;
                    failed.into_iter().map(|(doomed, error)| (doomed.key, error)).collect()
                }
                (Ok(None), None) => {
                    self.delete(keys.into_iter().map(|key| (key, DeleteOptions::default())).collect()).await
                }
            }
        })
    }

    fn remove_empty_folders<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<u64, StorageError>> {
        Box::pin(async { Ok(0) })
    }

    fn hide<'a>(&'a self, keys: Vec<String>, run: &'a str) -> BoxFuture<'a, Vec<(String, StorageError)>> {
        Box::pin(async move {
            match self.versioned().await {
                Err(error) => keys.into_iter().map(|key| (key, again(&error))).collect(),
                // Where versions are suspended a removal takes the bytes for good.
                Ok(Some((bucket, Versioning::Enabled))) => self.hide_versions(bucket, keys, run).await,
                Ok(_) => self.hide_copies(keys, run).await,
            }
        })
    }

    fn hidden(&self) -> BoxFuture<'_, Result<Vec<Hidden>, StorageError>> {
        Box::pin(self.hidden_now())
    }

    fn restore<'a>(&'a self, hidden: &'a Hidden) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            match &self.bucket {
                Some(bucket) if is_version(hidden) => self.restore_version(bucket, hidden).await,
                _ => self.restore_copy(hidden).await,
            }
        })
    }

    fn purge<'a>(&'a self, hidden: Vec<Hidden>) -> BoxFuture<'a, Vec<(Hidden, StorageError)>> {
        Box::pin(self.purge_now(hidden))
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StorageError>> {
        Box::pin(self.now_here())
    }

    fn directory(&self) -> Option<&std::path::Path> {
        None
    }

    fn lock(&self) -> BoxFuture<'_, Result<Option<StorageLock>, StorageError>> {
        Box::pin(async {
            let lease = self.take_lock().await?;
            if lease.is_some() {
                self.remove_leftovers().await;
            }
            Ok(lease.map(StorageLock::lease))
        })
    }

    fn multipart_uploads<'a>(
        &'a self,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Multipart>, StorageError>> {
        Box::pin(self.uploads(prefix))
    }

    fn abort<'a>(&'a self, upload: &'a Multipart) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            match &self.bucket {
                Some(bucket) => bucket.abort(&upload.key, &upload.id).await,
                None => Ok(()),
            }
        })
    }
}
