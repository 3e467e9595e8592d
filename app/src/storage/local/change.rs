//! What changes a storage on the local disk: only where no symbolic link is on the way, for what one leads to may be anybody's.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps, UTIME_NOW, Uid,
    fchown, fstat, futimens, mkdirat, openat, openat2, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::{Local, failed};
use crate::storage::{Folders, Hidden, QUARANTINE, StorageError, UNFINISHED};

impl Local {
    /// The folder that `key` lies in, reached without symbolic links; `None` if it is not there.
    pub(super) fn folder_of<'k>(&self, key: &'k str) -> Result<Option<(OwnedFd, &'k str)>, StorageError> {
        let (folder, name) = key.rsplit_once('/').unwrap_or((".", key));
        self.called(2);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let opened = match openat2(&self.root, folder, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS) => self.open_step_by_step(folder, flags),
            opened => opened,
        };
        match opened {
            Ok(folder) => Ok(Some((folder, name))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(failed(key, error)),
        }
    }

    /// As `openat2` does it, on a kernel that has none.
    fn open_step_by_step(&self, folder: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut at = openat(&self.root, ".", flags, Mode::empty())?;
        for part in folder.split('/').filter(|part| *part != ".") {
            at = openat(&at, part, flags | OFlags::NOFOLLOW, Mode::empty())
                .map_err(|error| if is_link(&at, part) { Errno::LOOP } else { error })?;
        }
        Ok(at)
    }

    pub(super) fn remove_now(&self, key: &str, folders: Folders) -> Result<(), StorageError> {
        let Some((folder, name)) = self.folder_of(key)? else { return Ok(()) };
        self.called(1);
        match unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(key, error)),
        }
        if folders == Folders::RemoveEmpty {
            self.remove_empty_above(key);
        }
        Ok(())
    }

    /// Removes the folders that `key` was the last in, from the inside out. One that is not empty ends it. What cannot be
    /// removed takes no room worth an error.
    pub(super) fn remove_empty_above(&self, key: &str) {
        let mut key = key;
        while let Some((folder, _)) = key.rsplit_once('/') {
            // `docker/registry/v2/blobs` and its like stay; a quarantine that holds nothing does not.
            let outermost = if folder.starts_with(QUARANTINE) { 2 } else { 4 };
            if folder.split('/').count() <= outermost {
                return;
            }
            let Ok(Some((parent, name))) = self.folder_of(folder) else { return };
            self.called(1);
            if unlinkat(&parent, name, AtFlags::REMOVEDIR).is_err() {
                return;
            }
            key = folder;
        }
    }

    pub(super) fn remove_empty_below(&self, key: &str) -> Result<u64, StorageError> {
        let Some((parent, name)) = self.folder_of(key)? else { return Ok(0) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let folder = match openat(&parent, name, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(0),
            Err(error) => return Err(failed(key, error)),
        };
        let (mut removed, mut inside) = (0, Vec::new());
        for entry in rustix::fs::Dir::new(folder).map_err(|error| failed(key, error))? {
            let entry = entry.map_err(|error| failed(key, error))?;
            let text = entry.file_name().to_str().unwrap_or_default().to_owned();
            if entry.file_type() == FileType::Directory && !matches!(text.as_str(), "" | "." | "..") {
                inside.push(text);
            }
        }
        for folder in inside {
            removed += self.remove_empty_below(&format!("{key}/{folder}"))?;
        }
        self.called(5);
        match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(removed + 1),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(removed),
            Err(error) => Err(failed(key, error)),
        }
    }

    /// Makes the folders that `key` lies in, and opens the innermost.
    pub(super) fn make_folder_of<'k>(&self, key: &'k str) -> Result<(OwnedFd, &'k str), StorageError> {
        if let Some(there) = self.folder_of(key)? {
            return Ok(there);
        }
        let (folder, _) = key.rsplit_once('/').unwrap_or((".", key));
        for (at, _) in folder.match_indices('/').chain([(folder.len(), "")]) {
            self.called(1);
            match mkdirat(&self.root, &folder[..at], Mode::from_raw_mode(0o755)) {
                Ok(()) => self.give_folder(&folder[..at]),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(key, error)),
            }
        }
        self.folder_of(key)?.ok_or_else(|| failed(key, Errno::NOENT))
    }

    /// A folder that was made here belongs to whom the one around it belongs: the registry has to be able to write in it.
    fn give_folder(&self, key: &str) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let around = key.rsplit_once('/').map_or(".", |(around, _)| around);
        let opened =
            (openat(&self.root, around, flags, Mode::empty()), openat(&self.root, key, flags, Mode::empty()));
        if let (Ok(around), Ok(made)) = opened {
            give(&around, &made);
        }
    }

    pub(super) fn hide_now(&self, key: &str, run: &str) -> Result<(), StorageError> {
        let Some((from, name)) = self.folder_of(key)? else { return Ok(()) };
        let hidden = format!("{QUARANTINE}/{run}/{key}");
        let (to, _) = self.make_folder_of(&hidden)?;
        self.called(1);
        match renameat_with(&from, name, &to, name, RenameFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed(key, error)),
        }
    }

    pub(super) fn restore_now(&self, hidden: &Hidden) -> Result<(), StorageError> {
        let Some((from, name)) = self.folder_of(&hidden.place)? else { return Ok(()) };
        let (to, name_there) = self.make_folder_of(&hidden.key)?;
        self.called(1);
        match renameat_with(&from, name, &to, name_there, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::EXIST) => return self.remove_now(&hidden.place, Folders::RemoveEmpty),
            // Not every file system can do this; none loses anything by a hard link in between.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match rustix::fs::linkat(&from, name, &to, name_there, AtFlags::empty()) {
                    Ok(()) | Err(Errno::EXIST) => {
                        return self.remove_now(&hidden.place, Folders::RemoveEmpty);
                    }
                    Err(error) => return Err(failed(&hidden.key, error)),
                }
            }
            Err(error) => return Err(failed(&hidden.key, error)),
        }
        self.remove_empty_above(&hidden.place);
        Ok(())
    }

    /// Writes a file beside all repositories and moves it to its place: what a kill leaves there the next collection finds without
    /// looking everywhere ([`Local::remove_unfinished`]).
    pub(super) fn write_now(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let (folder, name) = self.make_folder_of(key)?;
        let written = match self.folder_of(QUARANTINE)? {
            Some((workshop, _)) => match write_in(&workshop, (&folder, name), bytes) {
                // On another file system, or not ours to write in: then where it belongs.
                Err(error) if is_no_place(&error) => write_in(&folder, (&folder, name), bytes),
                written => written,
            },
            None => write_in(&folder, (&folder, name), bytes),
        };
        written.map_err(|source| StorageError::Io { key: key.to_owned(), source })
    }

    /// Removes what was being written when its writer was killed, and folders of the quarantine that a kill left empty. Who still
    /// writes has the file locked; who hides has the storage locked.
    ///
    /// What cannot be removed takes no room worth an error.
    pub(super) fn remove_unfinished(&self) {
        let _ = self.remove_empty_below(QUARANTINE);
        let Ok(Some((workshop, _))) = self.folder_of(QUARANTINE) else { return };
        let Ok(entries) = rustix::fs::Dir::read_from(&workshop) else { return };
        for entry in entries.flatten() {
            let Some(name) = entry.file_name().to_str().ok().filter(|name| is_unfinished(name)) else {
                continue;
            };
            self.called(2);
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let Ok(file) = openat(&workshop, name, flags, Mode::empty()) else { continue };
            if File::from(file).try_lock().is_ok() {
                tracing::info!("removing {name}, which an interrupted run was writing");
                let _ = unlinkat(&workshop, name, AtFlags::empty());
            }
        }
    }
}

