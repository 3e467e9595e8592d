//! What is known of manifests by digest. Content never changes, so what was read once need not be read again.
//!
//! A cache: safe to delete, and dropped whole unless it is exactly as it was written, since a wrong date would be a reason
//! to delete. After a survey of a whole registry it holds what that survey used and nothing else, so it is never larger than
//! what the registry holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clean_registry_core::manifest::{ImageConfig, Manifest, ManifestError};
use clean_registry_core::name::{Digest, RepoName, Tag};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{At as _, StateError};

const FORMAT: u32 = 1;

/// The cache. Shared by everything that surveys.
#[derive(Debug)]
pub struct Facts {
    inner: Mutex<Inner>,
    /// The labels and annotations that are kept; the others take room and serve nobody.
    labels: BTreeSet<String>,
    /// Held by digest while a thing is being read, so that two repositories do not read it twice.
    claims: Vec<tokio::sync::Mutex<()>>,
}

/// More than there are ever requests under way, so that unrelated digests seldom share one.
const CLAIMS: usize = 1024;

impl Default for Facts {
    fn default() -> Self {
        Self::new(Inner::default(), BTreeSet::new())
    }
}

#[derive(Debug, Default)]
struct Inner {
    manifests: HashMap<Digest, Arc<Manifest>>,
    /// The tags of the last survey: asked for by HEAD first, since what they point at is probably known.
    tags: HashMap<RepoName, BTreeSet<Tag>>,
    used: HashSet<Digest>,
    /// Manifests of this survey whose configuration has not been read; never written.
    undated: HashMap<Digest, Arc<Manifest>>,
    /// What the configurations that this survey has read tell; never written.
    configs: HashMap<Digest, ImageConfig>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line<'a> {
    Format(u32),
    Labels(BTreeSet<String>),
    Tags(RepoName, BTreeSet<Tag>),
    Manifest(Digest, std::borrow::Cow<'a, Manifest>),
    Sha256(Digest),
}

impl Facts {
    /// Reads the cache, which has to know these labels and annotations of every image. One that is absent, damaged, of another
    /// version or without them is empty.
    #[must_use]
    pub fn load(path: &Path, labels: BTreeSet<String>) -> Self {
        Self::new(read(path, &labels).unwrap_or_default(), labels)
    }

    fn new(inner: Inner, labels: BTreeSet<String>) -> Self {
        let claims = (0..CLAIMS).map(|_| tokio::sync::Mutex::new(())).collect();
        Self { inner: Mutex::new(inner), labels, claims }
    }

    /// Reads a manifest from its bytes, with the annotations that are kept.
    ///
    /// # Errors
    /// As [`Manifest::parse`].
    pub fn parse(&self, bytes: &[u8], served_as: Option<&str>) -> Result<Arc<Manifest>, ManifestError> {
        let mut manifest = Manifest::parse(bytes, served_as)?;
        manifest.labels.retain(|key, _| self.labels.contains(key));
        Ok(Arc::new(manifest))
    }

    /// Reads an image configuration from its bytes, with the labels that are kept.
    ///
    /// # Errors
    /// As [`ImageConfig::parse`].
    pub fn parse_config(&self, bytes: &[u8]) -> Result<ImageConfig, ManifestError> {
        let mut config = ImageConfig::parse(bytes)?;
        config.labels.retain(|key, _| self.labels.contains(key));
        Ok(config)
    }

    /// Waits until nobody else is reading what has this digest, and keeps others from it.
    pub async fn claim(&self, digest: Digest) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        digest.hash(&mut hasher);
        let slot = usize::try_from(hasher.finish() % CLAIMS as u64).unwrap_or_default();
        self.claims[slot].lock().await
    }

    /// The manifest with this digest, if this survey has read it and not yet its date.
    #[must_use]
    pub fn undated(&self, digest: Digest) -> Option<Arc<Manifest>> {
        self.lock().undated.get(&digest).cloned()
    }

    /// Notes a manifest whose date has not been read.
    pub fn note_undated(&self, digest: Digest, manifest: Arc<Manifest>) {
        self.lock().undated.insert(digest, manifest);
    }

    /// The configuration with this digest, if this survey has read it.
    #[must_use]
    pub fn config(&self, digest: Digest) -> Option<ImageConfig> {
        self.lock().configs.get(&digest).cloned()
    }

    /// Notes what a configuration tells.
    pub fn note_config(&self, digest: Digest, config: ImageConfig) {
        self.lock().configs.insert(digest, config);
    }

    /// The manifest with this digest, if it was ever read.
    #[must_use]
    pub fn manifest(&self, digest: Digest) -> Option<Arc<Manifest>> {
        let mut inner = self.lock();
        let known = inner.manifests.get(&digest).cloned()?;
        inner.used.insert(digest);
        Some(known)
    }

    /// Notes a manifest that was read.
    pub fn learn(&self, digest: Digest, manifest: Arc<Manifest>) {
        let mut inner = self.lock();
        inner.used.insert(digest);
        inner.undated.remove(&digest);
        inner.manifests.insert(digest, manifest);
    }

    /// Whether the last survey saw this tag.
    #[must_use]
    pub fn knows_tag(&self, repository: &RepoName, tag: &Tag) -> bool {
        self.lock().tags.get(repository).is_some_and(|tags| tags.contains(tag))
    }

    /// Keeps what this survey did not use: it did not look at the whole registry.
    pub fn keep_unused(&self) {
        let mut inner = self.lock();
        let Inner { manifests, used, .. } = &mut *inner;
        used.extend(manifests.keys());
    }

