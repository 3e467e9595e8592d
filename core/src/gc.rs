//! Which stored bytes nobody needs.
//!
//! Every revision link of every repository is a root; from there every digest that a manifest lists is needed, through
//! any number of indexes and across repositories. Manifests are visited once and by digest alone, so that a child
//! missing in one repository never hides what it needs in another (FACTS section 3, S2).
//!
//! [`Known`] learns what every manifest lists; [`decide`] then says what is garbage, and keeps what it cannot be sure of:
//! what is young, what a young link leads to, and whatever something unreadable might need. Nothing is read here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::in_use::InUse;
use crate::layout::{Place, UploadId};
use crate::name::{Bytes, Digest, RepoName};
use crate::stored::{Age, BlobId, BlobSet, Spares, Stamp, StorageGap, Stored, StoredBlob, StoredRepo, Stray};

mod known;
mod references;
mod untagged;
mod visited;

pub use known::Known;
pub use references::{Certainty, Listed, NoManifest, References};

/// The largest manifest a registry accepts or serves; what an index lists beyond it can only be a layer.
///
/// <https://github.com/distribution/distribution/blob/v3.1.1/registry/handlers/manifests.go> (`maxManifestBodySize`)
pub const LARGEST_MANIFEST: Bytes = Bytes(4 << 20);

/// What is to be removed, and how old it must be. `None` leaves a kind alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The storage's own time.
    pub now: Stamp,
    /// How old a blob, and every layer link that leads to it, must be. It spares pushes the trouble of being sent again; it
    /// proves nothing (FACTS section 4.2).
    pub grace: Age,
    /// Manifests that no tag points at, no index lists and that are about nothing that is there.
    pub untagged: Option<Age>,
    /// Layer links whose blob is gone, or goes.
    pub dangling_links: Option<Age>,
    /// Uploads that nobody continued.
    pub uploads: Option<Age>,
    /// Files a crash of the registry left behind.
    pub temporary_files: Option<Age>,
    /// Repositories without manifests, tags and uploads.
    pub empty_repositories: Option<Age>,
    /// What belonged to images that were deleted just now.
    pub let_go: LetGo,
    /// Untagged manifests that stay because workloads use them, as far as sources tell.
    pub in_use: Option<Arc<InUse>>,
    /// What is made of blobs and links of which only the names were listed.
    pub undated: Undated,
}

/// How old what has no time is taken to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Undated {
    /// As young as can be: it stays.
    #[default]
    Young,
    /// Old enough. What is garbage then includes all that is garbage when the times are known, so that only its times and those
    /// of the links that lead to it have to be asked for. Nothing is to be removed by such a decision.
    Old,
}

/// Blobs that belonged to images which were whole and were deleted on purpose: no grace is due to them, since no push that was
/// under way brought them. What has been linked since is another matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetGo {
    /// The blobs.
    pub blobs: BTreeSet<Digest>,
    /// When the deletion began.
    pub since: Option<Stamp>,
}

impl Settings {
    /// Blobs alone.
    #[must_use]
    pub const fn blobs_only(now: Stamp, grace: Age) -> Self {
        Self {
            now,
            grace,
            untagged: None,
            dangling_links: None,
            uploads: None,
            temporary_files: None,
            empty_repositories: None,
            let_go: LetGo { blobs: BTreeSet::new(), since: None },
            in_use: None,
            undated: Undated::Young,
        }
    }

    fn is_aged(&self, stamp: Stamp, age: Age) -> bool {
        (stamp == Stamp::UNKNOWN && self.undated == Undated::Old) || stamp.is_older(age, self.now)
    }

    /// Whether a blob, or a link to it, of this time may go.
    fn is_old(&self, digest: Digest, stamp: Stamp) -> bool {
        let was_let_go =
            self.let_go.since.is_some_and(|since| stamp < since) && self.let_go.blobs.contains(&digest);
        was_let_go || self.is_aged(stamp, self.grace)
    }
}

