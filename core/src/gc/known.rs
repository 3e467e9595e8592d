//! What every manifest lists, learned once and kept small: four bytes for each blob that is listed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::LARGEST_MANIFEST;
use super::references::{Certainty, Listed, References};
use super::visited::Visited;
use crate::name::{Digest, RepoName};
use crate::stored::{BlobId, Blobs, Spares, StorageGap, Stored, StoredRepo};

/// What the manifests of one storage list.
///
/// ```
/// # use clean_registry_core::{gc::{Known, References}, name::{Bytes, Digest}, stored::{Stamp, Stored, StoredBlob}};
/// # let manifest = br#"{"schemaVersion":2,"layers":[]}"#;
/// # let blob = StoredBlob { digest: Digest::of(manifest), size: Bytes(31), stamp: Stamp::from_second(0) };
/// # let mut stored = Stored { blobs: [blob].into_iter().collect(), ..Stored::default() };
/// # let revisions = &mut stored.repos.entry("app".parse().unwrap()).or_default().revisions;
/// # revisions.insert(Digest::of(manifest), Stamp::from_second(0));
/// let mut known = Known::default();
/// known.visit_roots(&stored);
/// loop {
///     let unread = known.unread();
///     if unread.is_empty() {
///         break;
///     }
///     for digest in unread {
///         known.learn(&stored.blobs, digest, &References::read(manifest).map_err(|error| error.to_string()));
///     }
/// }
/// assert_eq!(known.len(), 1);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Known {
    entries: HashMap<BlobId, Entry, BuildHasherDefault<ByPlace>>,
    /// Manifests that came after the blobs had been listed.
    late: BTreeMap<Digest, Entry>,
    listed: Vec<BlobId>,
    /// What manifests list and was not stored when the blobs were listed, by the manifest.
    late_listed: BTreeMap<Digest, Vec<Digest>>,
    /// All that is listed and was not stored then, with the manifests that list it.
    missing: BTreeMap<Digest, BTreeSet<Digest>>,
    /// What manifests are about and was not stored then, by the manifest.
    late_subjects: BTreeMap<Digest, Digest>,
    /// Other names of blobs.
    aliases: BTreeMap<String, BTreeSet<Digest>>,
    /// The manifests that list a name which is no sha256 digest, by that name: it may come to mean more.
    foreign: BTreeMap<String, BTreeSet<Digest>>,
    visited: Visited,
    frontier: Vec<Digest>,
    illegible: BTreeMap<Digest, (Option<BlobId>, String)>,
    absent: BTreeSet<Digest>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    start: u32,
    length: u32,
    subject: Option<BlobId>,
}

/// Spreads the places of blobs, which nobody chooses, over a map.
#[derive(Debug, Clone, Copy, Default)]
struct ByPlace(u64);

