//! What workloads use: references as they write them, held against the registry's names.
//!
//! Whatever may be meant is held: a tag by its name, a manifest by its digest or by that of its configuration, which is the ID that an
//! engine shows of an image. What cannot be read is told and never passed over in silence.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{Content, Manifest};
use crate::name::{Digest, RepoName, Tag, count};

mod names;
mod reference;

pub use names::{NotAName, RegistryNames};
pub use reference::{Reference, Unreadable};

/// Who holds something: workloads in words, such as `Deployment shop/api, context prod`.
pub type Holders = BTreeSet<String>;

/// How many holders of one image are named in a sentence.
const NAMED: usize = 3;

/// The first of `holders`, and how many there are beside them.
#[must_use]
pub fn named(holders: &Holders) -> String {
    let named: Vec<&str> = holders.iter().take(NAMED).map(String::as_str).collect();
    let others = holders.len() - named.len();
    let named = named.join(", ");
    if others == 0 { named } else { format!("{named} and {}", count(others, "other", "others")) }
}

/// What workloads use of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    repos: BTreeMap<RepoName, Held>,
    /// Digests that came without a repository: image IDs.
    anywhere: BTreeMap<Digest, Holders>,
    /// What could not be read of references and of sources that may be missing, a sentence each.
    pub unread: BTreeSet<String>,
}

/// What is held of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Held {
    tags: BTreeMap<Tag, Holders>,
    digests: BTreeMap<Digest, Holders>,
}

/// What a reference came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// It is of this registry.
    Here,
    /// A digest without a repository: it may be of this registry.
    Anywhere,
    /// It is of another registry.
    Elsewhere,
    /// It cannot be read.
    Unreadable,
}

impl InUse {
    /// Holds what `text`, a reference as a workload writes it, names in the registry of these `names`; `by` says who uses it.
    pub fn hold(&mut self, names: &RegistryNames, text: &str, by: &str) -> Matched {
        match Reference::parse(text) {
            Ok(reference) => self.hold_reference(names, &reference, by),
            Err(unreadable) => {
                // A digest is the same digest under whatever name.
                if let Some(digest) = unreadable.digest {
                    add(&mut self.anywhere, digest, by);
                }
                self.unread.insert(format!("{by}: {unreadable}"));
                Matched::Unreadable
            }
        }
    }

    fn hold_reference(&mut self, names: &RegistryNames, reference: &Reference, by: &str) -> Matched {
        let Reference::Image { tag, digest, .. } = reference else {
            if let Reference::Id(digest) = reference {
                add(&mut self.anywhere, *digest, by);
            }
            return Matched::Anywhere;
        };
        let repositories = names.repositories(reference);
        for repository in &repositories {
            let held = self.repos.entry(repository.clone()).or_default();
            if let Some(tag) = tag {
                add(&mut held.tags, tag.clone(), by);
            }
            if let Some(digest) = digest {
                add(&mut held.digests, *digest, by);
            }
        }
        if repositories.is_empty() { Matched::Elsewhere } else { Matched::Here }
    }

    /// Adds what is held by `other`.
    pub fn extend(&mut self, other: Self) {
        for (repository, held) in other.repos {
            let own = self.repos.entry(repository).or_default();
            merge(&mut own.tags, held.tags);
            merge(&mut own.digests, held.digests);
        }
        merge(&mut self.anywhere, other.anywhere);
        self.unread.extend(other.unread);
    }

    /// Whether nothing is held in any repository.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.repos.is_empty() && self.anywhere.is_empty()
    }

    /// Who uses `tag` of `repository` by its name.
    #[must_use]
    pub fn of_tag(&self, repository: &RepoName, tag: &Tag) -> Holders {
        let held = self.repos.get(repository).and_then(|held| held.tags.get(tag));
        held.cloned().unwrap_or_default()
    }

    /// Who uses `digest` of `repository`, by the repository's name or without one.
    #[must_use]
    pub fn of_digest(&self, repository: &RepoName, digest: Digest) -> Holders {
        let here = self.repos.get(repository).and_then(|held| held.digests.get(&digest));
        let anywhere = self.anywhere.get(&digest);
        here.into_iter().chain(anywhere).flatten().cloned().collect()
    }

    /// What is used of `repository` by digest and by the repository's name, whether it is there or not.
    pub fn digests(&self, repository: &RepoName) -> impl Iterator<Item = Digest> + use<> {
        let held = self.repos.get(repository).map(|held| held.digests.keys().copied().collect::<Vec<_>>());
        held.unwrap_or_default().into_iter()
    }

    /// Who uses a manifest of `repository`, by its digest or by that of its configuration.
    #[must_use]
    pub fn of_manifest(&self, repository: &RepoName, digest: Digest, manifest: &Manifest) -> Holders {
        if !self.may_hold_digests(repository) {
            return Holders::new();
        }
        let mut holders = self.of_digest(repository, digest);
        for id in ids(manifest) {
            holders.extend(self.of_digest(repository, id));
        }
        holders
    }

    /// Whether any digest of `repository` may be held.
    #[must_use]
    pub fn may_hold_digests(&self, repository: &RepoName) -> bool {
        let here = || self.repos.get(repository).is_some_and(|held| !held.digests.is_empty());
        !self.anywhere.is_empty() || here()
    }
}

/// What an engine may show as the ID of an image, beside the digest of its manifest: the configuration. Which blob of an artifact is
/// its configuration is not told.
fn ids(manifest: &Manifest) -> impl Iterator<Item = Digest> + '_ {
    let (config, blobs) = match &manifest.content {
        Content::Image { config, .. } => (Some(config.digest), None),
        Content::Artifact { blobs } => (None, Some(blobs)),
        Content::Index { .. } | Content::Schema1 { .. } => (None, None),
    };
    config.into_iter().chain(blobs.into_iter().flatten().map(|blob| blob.digest))
}

fn add<K: Ord>(held: &mut BTreeMap<K, Holders>, key: K, by: &str) {
    held.entry(key).or_default().insert(by.to_owned());
}

fn merge<K: Ord>(held: &mut BTreeMap<K, Holders>, more: BTreeMap<K, Holders>) {
    for (key, holders) in more {
        held.entry(key).or_default().extend(holders);
    }
}

#[cfg(test)]
mod tests;
