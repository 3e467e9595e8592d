//! A storage on the local disk whose user is killed before a change that is counted, and which somebody else changes meanwhile.

use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clean_registry::storage::{
    Depth, Entry, Folders, Hidden, Local, Multipart, OnDigest, OnRead, OnStat, Sink, Storage, StorageError,
    StorageLock,
};
use futures_util::future::{BoxFuture, Either, pending, select};
use jiff::Timestamp;
use tokio::sync::Notify;

/// Done once, after all was hidden, or when the time is asked for.
pub type Meanwhile = Box<dyn FnOnce() + Send>;

/// Such a storage. Files are changed one by one, in the order in which they were given.
pub struct Mortal {
    inner: Local,
    left: AtomicU64,
    died: Notify,
    meanwhile: Mutex<Option<Meanwhile>>,
    at_the_time: Mutex<Option<Meanwhile>>,
    before_links_go: Mutex<Option<Meanwhile>>,
}

impl Mortal {
    /// One that survives so many changes.
    pub fn new(storage: &Path, changes: u64) -> Self {
        let inner = Local::open(storage).unwrap();
        Self {
            inner,
            left: AtomicU64::new(changes),
            died: Notify::new(),
            meanwhile: Mutex::default(),
            at_the_time: Mutex::default(),
            before_links_go: Mutex::default(),
        }
    }

    /// The same with something that happens while garbage is hidden.
    pub fn with(self, meanwhile: Meanwhile) -> Self {
        *self.meanwhile.lock().unwrap() = Some(meanwhile);
        self
    }

    /// The same with something that happens when it is asked for its time, before it is looked at.
    pub fn when_asked_for_the_time(self, meanwhile: Meanwhile) -> Self {
        *self.at_the_time.lock().unwrap() = Some(meanwhile);
        self
    }

    /// The same with something that happens after links were found to lead nowhere, and before one is touched.
    pub fn before_links_go(self, meanwhile: Meanwhile) -> Self {
        *self.before_links_go.lock().unwrap() = Some(meanwhile);
        self
    }

    /// Does `work` until its end or until it is killed; `None` then.
    pub async fn until_death<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (work, death) = (std::pin::pin!(work), std::pin::pin!(self.died.notified()));
        match select(death, work).await {
            Either::Left(_) => None,
            Either::Right((done, _)) => Some(done),
        }
    }

    /// A killed program does nothing more, not even clean up.
    async fn change(&self) {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_err() {
            self.died.notify_one();
            pending::<()>().await;
        }
    }

    fn about_to_change(&self, keys: &[String]) {
        if keys.iter().any(|key| key.contains("/_layers/")) {
            Self::happen(&self.before_links_go);
        }
    }

    fn happen(what: &Mutex<Option<Meanwhile>>) {
        if let Some(meanwhile) = what.lock().unwrap().take() {
            meanwhile();
        }
    }
}

impl fmt::Debug for Mortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Storage for Mortal {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn requests(&self) -> u64 {
        self.inner.requests()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        depth: Depth,
        sink: Sink<'a>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        self.inner.list(prefix, depth, sink)
    }

    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StorageError>> {
        self.inner.read(key)
    }

    fn read_all<'a>(&'a self, keys: Vec<String>, on_read: OnRead<'a>) -> BoxFuture<'a, ()> {
        self.inner.read_all(keys, on_read)
    }

    fn digest_all<'a>(&'a self, keys: Vec<String>, on_digest: OnDigest<'a>) -> BoxFuture<'a, ()> {
        self.inner.digest_all(keys, on_digest)
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StorageError>> {
        self.inner.stat(key)
    }

    fn stat_all<'a>(&'a self, keys: Vec<String>, on_stat: OnStat<'a>) -> BoxFuture<'a, ()> {
        self.inner.stat_all(keys, on_stat)
    }

    fn write<'a>(&'a self, key: &'a str, bytes: Vec<u8>) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            self.change().await;
            self.inner.write(key, bytes).await
        })
    }

    fn remove<'a>(
        &'a self,
        keys: Vec<String>,
        folders: Folders,
    ) -> BoxFuture<'a, Vec<(String, StorageError)>> {
        Box::pin(async move {
            let mut failed = Vec::new();
            self.about_to_change(&keys);
            for key in keys {
                self.change().await;
                failed.extend(self.inner.remove(vec![key], folders).await);
            }
            failed
        })
    }

    fn remove_empty_folders<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<u64, StorageError>> {
        Box::pin(async move {
            self.change().await;
            self.inner.remove_empty_folders(prefix).await
        })
    }

    fn hide<'a>(&'a self, keys: Vec<String>, run: &'a str) -> BoxFuture<'a, Vec<(String, StorageError)>> {
        Box::pin(async move {
            let mut failed = Vec::new();
            self.about_to_change(&keys);
            let is_last = keys.iter().any(|key| key.contains("/blobs/"));
            for key in keys {
                self.change().await;
                failed.extend(self.inner.hide(vec![key], run).await);
            }
            if is_last {
                Self::happen(&self.meanwhile);
            }
            failed
        })
    }

    fn hidden(&self) -> BoxFuture<'_, Result<Vec<Hidden>, StorageError>> {
        self.inner.hidden()
    }

    fn restore<'a>(&'a self, hidden: &'a Hidden) -> BoxFuture<'a, Result<(), StorageError>> {
        Box::pin(async move {
            self.change().await;
            self.inner.restore(hidden).await
        })
    }

    fn purge<'a>(&'a self, hidden: Vec<Hidden>) -> BoxFuture<'a, Vec<(Hidden, StorageError)>> {
        Box::pin(async move {
            let mut failed = Vec::new();
            for one in hidden {
                self.change().await;
                failed.extend(self.inner.purge(vec![one]).await);
            }
            failed
        })
    }

    fn now(&self) -> BoxFuture<'_, Result<Timestamp, StorageError>> {
        Self::happen(&self.at_the_time);
        self.inner.now()
    }

    fn directory(&self) -> Option<&Path> {
        self.inner.directory()
    }

    fn lock(&self) -> BoxFuture<'_, Result<Option<StorageLock>, StorageError>> {
        self.inner.lock()
    }

    fn multipart_uploads<'a>(
        &'a self,
        prefix: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Multipart>, StorageError>> {
        self.inner.multipart_uploads(prefix)
    }

    fn abort<'a>(&'a self, upload: &'a Multipart) -> BoxFuture<'a, Result<(), StorageError>> {
        self.inner.abort(upload)
    }
}