/// What nobody needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// The blobs, each once.
    pub blobs: Vec<GarbageBlob>,
    /// The manifests, by the repository they are removed from. Their blobs are among the blobs where nothing else needs them.
    pub manifests: Vec<GarbageManifest>,
    /// The layer links.
    pub links: Vec<GarbageLink>,
    /// The uploads.
    pub uploads: Vec<GarbageUpload>,
    /// The temporary files.
    pub temporary_files: Vec<GarbageFile>,
    /// The repositories that are empty but for links that lead nowhere they are needed.
    pub repositories: Vec<RepoName>,
}

/// A blob that nobody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GarbageBlob {
    /// The blob.
    pub digest: Digest,
    /// Its size.
    pub bytes: Bytes,
}

/// A manifest that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GarbageManifest {
    /// Where.
    pub repository: RepoName,
    /// Which.
    pub digest: Digest,
}

/// A layer link that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GarbageLink {
    /// Where.
    pub repository: RepoName,
    /// The blob it was for: a digest, of whatever algorithm.
    pub digest: String,
}

/// An upload that nobody continued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageUpload {
    /// Where.
    pub repository: RepoName,
    /// Which.
    pub id: UploadId,
    /// What its files take.
    pub bytes: Bytes,
    /// Its files, below `docker/registry/v2`.
    pub keys: Vec<String>,
}

/// A file that a crash left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageFile {
    /// Its key below `docker/registry/v2`.
    pub key: String,
    /// Its size.
    pub bytes: Bytes,
}

impl Garbage {
    /// All bytes together, each blob once.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let blobs = self.blobs.iter().map(|blob| blob.bytes);
        let uploads = self.uploads.iter().map(|upload| upload.bytes);
        blobs.chain(uploads).chain(self.temporary_files.iter().map(|file| file.bytes)).sum()
    }

    /// Whether there is nothing to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
            && self.manifests.is_empty()
            && self.links.is_empty()
            && self.uploads.is_empty()
            && self.temporary_files.is_empty()
            && self.repositories.is_empty()
    }
}

/// Manifests that go, by repository.
pub type Removed = BTreeMap<RepoName, BTreeSet<Digest>>;

/// What a storage would be rid of, and what was broken in it.
#[derive(Debug, Clone, Default)]
pub struct Decided {
    /// What goes.
    pub garbage: Garbage,
    /// What is broken: every gap of the scan, and every manifest that could not be read.
    pub gaps: Vec<StorageGap>,
}

/// Says what nobody needs in `stored`, once the manifests of `removed` are gone.
///
/// `known` must have learned of every manifest that can be reached: see [`Known::unread`].
#[must_use]
pub fn decide(stored: &Stored, known: &Known, removed: &Removed, settings: &Settings) -> Decided {
    let gaps = all_gaps(stored, known);
    let manifests = match settings.untagged {
        Some(age) => untagged::find(stored, known, removed, &gaps, (age, settings)),
        None => Vec::new(),
    };
    let mut gone = removed.clone();
    for GarbageManifest { repository, digest } in &manifests {
        gone.entry(repository.clone()).or_default().insert(*digest);
    }
    let reached = reach(stored, known, &gone);
    let mut kept = reached.blobs.clone();
    spare(stored, &gaps, settings, &mut kept);
    let garbage = Garbage {
        blobs: old_blobs(stored, &kept, settings),
        manifests,
        links: links((stored, known), &reached, &kept, settings),
        uploads: uploads(stored, settings),
        temporary_files: temporary_files(&stored.temporary, settings),
        repositories: empty_repositories(stored, &gone, &gaps, settings)
            .filter(|(_, repo)| !gives_names(repo, stored, known, &kept))
            .map(|(name, _)| name.clone())
            .collect(),
    };
    Decided { garbage, gaps }
}

