//! Walks a storage on the local disk, several threads at once, with as few system calls as the layout allows.
//!
//! Where the layout says that a folder holds nothing but folders around one `link` or `data`, each is one `fstatat`: the folder
//! inside is never opened. A general walk opens, reads twice and closes it. Where names are enough, there is not even that.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use clean_registry_core::layout::{Folder, PREFIX};
use clean_registry_core::name::Bytes;
use clean_registry_core::stored::Stamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, openat, statat};
use rustix::io::Errno;

use super::{Depth, Entry, Sink, StorageError};

/// Bytes of names that the system hands over at once.
const NAMES: usize = 32 << 10;
/// Links that lead from folder to folder; more are a loop.
const MOST_LINKS: u32 = 8;

/// A walk under way.
pub(super) struct Walk<'a> {
    root: BorrowedFd<'a>,
    depth: Depth,
    sink: Sink<'a>,
    calls: &'a AtomicU64,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Task>,
    /// Folders waiting or being read; none left is the end.
    unfinished: usize,
    error: Option<StorageError>,
}

/// A folder to be read.
struct Task {
    key: String,
    /// How many symbolic links led here.
    links: u32,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, depth: Depth, sink: Sink<'a>, calls: &'a AtomicU64) -> Self {
        Self { root, depth, sink, calls, queue: Mutex::default(), changed: Condvar::new() }
    }

    /// Walks what lies below the folder `key`, which need not exist.
    pub(super) fn run(self, key: &str, threads: usize) -> Result<(), StorageError> {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(vec![Task { key: key.to_owned(), links: 0 }]);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| self.work());
            }
        });
        let queue = self.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        queue.error.map_or(Ok(()), Err)
    }

    fn work(&self) {
        let mut buffer = vec![MaybeUninit::uninit(); NAMES];
        let mut path = Vec::new();
        while let Some(task) = self.next() {
            let path = &mut path;
            let (found, folders) = (Vec::new(), Vec::new());
            let reading =
                Reading { walk: self, task: &task, found, folders, path, are_names_enough: false, calls: 0 };
            let done = reading.read(&mut buffer);
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.unfinished -= 1;
            match done {
                Ok(folders) => queue.add(folders),
                Err(error) => queue.error = Some(error),
            }
            drop(queue);
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Task> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if queue.unfinished == 0 || queue.error.is_some() {
                return None;
            }
            if let Some(task) = queue.waiting.pop() {
                return Some(task);
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn add(&mut self, folders: Vec<Task>) {
        self.unfinished += folders.len();
        self.waiting.extend(folders);
    }
}

/// One folder being read.
struct Reading<'w, 'a> {
    walk: &'w Walk<'a>,
    task: &'w Task,
    found: Vec<Entry>,
    folders: Vec<Task>,
    /// Room for a path, so that none is made for every file.
    path: &'w mut Vec<u8>,
    are_names_enough: bool,
    calls: u64,
}

impl Reading<'_, '_> {
    fn read(mut self, buffer: &mut [MaybeUninit<u8>]) -> Result<Vec<Task>, StorageError> {
        self.calls = 4; // open, the names, that there are no more, close
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let key: &str = if self.task.key.is_empty() { "." } else { &self.task.key };
        let folder = match openat(self.walk.root, key, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => {
                self.refuse_broken(&self.task.key)?;
                return Ok(Vec::new());
            }
            Err(Errno::NOTDIR) => {
                self.file_behind_link()?;
                return Ok(Vec::new());
            }
            Err(error) => return Err(self.failed(&self.task.key, error)),
        };
        let known = match self.walk.depth {
            Depth::Names | Depth::Layout => self.below_prefix().map_or(Folder::Open, Folder::at),
            Depth::Everything => Folder::Open,
        };
        self.are_names_enough = self.walk.depth == Depth::Names && self.may_be_unasked();
        self.names(&folder, known, buffer)?;
        self.walk.calls.fetch_add(self.calls, Ordering::Relaxed);
        if !self.found.is_empty() {
            (self.walk.sink)(self.found);
        }
        Ok(self.folders)
    }

    /// Whether what lies in the folder may be taken to be there without being asked for. Links under digests of other algorithms
    /// are few, and are read.
    fn may_be_unasked(&self) -> bool {
        !self.task.key.contains("/_layers/") || self.task.key.ends_with("/_layers/sha256")
    }

    fn below_prefix(&self) -> Option<&str> {
        self.task.key.strip_prefix(PREFIX)?.strip_prefix('/')
    }

    fn names(
        &mut self,
        folder: &OwnedFd,
        known: Folder,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<(), StorageError> {
        let mut entries = RawDir::new(folder, buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // The folder was removed while it was read: it held nothing more.
                Err(Errno::NOENT) => break,
                Err(error) => return Err(self.failed(&self.task.key, error)),
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            // A name that is no text is nobody's: no registry makes one.
            let Ok(text) = name.to_str() else { continue };
            self.entry(folder.as_fd(), known, text, (name, entry.file_type()))?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: BorrowedFd<'_>,
        known: Folder,
        text: &str,
        (name, kind): (&CStr, FileType),
    ) -> Result<(), StorageError> {
        let (kind, stat) = match kind {
            FileType::Directory => (kind, None),
            _ => match self.stat(folder, name, text)? {
                Some(stat) => (FileType::from_raw_mode(stat.st_mode), Some(stat)),
                None => return Ok(()),
            },
        };
        match (kind, known) {
            (FileType::RegularFile, _) => {
                let key = self.key(&[text]);
                self.found.extend(stat.map(|stat| entry(key, &stat)));
            }
            (FileType::Symlink, _) => self.link(self.key(&[text]))?,
            (FileType::Directory, Folder::Open) => self.enter(self.key(&[text])),
            (FileType::Directory, Folder::Leaves(leaf)) => self.leaf(folder, text, leaf)?,
            (FileType::Directory, Folder::Revisions) => {
                if self.stat_within(folder, text, "signatures")?.is_some() {
                    self.enter(self.key(&[text, "signatures"]));
                }
                self.asked_leaf(folder, text, "link")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn enter(&mut self, key: String) {
        self.folders.push(Task { key, links: self.task.links });
    }

    fn leaf(&mut self, folder: BorrowedFd<'_>, name: &str, leaf: &str) -> Result<(), StorageError> {
        if self.are_names_enough {
            let key = self.key(&[name, leaf]);
            self.found.push(Entry { key, size: None, modified: Stamp::UNKNOWN, md5: None });
            return Ok(());
        }
        self.asked_leaf(folder, name, leaf)
    }

    fn asked_leaf(&mut self, folder: BorrowedFd<'_>, name: &str, leaf: &str) -> Result<(), StorageError> {
        let Some(stat) = self.stat_within(folder, name, leaf)? else { return Ok(()) };
        let key = self.key(&[name, leaf]);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.found.push(entry(key, &stat)),
            FileType::Symlink => self.link(key)?,
            _ => {}
        }
        Ok(())
    }

    /// The key of what lies in the folder by this path.
    fn key(&self, path: &[&str]) -> String {
        let length = path.iter().map(|part| part.len() + 1).sum::<usize>();
        let mut key = String::with_capacity(self.task.key.len() + length);
        key.push_str(&self.task.key);
        for part in path {
            if !key.is_empty() {
                key.push('/');
            }
            key.push_str(part);
        }
        key
    }

    /// A registry follows links as it follows folders: what a repository behind one needs must be seen. Blobs behind one are
    /// read where they are needed, and never listed: what is not listed is not removed.
    fn link(&mut self, key: String) -> Result<(), StorageError> {
        if self.below_prefix().is_some_and(|below| below.starts_with("blobs")) {
            return self.refuse_broken(&key);
        }
        if self.task.links < MOST_LINKS {
            self.folders.push(Task { key, links: self.task.links + 1 });
        }
        Ok(())
    }

    /// What is not there was removed meanwhile; a link that leads nowhere is a part of the storage that is not mounted.
    fn refuse_broken(&self, key: &str) -> Result<(), StorageError> {
        let is_there = |flags| match statat(self.walk.root, key, flags) {
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.failed(key, error)),
            Ok(_) => Ok(true),
        };
        if is_there(AtFlags::empty())? || !is_there(AtFlags::SYMLINK_NOFOLLOW)? {
            return Ok(());
        }
        let source = io::Error::other("a symbolic link that leads nowhere: is what it leads to not mounted?");
        Err(StorageError::Io { key: key.to_owned(), source })
    }

    /// What a link leads to is a file: it is told as if it were here.
    fn file_behind_link(&self) -> Result<(), StorageError> {
        let key = self.task.key.clone();
        self.walk.calls.fetch_add(2, Ordering::Relaxed);
        match statat(self.walk.root, key.as_str(), AtFlags::empty()) {
            Ok(stat) if self.task.links > 0 && FileType::from_raw_mode(stat.st_mode).is_file() => {
                (self.walk.sink)(vec![entry(key, &stat)]);
                Ok(())
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(self.failed(&key, error)),
        }
    }

    fn stat_within(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &str,
        leaf: &str,
    ) -> Result<Option<Stat>, StorageError> {
        let mut path = std::mem::take(self.path);
        path.clear();
        for part in [name.as_bytes(), b"/", leaf.as_bytes(), b"\0"] {
            path.extend_from_slice(part);
        }
        // No name that the system hands over has a zero in it.
        let stat = CStr::from_bytes_with_nul(&path).map_or(Ok(None), |path| self.stat(folder, path, name));
        *self.path = path;
        stat
    }

    fn stat(
        &mut self,
        folder: BorrowedFd<'_>,
        path: &CStr,
        name: &str,
    ) -> Result<Option<Stat>, StorageError> {
        self.calls += 1;
        match statat(folder, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(self.failed(&self.key(&[name]), error)),
        }
    }

    fn failed(&self, key: &str, error: Errno) -> StorageError {
        StorageError::Io { key: key.to_owned(), source: error.into() }
    }
}

pub(super) fn entry(key: String, stat: &Stat) -> Entry {
    let modified = stat.st_mtime.max(stat.st_ctime);
    let size = Some(Bytes(u64::try_from(stat.st_size).unwrap_or_default()));
    Entry { key, size, modified: Stamp::from_second(modified), md5: None }
}
