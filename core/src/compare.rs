//! What another policy would do differently.

use serde::Serialize;

use crate::decision::Decision;
use crate::inventory::Inventory;
use crate::name::{Digest, RepoName, Tag};
use crate::plan::{Estimate, draw};
use crate::policy::{Policy, judge};

/// Two policies over one registry.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// What the two decide differently: tags, and manifests without a tag.
    pub differences: Vec<Difference>,
    /// What this policy would free.
    pub here: Estimate,
    /// What the other would free.
    pub there: Estimate,
}

/// Something of which one policy keeps what the other removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where it is.
    pub repository: RepoName,
    /// The tag; `None`: a manifest without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// The manifest, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// What this policy decides.
    pub here: Decision,
    /// What the other decides.
    pub there: Decision,
}

/// Judges `inventory` by `policy` and by `other`, as of when it was taken.
#[must_use]
pub fn compare(inventory: &Inventory, policy: &Policy, other: &Policy) -> Comparison {
    let now = inventory.taken_at;
    let (here, there) = (judge(inventory, policy, now), judge(inventory, other, now));
    let mut differences = Vec::new();
    for (name, repo) in &inventory.repos {
        let (Some(mine), Some(theirs)) = (here.repos.get(name), there.repos.get(name)) else { continue };
        let mut note = |tag: Option<&Tag>, digest: Option<Digest>, here: &Decision, there: &Decision| {
            if here.is_keep() != there.is_keep() {
                let (repository, tag) = (name.clone(), tag.cloned());
                differences.push(Difference {
                    repository,
                    tag,
                    digest,
                    here: here.clone(),
                    there: there.clone(),
                });
            }
        };
        for (tag, decision) in &mine.tags {
            if let Some(other) = theirs.tags.get(tag) {
                note(Some(tag), repo.tags.get(tag).copied().flatten(), decision, other);
            }
        }
        for (digest, decision) in &mine.manifests {
            let is_tagged = repo.tags_on(*digest).next().is_some();
            if let Some(other) = theirs.manifests.get(digest).filter(|_| !is_tagged) {
                note(None, Some(*digest), decision, other);
            }
        }
    }
    let estimate = |verdicts, policy| draw(inventory, verdicts, policy, now).estimate;
    Comparison { differences, here: estimate(&here, policy), there: estimate(&there, other) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Powers;
    use crate::sample::{days_old, policy, repo, world};

    #[test]
    fn a_tag_that_only_one_of_two_policies_removes_is_a_difference() {
        let sample = repo("app")
            .image("old", &days_old(40))
            .image("older", &days_old(80))
            .image("child", &days_old(40))
            .index("index", &["child"])
            .tag("v1", "old")
            .tag("v0", "older")
            .tag("i", "index");
        let world = world(Powers::DeleteAndUntag, [sample]);
        let longer = Policy { days_to_keep: Some(60), ..policy() };
        let compared = compare(&world.inventory, &policy(), &longer);
        let tags: Vec<String> = compared
            .differences
            .iter()
            .map(|found| found.tag.as_ref().map(ToString::to_string).unwrap_or_default())
            .collect();
        assert_eq!(tags, ["i", "v1", ""], "the child of the index has no tag of its own");
        assert!(compared.differences.iter().all(|found| !found.here.is_keep() && found.there.is_keep()));
        assert_ne!(compared.here, compared.there);
        assert!(compare(&world.inventory, &longer, &longer).differences.is_empty());
    }
}
