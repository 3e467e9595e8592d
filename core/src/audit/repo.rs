//! The audit of one repository: every step is held against what is there, and against every other step.

use std::collections::{BTreeMap, BTreeSet};

use super::{Surroundings, Unsound};
use crate::inventory::{Concern, Gap, Powers, Repo};
use crate::name::{Digest, RepoName, Tag};
use crate::plan::{Action, Step};

pub(super) struct RepoAudit<'a> {
    pub(super) name: &'a RepoName,
    pub(super) repo: &'a Repo,
    pub(super) surroundings: &'a Surroundings<'a>,
    steps: Vec<(usize, &'a Step)>,
    /// Who lists or is about whom, read straight from the manifests.
    pointers: BTreeMap<Digest, BTreeSet<Digest>>,
    tags_on: BTreeMap<Digest, BTreeSet<&'a Tag>>,
    /// The tags that by their name are about a manifest.
    tags_about: BTreeMap<Digest, BTreeSet<&'a Tag>>,
    /// What could not be learned of a manifest.
    gaps: BTreeMap<Digest, &'a Gap>,
    stale: BTreeMap<usize, String>,
}

impl<'a> RepoAudit<'a> {
    pub(super) fn new(
        (name, repo): (&'a RepoName, &'a Repo),
        surroundings: &'a Surroundings<'a>,
        steps: impl Iterator<Item = (usize, &'a Step)>,
    ) -> Self {
        let mut pointers: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for (digest, manifest) in &repo.manifests {
            for target in manifest.children().iter().map(|child| child.digest).chain(manifest.subject) {
                pointers.entry(target).or_default().insert(*digest);
            }
        }
        let mut tags_on: BTreeMap<Digest, BTreeSet<&Tag>> = BTreeMap::new();
        let mut tags_about: BTreeMap<Digest, BTreeSet<&Tag>> = BTreeMap::new();
        for (tag, target) in &repo.tags {
            if let Some(digest) = target {
                tags_on.entry(*digest).or_default().insert(tag);
            }
            if let Some(subject) = tag.subject() {
                tags_about.entry(subject).or_default().insert(tag);
            }
        }
        let of_manifest = |gap: &'a Gap| match gap.concerns {
            Concern::Manifest(digest) => Some((digest, gap)),
            Concern::Repository | Concern::Nothing | Concern::Tag(_) => None,
        };
        let gaps = repo.gaps.iter().filter_map(of_manifest).collect();
        let (steps, stale) = (steps.collect(), BTreeMap::new());
        Self { name, repo, surroundings, steps, pointers, tags_on, tags_about, gaps, stale }
    }

    /// The stale steps by position, with what has changed.
    pub(super) fn run(mut self) -> Result<BTreeMap<usize, String>, Unsound> {
        if let Some(gap) = self.repo.blind_spots().next() {
            // What is put back can harm nothing that cannot be seen.
            let why = format!("the repository can no longer be read whole: {gap}");
            let removals = self.steps.iter().filter(|(_, step)| step.action.removes());
            self.stale.extend(removals.map(|(position, _)| (*position, why.clone())));
        }
        // Taking one step out may take others with it, until nothing changes.
        loop {
            let deleted = self.deleted();
            let found: Vec<(usize, String)> = self
                .steps
                .iter()
                .filter(|(position, _)| !self.stale.contains_key(position))
                .filter_map(|(position, step)| Some((*position, self.objection(*position, step, &deleted)?)))
                .collect();
            if found.is_empty() {
                break;
            }
            self.stale.extend(found);
        }
        self.check_order()?;
        Ok(self.stale)
    }

    /// What the remaining steps delete, and at which position.
    fn deleted(&self) -> BTreeMap<Digest, usize> {
        let remaining = self.steps.iter().filter(|(position, _)| !self.stale.contains_key(position));
        let deletes = remaining.filter(|(_, step)| step.action == Action::Delete);
        deletes.map(|(position, step)| (step.digest, *position)).collect()
    }

