//! Manifests that nothing needs: no tag points at them, nothing that stays lists them, and they are about nothing that stays.

use std::collections::{BTreeMap, BTreeSet};

use super::{GarbageManifest, Known, Removed, Settings, mark};
use crate::in_use::InUse;
use crate::name::{Digest, RepoName};
use crate::stored::{Age, BlobId, BlobSet, Spares, StorageGap, Stored, StoredRepo};

/// The untagged manifests of `stored` that nothing needs and that were last pushed `age` ago.
///
/// Listed by an index of any repository is needed: whether its own repository would still serve it is not for a collection to
/// decide (FACTS section 8, 4). What is about something is needed as long as that stays in the same repository, as the
/// specification has it: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers>.
pub(super) fn find(
    stored: &Stored,
    known: &Known,
    removed: &Removed,
    gaps: &[StorageGap],
    (age, settings): (Age, &Settings),
) -> Vec<GarbageManifest> {
    let blind: BTreeSet<Option<&RepoName>> =
        gaps.iter().filter(|gap| gap.spares != Spares::Nothing).map(|gap| gap.repository.as_ref()).collect();
    if blind.contains(&None) {
        return Vec::new();
    }
    let mut staying = Staying { stored, known, listed: stored.blobs.set(), kept: BTreeMap::new() };
    let mut candidates: BTreeMap<&RepoName, Vec<Digest>> = BTreeMap::new();
    let mut late = Vec::new();
    let lost = stored.repos.values().flat_map(StoredRepo::lost).map(|(_, target)| target);
    for root in stored.odd.roots.iter().copied().chain(lost) {
        match stored.blobs.find(root) {
            Some(blob) => staying.list_below(blob),
            None => late.push(root),
        }
    }
    for (name, repo) in &stored.repos {
        let tagged: BTreeSet<Digest> = repo.tagged().collect();
        // What a tag points at that could not be read may be any of them.
        let is_blind = blind.contains(&Some(name)) || repo.tags.values().any(|tag| tag.target.is_none());
        let gone = removed.get(name);
        for (digest, stamp) in &repo.revisions {
            let is_gone = gone.is_some_and(|gone| gone.contains(digest));
            let is_used = || {
                let in_use = settings.in_use.as_deref().filter(|in_use| in_use.may_hold_digests(name));
                in_use.is_some_and(|in_use| is_used(in_use, (name, *digest), stored, known))
            };
            let stays =
                is_blind || tagged.contains(digest) || !stamp.is_older(age, settings.now) || is_used();
            match stored.blobs.find(*digest) {
                _ if is_gone => {}
                None => late.push(*digest),
                // One whose bytes are not there may come to be, as one that was not listed.
                Some(blob) if stays || known.is_absent(*digest) => staying.keep(name, blob),
                Some(_) => candidates.entry(name).or_default().push(*digest),
            }
        }
    }
    staying.list_all(known.reached_from(&late));
    staying.spread(&mut candidates);
    let unneeded = candidates.into_iter().flat_map(|(name, digests)| {
        digests.into_iter().map(|digest| GarbageManifest { repository: name.clone(), digest })
    });
    unneeded.collect()
}

/// Whether a workload uses a manifest: by its digest, or by that of anything it lists, which its configuration is.
fn is_used(in_use: &InUse, (name, digest): (&RepoName, Digest), stored: &Stored, known: &Known) -> bool {
    let lists = stored.blobs.find(digest).map(|blob| known.lists(blob)).unwrap_or_default();
    let listed = lists.iter().map(|blob| stored.blobs.get(*blob).digest);
    let late = known.lists_late(digest).iter().copied();
    let mut digests = [digest].into_iter().chain(listed).chain(late);
    digests.any(|digest| !in_use.of_digest(name, digest).is_empty())
}

/// What stays, growing.
struct Staying<'a> {
    stored: &'a Stored,
    known: &'a Known,
    /// What some manifest that stays lists, at any depth.
    listed: BlobSet,
    kept: BTreeMap<&'a RepoName, BTreeSet<BlobId>>,
}

impl<'a> Staying<'a> {
    fn keep(&mut self, name: &'a RepoName, blob: BlobId) {
        self.kept.entry(name).or_default().insert(blob);
        self.list_below(blob);
    }

    /// Takes what a manifest lists for needed, at any depth, but not itself: nothing lists that.
    fn list_below(&mut self, blob: BlobId) {
        let mut queue = self.known.lists(blob).to_vec();
        queue.extend(self.known.reached_from(self.known.lists_late(self.stored.blobs.get(blob).digest)));
        self.list_all(queue);
    }

    fn list_all(&mut self, queue: Vec<BlobId>) {
        mark(self.stored, self.known, queue, &mut self.listed);
    }

    /// Takes out of `candidates` what is needed by what stays, until nothing changes.
    fn spread(&mut self, candidates: &mut BTreeMap<&'a RepoName, Vec<Digest>>) {
        loop {
            let mut is_done = true;
            for (name, digests) in &mut *candidates {
                let repo = &self.stored.repos[*name];
                digests.retain(|digest| {
                    let Some(blob) = self.stored.blobs.find(*digest) else { return false };
                    let is_needed = self.listed.contains(blob) || self.is_about_what_stays(name, repo, blob);
                    if is_needed {
                        self.keep(name, blob);
                        is_done = false;
                    }
                    !is_needed
                });
            }
            if is_done {
                return;
            }
        }
    }

    fn is_about_what_stays(&self, name: &RepoName, repo: &StoredRepo, blob: BlobId) -> bool {
        let Some(subject) = self.known.subject(&self.stored.blobs, blob) else { return false };
        let stays = |subject: BlobId| self.kept.get(name).is_some_and(|kept| kept.contains(&subject));
        // What has come since the blobs were listed stays in any case, and so does what only a tag still leads to.
        repo.may_serve(subject)
            && (self.stored.blobs.find(subject).is_none_or(stays) || !repo.revisions.contains_key(&subject))
    }
}
