//! Which tags cannot be pulled: the gate behind every change of a storage.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::check::{Fault, Image, Wrong};
use crate::name::{Digest, RepoName, Tag};
use crate::stored::Stored;

/// A tag that cannot be pulled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct BrokenTag {
    /// Where.
    pub repository: RepoName,
    /// The tag.
    pub tag: Tag,
    /// The manifest it points at, if that is known.
    pub digest: Option<Digest>,
    /// Everything that keeps it from being pulled.
    pub faults: Vec<TagFault>,
}

/// What keeps a tag from being pulled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TagFault {
    /// Where: a key below `docker/registry/v2`.
    pub path: String,
    /// What.
    #[serde(flatten)]
    pub wrong: TagWrong,
}

/// Why a tag cannot be pulled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum TagWrong {
    /// Something is broken.
    Broken(Wrong),
    /// It should be there and is not.
    Gone {
        /// Always `gone`.
        wrong: &'static str,
    },
}

impl std::fmt::Display for TagFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.wrong {
            TagWrong::Broken(wrong) => write!(f, "{}: {wrong}", self.path),
            TagWrong::Gone { .. } => write!(f, "{}: the tag is gone", self.path),
        }
    }
}

/// The tags that cannot be pulled, out of everything that [`crate::check::faults`] has found.
#[must_use]
pub fn broken_tags(faults: &[Fault]) -> Vec<BrokenTag> {
    let mut broken: BTreeMap<(RepoName, Tag), BrokenTag> = BTreeMap::new();
    for fault in faults {
        for Image { repository, tag, digest } in &fault.breaks {
            let Some(tag) = tag else { continue };
            let entry = broken.entry((repository.clone(), tag.clone())).or_insert_with(|| BrokenTag {
                repository: repository.clone(),
                tag: tag.clone(),
                digest: *digest,
                faults: Vec::new(),
            });
            let wrong = TagWrong::Broken(fault.wrong.clone());
            entry.faults.push(TagFault { path: fault.path.clone(), wrong });
        }
    }
    broken.into_values().collect()
}

/// Tags that a run was to keep, and what each points at if that is known.
pub type Kept = BTreeMap<RepoName, BTreeMap<Tag, Option<Digest>>>;

/// The tags of `kept` that are not in `stored` any more. Somebody else may have deleted them; only who deletes can tell.
#[must_use]
pub fn gone_tags(stored: &Stored, kept: &Kept) -> Vec<BrokenTag> {
    let mut gone = Vec::new();
    for (name, tags) in kept {
        let there = stored.repos.get(name).map(|repo| &repo.tags);
        for (tag, digest) in tags.iter().filter(|(tag, _)| there.is_none_or(|tags| !tags.contains_key(*tag)))
        {
            let place = crate::layout::Place::TagCurrent { repo: name.clone(), tag: tag.clone() };
            let fault = TagFault { path: place.key(), wrong: TagWrong::Gone { wrong: "gone" } };
            gone.push(BrokenTag {
                repository: name.clone(),
                tag: tag.clone(),
                digest: *digest,
                faults: vec![fault],
            });
        }
    }
    gone
}

/// What broke in between: the tags of `after` that `before` has not. What could not be pulled before a run is not its doing, even if
/// more is missing of it now.
#[must_use]
pub fn newly_broken<'a>(before: &[BrokenTag], after: &'a [BrokenTag]) -> Vec<&'a BrokenTag> {
    let known: BTreeSet<(&RepoName, &Tag)> =
        before.iter().map(|broken| (&broken.repository, &broken.tag)).collect();
    let is_new = |broken: &&BrokenTag| !known.contains(&(&broken.repository, &broken.tag));
    after.iter().filter(is_new).collect()
}
