//! What stays of a repository because workloads use it.

use std::collections::BTreeMap;

use crate::decision::Ground;
use crate::in_use::{Holders, InUse};
use crate::inventory::{Inventory, Repo};
use crate::name::{Digest, RepoName, Tag};

/// Who uses what in one repository.
pub(super) struct Held<'a> {
    in_use: &'a InUse,
    repository: &'a RepoName,
    /// The manifests that are held by their own digest or by that of their configuration, tagged or not.
    manifests: BTreeMap<Digest, Holders>,
}

impl<'a> Held<'a> {
    pub(super) fn find(inventory: &'a Inventory, repository: &'a RepoName, repo: &Repo) -> Self {
        let in_use = &inventory.in_use;
        let mut manifests = BTreeMap::new();
        if in_use.may_hold_digests(repository) {
            for (digest, manifest) in &repo.manifests {
                let holders = in_use.of_manifest(repository, *digest, manifest);
                if !holders.is_empty() {
                    manifests.insert(*digest, holders);
                }
            }
        }
        Self { in_use, repository, manifests }
    }

    /// The ground of a tag that is used by its name, or whose manifest is used.
    pub(super) fn tag(&self, tag: &Tag, target: Option<Digest>) -> Option<Ground> {
        let mut by = self.in_use.of_tag(self.repository, tag);
        by.extend(target.and_then(|digest| self.manifests.get(&digest)).into_iter().flatten().cloned());
        (!by.is_empty()).then_some(Ground::InUse { by })
    }

    /// The manifests that are used, whoever else needs them.
    pub(super) fn manifests(&self) -> impl Iterator<Item = (Digest, Ground)> + '_ {
        self.manifests.iter().map(|(digest, by)| (*digest, Ground::InUse { by: by.clone() }))
    }
}

#[cfg(test)]
mod tests;