impl Hasher for ByPlace {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, place: u32) {
        self.0 = (self.0 ^ u64::from(place)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

impl Known {
    /// Asks for the manifests of `stored`, as far as they are not known yet. Called again after another look at the same
    /// blobs, it asks for what has come since.
    pub fn visit_roots(&mut self, stored: &Stored) {
        // What was not there, or could not be read, may be by now.
        self.frontier.extend(std::mem::take(&mut self.absent));
        self.frontier.extend(std::mem::take(&mut self.illegible).into_keys());
        let mut again = BTreeSet::new();
        for (alias, target, _) in stored.repos.values().flat_map(|repo| &repo.aliases) {
            again.extend(self.note_alias(alias, *target));
        }
        self.frontier.extend(again);
        let lost = stored.repos.values().flat_map(StoredRepo::lost).map(|(_, target)| target);
        let revisions = stored.repos.values().flat_map(|repo| repo.revisions.keys().copied());
        for digest in revisions.chain(stored.odd.roots.iter().copied()).chain(lost) {
            self.visit(&stored.blobs, digest, Certainty::Manifest);
        }
    }

    /// Takes what a name means. When that is new, the manifests that list it have to be read again: a scan may have met them
    /// before the link was there.
    fn note_alias(&mut self, alias: &str, target: Option<Digest>) -> BTreeSet<Digest> {
        let targets = self.aliases.entry(alias.to_owned()).or_default();
        let is_new = target.is_some_and(|target| targets.insert(target));
        if is_new { self.foreign.get(alias).cloned().unwrap_or_default() } else { BTreeSet::new() }
    }

    /// The manifests to be read next, each asked for once. Empty when everything that can be reached is known.
    #[must_use]
    pub fn unread(&mut self) -> Vec<Digest> {
        std::mem::take(&mut self.frontier)
    }

    /// Takes what a manifest lists, or why it could not be read.
    pub fn learn(&mut self, blobs: &Blobs, digest: Digest, references: &Result<References, String>) {
        let references = match references {
            Ok(references) => references,
            Err(why) => {
                self.illegible.insert(digest, (blobs.find(digest), why.clone()));
                return;
            }
        };
        let start = self.listed.len();
        for listed in &references.listed {
            self.note(blobs, digest, listed);
        }
        let entry = Entry {
            start: u32::try_from(start).expect("fewer than four thousand million references"),
            length: u32::try_from(self.listed.len() - start).expect("a manifest has at most 4 MiB"),
            subject: references.subject.and_then(|subject| blobs.find(subject)),
        };
        if let (Some(subject), None) = (references.subject, entry.subject) {
            self.late_subjects.insert(digest, subject);
        }
        match blobs.find(digest) {
            Some(blob) => drop(self.entries.insert(blob, entry)),
            None => drop(self.late.insert(digest, entry)),
        }
    }

    /// Takes that a manifest is not stored: links to it lead nowhere.
    pub fn absent(&mut self, digest: Digest) {
        self.absent.insert(digest);
    }

    /// How many manifests are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() + self.late.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stored blobs that a manifest lists; none if it is no manifest.
    #[must_use]
    pub fn lists(&self, blob: BlobId) -> &[BlobId] {
        self.entries.get(&blob).map_or(&[], |entry| self.of(entry))
    }

    /// Whether a blob is a manifest that was read.
    #[must_use]
    pub fn is_manifest(&self, blob: BlobId) -> bool {
        self.entries.contains_key(&blob)
    }

    /// What a manifest is about.
    #[must_use]
    pub fn subject(&self, blobs: &Blobs, blob: BlobId) -> Option<Digest> {
        match self.entries.get(&blob)?.subject {
            Some(subject) => Some(blobs.get(subject).digest),
            None => self.late_subjects.get(&blobs.get(blob).digest).copied(),
        }
    }

    /// Whether any root is not stored.
    pub(super) fn misses_any(&self) -> bool {
        !self.absent.is_empty()
    }

    /// The roots that are not stored.
    #[must_use]
    pub fn is_absent(&self, digest: Digest) -> bool {
        self.absent.contains(&digest)
    }

    /// The manifests that should be and could not be read, each with the reason.
    pub fn unreadable(&self) -> impl Iterator<Item = (Digest, &str)> {
        let certain = |digest: Digest, blob: Option<BlobId>| !self.visited.is_perhaps(digest, blob);
        let unreadable = self.illegible.iter().filter(move |(digest, (blob, _))| certain(**digest, *blob));
        unreadable.map(|(digest, (_, why))| (*digest, why.as_str()))
    }

    /// Whether some manifest lists a blob by this name, which is no sha256 digest.
    pub(super) fn is_listed_as(&self, alias: &str) -> bool {
        self.foreign.contains_key(alias)
    }

    /// The manifests that list this, which was not stored when the blobs were listed: it may be put back.
    pub(super) fn missing_from(&self, digest: Digest) -> impl Iterator<Item = Digest> {
        self.missing.get(&digest).into_iter().flatten().copied()
    }

    /// The manifests that list a blob by this name, which is no sha256 digest.
    pub(super) fn listing_as(&self, alias: &str) -> impl Iterator<Item = Digest> {
        self.foreign.get(alias).into_iter().flatten().copied()
    }

    /// What a manifest lists that came, if at all, after the blobs had been listed.
    pub(super) fn lists_late(&self, digest: Digest) -> &[Digest] {
        self.late_listed.get(&digest).map_or(&[], Vec::as_slice)
    }

    /// Each manifest with each that it lists and that came, if at all, after the blobs had been listed.
    pub(super) fn late_lists(&self) -> impl Iterator<Item = (Digest, Digest)> {
        self.late_listed.iter().flat_map(|(by, listed)| listed.iter().map(move |digest| (*by, *digest)))
    }

    /// Whether any manifest lists what was not stored when the blobs were listed.
    pub(super) fn has_late(&self) -> bool {
        !self.late_listed.is_empty()
    }

    /// What is listed, at any depth, by manifests that came after the blobs had been listed.
    pub(super) fn reached_from(&self, late: &[Digest]) -> Vec<BlobId> {
        let (mut found, mut queue, mut seen) = (Vec::new(), late.to_vec(), BTreeSet::new());
        while let Some(digest) = queue.pop() {
            if !seen.insert(digest) {
                continue;
            }
            if let Some(entry) = self.late.get(&digest) {
                found.extend_from_slice(self.of(entry));
            }
            queue.extend_from_slice(self.lists_late(digest));
        }
        found
    }

    /// Each manifest that could not be read, as a gap of every repository that has it or something that leads to it.
    pub(super) fn gaps(&self, stored: &Stored) -> Vec<StorageGap> {
        let mut gaps = Vec::new();
        for (digest, why) in self.unreadable() {
            let above = self.ancestors(&stored.blobs, digest);
            let concerned = stored.repos.iter().filter(|(_, repo)| {
                repo.revisions.keys().any(|revision| above.contains(revision))
                    || repo.lost().any(|(_, target)| above.contains(&target))
            });
            let mut names: Vec<Option<&RepoName>> = concerned.map(|(name, _)| Some(name)).collect();
            // Something odd needs it: nobody knows where its layers are.
            if stored.odd.roots.iter().any(|root| above.contains(root)) {
                names.push(None);
            }
            gaps.extend(names.into_iter().map(|name| StorageGap {
                path: crate::layout::Place::BlobData(digest).key(),
                repository: name.cloned(),
                spares: Spares::Everything,
                why: format!("manifest {digest} cannot be read: {why}"),
            }));
        }
        gaps
    }

    /// The manifests that lead to `digest`, and itself.
    fn ancestors(&self, blobs: &Blobs, digest: Digest) -> BTreeSet<Digest> {
        let mut above = BTreeSet::from([digest]);
        loop {
            let stored: BTreeSet<BlobId> = above.iter().filter_map(|digest| blobs.find(*digest)).collect();
            let known = self.entries.iter().map(|(blob, entry)| (blobs.get(*blob).digest, entry));
            let all = known.chain(self.late.iter().map(|(digest, entry)| (*digest, entry)));
            let lists = |(manifest, entry): &(Digest, &Entry)| {
                self.of(entry).iter().any(|listed| stored.contains(listed))
                    || self.lists_late(*manifest).iter().any(|listed| above.contains(listed))
            };
            let found: BTreeSet<Digest> = all.filter(lists).map(|(manifest, _)| manifest).collect();
            if found.is_subset(&above) {
                return above;
            }
            above.extend(found);
        }
    }

    fn of(&self, entry: &Entry) -> &[BlobId] {
        &self.listed[entry.start as usize..(entry.start + entry.length) as usize]
    }

    fn note(&mut self, blobs: &Blobs, by: Digest, listed: &Listed) {
        let named = listed.digest.parse::<Digest>().ok();
        if named.is_none() {
            self.foreign.entry(listed.digest.clone()).or_default().insert(by);
        }
        let aliased = self.aliases.get(&listed.digest).into_iter().flatten().copied();
        for digest in named.into_iter().chain(aliased).collect::<Vec<_>>() {
            match blobs.find(digest) {
                Some(blob) => self.listed.push(blob),
                None => {
                    self.missing.entry(digest).or_default().insert(by);
                    if listed.certainty == Some(Certainty::Manifest) {
                        self.late_listed.entry(by).or_default().push(digest);
                    }
                }
            }
            if let Some(certainty) = listed.certainty {
                self.visit(blobs, digest, certainty);
            }
        }
    }

    fn visit(&mut self, blobs: &Blobs, digest: Digest, certainty: Certainty) {
        if certainty == Certainty::Perhaps {
            let Some(blob) = blobs.find(digest) else { return };
            // Where the size is not known, whoever reads it finds out.
            if blobs.get(blob).known_size().is_some_and(|size| size > LARGEST_MANIFEST) {
                return;
            }
        }
        if self.visited.is_new(blobs, digest, certainty) {
            self.frontier.push(digest);
        }
    }
}