    fn objection(&self, position: usize, step: &Step, deleted: &BTreeMap<Digest, usize>) -> Option<String> {
        if step.claims_orphan() && !self.surroundings.is_storage_seen {
            return Some("only the storage shows that what it is about is gone".to_owned());
        }
        match step.action {
            Action::Delete => self.object_to_delete(step, deleted),
            Action::Untag if self.surroundings.powers == Powers::DeleteOnly => {
                Some("this registry cannot delete a tag alone".to_owned())
            }
            Action::Untag => {
                let about = step.tags.iter().filter_map(Tag::subject);
                let moved = self.object_to_moved_tags(step).or_else(|| self.object_to_in_use(step));
                moved.or_else(|| self.object_to_subjects(about, deleted))
            }
            Action::Tag => self.object_to_tag(position, step),
            Action::Restore => None,
        }
    }

    fn object_to_delete(&self, step: &Step, deleted: &BTreeMap<Digest, usize>) -> Option<String> {
        let Some(manifest) = self.repo.manifests.get(&step.digest) else {
            return Some("there is no such manifest".to_owned());
        };
        if let Some(why) = self.object_to_moved_tags(step).or_else(|| self.object_to_gap(step)) {
            return Some(why);
        }
        if let Some(why) = self.object_to_untagged(step).or_else(|| self.object_to_in_use(step)) {
            return Some(why);
        }
        let mut on_it = self.tags_on.get(&step.digest).into_iter().flatten();
        if let Some(other) = on_it.find(|tag| !step.tags.contains(tag)) {
            return Some(format!("tag {other} points at it too"));
        }
        let mut pointers = self.pointers.get(&step.digest).into_iter().flatten();
        if let Some(pointer) = pointers.find(|pointer| self.stays(**pointer, deleted)) {
            return Some(format!("{pointer}, which stays, points at it"));
        }
        let mut tags_about = self.tags_about.get(&step.digest).into_iter().flatten();
        if let Some(tag) = tags_about.find(|tag| self.tag_stays(tag, deleted)) {
            return Some(format!("tag {tag}, which stays, is about it"));
        }
        let by_name = step.tags.iter().filter_map(Tag::subject);
        self.object_to_subjects(manifest.subject.into_iter().chain(by_name), deleted)
    }

    /// What goes for no other cause than that nothing needs it must have been pushed long enough ago, and be listed nowhere.
    fn object_to_untagged(&self, step: &Step) -> Option<String> {
        if !step.claims_untagged() {
            return None;
        }
        let Surroundings { now, promises, listed, .. } = self.surroundings;
        let Some(pushed) = self.repo.pushed.get(&step.digest) else {
            return Some("when it was last pushed is not known".to_owned());
        };
        if !step.tags.is_empty() {
            return Some("it is not untagged".to_owned());
        }
        if listed.contains(&step.digest) {
            return Some("an index that stays lists it".to_owned());
        }
        let untagged = promises.untagged_of(self.name);
        let is_old = untagged.is_some_and(|age| pushed.checked_add(age).is_ok_and(|until| until < *now));
        (!is_old).then(|| format!("it was pushed {pushed:.0}, which is too short a time ago"))
    }

    /// What is there and cannot be read stays.
    fn stays(&self, digest: Digest, deleted: &BTreeMap<Digest, usize>) -> bool {
        let is_there = self.repo.manifests.contains_key(&digest) || self.gaps.contains_key(&digest);
        is_there && !deleted.contains_key(&digest)
    }

    /// What is about a manifest goes with it and not before.
    fn object_to_subjects(
        &self,
        mut subjects: impl Iterator<Item = Digest>,
        deleted: &BTreeMap<Digest, usize>,
    ) -> Option<String> {
        let subject = subjects.find(|subject| self.stays(*subject, deleted))?;
        Some(format!("it is about {subject}, which stays"))
    }

