//! A registry that deletes as Distribution does (FACTS section 2): by digest with every tag on it, a tag by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use clean_registry_core::inventory::{Inventory, Powers, Repo};
use clean_registry_core::manifest::{Child, Manifest};
use clean_registry_core::name::{Digest, RepoName};
use clean_registry_core::plan::{Action, Step};

use crate::reference;

#[derive(Debug, Clone)]
pub struct Registry {
    inventory: Inventory,
    vault: BTreeMap<(RepoName, Digest), Arc<Manifest>>,
}

impl PartialEq for Registry {
    /// Whether a client would see the same.
    fn eq(&self, other: &Self) -> bool {
        let seen = |registry: &Self| -> Vec<_> {
            let repos = registry.inventory.repos.iter();
            repos.map(|(name, repo)| (name.clone(), repo.tags.clone(), repo.manifests.clone())).collect()
        };
        seen(self) == seen(other)
    }
}

impl Registry {
    pub fn of(inventory: &Inventory) -> Self {
        Self { inventory: inventory.clone(), vault: BTreeMap::new() }
    }

    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Takes one step. Panics where a registry would answer with an error, or do more than the step says.
    pub fn apply(&mut self, step: &Step) {
        let powers = self.inventory.powers;
        let repo = self.inventory.repos.get_mut(&step.repository).expect("the repository exists");
        let vaulted = (step.repository.clone(), step.digest);
        match step.action {
            Action::Delete => {
                let manifest = repo.manifests.remove(&step.digest).expect("the manifest exists");
                self.vault.insert(vaulted, manifest);
                let taken_along: Vec<_> = repo.tags_on(step.digest).cloned().collect();
                let mut told = step.tags.clone();
                told.sort();
                assert_eq!(taken_along, told, "deleting takes the tags along that the step names");
                repo.tags.retain(|_, target| *target != Some(step.digest));
            }
            Action::Untag => {
                assert_eq!(powers, Powers::DeleteAndUntag);
                assert_eq!(repo.tags.remove(&step.tags[0]), Some(Some(step.digest)));
            }
            Action::Tag => {
                assert!(repo.manifests.contains_key(&step.digest), "the manifest exists");
                repo.tags.insert(step.tags[0].clone(), Some(step.digest));
            }
            Action::Restore if repo.manifests.contains_key(&step.digest) => {}
            Action::Restore => {
                let vault = &self.vault;
                let manifest = Arc::clone(vault.get(&vaulted).expect("the vault holds it"));
                // A registry refuses an index before its children (Distribution 3).
                let to_come = |child: &Child| {
                    vault.contains_key(&(step.repository.clone(), child.digest))
                        && !repo.manifests.contains_key(&child.digest)
                };
                assert!(!manifest.children().iter().any(to_come), "children are put back before");
                repo.manifests.insert(step.digest, manifest);
            }
        }
    }

    /// Whether what `step` would bring about is so already.
    pub fn holds(&self, step: &Step) -> bool {
        let repo = &self.inventory.repos[&step.repository];
        match step.action {
            Action::Delete => !repo.manifests.contains_key(&step.digest),
            Action::Restore => repo.manifests.contains_key(&step.digest),
            Action::Untag => !repo.tags.contains_key(&step.tags[0]),
            Action::Tag => repo.tags.get(&step.tags[0]) == Some(&Some(step.digest)),
        }
    }

    /// What the journal of an interrupted run tells the next one.
    pub fn mark_unfinished(&mut self, step: &Step) {
        let repo = self.inventory.repos.get_mut(&step.repository).expect("the repository exists");
        repo.unfinished.insert(step.digest);
    }

    /// Panics if anything that remains has lost something it had.
    pub fn check_whole_since(&self, before: &Inventory) {
        for (name, now) in &self.inventory.repos {
            let was = &before.repos[name];
            let lost =
                |digest: &Digest| was.manifests.contains_key(digest) && !now.manifests.contains_key(digest);
            for (tag, target) in &now.tags {
                assert!(!target.as_ref().is_some_and(lost), "{tag} leads to nothing");
            }
            for (digest, manifest) in &now.manifests {
                let children = manifest.children().iter().map(|child| child.digest);
                for needed in children.chain(manifest.subject) {
                    assert!(!lost(&needed), "{digest} has lost {needed}");
                }
            }
            check_bound_tags(was, now, before.powers, lost);
        }
    }
}

/// A tag that by its name is about something goes before it, unless it cannot: where tags are not deleted alone,
/// while something else keeps its manifest, and where names contradict digests.
fn check_bound_tags(was: &Repo, now: &Repo, powers: Powers, lost: impl Fn(&Digest) -> bool) {
    for (tag, target) in &now.tags {
        let (Some(subject), Some(target)) = (tag.subject(), target) else { continue };
        if lost(&subject) && powers == Powers::DeleteAndUntag {
            let knotted = reference::leads(was, subject, *target);
            assert!(knotted, "{tag} remains while what it is about is gone");
        }
    }
}
