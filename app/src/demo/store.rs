//! A registry's storage in a local directory, file by file.
//!
//! What is written here the registries read, and the other way round; every write goes to a temporary file first and
//! is renamed, as Distribution 3.x does it (FACTS section 1).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Digest, RepoName, Tag};

/// The storage below one root directory. Knows no path outside it.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    written: AtomicU64,
}

/// Which folder makes a repository one (FACTS section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// `_layers`, as Distribution 2.x sees it.
    Layers,
    /// `_manifests`, as Distribution 3.x sees it.
    Manifests,
}

impl Store {
    /// Opens the storage below `root`, which is created where it is missing.
    ///
    /// # Errors
    /// If the directory cannot be created or resolved.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root.join(PREFIX))?;
        Ok(Self { root: root.canonicalize()?, written: AtomicU64::new(0) })
    }

    /// The root directory, resolved.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the file of `place` is, or would be.
    #[must_use]
    pub fn path(&self, place: &Place) -> PathBuf {
        self.base().join(place.key())
    }

    fn base(&self) -> PathBuf {
        self.root.join(PREFIX)
    }

    fn repository(&self, repo: &RepoName) -> PathBuf {
        self.base().join("repositories").join(repo.as_str())
    }

    /// The bytes at `place`; `None` if there is no such file.
    ///
    /// # Errors
    /// Any other failure to read.
    pub fn read(&self, place: &Place) -> io::Result<Option<Vec<u8>>> {
        absent_is_none(fs::read(self.path(place)))
    }

    /// The size in bytes of the file at `place`; `None` if there is none.
    ///
    /// # Errors
    /// Any other failure to look.
    pub fn size(&self, place: &Place) -> io::Result<Option<u64>> {
        Ok(absent_is_none(fs::metadata(self.path(place)))?.map(|found| found.len()))
    }

    /// The digest a link says; `None` if there is no link.
    ///
    /// # Errors
    /// `InvalidData` if the link says anything but a sha256 digest, down to a newline at its end (FACTS section 1).
    pub fn link(&self, place: &Place) -> io::Result<Option<Digest>> {
        let Some(bytes) = self.read(place)? else { return Ok(None) };
        let digest = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        digest
            .map(Some)
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "invalid checksum digest format"))
    }

    /// Writes `bytes` to `place`, at once or not at all.
    ///
    /// # Errors
    /// If the file cannot be written, or a symbolic link would lead it out of the root.
    pub fn write(&self, place: &Place, bytes: &[u8]) -> io::Result<()> {
        let path = self.prepared(place)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
        fs::write(&temporary, bytes)?;
        fs::rename(&temporary, &path)
    }

    /// Writes a link at `place` that says `digest`.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_link(&self, place: &Place, digest: &Digest) -> io::Result<()> {
        self.write(place, digest.to_string().as_bytes())
    }

    /// Stores a blob unless it is there: existing data is never touched (FACTS section 4.1).
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blob(&self, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        if self.size(&Place::BlobData(digest))?.is_none() {
            self.write(&Place::BlobData(digest), bytes)?;
        }
        Ok(digest)
    }

    /// Points `tag` at `digest`: history first, then the link that counts.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_tag(&self, repo: &RepoName, tag: &Tag, digest: &Digest) -> io::Result<()> {
        let (repo, tag) = (repo.clone(), tag.clone());
        let history = Place::TagHistory { repo: repo.clone(), tag: tag.clone(), digest: *digest };
        self.write_link(&history, digest)?;
        self.write_link(&Place::TagCurrent { repo, tag }, digest)
    }

    /// The path of `place` with its folders made, proved to be inside the root.
    ///
    /// # Errors
    /// If the folders cannot be made, or `PermissionDenied` if a symbolic link would lead out of the root.
    pub fn prepared(&self, place: &Place) -> io::Result<PathBuf> {
        let path = self.path(place);
        let folder = path.parent().expect("a key has at least one folder");
        // What is about to be made below the deepest folder that exists is no link.
        let existing = folder.ancestors().find(|folder| folder.symlink_metadata().is_ok());
        self.inside(existing.unwrap_or(&self.root))?;
        fs::create_dir_all(folder)?;
        Ok(path)
    }

    fn inside(&self, folder: &Path) -> io::Result<()> {
        if folder.canonicalize()?.starts_with(&self.root) {
            Ok(())
        } else {
            Err(io::Error::new(ErrorKind::PermissionDenied, format!("{} leads elsewhere", folder.display())))
        }
    }

    /// Removes the file at `place` and leaves its folder, as the registries do. Says whether there was one.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn remove(&self, place: &Place) -> io::Result<Existed> {
        self.gone(place, |path| fs::remove_file(path))
    }

    /// Removes the folder of `place` with everything in it: a whole blob. Says whether there was one.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn remove_folder(&self, place: &Place) -> io::Result<Existed> {
        self.gone(place, |path| fs::remove_dir_all(path.parent().expect("a key has at least one folder")))
    }

    fn gone(&self, place: &Place, remove: impl Fn(&Path) -> io::Result<()>) -> io::Result<Existed> {
        let path = self.path(place);
        if !path.exists() {
            return Ok(Existed::No);
        }
        self.inside(path.parent().expect("a key has at least one folder"))?;
        Ok(absent_is_none(remove(&path))?.map_or(Existed::No, |()| Existed::Yes))
    }

    /// Removes a tag with its history.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn remove_tag(&self, repo: &RepoName, tag: &Tag) -> io::Result<Existed> {
        let folder = self.repository(repo).join("_manifests/tags").join(tag.as_str());
        if !folder.exists() {
            return Ok(Existed::No);
        }
        self.inside(&folder)?;
        Ok(absent_is_none(fs::remove_dir_all(folder))?.map_or(Existed::No, |()| Existed::Yes))
    }

    /// The tags of a repository as they are listed, whether or not they lead anywhere; `None` if it has no folder of
    /// tags.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn tags(&self, repo: &RepoName) -> io::Result<Option<Vec<Tag>>> {
        let Some(entries) = absent_is_none(fs::read_dir(self.repository(repo).join("_manifests/tags")))?
        else {
            return Ok(None);
        };
        let mut tags = Vec::new();
        for entry in entries {
            tags.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Tag>().ok()));
        }
        Ok(Some(tags))
    }

    /// All repositories, in the order of a catalog: component by component.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn repositories(&self, marker: Marker) -> io::Result<Vec<RepoName>> {
        let mut found = BTreeSet::new();
        self.search("", marker, &mut found)?;
        Ok(found.into_iter().filter_map(|components| components.join("/").parse().ok()).collect())
    }

    fn search(&self, name: &str, marker: Marker, found: &mut BTreeSet<Vec<String>>) -> io::Result<()> {
        let marker_folder = match marker {
            Marker::Layers => "_layers",
            Marker::Manifests => "_manifests",
        };
        let Some(entries) = absent_is_none(fs::read_dir(self.base().join("repositories").join(name)))? else {
            return Ok(());
        };
        for entry in entries {
            let entry = entry?;
            let Ok(child) = entry.file_name().into_string() else { continue };
            if child == marker_folder && !name.is_empty() {
                found.insert(name.split('/').map(str::to_owned).collect());
            } else if !child.starts_with('_') && entry.file_type()?.is_dir() {
                let path = if name.is_empty() { child } else { format!("{name}/{child}") };
                self.search(&path, marker, found)?;
            }
        }
        Ok(())
    }

    /// The keys and sizes in bytes of all files, in no order. Symbolic links are not followed.
    ///
    /// # Errors
    /// If a folder cannot be read: what is missing from a scan must not look absent.
    pub fn files(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        let mut folders = vec![(self.base(), String::new())];
        while let Some((folder, key)) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let key = format!("{key}{}", entry.file_name().to_string_lossy());
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push((entry.path(), key + "/"));
                } else if kind.is_file() {
                    files.push((key, entry.metadata()?.len()));
                }
            }
        }
        Ok(files)
    }
}

/// Whether there was something to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existed {
    /// There was.
    Yes,
    /// There was nothing.
    No,
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_through_a_symbolic_link() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(root.path()).unwrap();
        std::os::unix::fs::symlink(outside.path(), store.base().join("blobs")).unwrap();
        let error = store.write_blob(b"escaping").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_with_a_newline_is_no_link() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let place = Place::RevisionLink { repo: "a".parse().unwrap(), digest: Digest::of(b"") };
        assert_eq!(store.link(&place).unwrap(), None);
        store.write_link(&place, &Digest::of(b"")).unwrap();
        assert_eq!(store.link(&place).unwrap(), Some(Digest::of(b"")));
        store.write(&place, format!("{}\n", Digest::of(b"")).as_bytes()).unwrap();
        assert_eq!(store.link(&place).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
