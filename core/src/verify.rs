//! Which tags cannot be pulled: the gate behind every change of a storage.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::check::{Fault, Image, Wrong};
use crate::name::{Digest, RepoName, Tag};

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
    pub wrong: Wrong,
}

impl std::fmt::Display for TagFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.wrong)
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
            let wrong = fault.wrong.clone();
            entry.faults.push(TagFault { path: fault.path.clone(), wrong });
        }
    }
    broken.into_values().collect()
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