/// The repositories of whose manifests none is known to be unneeded, for something in them that could not be read; `None` among
/// them stands for all.
#[must_use]
pub fn blind(stored: &Stored, known: &Known) -> BTreeSet<Option<RepoName>> {
    let gaps = all_gaps(stored, known).into_iter().filter(|gap| gap.spares != Spares::Nothing);
    let untold = |repo: &StoredRepo| repo.tags.values().any(|tag| tag.target.is_none());
    let untold = stored.repos.iter().filter(|(_, repo)| untold(repo)).map(|(name, _)| Some(name.clone()));
    gaps.map(|gap| gap.repository).chain(untold).collect()
}

/// Every blob that some manifest needs which stays when those of `gone` go, the manifests themselves included.
#[must_use]
pub fn needed(stored: &Stored, known: &Known, gone: &Removed) -> BlobSet {
    reach(stored, known, gone).blobs
}

/// What some manifest needs.
struct Reached {
    blobs: BlobSet,
    /// What came, if at all, after the blobs had been listed.
    late: BTreeSet<Digest>,
}

fn reach(stored: &Stored, known: &Known, gone: &Removed) -> Reached {
    let mut marked = stored.blobs.set();
    let mut queue: Vec<BlobId> = Vec::new();
    let mut late: Vec<Digest> = Vec::new();
    let mut root = |digest: Digest| match stored.blobs.find(digest) {
        Some(blob) => queue.push(blob),
        None => late.push(digest),
    };
    for (name, repo) in &stored.repos {
        let gone = gone.get(name);
        let stays = |digest: &&Digest| gone.is_none_or(|gone| !gone.contains(*digest));
        repo.revisions.keys().filter(stays).copied().for_each(&mut root);
        repo.lost().for_each(|(_, target)| root(target));
        repo.signatures.iter().copied().for_each(&mut root);
    }
    stored.odd.roots.iter().copied().for_each(&mut root);
    queue.extend(known.reached_from(&late));
    mark(stored, known, queue, &mut marked);
    let late = late_below(stored, known, &marked, late.into_iter().collect());
    Reached { blobs: marked, late }
}

/// `late`, and what of their kind the manifests list that are reached, at any depth.
fn late_below(
    stored: &Stored,
    known: &Known,
    marked: &BlobSet,
    mut late: BTreeSet<Digest>,
) -> BTreeSet<Digest> {
    loop {
        let is_reached = |manifest| match stored.blobs.find(manifest) {
            Some(blob) => marked.contains(blob),
            None => late.contains(&manifest),
        };
        let more: BTreeSet<Digest> =
            known.late_lists().filter(|(by, _)| is_reached(*by)).map(|(_, listed)| listed).collect();
        if more.is_subset(&late) {
            return late;
        }
        late.extend(more);
    }
}

/// Adds to `marked` the blobs of `queue` and what they list at any depth.
fn mark(stored: &Stored, known: &Known, mut queue: Vec<BlobId>, marked: &mut BlobSet) {
    while let Some(blob) = queue.pop() {
        if marked.insert(blob) {
            queue.extend_from_slice(known.lists(blob));
            if known.has_late() {
                queue.extend(known.reached_from(known.lists_late(stored.blobs.get(blob).digest)));
            }
        }
    }
}

/// The gaps that the scan met, and those that the manifests are.
fn all_gaps(stored: &Stored, known: &Known) -> Vec<StorageGap> {
    let mut gaps = stored.gaps.clone();
    gaps.extend(known.gaps(stored));
    gaps.extend(absent(stored, known));
    gaps.extend(lost(stored));
    gaps.sort();
    gaps.dedup();
    gaps
}

/// Revision links whose manifest is not stored: nothing can be needed for them, and somebody may want to know.
fn absent<'a>(stored: &'a Stored, known: &'a Known) -> impl Iterator<Item = StorageGap> + 'a {
    let revisions = stored
        .repos
        .iter()
        .filter(|_| known.misses_any())
        .flat_map(|(name, repo)| repo.revisions.keys().map(move |digest| (name, *digest)));
    revisions.filter(|(_, digest)| known.is_absent(*digest)).map(|(repo, digest)| StorageGap {
        path: Place::RevisionLink { repo: repo.clone(), digest }.key(),
        repository: Some(repo.clone()),
        spares: Spares::Nothing,
        why: format!("the link leads to manifest {digest}, which is not stored"),
    })
}

