//! A storage in memory, and what looking at it comes to.

use std::collections::{BTreeMap, BTreeSet};

use clean_registry_core::check::{Fault, Flaws, Needs, Read, Severity, faults};
use clean_registry_core::gc::{Known, References};
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Bytes, Digest, MediaType, RepoName, Tag};
use clean_registry_core::stored::{Spares, Stamp, StorageGap, Stored, StoredBlob, StoredRepo, StoredTag};

/// All that is old was written then; a day is 86 400 seconds.
pub const OLD: i64 = 1_000_000;
pub const NOW: i64 = OLD + 30 * 86_400;

pub fn repo(name: &str) -> RepoName {
    name.parse().unwrap()
}

pub fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

#[derive(Default)]
pub struct World {
    pub blobs: BTreeMap<Digest, StoredBlob>,
    pub bytes: BTreeMap<Digest, Vec<u8>>,
    /// Repository by repository: its layer links, its revisions, its tags.
    pub layers: BTreeMap<RepoName, BTreeSet<Digest>>,
    pub revisions: BTreeMap<RepoName, BTreeSet<Digest>>,
    pub tags: BTreeMap<RepoName, BTreeMap<Tag, Digest>>,
    pub aliases: BTreeMap<RepoName, Vec<(String, Option<Digest>, Stamp)>>,
    pub gaps: Vec<StorageGap>,
    pub read: Read,
    pub arrived: BTreeSet<String>,
}

/// What looking at it gives.
pub struct Seen {
    pub stored: Stored,
    pub known: Known,
    pub flaws: Flaws,
}

impl World {
    pub fn blob(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let stamp = Stamp::from_second(OLD);
        self.blobs.insert(digest, StoredBlob { digest, size: Bytes(bytes.len() as u64), stamp });
        self.bytes.insert(digest, bytes.to_vec());
        digest
    }

    /// A manifest of these layers in a repository, with links to all of it.
    pub fn image(&mut self, name: &str, layers: &[&str]) -> Digest {
        let config = format!("config of {name} {layers:?}");
        let described: Vec<String> = layers.iter().map(|layer| descriptor(layer.as_bytes(), "")).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            MediaType::OCI_MANIFEST,
            descriptor(config.as_bytes(), ""),
            described.join(",")
        );
        for blob in layers.iter().copied().chain([config.as_str()]) {
            let digest = self.blob(blob.as_bytes());
            self.layers.entry(repo(name)).or_default().insert(digest);
        }
        self.manifest(name, &manifest)
    }

    /// A manifest with these bytes in a repository.
    pub fn manifest(&mut self, name: &str, bytes: &str) -> Digest {
        let digest = self.blob(bytes.as_bytes());
        self.revisions.entry(repo(name)).or_default().insert(digest);
        digest
    }

    /// An index of manifests that are stored.
    pub fn index(&mut self, name: &str, children: &[Digest]) -> Digest {
        let children: Vec<String> =
            children.iter().map(|child| descriptor(&self.bytes[child], MediaType::OCI_MANIFEST)).collect();
        self.manifest(name, &format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(",")))
    }

    pub fn tag(&mut self, name: &str, text: &str, digest: Digest) {
        self.tags.entry(repo(name)).or_default().insert(tag(text), digest);
    }

    /// The blob of these bytes is lost.
    pub fn lose(&mut self, digest: Digest) {
        self.blobs.remove(&digest);
    }

    /// The link at `place` says nothing.
    pub fn empty(&mut self, place: &Place) {
        let repository = Place::split(&place.key()).and_then(|(name, _)| name.parse().ok());
        self.gaps.push(StorageGap {
            path: place.key(),
            repository,
            spares: Spares::Nothing,
            why: "the link is empty".to_owned(),
        });
    }

    pub fn seen(&self) -> Seen {
        let stored = self.stored();
        let mut known = Known::default();
        let mut flaws = Flaws::of(&stored);
        known.visit_roots(&stored);
        loop {
            let unread = known.unread();
            if unread.is_empty() {
                return Seen { stored, known, flaws };
            }
            for digest in unread {
                if !self.blobs.contains_key(&digest) {
                    known.absent(digest);
                    continue;
                }
                let references = References::read(&self.bytes[&digest]).map_err(|error| error.to_string());
                if references.is_ok() {
                    flaws.see(&stored, digest, Needs::read(&self.bytes[&digest]));
                }
                known.learn(&stored.blobs, digest, &references);
            }
        }
    }

    fn stored(&self) -> Stored {
        let mut stored = Stored {
            blobs: self.blobs.values().copied().collect(),
            gaps: self.gaps.clone(),
            ..Stored::default()
        };
        let names = self.layers.keys().chain(self.revisions.keys()).chain(self.tags.keys());
        for name in names {
            let repo = self.stored_repo(name, &stored);
            stored.repos.insert(name.clone(), repo);
        }
        stored
    }

    fn stored_repo(&self, name: &RepoName, stored: &Stored) -> StoredRepo {
        let stamp = Stamp::from_second(OLD);
        let mut repo = StoredRepo {
            aliases: self.aliases.get(name).cloned().unwrap_or_default(),
            ..StoredRepo::default()
        };
        for digest in self.layers.get(name).into_iter().flatten() {
            match stored.blobs.find(*digest) {
                Some(blob) => repo.layers.push((blob, stamp)),
                None => repo.dangling.push((*digest, stamp)),
            }
        }
        repo.revisions =
            self.revisions.get(name).into_iter().flatten().map(|digest| (*digest, stamp)).collect();
        let unread = |tag: &Tag| {
            let place = Place::TagCurrent { repo: name.clone(), tag: tag.clone() };
            self.gaps.iter().any(|gap| gap.path == place.key())
        };
        repo.tags = self
            .tags
            .get(name)
            .into_iter()
            .flatten()
            .map(|(tag, digest)| {
                (tag.clone(), StoredTag { target: (!unread(tag)).then_some(*digest), stamp })
            })
            .collect();
        repo
    }

    pub fn faults(&self) -> Vec<Fault> {
        let Seen { stored, known, flaws } = self.seen();
        faults(&stored, &known, &flaws, &self.read, &self.arrived)
    }

    /// Each fault in a line: how bad, what, and what it breaks. Digests are left out.
    pub fn told(&self) -> Vec<String> {
        self.faults().iter().map(told).collect()
    }
}

fn told(fault: &Fault) -> String {
    let severity = match fault.severity {
        Severity::Broken => "broken",
        Severity::Damaged => "damaged",
    };
    let json = serde_json::to_value(fault).unwrap();
    let breaks: Vec<String> = fault
        .breaks
        .iter()
        .map(|image| match &image.tag {
            Some(tag) => format!("{}:{tag}", image.repository),
            None => format!("{}@", image.repository),
        })
        .collect();
    format!("{severity} {} {}", json["wrong"].as_str().unwrap(), breaks.join(" ")).trim_end().to_owned()
}

/// A descriptor of these bytes; of no media type if that is empty.
pub fn descriptor(bytes: &[u8], media_type: &str) -> String {
    let media_type =
        if media_type.is_empty() { String::new() } else { format!(r#""mediaType":"{media_type}","#) };
    format!(r#"{{{media_type}"digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len())
}
