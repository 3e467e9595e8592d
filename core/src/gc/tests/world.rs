//! Storages in memory, written so that each reads like a sentence. Whatever has a name is 100 hours old until told otherwise,
//! and the default grace is 24 hours. What becomes of it is told in names again.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use crate::name::MediaType;
use crate::stored::{StoredBlob, StoredTag, StoredUpload};

const NOW: i64 = 1_800_000_000;

/// When it was `hours` ago; in the future if negative.
pub fn hours_ago(hours: i64) -> Stamp {
    Stamp::from_second(NOW - hours * 3600)
}

pub const fn hours(hours: u64) -> Age {
    Age(hours * 3600)
}

pub const OLD: i64 = 100;
pub const YOUNG: i64 = 1;

/// A layer as build caches list it among manifests.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A name of a blob by its sha512.
pub fn sha512(letter: char) -> String {
    format!("sha512:{}", letter.to_string().repeat(128))
}

/// A storage in the making.
#[derive(Clone)]
pub struct World {
    names: BTreeMap<String, Digest>,
    /// What the list of blobs says.
    listed: BTreeMap<Digest, StoredBlob>,
    /// What can be read.
    bytes: BTreeMap<Digest, Vec<u8>>,
    /// Without layers: these are linked by digest until all blobs are there.
    stored: Stored,
    links: Vec<(RepoName, Digest, Stamp)>,
    removed: Removed,
    pub settings: Settings,
}

impl World {
    pub fn new() -> Self {
        Self {
            names: BTreeMap::new(),
            listed: BTreeMap::new(),
            bytes: BTreeMap::new(),
            stored: Stored::default(),
            links: Vec::new(),
            removed: Removed::new(),
            settings: Settings::blobs_only(hours_ago(0), hours(24)),
        }
    }

    pub fn blob(self, name: &str) -> Self {
        self.bytes(name, name)
    }

    /// A manifest, or what ought to be one. `{name}` stands for the digest of what has that name.
    pub fn bytes(mut self, name: &str, text: &str) -> Self {
        let text = self.filled(text);
        let digest = Digest::of(text.as_bytes());
        self.names.insert(name.to_owned(), digest);
        self.put(digest, text)
    }

    /// Manifests that name each other. No digest allows it, but a storage may hold anything.
    pub fn knot(mut self, manifests: &[(&str, &str)]) -> Self {
        for (name, _) in manifests {
            self.names.insert((*name).to_owned(), Digest::of(name.as_bytes()));
        }
        manifests.iter().fold(self, |world, (name, text)| {
            let (digest, text) = (world.digest(name), world.filled(text));
            world.put(digest, text)
        })
    }

    fn filled(&self, text: &str) -> String {
        let names = self.names.iter();
        names.fold(text.to_owned(), |text, (name, digest)| {
            text.replace(&format!("{{{name}}}"), &digest.to_string())
        })
    }

    fn put(mut self, digest: Digest, text: String) -> Self {
        let size = Bytes(text.len() as u64);
        self.bytes.insert(digest, text.into());
        self.listed.insert(digest, StoredBlob { digest, size, stamp: hours_ago(OLD) });
        self
    }

    /// A manifest with a configuration `<name> config` and a layer `<name> layer`.
    pub fn image(self, name: &str) -> Self {
        self.image_with(name, "")
    }