    /// Whether a tag stays that the steps could have removed. Where tags cannot be deleted alone, one stays for
    /// want of a way as long as something else holds its manifest.
    fn tag_stays(&self, tag: &Tag, deleted: &BTreeMap<Digest, usize>) -> bool {
        let Some(target) = self.repo.tags.get(tag).copied().flatten() else { return true };
        let goes = deleted.contains_key(&target) || self.is_untagged(tag);
        !goes
            && (self.surroundings.powers == Powers::DeleteAndUntag
                || !self.is_held_without(tag, target, deleted))
    }

    fn is_untagged(&self, tag: &Tag) -> bool {
        let mut remaining = self.steps.iter().filter(|(position, _)| !self.stale.contains_key(position));
        remaining.any(|(_, step)| step.action == Action::Untag && step.tags.contains(tag))
    }

    fn is_held_without(&self, tag: &Tag, target: Digest, deleted: &BTreeMap<Digest, usize>) -> bool {
        let Some(manifest) = self.repo.manifests.get(&target) else { return false };
        let mut tags = self.tags_on.get(&target).into_iter().flatten();
        let mut pointers = self.pointers.get(&target).into_iter().flatten();
        tags.any(|other| *other != tag)
            || manifest.subject.is_some()
            || self.tags_about.contains_key(&target)
            || pointers.any(|pointer| self.stays(*pointer, deleted))
            || self.gaps.contains_key(&target)
    }

    fn object_to_moved_tags(&self, step: &Step) -> Option<String> {
        let moved = |tag: &&Tag| self.repo.tags.get(*tag) != Some(&Some(step.digest));
        let tag = step.tags.iter().find(moved)?;
        Some(match self.repo.tags.get(tag) {
            Some(Some(now)) => format!("tag {tag} now points at {now}"),
            Some(None) => format!("what tag {tag} points at is not known"),
            None => format!("tag {tag} is gone"),
        })
    }

    fn object_to_gap(&self, step: &Step) -> Option<String> {
        let gap = self.gaps.get(&step.digest)?;
        Some(format!("it can no longer be read whole: {}", gap.why))
    }

    /// A tag is only set where there is none, and only on a manifest that is there by then.
    fn object_to_tag(&self, position: usize, step: &Step) -> Option<String> {
        let tag = step.tags.first()?;
        match self.repo.tags.get(tag) {
            Some(Some(now)) if *now != step.digest => return Some(format!("tag {tag} now points at {now}")),
            Some(None) => return Some(format!("what tag {tag} points at is not known")),
            _ => {}
        }
        let restored = self.steps.iter().any(|(earlier, other)| {
            *earlier < position && other.action == Action::Restore && other.digest == step.digest
        });
        let there = restored || self.repo.manifests.contains_key(&step.digest);
        (!there).then(|| format!("{} is not there to be tagged", step.digest))
    }

    /// Whoever points goes before what it points at. Referrers that are about each other have no order.
    fn check_order(&self) -> Result<(), Unsound> {
        let deleted = self.deleted();
        for (position, step) in &self.steps {
            if step.action != Action::Delete || self.stale.contains_key(position) {
                continue;
            }
            let pointers = self.pointers.get(&step.digest).into_iter().flatten();
            for pointer in
                pointers.filter(|pointer| **pointer != step.digest && !self.in_cycle(step.digest, **pointer))
            {
                if deleted.get(pointer).is_some_and(|at| at > position) {
                    return Err(Unsound::Order { step: step.to_string(), pointer: *pointer });
                }
            }
        }
        Ok(())
    }

    /// Whether `from` leads to `to` by way of what it points at.
    fn in_cycle(&self, from: Digest, to: Digest) -> bool {
        let mut seen = BTreeSet::new();
        let mut queue = vec![from];
        while let Some(digest) = queue.pop() {
            if digest == to {
                return true;
            }
            if let Some(manifest) = self.repo.manifests.get(&digest).filter(|_| seen.insert(digest)) {
                queue.extend(manifest.children().iter().map(|child| child.digest).chain(manifest.subject));
            }
        }
        false
    }
}
