//! Reads the links whose listing does not tell what they say: tags, other names of blobs, and whatever is not 71 bytes long.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Digest, RepoName};
use clean_registry_core::stored::{Blobs, Spares, Stored};
use md5::{Digest as _, Md5};

use super::found::{Found, Link, gap};
use crate::storage::{Storage, StorageError, absolute};

/// What a link says; `None` if it is gone by now; else what is wrong with it.
type Said = Result<Option<Digest>, String>;

/// Reads what has to be read, but for tags. What cannot be is a gap.
pub(super) async fn read(storage: &dyn Storage, blobs: &Blobs, found: &mut Found) {
    let links = std::mem::take(&mut found.to_read).into_iter();
    let links: HashMap<String, Link> = links.map(|link| (link.entry.key.clone(), link)).collect();
    for (key, said) in read_all(storage, links.keys().cloned().collect()).await {
        found.note_said(&links[&key], said, blobs);
    }
    resolve_tags_by_md5(found);
}

/// Reads every tag of which it is not known what it says. What cannot be is a gap.
pub(super) async fn read_tags(storage: &dyn Storage, stored: &mut Stored) {
    let keys = unread_tags(stored).map(|tag| absolute(&tag.key())).collect();
    for (key, said) in read_all(storage, keys).await {
        note_tag(stored, &key, said);
    }
}

/// The tags of which it is not known what they say, those of one repository together.
fn unread_tags(stored: &Stored) -> impl Iterator<Item = Place> + '_ {
    stored.repos.iter().flat_map(|(name, repo)| {
        let unread = repo.tags.iter().filter(|(_, stored)| stored.target.is_none());
        unread.map(move |(tag, _)| Place::TagCurrent { repo: name.clone(), tag: tag.clone() })
    })
}

fn note_tag(stored: &mut Stored, key: &str, said: Said) {
    let Some(Place::TagCurrent { repo, tag }) = Place::parse(&key[PREFIX.len() + 1..]) else { return };
    let Some(tags) = stored.repos.get_mut(&repo).map(|repo| &mut repo.tags) else { return };
    match (said, tags.get_mut(&tag)) {
        (Ok(Some(target)), Some(stored)) => stored.target = Some(target),
        // It was deleted since it was listed.
        (Ok(_), _) => drop(tags.remove(&tag)),
        // Which manifest it was meant for is not known: none of them is unneeded.
        (Err(why), _) => stored.gaps.push(gap(key, Spares::Manifests, why)),
    }
}

async fn read_all(storage: &dyn Storage, keys: Vec<String>) -> Vec<(String, Said)> {
    let read = Mutex::new(Vec::with_capacity(keys.len()));
    let on_read = |key: String, bytes: Result<Option<Vec<u8>>, StorageError>| {
        let said = said(bytes);
        read.lock().unwrap_or_else(PoisonError::into_inner).push((key, said));
    };
    storage.read_all(keys, &on_read).await;
    read.into_inner().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn said(bytes: Result<Option<Vec<u8>>, StorageError>) -> Said {
    let Some(bytes) = bytes.map_err(|error| error.to_string())? else { return Ok(None) };
    if bytes.is_empty() {
        return Err("the link is empty".to_owned());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "the link is not text".to_owned())?;
    // A newline at the end makes it invalid to a registry, too (FACTS section 1).
    text.parse().map(Some).map_err(|_| format!("the link says {text:?}, which is no sha256 digest"))
}

/// A link is 71 bytes whose MD5 object stores tell: which of the repository's manifests it names can be known without
/// reading it.
fn resolve_tags_by_md5(found: &mut Found) {
    let mut by_repo: HashMap<RepoName, Vec<(clean_registry_core::name::Tag, [u8; 16])>> = HashMap::new();
    for ((repo, tag), md5) in found.md5s.drain() {
        by_repo.entry(repo).or_default().push((tag, md5));
    }
    for (name, tags) in by_repo {
        let Some(repo) = found.repos.get_mut(&name) else { continue };
        let named: HashMap<[u8; 16], Digest> =
            repo.revisions.keys().map(|digest| (Md5::digest(digest.to_string()).into(), *digest)).collect();
        for (tag, md5) in tags {
            if let (Some(stored), Some(digest)) = (repo.tags.get_mut(&tag), named.get(&md5)) {
                stored.target = Some(*digest);
            }
        }
    }
}

impl Found {
    fn note_said(&mut self, link: &Link, said: Said, blobs: &Blobs) {
        let (key, stamp) = (&link.entry.key, link.entry.modified);
        match (&link.place, said) {
            (Some(Place::RevisionLink { repo, .. }), Ok(Some(target))) => {
                self.repos.entry(repo.clone()).or_default().revisions.insert(target, stamp);
            }
            // The path says what the link should: that is a root whatever the link says.
            (Some(Place::RevisionLink { .. }), Err(why)) => self.gap(key, Spares::Manifests, why),
            (Some(Place::LayerLink { repo, digest }), Ok(Some(target))) => {
                let repo = self.repos.entry(repo.clone()).or_default();
                if target == *digest {
                    repo.layers.extend(blobs.find(target).map(|blob| (blob, stamp)));
                } else {
                    repo.aliases.push((digest.to_string(), Some(target), stamp));
                }
            }
            (Some(Place::LayerLink { repo, digest }), Err(why)) => {
                let repo = self.repos.entry(repo.clone()).or_default();
                repo.layers.extend(blobs.find(*digest).map(|blob| (blob, stamp)));
                self.gap(key, Spares::Nothing, why);
            }
            (Some(Place::LayerAlias { repo, alias }), Ok(target)) => {
                let repo = self.repos.entry(repo.clone()).or_default();
                repo.aliases.push((alias.to_string(), target, stamp));
            }
            // Which blob it stands for is not known, and a manifest may name it so.
            (Some(Place::LayerAlias { .. }), Err(why)) => self.gap(key, Spares::Everything, why),
            (None, Ok(Some(target))) => {
                self.odd.roots.push(target);
                self.gap(
                    key,
                    Spares::Manifests,
                    "no registry would take this for a manifest; it is kept".to_owned(),
                );
            }
            (None, Err(why)) => self.gap(key, Spares::Everything, why),
            _ => {}
        }
    }
}
