//! What a registry's storage holds, as one pass over it sees: blobs, and what each repository links.
//!
//! Made for ten million blobs: a blob is 44 bytes here, a layer link eight. Nothing is read here; whoever lists the storage
//! feeds it, blobs first ([`Blobs`]), repositories after them (FACTS section 4.4, P1 before P2).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use crate::layout::UploadId;
use crate::name::{Bytes, Digest, RepoName, Tag};

/// When something was last written, in whole seconds since 1970: four bytes, good until 2106.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u32);

impl Stamp {
    /// Not known: as young as can be, so that nothing is removed for its age.
    pub const UNKNOWN: Self = Self(u32::MAX);

    /// The second that `at` lies in; what lies before 1970 is 1970, what lies after 2106 is unknown.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        Self::from_second(at.as_second())
    }

    /// As [`Stamp::of`], from seconds since 1970.
    #[must_use]
    pub fn from_second(second: i64) -> Self {
        u32::try_from(second.max(0)).map_or(Self::UNKNOWN, Self)
    }

    /// The moment; `None` if it is unknown.
    #[must_use]
    pub fn at(self) -> Option<Timestamp> {
        (self != Self::UNKNOWN).then(|| Timestamp::from_second(i64::from(self.0)).ok())?
    }

    /// Whether it lies at least `age` before `now`. What lies after `now` is young, whatever the clocks, and so is everything
    /// while `now` is unknown.
    #[must_use]
    pub fn is_older(self, age: Age, now: Self) -> bool {
        // What is unknown itself lies after every `now` that is known.
        now != Self::UNKNOWN && u64::from(self.0).saturating_add(age.0) <= u64::from(now.0)
    }
}

/// How old something must be, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Age(pub u64);

/// A blob by its place in [`Blobs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(u32);

/// The blobs with one first byte fit into 24 bits.
const SHARD_BITS: u32 = 24;

/// Every stored blob, by digest, with its size and when it was written.
#[derive(Debug, Clone)]
pub struct Blobs {
    shards: Vec<Shard>,
    /// Those that turned out not to be there.
    absent: BTreeSet<BlobId>,
}

/// The blobs whose digests begin with one byte, sorted.
#[derive(Debug, Clone, Default)]
struct Shard {
    digests: Vec<Digest>,
    sizes: Vec<u64>,
    stamps: Vec<Stamp>,
}

/// A blob as it was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size, or [`StoredBlob::UNKNOWN`].
    pub size: Bytes,
    /// When it was first written: never its last use (FACTS section 4.1).
    pub stamp: Stamp,
}

impl StoredBlob {
    /// The size of a blob of which only the name was listed.
    pub const UNKNOWN: Bytes = Bytes(u64::MAX);

    /// Its size; `None` if only its name was listed.
    #[must_use]
    pub fn known_size(self) -> Option<Bytes> {
        (self.size != Self::UNKNOWN).then_some(self.size)
    }
}

impl Default for Blobs {
    fn default() -> Self {
        Self { shards: vec![Shard::default(); 256], absent: BTreeSet::new() }
    }
}

impl Blobs {
    /// Takes the blobs with one first byte, in any order, each once. A shard is given once.
    ///
    /// # Panics
    /// When there are more than 16 777 216 of them, which is four thousand million blobs in all.
    pub fn fill(&mut self, first: u8, mut blobs: Vec<StoredBlob>) {
        assert!(blobs.len() < 1 << SHARD_BITS, "too many blobs");
        if !blobs.is_sorted_by(|a, b| a.digest < b.digest) {
            // Met twice, it was written between: the youngest counts.
            blobs.sort_unstable_by_key(|blob| (blob.digest, Reverse(blob.stamp)));
            blobs.dedup_by_key(|blob| blob.digest);
        }
        let shard = &mut self.shards[usize::from(first)];
        shard.digests = blobs.iter().map(|blob| blob.digest).collect();
        shard.sizes = blobs.iter().map(|blob| blob.size.0).collect();
        shard.stamps = blobs.iter().map(|blob| blob.stamp).collect();
    }

    /// Takes what was asked about a blob of which only the name was listed.
    pub fn learn(&mut self, blob: BlobId, size: Bytes, stamp: Stamp) {
        let (shard, at) = blob.place();
        let shard = &mut self.shards[shard];
        (shard.sizes[at], shard.stamps[at]) = (size.0, stamp);
    }

    /// Takes that there is nothing behind the name of a blob that was listed: it is not there to be removed, and whoever links
    /// it links nothing. It is still found by its digest: its place stays its own if it comes after all.
    pub fn learn_absent(&mut self, blob: BlobId) {
        self.absent.insert(blob);
    }