/// Tags whose manifest the repository no longer has. What they point at stays.
fn lost(stored: &Stored) -> impl Iterator<Item = StorageGap> + '_ {
    stored.repos.iter().flat_map(|(name, repo)| {
        repo.lost().map(move |(tag, target)| StorageGap {
            path: Place::TagCurrent { repo: name.clone(), tag: tag.clone() }.key(),
            repository: Some(name.clone()),
            spares: Spares::Nothing,
            why: format!("the tag points at {target}, which the repository does not have"),
        })
    })
}

/// Adds what is kept although nothing that could be read needs it.
fn spare(stored: &Stored, gaps: &[StorageGap], settings: &Settings, kept: &mut BlobSet) {
    let wide = gaps.iter().filter(|gap| gap.spares == Spares::Everything);
    let tainted: BTreeSet<Option<&RepoName>> = wide.map(|gap| gap.repository.as_ref()).collect();
    for (name, repo) in &stored.repos {
        let is_tainted = tainted.contains(&None) || tainted.contains(&Some(name));
        for (blob, stamp) in &repo.layers {
            if is_tainted || !settings.is_old(stored.blobs.get(*blob).digest, *stamp) {
                kept.insert(*blob);
            }
        }
        for (_, target, stamp) in &repo.aliases {
            let spared = target.filter(|target| is_tainted || !settings.is_old(*target, *stamp));
            if let Some(blob) = spared.and_then(|target| stored.blobs.find(target)) {
                kept.insert(blob);
            }
        }
    }
    for blob in &stored.odd.layers {
        kept.insert(*blob);
    }
    if !tainted.is_empty() {
        spare_unlinked(stored, kept);
    }
}

/// What nothing links may be what the unreadable needs: its own bytes tell no more.
fn spare_unlinked(stored: &Stored, kept: &mut BlobSet) {
    let mut linked = stored.blobs.set();
    for repo in stored.repos.values() {
        let targets = repo.aliases.iter().filter_map(|(_, target, _)| stored.blobs.find((*target)?));
        for blob in repo.layers.iter().map(|(blob, _)| *blob).chain(targets) {
            linked.insert(blob);
        }
    }
    for blob in stored.blobs.ids().filter(|blob| !linked.contains(*blob)) {
        kept.insert(blob);
    }
}

fn old_blobs(stored: &Stored, kept: &BlobSet, settings: &Settings) -> Vec<GarbageBlob> {
    let unneeded = stored.blobs.iter().filter(|(id, _)| !kept.contains(*id));
    unneeded
        .filter(|(_, blob)| settings.is_old(blob.digest, blob.stamp))
        .map(|(_, blob)| GarbageBlob { digest: blob.digest, bytes: blob.known_size().unwrap_or_default() })
        .collect()
}