    /// Writes what a survey of the whole registry used, with the tags it saw.
    ///
    /// # Errors
    /// When it cannot be written; nothing but time is lost.
    pub fn save(&self, path: &Path, tags: &BTreeMap<&RepoName, BTreeSet<Tag>>) -> Result<(), StateError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).at(directory)?;
        let temporary = tempfile::NamedTempFile::new_in(directory).at(directory)?;
        self.write(temporary.as_file(), tags).at(path)?;
        temporary.persist(path).map_err(|error| error.error).at(path)?;
        Ok(())
    }

    fn write(&self, file: &std::fs::File, tags: &BTreeMap<&RepoName, BTreeSet<Tag>>) -> std::io::Result<()> {
        let mut out = Hashing { out: BufWriter::new(file), hash: Sha256::new() };
        out.line(&Line::Format(FORMAT))?;
        if !self.labels.is_empty() {
            out.line(&Line::Labels(self.labels.clone()))?;
        }
        for (repository, tags) in tags {
            out.line(&Line::Tags((*repository).clone(), tags.clone()))?;
        }
        let inner = self.lock();
        for digest in &inner.used {
            if let Some(manifest) = inner.manifests.get(digest) {
                out.line(&Line::Manifest(*digest, std::borrow::Cow::Borrowed(manifest)))?;
            }
        }
        let digest = Digest::from_bytes(out.hash.clone().finalize().into());
        out.line(&Line::Sha256(digest))?;
        out.out.flush()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    fn line(&mut self, line: &Line<'_>) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.hash.update(&text);
        self.out.write_all(&text)
    }
}

/// `None` unless the file ends with the digest of all that stands before it, and knows these labels.
fn read(path: &Path, labels: &BTreeSet<String>) -> Option<Inner> {
    let mut reader = BufReader::new(std::fs::File::open(path).ok()?);
    let (mut inner, mut hash, mut text) = (Inner::default(), Sha256::new(), Vec::new());
    let (mut first, mut known) = (true, BTreeSet::new());
    while reader.read_until(b'\n', &mut text).ok()? > 0 {
        match serde_json::from_slice(&text).ok()? {
            Line::Format(format) if first && format == FORMAT => {}
            _ if first => return None,
            Line::Labels(labels) => known = labels,
            Line::Tags(repository, tags) => drop(inner.tags.insert(repository, tags)),
            Line::Manifest(digest, manifest) => {
                inner.manifests.insert(digest, Arc::new(manifest.into_owned()));
            }
            Line::Sha256(stated) => {
                let computed: [u8; 32] = hash.finalize().into();
                let is_whole = Digest::from_bytes(computed) == stated;
                return (is_whole && labels.is_subset(&known)).then_some(inner);
            }
            Line::Format(_) => return None,
        }
        first = false;
        hash.update(&text);
        text.clear();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(created: &str) -> Arc<Manifest> {
        let bytes =
            format!(r#"{{"layers":[],"annotations":{{"org.opencontainers.image.created":"{created}"}}}}"#);
        Arc::new(Manifest::parse(bytes.as_bytes(), None).unwrap())
    }

    #[test]
    fn facts_survive_and_only_those_that_were_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("facts.jsonl");
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let (repository, tag): (RepoName, Tag) = ("app".parse().unwrap(), "v1".parse().unwrap());
        let tags = BTreeMap::from([(&repository, BTreeSet::from([tag.clone()]))]);

        let facts = Facts::load(&path, BTreeSet::new());
        facts.learn(one, manifest("2024-01-01T00:00:00Z"));
        facts.learn(two, manifest("2025-01-01T00:00:00Z"));
        facts.save(&path, &tags).unwrap();

        let facts = Facts::load(&path, BTreeSet::new());
        assert_eq!(facts.manifest(one), Some(manifest("2024-01-01T00:00:00Z")));
        assert!(facts.knows_tag(&repository, &tag) && !facts.knows_tag(&repository, &"v2".parse().unwrap()));
        facts.save(&path, &tags).unwrap();

        let facts = Facts::load(&path, BTreeSet::new());
        assert!(facts.manifest(one).is_some() && facts.manifest(two).is_none());
    }

    #[test]
    fn a_cache_with_any_byte_altered_is_no_cache() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("facts.jsonl");
        let digest = Digest::of(b"1");
        let facts = Facts::default();
        facts.learn(digest, manifest("2024-01-01T00:00:00Z"));
        facts.save(&path, &BTreeMap::new()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for position in 0..whole.len() {
            let mut altered = whole.clone();
            altered[position] ^= 1;
            std::fs::write(&path, altered).unwrap();
            assert_eq!(Facts::load(&path, BTreeSet::new()).manifest(digest), None, "byte {position}");
        }
        for length in 0..whole.len() - 1 {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(Facts::load(&path, BTreeSet::new()).manifest(digest), None, "cut to {length}");
        }
    }

    #[test]
    fn a_cache_that_lacks_a_label_is_no_cache() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("facts.jsonl");
        let digest = Digest::of(b"1");
        let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let facts = Facts::load(&path, labels(&["team"]));
        let bytes = br#"{"layers":[],"annotations":{"team":"a","other":"b"}}"#;
        let manifest = facts.parse(bytes, None).unwrap();
        assert_eq!(manifest.labels, BTreeMap::from([("team".to_owned(), "a".to_owned())]));
        facts.learn(digest, manifest);
        facts.save(&path, &BTreeMap::new()).unwrap();
        for (wanted, is_known) in [(vec![], true), (vec!["team"], true), (vec!["team", "other"], false)] {
            assert_eq!(
                Facts::load(&path, labels(&wanted)).manifest(digest).is_some(),
                is_known,
                "{wanted:?}"
            );
        }
    }
}
