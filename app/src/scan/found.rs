//! What a listing tells, file by file.

use std::collections::{BTreeMap, HashMap};

use clean_registry_core::layout::{PREFIX, Place, UploadId, may_be_a_root};
use clean_registry_core::name::{Digest, RepoName};
use clean_registry_core::stored::{Blobs, Odd, Spares, StorageGap, StoredRepo, StoredTag, Stray};

use super::LINK;
use super::noted::Noted as _;
use crate::storage::{Entry, UNFINISHED};

/// What a listing of the repositories tells, before any link is read.
#[derive(Default)]
pub(super) struct Found {
    pub(super) repos: BTreeMap<RepoName, StoredRepo>,
    pub(super) odd: Odd,
    pub(super) strays: Vec<Stray>,
    pub(super) gaps: Vec<StorageGap>,
    /// Links whose content has to be read, but for those of tags.
    pub(super) to_read: Vec<Link>,
    /// The MD5 of what tags say.
    pub(super) md5s: HashMap<(RepoName, clean_registry_core::name::Tag), [u8; 16]>,
}

/// A link whose content has to be read.
pub(super) struct Link {
    pub(super) place: Option<Place>,
    pub(super) entry: Entry,
}

impl Found {
    pub(super) fn of(entries: Vec<Entry>, blobs: &Blobs) -> Self {
        let mut found = Self::default();
        // The files of a folder come together: its repository is looked for once.
        let mut last: Option<(RepoName, StoredRepo)> = None;
        for entry in entries {
            let Some((name, rest)) = entry.key.get(PREFIX.len() + 1..).and_then(Place::split) else {
                continue;
            };
            if last.as_ref().is_none_or(|(last, _)| last.as_str() != name) {
                found.put(last.take());
                last = name.parse().ok().map(|name| (name, StoredRepo::default()));
            }
            match &mut last {
                Some((name, repo)) => {
                    let place = Place::within(name, rest);
                    found.note((name, repo), place, entry, blobs);
                }
                None => found.note_odd(entry, blobs),
            }
        }
        found.put(last);
        found
    }

    fn put(&mut self, repo: Option<(RepoName, StoredRepo)>) {
        if let Some((name, repo)) = repo {
            match self.repos.get_mut(&name) {
                Some(known) => known.merge(repo),
                None => drop(self.repos.insert(name, repo)),
            }
        }
    }

    fn note(
        &mut self,
        (name, repo): (&RepoName, &mut StoredRepo),
        place: Option<Place>,
        entry: Entry,
        blobs: &Blobs,
    ) {
        let stamp = entry.modified;
        // Where only its name was listed, its size is asked for when it matters.
        let is_whole = entry.size.is_none_or(|size| size == LINK);
        let key = &entry.key[PREFIX.len() + 1..];
        match &place {
            Some(Place::RevisionLink { digest, .. }) => {
                repo.revisions.insert(*digest, stamp);
            }
            Some(Place::LayerLink { digest, .. }) if is_whole => match blobs.find(*digest) {
                Some(blob) if !blobs.is_absent(blob) => repo.layers.push((blob, stamp)),
                _ => repo.dangling.push((*digest, stamp)),
            },
            Some(Place::TagCurrent { tag, .. }) => {
                repo.tags.insert(tag.clone(), StoredTag { target: None, stamp });
                if let Some(md5) = entry.md5 {
                    self.md5s.insert((name.clone(), tag.clone()), md5);
                }
            }
            Some(Place::Signature { signature, .. }) => repo.signatures.push(*signature),
            Some(Place::Upload { id, .. }) => repo.note_upload(id, key, &entry),
            Some(Place::TagHistory { .. } | Place::LayerLink { .. } | Place::LayerAlias { .. }) => {}
            Some(Place::BlobData(_)) => {}
            None if may_be_a_root(key) => {}
            None => match temporary(&entry) {
                Some(stray) => self.strays.push(stray),
                None => repo.unknown += 1,
            },
        }
        let must_read = match &place {
            Some(Place::LayerLink { .. } | Place::RevisionLink { .. }) => !is_whole,
            Some(Place::LayerAlias { .. }) => true,
            Some(_) => false,
            None => may_be_a_root(key),
        };
        if must_read {
            self.to_read.push(Link { place, entry });
        }
    }

    /// Under a name that no registry would take, everything counts and nothing is removed.
    fn note_odd(&mut self, entry: Entry, blobs: &Blobs) {
        let key = &entry.key[PREFIX.len() + 1..];
        let Some((_, rest)) = Place::split(key) else { return };
        let hex = rest.strip_suffix("/link").and_then(|rest| rest.rsplit_once('/')).map(|(_, hex)| hex);
        let digest = hex.and_then(Digest::from_hex);
        if may_be_a_root(key) {
            self.odd.roots.extend(digest);
            self.to_read.push(Link { place: None, entry });
        } else if rest.starts_with("_layers/") {
            self.odd.layers.extend(digest.and_then(|digest| blobs.find(digest)));
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        other.repos.into_iter().for_each(|repo| self.put(Some(repo)));
        self.odd.roots.extend(other.odd.roots);
        self.odd.layers.extend(other.odd.layers);
        self.strays.extend(other.strays);
        self.gaps.extend(other.gaps);
        self.to_read.extend(other.to_read);
        self.md5s.extend(other.md5s);
    }

    /// The data of an upload on an object store are a multipart upload, and no key (FACTS section 1).
    pub(super) fn add_multipart(&mut self, uploads: Vec<crate::storage::Multipart>) {
        for upload in uploads {
            let Some(key) = upload.key.get(PREFIX.len() + 1..) else { continue };
            let Some(Place::Upload { repo, id, .. }) = Place::parse(key) else { continue };
            let repo = self.repos.entry(repo).or_default();
            let entry =
                Entry { key: upload.key.clone(), size: Some(upload.size), modified: upload.began, md5: None };
            repo.note_upload(&id, key, &entry);
        }
    }

    pub(super) fn gap(&mut self, key: &str, spares: Spares, why: String) {
        self.gaps.push(gap(key, spares, why));
    }
}

pub(super) fn gap(key: &str, spares: Spares, why: String) -> StorageGap {
    let path = key[PREFIX.len() + 1..].to_owned();
    let repository = Place::split(&path).and_then(|(name, _)| name.parse().ok());
    StorageGap { path, repository, spares, why }
}

/// What a crash of a registry 3.x leaves of a file it was writing: `<file>.<uuid>.tmp` (FACTS section 1). And what a kill leaves of
/// one that this program was writing, where that could not be done elsewhere: `.<file>.<process>.clean-registry`.
pub(super) fn temporary(entry: &Entry) -> Option<Stray> {
    let key = entry.key.get(PREFIX.len() + 1..)?;
    let is_ours = || {
        let name = key.rsplit('/').next().unwrap_or_default();
        name.starts_with('.') && name.ends_with(UNFINISHED)
    };
    let is_the_registrys = || {
        let (file, id) = key.strip_suffix(".tmp")?.rsplit_once('.')?;
        id.parse::<UploadId>().ok()?;
        Place::parse(file)
    };
    if !is_ours() && is_the_registrys().is_none() {
        return None;
    }
    Some(Stray { key: key.to_owned(), size: entry.size?, stamp: entry.modified })
}