/// The links that lead nowhere, or to what goes. One to a blob that is lost and that a manifest lists stays: where the blob is put
/// back, from a copy or by a disk that is mounted again, the image is whole only with its links.
fn links(
    (stored, known): (&Stored, &Known),
    reached: &Reached,
    kept: &BlobSet,
    settings: &Settings,
) -> Vec<GarbageLink> {
    let Some(age) = settings.dangling_links else { return Vec::new() };
    let goes = |blob: BlobId| {
        let StoredBlob { digest, stamp, .. } = stored.blobs.get(blob);
        !kept.contains(blob) && (stored.blobs.is_absent(blob) || settings.is_old(digest, stamp))
    };
    let aged = Settings { grace: age, ..settings.clone() };
    let stays = |manifest: Digest| match stored.blobs.find(manifest) {
        Some(blob) => reached.blobs.contains(blob),
        None => reached.late.contains(&manifest),
    };
    let is_due =
        |digest: Digest, stamp: Stamp| aged.is_old(digest, stamp) && !known.missing_from(digest).any(stays);
    let mut links = Vec::new();
    for (name, repo) in &stored.repos {
        let link = |digest: String| GarbageLink { repository: name.clone(), digest };
        let to_garbage = repo.layers.iter().filter(|(blob, _)| goes(*blob));
        let to_garbage = to_garbage.map(|(blob, stamp)| (stored.blobs.get(*blob).digest, stamp));
        let old = to_garbage.filter(|(digest, stamp)| aged.is_old(*digest, **stamp));
        links.extend(old.map(|(digest, _)| link(digest.to_string())));
        let to_nothing = repo.dangling.iter().filter(|(digest, stamp)| is_due(*digest, *stamp));
        links.extend(to_nothing.map(|(digest, _)| link(digest.to_string())));
        for (alias, target, stamp) in &repo.aliases {
            // One that says nothing may be repaired; one that says what is not there never can, unless a manifest asks for it.
            let leads_nowhere = target.is_some_and(|target| match stored.blobs.find(target) {
                Some(blob) => goes(blob) && aged.is_old(target, *stamp),
                None => is_due(target, *stamp) && !known.listing_as(alias).any(stays),
            });
            if leads_nowhere {
                links.push(link(alias.clone()));
            }
        }
    }
    links
}

fn uploads(stored: &Stored, settings: &Settings) -> Vec<GarbageUpload> {
    let Some(age) = settings.uploads else { return Vec::new() };
    let mut uploads = Vec::new();
    for (name, repo) in &stored.repos {
        for (id, upload) in
            repo.uploads.iter().filter(|(_, upload)| upload.newest.is_older(age, settings.now))
        {
            uploads.push(GarbageUpload {
                repository: name.clone(),
                id: id.clone(),
                bytes: upload.size,
                keys: upload.keys.clone(),
            });
        }
    }
    uploads
}

fn temporary_files(files: &[Stray], settings: &Settings) -> Vec<GarbageFile> {
    let Some(age) = settings.temporary_files else { return Vec::new() };
    let old = files.iter().filter(|file| file.stamp.is_older(age, settings.now));
    old.map(|file| GarbageFile { key: file.key.clone(), bytes: file.size }).collect()
}

/// The repositories without manifests, tags and uploads that are old enough.
fn empty_repositories<'a>(
    stored: &'a Stored,
    gone: &Removed,
    gaps: &[StorageGap],
    settings: &Settings,
) -> impl Iterator<Item = (&'a RepoName, &'a StoredRepo)> {
    let broken: BTreeSet<&RepoName> = gaps.iter().filter_map(|gap| gap.repository.as_ref()).collect();
    let is_due = |stamp: Stamp, age: Option<Age>| age.is_some_and(|age| settings.is_aged(stamp, age));
    let is_empty = move |name: &RepoName, repo: &StoredRepo| {
        let gone = gone.get(name);
        repo.tags.is_empty()
            && repo.unknown == 0
            && repo.revisions.keys().all(|digest| gone.is_some_and(|gone| gone.contains(digest)))
            && repo.uploads.values().all(|upload| is_due(upload.newest, settings.uploads))
            && repo.newest().is_none_or(|newest| is_due(newest, settings.empty_repositories))
    };
    let asked = stored.repos.iter().filter(|_| settings.empty_repositories.is_some());
    asked.filter(move |(name, repo)| !broken.contains(name) && is_empty(name, repo))
}

/// Whether a manifest that may be anywhere needs a blob by another name that is told here.
fn gives_names(repo: &StoredRepo, stored: &Stored, known: &Known, kept: &BlobSet) -> bool {
    let targets = repo.aliases.iter().filter(|(alias, ..)| known.is_listed_as(alias));
    let mut blobs = targets.filter_map(|(_, target, _)| stored.blobs.find((*target)?));
    blobs.any(|blob| kept.contains(blob))
}

#[cfg(test)]
mod tests;
