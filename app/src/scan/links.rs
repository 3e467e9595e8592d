//! Reads the links whose listing does not tell what they say: tags, other names of blobs, and whatever is not 71 bytes long.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, RepoName};
use clean_registry_core::stored::{Blobs, Spares};
use md5::{Digest as _, Md5};

use super::{Found, Link};
use crate::storage::{Storage, StorageError, absolute};

/// Reads what has to be read. What cannot be is a gap.
pub(super) async fn read(storage: &dyn Storage, blobs: &Blobs, found: &mut Found) {
    resolve_tags_by_md5(found);
    let wanted = std::mem::take(&mut found.to_read).into_iter().filter(|link| match &link.place {
        Some(Place::TagCurrent { repo, tag }) => {
            found.repos.get(repo).is_some_and(|repo| repo.tags[tag].target.is_none())
        }
        _ => true,
    });
    let links: HashMap<String, Link> = wanted.map(|link| (absolute(&link.key), link)).collect();
    let read = Mutex::new(Vec::with_capacity(links.len()));
    let on_read = |key: String, bytes: Result<Option<Vec<u8>>, StorageError>| {
        read.lock().unwrap_or_else(PoisonError::into_inner).push((key, said(bytes)));
    };
    // Links of one repository lie together: its folder is looked for once.
    let mut keys: Vec<String> = links.keys().cloned().collect();
    keys.sort_unstable();
    storage.read_all(keys, &on_read).await;
    for (key, said) in read.into_inner().unwrap_or_else(PoisonError::into_inner) {
        if let Some(link) = links.get(&key) {
            found.note_said(link, said, blobs);
        }
    }
}

/// What a link says; `None` if it is gone by now.
pub(super) fn said(bytes: Result<Option<Vec<u8>>, StorageError>) -> Result<Option<Digest>, String> {
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
    fn note_said(&mut self, link: &Link, said: Result<Option<Digest>, String>, blobs: &Blobs) {
        let stamp = link.entry.modified;
        match (&link.place, said) {
            (Some(Place::TagCurrent { repo, tag }), Ok(target)) => {
                let repo = self.repos.entry(repo.clone()).or_default();
                match (target, repo.tags.get_mut(tag)) {
                    (Some(target), Some(tag)) => tag.target = Some(target),
                    // It was deleted since it was listed.
                    _ => drop(repo.tags.remove(tag)),
                }
            }
            // Which manifest it was meant for is not known: none of them is unneeded.
            (Some(Place::TagCurrent { .. }), Err(why)) => self.gap(link, Spares::Manifests, why),
            (Some(Place::RevisionLink { repo, .. }), Ok(Some(target))) => {
                self.repos.entry(repo.clone()).or_default().revisions.insert(target, stamp);
            }
            // The path says what the link should: that is a root whatever the link says.
            (Some(Place::RevisionLink { .. }), Err(why)) => self.gap(link, Spares::Manifests, why),
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
                self.gap(link, Spares::Nothing, why);
            }
            (Some(Place::LayerAlias { repo, alias }), Ok(target)) => {
                let repo = self.repos.entry(repo.clone()).or_default();
                repo.aliases.push((alias.to_string(), target, stamp));
            }
            // Which blob it stands for is not known, and a manifest may name it so.
            (Some(Place::LayerAlias { .. }), Err(why)) => self.gap(link, Spares::Everything, why),
            (None, Ok(Some(target))) => {
                self.odd.roots.push(target);
                self.gap(
                    link,
                    Spares::Manifests,
                    "no registry would take this for a manifest; it is kept".to_owned(),
                );
            }
            (None, Err(why)) => self.gap(link, Spares::Everything, why),
            _ => {}
        }
    }
}
