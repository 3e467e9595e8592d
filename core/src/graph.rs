//! Who needs whom in a repository.

use std::collections::{BTreeMap, BTreeSet};

use crate::inventory::Repo;
use crate::name::{Digest, Tag};

/// The edges between a repository's tags and manifests, each in both directions.
///
/// An index needs its children. A referrer is about its subject, by `subject` in its manifest or by its tag's name
/// (the fallback tag `sha256-<hex>`, cosign's `.sig`, `.att`, `.sbom`). The second binds the *tag*, not the manifest:
/// two subjects may well have the same empty index as their list of referrers.
#[derive(Debug)]
pub struct Graph<'a> {
    repo: &'a Repo,
    parents: BTreeMap<Digest, BTreeSet<Digest>>,
    referrers: BTreeMap<Digest, BTreeSet<Digest>>,
    tags_on: BTreeMap<Digest, Vec<&'a Tag>>,
    tags_about: BTreeMap<Digest, Vec<&'a Tag>>,
}

impl<'a> Graph<'a> {
    /// The graph of a repository.
    #[must_use]
    pub fn new(repo: &'a Repo) -> Self {
        let mut graph = Self {
            repo,
            parents: BTreeMap::new(),
            referrers: BTreeMap::new(),
            tags_on: BTreeMap::new(),
            tags_about: BTreeMap::new(),
        };
        for (digest, manifest) in &repo.manifests {
            for child in manifest.children() {
                graph.parents.entry(child.digest).or_default().insert(*digest);
            }
            if let Some(subject) = manifest.subject {
                graph.referrers.entry(subject).or_default().insert(*digest);
            }
        }
        for (tag, target) in &repo.tags {
            if let Some(digest) = target {
                graph.tags_on.entry(*digest).or_default().push(tag);
            }
            if let Some(subject) = tag.subject() {
                graph.tags_about.entry(subject).or_default().push(tag);
            }
        }
        graph
    }

    /// The manifests that `digest` lists, seen or not.
    pub fn children(&self, digest: Digest) -> impl Iterator<Item = Digest> + '_ {
        let manifest = self.repo.manifests.get(&digest);
        manifest.into_iter().flat_map(|manifest| manifest.children().iter().map(|child| child.digest))
    }

    /// The indexes that list `digest`.
    pub fn parents(&self, digest: Digest) -> impl Iterator<Item = Digest> + '_ {
        self.parents.get(&digest).into_iter().flatten().copied()
    }

    /// The manifest that `digest` says it is about.
    #[must_use]
    pub fn subject(&self, digest: Digest) -> Option<Digest> {
        self.repo.manifests.get(&digest)?.subject
    }

    /// The manifests that say they are about `digest`.
    pub fn referrers(&self, digest: Digest) -> impl Iterator<Item = Digest> + '_ {
        self.referrers.get(&digest).into_iter().flatten().copied()
    }

    /// The tags that point at `digest`.
    #[must_use]
    pub fn tags_on(&self, digest: Digest) -> &[&'a Tag] {
        self.tags_on.get(&digest).map_or(&[], Vec::as_slice)
    }

    /// The tags that by their name are about `digest`.
    #[must_use]
    pub fn tags_about(&self, digest: Digest) -> &[&'a Tag] {
        self.tags_about.get(&digest).map_or(&[], Vec::as_slice)
    }

    /// What `tag` points at, where that is known.
    #[must_use]
    pub fn target(&self, tag: &Tag) -> Option<Digest> {
        self.repo.tags.get(tag).copied().flatten()
    }

    /// What `tag` is about, by its name or by the manifest it points at: then it is no image of its own.
    #[must_use]
    pub fn subject_of_tag(&self, tag: &Tag) -> Option<Digest> {
        tag.subject().or_else(|| self.subject(self.target(tag)?))
    }
}
