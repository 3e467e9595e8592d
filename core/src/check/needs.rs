//! What a manifest needs to be pulled, with the sizes it says, and what of that is not as it says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::name::{Bytes, Digest, MediaType};
use crate::stored::Stored;

/// The fields under which manifests list what they need, in lower case: schema 2, OCI, artifacts, schema 1.
const FIELDS: [&str; 5] = ["config", "layers", "blobs", "fslayers", "manifests"];

/// Something a manifest needs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Need {
    /// The digest, of whatever algorithm.
    digest: String,
    /// Its size by the manifest's word.
    size: Option<Bytes>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A configuration or a layer.
    Blob,
    /// A layer that comes from elsewhere and need not be here (FACTS section 8, 42).
    Foreign,
    /// A manifest that an index lists.
    Child,
}

/// What is wrong with something that a manifest needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// It is not stored.
    Missing {
        /// The digest, of whatever algorithm.
        digest: String,
    },
    /// A manifest that an index lists is not stored.
    MissingChild {
        /// The manifest.
        digest: Digest,
    },
    /// It is stored in another size than the manifest says.
    WrongSize {
        /// The blob.
        digest: Digest,
        /// How much is stored.
        stored: Bytes,
        /// How much it should be.
        said: Bytes,
    },
}

/// What is not as the manifests say, by manifest; those that are as they should be take no room.
#[derive(Debug, Clone, Default)]
pub struct Flaws {
    by_manifest: BTreeMap<Digest, Vec<Flaw>>,
    /// What need not be here.
    foreign: BTreeSet<Digest>,
    /// Other names of blobs.
    aliases: BTreeMap<String, BTreeSet<Digest>>,
}

impl Flaws {
    /// None yet. Knows the other names of the blobs of `stored`.
    #[must_use]
    pub fn of(stored: &Stored) -> Self {
        let mut aliases: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
        for (alias, target, _) in stored.repos.values().flat_map(|repo| &repo.aliases) {
            aliases.entry(alias.clone()).or_default().extend(target);
        }
        Self { aliases, ..Self::default() }
    }

    /// Looks at whether what a manifest needs is there, in the size it says.
    pub fn see(&mut self, stored: &Stored, manifest: Digest, needs: Needs) {
        let mut flaws = Vec::new();
        for need in needs.0 {
            match self.resolve(stored, &need.digest) {
                _ if need.kind == Kind::Foreign => self.foreign.extend(need.digest.parse::<Digest>().ok()),
                Some((digest, size)) => {
                    // A size of nothing means that whoever wrote it did not know: clients pull it all the same.
                    let said = need.size.filter(|said| *said != size && said.0 > 0);
                    flaws.extend(said.map(|said| Flaw::WrongSize { digest, stored: size, said }));
                }
                None => flaws.push(missing(need)),
            }
        }
        flaws.sort_unstable();
        flaws.dedup();
        if !flaws.is_empty() {
            self.by_manifest.insert(manifest, flaws);
        }
    }

    fn resolve(&self, stored: &Stored, text: &str) -> Option<(Digest, Bytes)> {
        let named = text.parse::<Digest>().ok();
        let mut digests = named.into_iter().chain(self.aliases.get(text).into_iter().flatten().copied());
        digests.find_map(|digest| Some((digest, stored.blobs.get(stored.blobs.find(digest)?).size)))
    }

    /// What is wrong with what a manifest needs.
    #[must_use]
    pub fn of_manifest(&self, manifest: Digest) -> &[Flaw] {
        self.by_manifest.get(&manifest).map_or(&[], Vec::as_slice)
    }

    /// Whether some manifest says that this layer comes from elsewhere.
    #[must_use]
    pub fn is_foreign(&self, digest: Digest) -> bool {
        self.foreign.contains(&digest)
    }
}

fn missing(need: Need) -> Flaw {
    match (need.kind, need.digest.parse()) {
        (Kind::Child, Ok(digest)) => Flaw::MissingChild { digest },
        _ => Flaw::Missing { digest: need.digest },
    }
}

/// What a manifest needs to be pulled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs(Vec<Need>);

impl Needs {
    /// What the manifest in `bytes` needs. Bytes that are no manifest need nothing.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Self(needs(&fields)),
            _ => Self::default(),
        }
    }
}

fn needs(fields: &Map<String, Value>) -> Vec<Need> {
    let mut needs = Vec::new();
    for (name, value) in fields {
        let name = name.to_ascii_lowercase();
        if !FIELDS.contains(&name.as_str()) {
            continue;
        }
        let descriptors = match value {
            Value::Array(items) => items.iter().collect(),
            other => vec![other],
        };
        needs.extend(descriptors.into_iter().filter_map(|descriptor| need(descriptor.as_object()?, &name)));
    }
    needs
}

fn need(descriptor: &Map<String, Value>, field: &str) -> Option<Need> {
    // Go reads the names of fields without case, and so do the registries.
    let of = |wanted: &str| {
        descriptor.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let digest = of("digest").or_else(|| of("blobSum"))?.as_str()?.to_owned();
    let media_type = of("mediaType").and_then(Value::as_str).map(MediaType::new);
    let has_urls = of("urls").and_then(Value::as_array).is_some_and(|urls| !urls.is_empty());
    let kind = match media_type {
        Some(media_type) if is_foreign(&media_type) => Kind::Foreign,
        _ if has_urls && field != "manifests" => Kind::Foreign,
        Some(media_type) if field == "manifests" && !media_type.is_manifest() => Kind::Blob,
        _ if field == "manifests" => Kind::Child,
        _ => Kind::Blob,
    };
    Some(Need { digest, size: of("size").and_then(Value::as_u64).map(Bytes), kind })
}

/// Docker's `…foreign.diff.tar.gzip` and OCI's `…layer.nondistributable…`.
fn is_foreign(media_type: &MediaType) -> bool {
    media_type.as_str().contains(".foreign.") || media_type.as_str().contains(".nondistributable.")
}