    /// Whether a blob turned out not to be there.
    #[must_use]
    pub fn is_absent(&self, blob: BlobId) -> bool {
        self.absent.contains(&blob)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.digests.len()).sum::<usize>() - self.absent.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All their bytes together; `None` if of some only the names were listed.
    #[must_use]
    pub fn bytes(&self) -> Option<Bytes> {
        self.iter().map(|(_, blob)| blob.known_size()).sum()
    }

    /// The blob with this digest, if it is stored.
    #[must_use]
    pub fn find(&self, digest: Digest) -> Option<BlobId> {
        let shard = digest.first();
        let at = search(&self.shards[usize::from(shard)].digests, digest)?;
        Some(BlobId(u32::from(shard) << SHARD_BITS | u32::try_from(at).ok()?))
    }

    /// What was listed of a blob.
    #[must_use]
    pub fn get(&self, blob: BlobId) -> StoredBlob {
        let (shard, at) = blob.place();
        let shard = &self.shards[shard];
        StoredBlob { digest: shard.digests[at], size: Bytes(shard.sizes[at]), stamp: shard.stamps[at] }
    }

    /// All of them, in the order of their digests.
    pub fn iter(&self) -> impl Iterator<Item = (BlobId, StoredBlob)> + '_ {
        self.ids().map(|id| (id, self.get(id)))
    }

    /// All of them by their places.
    pub fn ids(&self) -> impl Iterator<Item = BlobId> + '_ {
        let shards = self.shards.iter().zip(0_u32..);
        shards.flat_map(|(shard, first)| {
            let ids = (0_u32..).zip(&shard.digests).map(move |(at, _)| BlobId(first << SHARD_BITS | at));
            ids.filter(|blob| !self.is_absent(*blob))
        })
    }

    /// A set of them, empty.
    #[must_use]
    pub fn set(&self) -> BlobSet {
        BlobSet {
            shards: self.shards.iter().map(|shard| vec![0; shard.digests.len().div_ceil(64)]).collect(),
        }
    }
}

/// Where `wanted` is among sorted digests. Digests are spread evenly: it is looked for where it should be, and from there in
/// steps that double, so that no spread takes longer than halving would, but for a constant.
fn search(digests: &[Digest], wanted: Digest) -> Option<usize> {
    let guess = usize::try_from((second_to_fifth(wanted) * digests.len() as u64) >> 32).ok()?;
    let (mut low, mut high, mut step) = (guess, guess, 4);
    while low > 0 && digests[low] > wanted {
        low = low.saturating_sub(step);
        step *= 2;
    }
    while high < digests.len() && digests[high] < wanted {
        high = (high + step).min(digests.len());
        step *= 2;
    }
    let high = (high + 1).min(digests.len());
    digests[low..high].binary_search(&wanted).ok().map(|at| low + at)
}

/// The bytes after the first, which is the same in a shard, as a number.
fn second_to_fifth(digest: Digest) -> u64 {
    let [_, a, b, c, d, ..] = *digest.as_bytes();
    u64::from(u32::from_be_bytes([a, b, c, d]))
}

impl FromIterator<StoredBlob> for Blobs {
    fn from_iter<I: IntoIterator<Item = StoredBlob>>(blobs: I) -> Self {
        let mut shards: BTreeMap<u8, Vec<StoredBlob>> = BTreeMap::new();
        for blob in blobs {
            shards.entry(blob.digest.first()).or_default().push(blob);
        }
        shards.into_iter().fold(Self::default(), |mut all, (first, blobs)| {
            all.fill(first, blobs);
            all
        })
    }
}

impl BlobId {
    const fn place(self) -> (usize, usize) {
        ((self.0 >> SHARD_BITS) as usize, (self.0 & ((1 << SHARD_BITS) - 1)) as usize)
    }
}

/// Some of the blobs of one [`Blobs`], a bit each.
#[derive(Debug, Clone)]
pub struct BlobSet {
    shards: Vec<Vec<u64>>,
}

impl BlobSet {
    /// Adds a blob; false if it was in already.
    pub fn insert(&mut self, blob: BlobId) -> bool {
        let (shard, at) = blob.place();
        let (word, bit) = (&mut self.shards[shard][at / 64], 1_u64 << (at % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Whether a blob is in.
    #[must_use]
    pub fn contains(&self, blob: BlobId) -> bool {
        let (shard, at) = blob.place();
        self.shards[shard][at / 64] >> (at % 64) & 1 == 1
    }

    /// How many are in.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().flatten().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether none is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.iter().flatten().all(|word| *word == 0)
    }
}

/// What a registry's storage holds.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The blobs.
    pub blobs: Blobs,
    /// Every repository: whatever has a folder of layers, of manifests or of uploads. Distribution 2.8 goes by the first, 3.x
    /// by the second (FACTS section 1).
    pub repos: BTreeMap<RepoName, StoredRepo>,
    /// Files that are no part of the layout and were left behind by a crash of the registry: `*.tmp`.
    pub temporary: Vec<Stray>,
    /// What lies under a name that no registry would take, or in a form that none wrote, and may count all the same.
    pub odd: Odd,
    /// What is broken: what it might need is spared.
    pub gaps: Vec<StorageGap>,
}

impl Stored {
    /// Whether nothing was listed by its name alone: everything has the time that the storage tells.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        let is_known = |stamp: Stamp| stamp != Stamp::UNKNOWN;
        self.blobs.iter().all(|(_, blob)| blob.known_size().is_some())
            && self.repos.values().all(|repo| {
                repo.layers.iter().all(|(_, stamp)| is_known(*stamp))
                    && repo.dangling.iter().all(|(_, stamp)| is_known(*stamp))
                    && repo.tags.values().all(|tag| is_known(tag.stamp))
            })
    }
}