/// Writes a file in `workshop` and moves it to `place`, a folder and a name in it.
fn write_in(workshop: &OwnedFd, (folder, name): (&OwnedFd, &str), bytes: &[u8]) -> io::Result<()> {
    let temporary = unfinished(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut file = File::from(openat(workshop, &temporary, flags, Mode::from_raw_mode(0o644))?);
    // Not every file system knows locks; without one a collection that begins this very moment makes the move fail.
    let _ = file.try_lock();
    give(folder, &file);
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let placed =
        written.and_then(|()| Ok(renameat_with(workshop, &temporary, folder, name, RenameFlags::empty())?));
    if placed.is_err() {
        let _ = unlinkat(workshop, &temporary, AtFlags::empty());
    }
    placed.and_then(|()| Ok(rustix::fs::fsync(folder)?))
}

/// What a file is called while it is written; no two at once are called the same.
fn unfinished(name: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    format!(".{name}.{process}-{number}{UNFINISHED}")
}

fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(UNFINISHED)
}

/// Opened as a folder, a link is said to be none: but what lies behind it is there.
fn is_link(folder: &OwnedFd, name: &str) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn is_no_place(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::XDEV | Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

/// Lets what was made belong to whom the folder around it belongs. Only root can; others make what is theirs anyway.
fn give(around: &impl AsFd, made: &impl AsFd) {
    let (Ok(around), Ok(own)) = (fstat(around), fstat(made)) else { return };
    if (around.st_uid, around.st_gid) != (own.st_uid, own.st_gid) {
        let (owner, group) = (Uid::from_raw(around.st_uid), Gid::from_raw(around.st_gid));
        // Without leave it stays ours, which is no worse than before.
        let _ = fchown(made, Some(owner), Some(group));
    }
}

/// The time by the clock of the file system that `folder` is on, which need not be this host's: that of a file made in it. The file
/// has no name, so that a kill leaves nothing.
pub(super) fn time_of(folder: &OwnedFd) -> Result<Timestamp, Errno> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match openat(folder, ".", flags, Mode::from_raw_mode(0o600)) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => time_of_named(folder),
        made => modified(&made?),
    }
}