    fn image_with(self, name: &str, more: &str) -> Self {
        let media_type = MediaType::OCI_MANIFEST;
        self.blob(&format!("{name} config")).blob(&format!("{name} layer")).bytes(
            name,
            &format!(
                r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{{"digest":"{{{name} config}}"}},"layers":[{{"digest":"{{{name} layer}}"}}]{more}}}"#
            ),
        )
    }

    /// A manifest with a configuration `<name> config` and a layer `<name> layer`, about another.
    pub fn referrer(self, name: &str, subject: &str) -> Self {
        let subject = self.digest(subject);
        self.image_with(name, &format!(r#","subject":{{"digest":"{subject}"}}"#))
    }

    pub fn index(self, name: &str, children: &[&str]) -> Self {
        self.index_of(MediaType::OCI_MANIFEST, name, children)
    }

    pub fn index_of(self, media_type: &str, name: &str, children: &[&str]) -> Self {
        let digests = children.iter().map(|child| self.digest(child));
        let children: Vec<String> =
            digests.map(|child| format!(r#"{{"mediaType":"{media_type}","digest":"{child}"}}"#)).collect();
        // The name makes it a manifest of its own.
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}],"name":"{name}"}}"#, children.join(","));
        self.bytes(name, &text)
    }

    pub fn digest(&self, name: &str) -> Digest {
        self.names.get(name).copied().unwrap_or_else(|| Digest::of(name.as_bytes()))
    }

    fn name(&self, digest: Digest) -> String {
        let named = self.names.iter().find(|(_, known)| **known == digest);
        named.map_or_else(|| digest.to_string(), |(name, _)| name.clone())
    }

    /// Not stored any more.
    pub fn lost(mut self, name: &str) -> Self {
        self.listed.remove(&self.digest(name));
        self.bytes.remove(&self.digest(name));
        self
    }

    /// Stored after the blobs were listed.
    pub fn late(mut self, name: &str) -> Self {
        self.listed.remove(&self.digest(name)).unwrap();
        self
    }

    /// Of another size than its bytes have here.
    pub fn sized(mut self, name: &str, size: Bytes) -> Self {
        let digest = self.digest(name);
        self.listed.get_mut(&digest).unwrap().size = size;
        self
    }

    pub fn aged(mut self, name: &str, stamp: Stamp) -> Self {
        let digest = self.digest(name);
        self.listed.get_mut(&digest).unwrap().stamp = stamp;
        self
    }

    pub fn repo(&mut self, name: &str) -> &mut StoredRepo {
        self.stored.repos.entry(name.parse().unwrap()).or_default()
    }

    /// A repository with nothing in it.
    pub fn empty(mut self, repo: &str) -> Self {
        self.repo(repo);
        self
    }

    /// Manifests that exist in a repository.
    pub fn has(mut self, repo: &str, manifests: &[&str]) -> Self {
        for name in manifests {
            self = self.has_since(repo, name, OLD);
        }
        self
    }

    pub fn has_since(mut self, repo: &str, manifest: &str, hours: i64) -> Self {
        let digest = self.digest(manifest);
        self.repo(repo).revisions.insert(digest, hours_ago(hours));
        self
    }

    pub fn tag(mut self, repo: &str, tag: &str, target: &str) -> Self {
        let tagged = StoredTag { target: Some(self.digest(target)), stamp: hours_ago(OLD) };
        self.repo(repo).tags.insert(tag.parse().unwrap(), tagged);
        self.has(repo, &[target])
    }

    pub fn unread_tag(mut self, repo: &str, tag: &str) -> Self {
        let tagged = StoredTag { target: None, stamp: hours_ago(OLD) };
        self.repo(repo).tags.insert(tag.parse().unwrap(), tagged);
        self
    }

    pub fn link(self, repo: &str, blob: &str) -> Self {
        self.link_since(repo, blob, hours_ago(OLD))
    }

    /// A layer link; dangling if that is not stored in the end.
    pub fn link_since(mut self, repo: &str, blob: &str, stamp: Stamp) -> Self {
        self.repo(repo);
        self.links.push((repo.parse().unwrap(), self.digest(blob), stamp));
        self
    }

    pub fn alias(self, repo: &str, alias: &str, target: &str) -> Self {
        self.alias_since(repo, alias, target, hours_ago(OLD))
    }

    pub fn alias_since(mut self, repo: &str, alias: &str, target: &str, stamp: Stamp) -> Self {
        let target = self.digest(target);
        self.repo(repo).aliases.push((alias.to_owned(), Some(target), stamp));
        self
    }

    pub fn signature(mut self, repo: &str, blob: &str) -> Self {
        let digest = self.digest(blob);
        self.repo(repo).signatures.push(digest);
        self
    }

    /// An upload of 10 bytes with one file.
    pub fn upload(mut self, repo: &str, number: u8, hours: i64) -> Self {
        let id: UploadId = format!("00000000-0000-4000-8000-0000000000{number:02x}").parse().unwrap();
        let keys = vec![format!("repositories/{repo}/_uploads/{id}/data")];
        let upload = StoredUpload { newest: hours_ago(hours), size: Bytes(10), keys };
        self.repo(repo).uploads.insert(id, upload);
        self
    }

    pub fn temporary(mut self, key: &str, hours: i64) -> Self {
        self.stored.temporary.push(Stray { key: key.to_owned(), size: Bytes(5), stamp: hours_ago(hours) });
        self
    }

    /// Something broken in a repository; outside of all of them if that has no name.
    pub fn gap(mut self, repo: &str, spares: Spares) -> Self {
        let repository = (!repo.is_empty()).then(|| repo.parse().unwrap());
        let (path, why) = ("somewhere".to_owned(), "broken".to_owned());
        self.stored.gaps.push(StorageGap { path, repository, spares, why });
        self
    }

    pub fn odd_root(mut self, manifest: &str) -> Self {
        self.stored.odd.roots.push(self.digest(manifest));
        self
    }

    pub fn odd_layer(mut self, blob: &str) -> Self {
        let id = self.stored().blobs.find(self.digest(blob)).unwrap();
        self.stored.odd.layers.push(id);
        self
    }

    /// A policy removes these.
    pub fn removing(mut self, repo: &str, manifests: &[&str]) -> Self {
        let digests: Vec<Digest> = manifests.iter().map(|name| self.digest(name)).collect();
        self.removed.entry(repo.parse().unwrap()).or_default().extend(digests);
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Untagged manifests that are a day old go, too.
    pub fn untagged(self) -> Self {
        self.with(|settings| settings.untagged = Some(hours(24)))
    }

    pub fn stored(&self) -> Stored {
        let mut stored = self.stored.clone();
        stored.blobs = self.listed.values().copied().collect();
        for (name, digest, stamp) in &self.links {
            let repo = stored.repos.get_mut(name).unwrap();
            match stored.blobs.find(*digest) {
                Some(blob) => repo.layers.push((blob, *stamp)),
                None => repo.dangling.push((*digest, *stamp)),
            }
        }
        stored
    }

    /// Reads what is asked for, and returns how many were.
    pub fn learn(&self, known: &mut Known) -> usize {
        let stored = self.stored();
        let mut reads = 0;
        known.visit_roots(&stored);
        loop {
            let unread = known.unread();
            if unread.is_empty() {
                return reads;
            }
            for digest in unread {
                reads += 1;
                match self.bytes.get(&digest) {
                    Some(bytes) => {
                        let references = References::read(bytes).map_err(|error| error.to_string());
                        known.learn(&stored.blobs, digest, &references);
                    }
                    None => known.absent(digest),
                }
            }
        }
    }

    pub fn known(&self) -> Known {
        let mut known = Known::default();
        self.learn(&mut known);
        known
    }

    pub fn decided(&self) -> Decided {
        self.decided_by(&self.known())
    }

    pub fn decided_by(&self, known: &Known) -> Decided {
        decide(&self.stored(), known, &self.removed, &self.settings)
    }

    /// The blobs that go.
    pub fn blobs(&self) -> BTreeSet<String> {
        self.blobs_by(&self.known())
    }

    pub fn blobs_by(&self, known: &Known) -> BTreeSet<String> {
        self.decided_by(known).garbage.blobs.iter().map(|blob| self.name(blob.digest)).collect()
    }

    /// The manifests that go: `repository name`.
    pub fn manifests(&self) -> BTreeSet<String> {
        let garbage = self.decided().garbage.manifests;
        garbage.iter().map(|one| format!("{} {}", one.repository, self.name(one.digest))).collect()
    }

    /// The layer links that go: `repository name`.
    pub fn links(&self) -> BTreeSet<String> {
        let name =
            |digest: &str| digest.parse().map_or_else(|_| digest.to_owned(), |digest| self.name(digest));
        let links = self.decided().garbage.links;
        links.iter().map(|link| format!("{} {}", link.repository, name(&link.digest))).collect()
    }

    /// The repositories that go.
    pub fn repositories(&self) -> BTreeSet<String> {
        self.decided().garbage.repositories.iter().map(ToString::to_string).collect()
    }

    /// The repositories that something is broken in: all that spares everything.
    pub fn tainted(&self) -> BTreeSet<String> {
        let wide = self.decided().gaps.into_iter().filter(|gap| gap.spares == Spares::Everything);
        wide.map(|gap| gap.repository.map_or_else(String::new, |name| name.to_string())).collect()
    }
}

/// Names, in any order.
pub fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}
