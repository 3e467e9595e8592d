//! Manifests that no tag points at and nothing here needs: they go by a rule of their own, by their last push.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::Verdicts;
use crate::decision::{Cause, Decision, Ground, Undated};
use crate::graph::Graph;
use crate::inventory::{Inventory, Repo};
use crate::name::{Digest, RepoName};

/// Each untagged manifest that nothing in its repository needs: the cause for it to go, or the ground to keep it.
pub(super) type Untagged = BTreeMap<Digest, Result<Cause, Ground>>;

/// Looks for them in a repository. What an index lists, or what is about something that is here, goes and stays with that.
pub(super) fn find(
    repo: &Repo,
    graph: &Graph<'_>,
    (keep, now): (SignedDuration, Timestamp),
    is_listed_elsewhere: impl Fn(Digest) -> bool,
) -> Untagged {
    let mut found = Untagged::new();
    for (digest, manifest) in &repo.manifests {
        let subject = manifest.subject.filter(|subject| repo.manifests.contains_key(subject));
        let is_needed = subject.is_some()
            || !graph.tags_on(*digest).is_empty()
            || graph.parents(*digest).any(|parent| parent != *digest);
        if !is_needed {
            let claim = match repo.pushed.get(digest) {
                _ if is_listed_elsewhere(*digest) => Err(Ground::ListedElsewhere),
                None => Err(Ground::Undated { why: Undated::PushUnknown }),
                Some(pushed) => claim(*pushed, keep, now),
            };
            found.insert(*digest, claim);
        }
    }
    found
}

fn claim(pushed: Timestamp, keep: SignedDuration, now: Timestamp) -> Result<Cause, Ground> {
    let age = now.duration_since(pushed);
    if age > keep {
        Ok(Cause::Untagged { pushed, age, keep })
    } else {
        Err(Ground::RecentlyPushed { pushed, keep })
    }
}

/// Which repositories list what. Whether the repository of an untagged manifest should serve it to an index of another one is
/// not for a rule to decide: it stays (FACTS section 8, 4).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lists<'a>(BTreeMap<Digest, BTreeSet<&'a RepoName>>);

impl<'a> Lists<'a> {
    /// As far as indexes stay by `verdicts`; without a verdict they do.
    pub(super) fn remaining(inventory: &'a Inventory, verdicts: &Verdicts) -> Self {
        let mut lists = Self::default();
        for (name, repo) in &inventory.repos {
            let judged = verdicts.repos.get(name);
            let goes = |digest| {
                matches!(judged.and_then(|judged| judged.manifests.get(digest)), Some(Decision::Remove(_)))
            };
            for (_, manifest) in repo.manifests.iter().filter(|(digest, _)| !goes(digest)) {
                for child in manifest.children() {
                    lists.0.entry(child.digest).or_default().insert(name);
                }
            }
        }
        lists
    }

    /// Whether an index of any repository but `name` lists `digest`.
    pub(super) fn list_outside(&self, name: &RepoName, digest: Digest) -> bool {
        self.0.get(&digest).is_some_and(|repos| repos.iter().any(|repo| *repo != name))
    }
}