/// The same where a file must have a name. One that a kill left is the next one's.
fn time_of_named(folder: &OwnedFd) -> Result<Timestamp, Errno> {
    let name = "clean-registry-clock";
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(folder, name, flags, Mode::from_raw_mode(0o600))?;
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    futimens(&made, &Timestamps { last_access: now, last_modification: now })?;
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => modified(&made),
        Err(error) => Err(error),
    }
}

fn modified(file: &OwnedFd) -> Result<Timestamp, Errno> {
    Timestamp::from_second(fstat(file)?.st_mtime).map_err(|_| Errno::OVERFLOW)
}

#[cfg(test)]
mod tests {
    use crate::storage::{Storage as _, absolute};

    use super::*;

    #[test]
    fn telling_the_time_leaves_nothing_whether_the_file_has_a_name_or_none() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("clean-registry-clock"), "").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        File::options()
            .write(true)
            .open(directory.path().join("clean-registry-clock"))
            .and_then(|left| left.set_modified(old))
            .unwrap();
        let folder = OwnedFd::from(File::open(directory.path()).unwrap());
        for told in [time_of_named(&folder), time_of(&folder)] {
            assert!(Timestamp::now().duration_since(told.unwrap()).as_secs() < 60);
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }

    /// A storage of one file, and the folder in which others are written.
    async fn stored() -> (tempfile::TempDir, Local, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let storage = Local::open(directory.path()).unwrap();
        storage.write(&absolute("file"), b"old".into()).await.unwrap();
        let workshop = directory.path().join("docker/registry");
        (directory, storage, workshop)
    }

    fn names(folder: &std::path::Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn what_lies_behind_a_link_is_refused_and_not_taken_to_be_gone_whatever_the_kernel() {
        let (directory, storage, _) = stored().await;
        std::os::unix::fs::symlink("registry", directory.path().join("docker/link")).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let step_by_step = |folder: &str| storage.open_step_by_step(folder, flags).map(drop);
        assert_eq!(step_by_step("docker/registry/v2"), Ok(()));
        for folder in ["docker/link", "docker/link/v2"] {
            assert_eq!(step_by_step(folder), Err(Errno::LOOP), "{folder}");
            assert!(storage.folder_of(&format!("{folder}/file")).is_err(), "{folder}");
        }
        assert_eq!(step_by_step("docker/nothing"), Err(Errno::NOENT));
        assert_eq!(step_by_step("docker/registry/v2/file"), Err(Errno::NOTDIR));
    }

    #[tokio::test]
    async fn a_file_is_replaced_at_once_and_nothing_is_left_of_writing_it() {
        let (directory, storage, workshop) = stored().await;
        storage.write(&absolute("file"), b"new".into()).await.unwrap();
        assert_eq!(std::fs::read(directory.path().join(absolute("file"))).unwrap(), b"new");
        assert_eq!((names(&workshop), names(&workshop.join("v2"))), (vec!["v2".into()], vec!["file".into()]));
    }

    #[tokio::test]
    async fn folders_of_the_quarantine_that_a_kill_left_empty_go_with_the_next_lock() {
        let (_directory, storage, workshop) = stored().await;
        let (empty, full) =
            ("clean-registry-quarantine/run-1/docker/registry", "clean-registry-quarantine/run-2/a");
        for folder in [empty, full] {
            std::fs::create_dir_all(workshop.join(folder)).unwrap();
        }
        std::fs::write(workshop.join(full).join("file"), "hidden").unwrap();
        storage.lock().await.unwrap().unwrap().release().await;
        assert_eq!(names(&workshop.join("clean-registry-quarantine")), ["run-2"]);
        std::fs::remove_file(workshop.join(full).join("file")).unwrap();
        storage.lock().await.unwrap().unwrap().release().await;
        assert_eq!(names(&workshop), ["v2"]);
    }

    #[tokio::test]
    async fn what_a_kill_left_unfinished_goes_with_the_next_lock_and_what_is_being_written_stays() {
        let (_directory, storage, workshop) = stored().await;
        let (left, writing) = (unfinished("link"), unfinished("link"));
        std::fs::write(workshop.join(&left), "sha2").unwrap();
        let writer = File::create(workshop.join(&writing)).unwrap();
        writer.lock().unwrap();
        std::fs::write(workshop.join("other"), "somebody's").unwrap();
        storage.lock().await.unwrap().unwrap().release().await;
        let mut found = names(&workshop);
        found.sort();
        assert_eq!(found, [writing.as_str(), "other", "v2"]);
    }
}
