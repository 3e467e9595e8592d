//! What a registry holds, seen at one moment, holes included.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::gc::Known;
use crate::in_use::InUse;
use crate::manifest::Manifest;
use crate::name::{Digest, RepoName, Tag};
use crate::stored::Stored;

/// A registry as it was seen.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// `host[:port][/prefix]`: the registry's name.
    pub registry: String,
    /// When the survey began.
    pub taken_at: Timestamp,
    /// What deleting can do there.
    pub powers: Powers,
    /// The repositories that were looked at.
    pub repos: BTreeMap<RepoName, Repo>,
    /// What could not be seen beyond these repositories: a catalog that broke off, a name outside the grammar.
    pub gaps: Vec<String>,
    /// What indexes list that are in repositories which were not looked at.
    pub listed_elsewhere: BTreeSet<Digest>,
    /// What workloads use of it, as far as sources tell.
    pub in_use: InUse,
    /// What the whole storage holds, if it was the storage that was seen; else it was the API, which shows less.
    pub storage: Option<Arc<Holdings>>,
}

/// What a storage holds, and what its manifests list.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    /// The blobs and the links.
    pub stored: Stored,
    /// What every manifest lists.
    pub known: Known,
}

/// A repository as it was seen.
#[derive(Debug, Clone, Default)]
pub struct Repo {
    /// The tags and what they point at; `None` where that could not be learned (a gap says why).
    pub tags: BTreeMap<Tag, Option<Digest>>,
    /// The manifests that were read.
    pub manifests: BTreeMap<Digest, Arc<Manifest>>,
    /// What could not be learned.
    pub gaps: Vec<Gap>,
    /// When each manifest was last pushed, under whatever tag or none; only a storage tells (FACTS section 5).
    pub pushed: BTreeMap<Digest, Timestamp>,
    /// When each tag was last pushed; only a storage tells.
    pub tags_pushed: BTreeMap<Tag, Timestamp>,
    /// When what was pulled, as far as that is watched.
    pub pulls: Option<Pulls>,
    /// Manifests that an earlier run meant to delete and was interrupted before. They may be visible in no other way.
    pub unfinished: BTreeSet<Digest>,
}

/// When tags and manifests of a repository were pulled last. No registry's API tells; its log does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulls {
    /// Since when every pull is known.
    pub since: Timestamp,
    /// The last pull of each tag by its name.
    pub tags: BTreeMap<Tag, Timestamp>,
    /// The last pull of each manifest by its digest.
    pub digests: BTreeMap<Digest, Timestamp>,
}

/// Something that could not be learned. What it concerns is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// What is kept for it.
    pub concerns: Concern,
    /// What happened.
    pub why: String,
}

/// What a gap concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concern {
    /// Everything in the repository: a listing broke off, or a manifest that might need any other is unreadable.
    Repository,
    /// Nothing: it is broken, and nothing that is kept or removed can need it.
    Nothing,
    /// One tag: it points at nothing that exists.
    Tag(Tag),
    /// One manifest: its date or part of it is missing.
    Manifest(Digest),
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.concerns {
            Concern::Repository | Concern::Nothing => write!(f, "{}", self.why),
            Concern::Tag(tag) => write!(f, "tag {tag}: {}", self.why),
            Concern::Manifest(digest) => write!(f, "{digest}: {}", self.why),
        }
    }
}

/// What deleting can do in a registry (FACTS section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Powers {
    /// Manifests are deleted by digest, and every tag on the digest goes with it (Distribution 2.x).
    DeleteOnly,
    /// A tag can be deleted by itself as well (Distribution 3.x, zot and others).
    DeleteAndUntag,
}

impl Repo {
    /// Why everything in this repository must stay, if anything could not be learned that concerns it all.
    pub fn blind_spots(&self) -> impl Iterator<Item = &Gap> {
        self.gaps.iter().filter(|gap| gap.concerns == Concern::Repository)
    }

    /// The tags that point at `digest`.
    pub fn tags_on(&self, digest: Digest) -> impl Iterator<Item = &Tag> {
        self.tags.iter().filter(move |(_, target)| **target == Some(digest)).map(|(tag, _)| tag)
    }

    /// A manifest and all that it lists, at any depth, read or not.
    #[must_use]
    pub fn with_listed(&self, digest: Digest) -> BTreeSet<Digest> {
        let (mut seen, mut queue) = (BTreeSet::new(), vec![digest]);
        while let Some(digest) = queue.pop() {
            if seen.insert(digest) {
                let manifest = self.manifests.get(&digest);
                let children = manifest.into_iter().flat_map(|manifest| manifest.children());
                queue.extend(children.map(|child| child.digest));
            }
        }
        seen
    }
}

impl Inventory {
    /// An inventory of `repos` and nothing else: no gaps beyond them, and no storage seen.
    #[must_use]
    pub fn of(
        registry: String,
        taken_at: Timestamp,
        powers: Powers,
        repos: BTreeMap<RepoName, Repo>,
    ) -> Self {
        let (gaps, listed_elsewhere, storage) = (Vec::new(), BTreeSet::new(), None);
        Self { registry, taken_at, powers, repos, gaps, listed_elsewhere, in_use: InUse::default(), storage }
    }

    /// Takes a manifest out that turned out to be absent; whoever lists it is a gap from then on.
    pub fn forget(&mut self, name: &RepoName, child: Digest, why: &str) {
        let Some(repo) = self.repos.get_mut(name) else { return };
        repo.manifests.remove(&child);
        let lists = |manifest: &Manifest| manifest.children().iter().any(|listed| listed.digest == child);
        let parents = repo.manifests.iter().filter(|(_, manifest)| lists(manifest));
        let why = format!("its child {child} {why}");
        repo.gaps.extend(
            parents.map(|(parent, _)| Gap { concerns: Concern::Manifest(*parent), why: why.clone() }),
        );
    }

    /// Every gap as a sentence that names its repository.
    pub fn gap_lines(&self) -> impl Iterator<Item = String> + '_ {
        let repos = self.repos.iter();
        let of_repos =
            repos.flat_map(|(name, repo)| repo.gaps.iter().map(move |gap| format!("{name}: {gap}")));
        self.gaps.iter().cloned().chain(of_repos)
    }
}