/// What one repository links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredRepo {
    /// The manifests that exist in it.
    pub revisions: BTreeMap<Digest, Stamp>,
    /// The blobs that may be read in it.
    pub layers: Vec<(BlobId, Stamp)>,
    /// Layer links whose blob is not stored.
    pub dangling: Vec<(Digest, Stamp)>,
    /// Other names of blobs, such as `sha512:…`, and the digest each link says, if it says one.
    pub aliases: Vec<(String, Option<Digest>, Stamp)>,
    /// The tags.
    pub tags: BTreeMap<Tag, StoredTag>,
    /// The unfinished uploads.
    pub uploads: BTreeMap<UploadId, StoredUpload>,
    /// Other blobs that are needed: signatures of schema 1.
    pub signatures: Vec<Digest>,
    /// Files in it that are no part of the layout: of later versions, or of other programs.
    pub unknown: usize,
}

impl StoredRepo {
    /// When it was last written to, as far as its links tell; `None` if it is empty.
    #[must_use]
    pub fn newest(&self) -> Option<Stamp> {
        let links = self.layers.iter().map(|(_, stamp)| *stamp);
        let dangling = self.dangling.iter().map(|(_, stamp)| *stamp);
        let aliases = self.aliases.iter().map(|(.., stamp)| *stamp);
        let tags = self.tags.values().map(|tag| tag.stamp);
        let uploads = self.uploads.values().map(|upload| upload.newest);
        let all = self.revisions.values().copied().chain(links).chain(dangling).chain(aliases);
        all.chain(tags).chain(uploads).max()
    }

    /// What tags point at although the repository no longer has it: the link that makes the manifest exist was lost. Distribution 2.8
    /// may serve it all the same, and the link can be written again (FACTS section 1).
    pub fn lost(&self) -> impl Iterator<Item = (&Tag, Digest)> + '_ {
        let pointing = self.tags.iter().filter_map(|(tag, stored)| Some((tag, stored.target?)));
        pointing.filter(|(_, target)| !self.revisions.contains_key(target))
    }

    /// Whether a manifest exists in it, or may exist again: a tag points at it, and only its link was lost.
    #[must_use]
    pub fn may_serve(&self, manifest: Digest) -> bool {
        self.revisions.contains_key(&manifest) || self.tagged().any(|tagged| tagged == manifest)
    }

    /// The manifests that some tag points at.
    pub fn tagged(&self) -> impl Iterator<Item = Digest> + '_ {
        self.tags.values().filter_map(|tag| tag.target)
    }
}

/// A tag as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredTag {
    /// What it points at; `None` if its link says nothing that could be understood, or has not been read.
    pub target: Option<Digest>,
    /// When it was last pushed, the same digest or another (FACTS section 5).
    pub stamp: Stamp,
}

/// An unfinished upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredUpload {
    /// When it was last written to.
    pub newest: Stamp,
    /// What its files take. On object stores the data are no file.
    pub size: Bytes,
    /// Its files.
    pub keys: Vec<String>,
}

/// A file that is no part of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Its key below `docker/registry/v2`.
    pub key: String,
    /// Its size.
    pub size: Bytes,
    /// When it was last written.
    pub stamp: Stamp,
}

/// What counts although no registry would have written it so.
#[derive(Debug, Clone, Default)]
pub struct Odd {
    /// Manifests that may exist.
    pub roots: Vec<Digest>,
    /// Blobs that may be read somewhere.
    pub layers: Vec<BlobId>,
}

/// Something in the storage that is broken or was not understood.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct StorageGap {
    /// Where: a key below `docker/registry/v2`.
    pub path: String,
    /// The repository it is in, if it is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepoName>,
    /// What it means for the collection.
    pub spares: Spares,
    /// What is wrong.
    pub why: String,
}

/// What a gap keeps from being removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spares {
    /// Nothing: it is broken, and nothing can need anything for it.
    Nothing,
    /// The manifests of its repository: which of them is needed is not known.
    Manifests,
    /// All that its repository links, its manifests, and all that no repository links.
    Everything,
}

impl fmt::Display for StorageGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

#[cfg(test)]
mod tests;
