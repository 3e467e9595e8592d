//! Images, indexes and what hangs on them, built in memory: the same bytes for the same wishes.
//!
//! What is [`Built`] can be written into a storage or pushed over HTTP.

use std::collections::BTreeMap;
use std::io;

use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, MediaType, RepoName, Tag};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::store::Store;

/// The media type of a Helm chart's config.
pub const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
/// The media type of the config of a BuildKit cache.
pub const BUILDKIT_CACHE_CONFIG: &str = "application/vnd.buildkit.cacheconfig.v0";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Bytes that no compression makes smaller, the same for the same seed.
#[must_use]
pub fn noise(seed: &str, length: usize) -> Vec<u8> {
    let digest = Digest::of(seed.as_bytes()).hex();
    let mut state = u64::from_str_radix(&digest[..16], 16).expect("sixteen hexadecimal digits");
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // SplitMix64, <https://prng.di.unimi.it/splitmix64.c>
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A manifest with everything it needs.
#[derive(Debug, Clone)]
pub struct Built {
    /// What it is sent as.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its config and layers, as bytes.
    pub blobs: Vec<Vec<u8>>,
    /// The manifests it lists.
    pub children: Vec<Built>,
    platform: Option<Value>,
    annotations: BTreeMap<&'static str, String>,
    artifact_type: Option<String>,
}

impl Built {
    fn of(media_type: &str, document: &Value, blobs: Vec<Vec<u8>>, children: Vec<Self>) -> Self {
        Self {
            media_type: MediaType::new(media_type),
            bytes: document.to_string().into_bytes(),
            blobs,
            children,
            platform: None,
            annotations: BTreeMap::new(),
            artifact_type: None,
        }
    }

    /// An OCI index of these.
    #[must_use]
    pub fn index(children: impl IntoIterator<Item = Self>) -> Self {
        Self::listing(MediaType::OCI_INDEX, children.into_iter().collect())
    }

    /// A Docker manifest list of these.
    #[must_use]
    pub fn docker_list(children: impl IntoIterator<Item = Self>) -> Self {
        Self::listing(MediaType::DOCKER_LIST, children.into_iter().collect())
    }

    fn listing(media_type: &str, children: Vec<Self>) -> Self {
        let descriptors: Vec<Value> = children.iter().map(Self::descriptor).collect();
        let document = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": descriptors });
        Self::of(media_type, &document, Vec::new(), children)
    }

    /// What BuildKit exports as a cache: an index that lists layers and their config as if they were manifests.
    #[must_use]
    pub fn build_cache(layers: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let config = json!({ "layers": [], "records": [] }).to_string().into_bytes();
        let mut blobs: Vec<Vec<u8>> = layers.into_iter().collect();
        let mut descriptors: Vec<Value> = blobs.iter().map(|layer| descriptor(OCI_LAYER, layer)).collect();
        descriptors.push(descriptor(BUILDKIT_CACHE_CONFIG, &config));
        blobs.push(config);
        let document =
            json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": descriptors });
        Self::of(MediaType::OCI_INDEX, &document, blobs, Vec::new())
    }

    /// The same, to be listed for a platform.
    #[must_use]
    pub fn on(self, os: &str, architecture: &str) -> Self {
        Self { platform: Some(json!({ "os": os, "architecture": architecture })), ..self }
    }

    /// The digest of its bytes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// How another manifest refers to it.
    #[must_use]
    pub fn descriptor(&self) -> Value {
        let mut descriptor = descriptor(self.media_type.as_str(), &self.bytes);
        if let Some(platform) = &self.platform {
            descriptor["platform"] = platform.clone();
        }
        if let Some(artifact_type) = &self.artifact_type {
            descriptor["artifactType"] = json!(artifact_type);
        }
        if !self.annotations.is_empty() {
            descriptor["annotations"] = json!(self.annotations);
        }
        descriptor
    }

    /// The tag cosign hangs something about this under, such as `sha256-<hex>.sig`; without a suffix the fallback tag
    /// of the referrers API.
    ///
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>
    #[must_use]
    pub fn tag_about(&self, suffix: &str) -> Tag {
        format!("sha256-{}{suffix}", self.digest().hex()).parse().expect("hexadecimal digits make a tag")
    }

    /// Writes it into a repository of a storage: whatever it needs first, then itself, as a push does.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, store: &Store, repo: &RepoName) -> io::Result<Digest> {
        for child in &self.children {
            child.write(store, repo)?;
        }
        for blob in &self.blobs {
            let digest = store.write_blob(blob)?;
            store.write_link(&Place::LayerLink { repo: repo.clone(), digest }, &digest)?;
        }
        let digest = store.write_blob(&self.bytes)?;
        store.write_link(&Place::RevisionLink { repo: repo.clone(), digest }, &digest)?;
        Ok(digest)
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() })
}

/// What an image shall be.
#[derive(Debug, Clone)]
pub struct Builder {
    media_type: &'static str,
    config_type: &'static str,
    layer_type: &'static str,
    config: Value,
    layers: Vec<Vec<u8>>,
    subject: Option<Value>,
    artifact_type: Option<String>,
    annotations: BTreeMap<&'static str, String>,
    typed: Typed,
}

/// Whether the manifest says its own media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Typed {
    Yes,
    No,
}

impl Builder {
    /// An OCI image without a date and without layers; `name` makes it different from all others.
    #[must_use]
    pub fn image(name: &str) -> Self {
        let config =
            json!({ "architecture": "amd64", "os": "linux", "config": { "Labels": { "name": name } } });
        Self::artifact(MediaType::OCI_CONFIG, config)
    }

    /// The same as Docker before OCI had it.
    #[must_use]
    pub fn docker_image(name: &str) -> Self {
        Self {
            media_type: MediaType::DOCKER_MANIFEST,
            config_type: MediaType::DOCKER_CONFIG,
            layer_type: DOCKER_LAYER,
            ..Self::image(name)
        }
    }

    /// A Helm chart: its config knows no date.
    #[must_use]
    pub fn chart(name: &str, version: &str) -> Self {
        let config = json!({ "apiVersion": "v2", "name": name, "version": version });
        let chart = Self::artifact(HELM_CONFIG, config);
        Self { layer_type: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", ..chart }
    }

    /// What buildx attaches to an image inside an index: provenance, undated, for no platform.
    #[must_use]
    pub fn attestation(image: &Built) -> Built {
        let config = json!({ "architecture": "unknown", "os": "unknown", "config": {} });
        let statement = json!({ "subject": [{ "digest": image.digest() }] }).to_string();
        let builder = Self::artifact(MediaType::OCI_CONFIG, config).layer(statement.into_bytes());
        let mut built = Self { layer_type: "application/vnd.in-toto+json", ..builder }.build();
        built.annotations.insert("vnd.docker.reference.type", "attestation-manifest".to_owned());
        built.annotations.insert("vnd.docker.reference.digest", image.digest().to_string());
        built.on("unknown", "unknown")
    }

    /// What cosign signs an image with; it belongs under [`Built::tag_about`] `.sig`.
    #[must_use]
    pub fn signature(image: &Built) -> Built {
        let config = json!({ "architecture": "", "os": "", "config": {} });
        let payload =
            json!({ "critical": { "image": { "docker-manifest-digest": image.digest() } } }).to_string();
        let builder = Self::artifact(MediaType::OCI_CONFIG, config).layer(payload.into_bytes());
        Self { layer_type: "application/vnd.dev.cosign.simplesigning.v1+json", ..builder }.build()
    }

    /// Something about an image that says so itself, by its `subject`.
    #[must_use]
    pub fn referrer(image: &Built, artifact_type: &str) -> Built {
        let builder = Self::artifact("application/vnd.oci.empty.v1+json", json!({}));
        let content = format!("{artifact_type} of {}", image.digest()).into_bytes();
        let artifact_type = Some(artifact_type.to_owned());
        Self { artifact_type, ..builder }.subject(image).layer(content).build()
    }

    /// Any artifact that has a config of this type.
    #[must_use]
    pub fn artifact(config_type: &'static str, config: Value) -> Self {
        Self {
            media_type: MediaType::OCI_MANIFEST,
            config_type,
            layer_type: OCI_LAYER,
            config,
            layers: Vec::new(),
            subject: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
            typed: Typed::Yes,
        }
    }

    /// Created then.
    #[must_use]
    pub fn created(self, when: Timestamp) -> Self {
        self.created_text(&when.to_string())
    }

    /// Created when this text says, whatever it says.
    #[must_use]
    pub fn created_text(mut self, text: &str) -> Self {
        self.config["created"] = json!(text);
        self
    }

    /// With one more layer.
    #[must_use]
    pub fn layer(mut self, bytes: Vec<u8>) -> Self {
        self.layers.push(bytes);
        self
    }

    /// About this manifest.
    #[must_use]
    pub fn subject(self, subject: &Built) -> Self {
        Self { subject: Some(descriptor(subject.media_type.as_str(), &subject.bytes)), ..self }
    }

    /// With one more annotation on the manifest.
    #[must_use]
    pub fn annotated(mut self, name: &'static str, value: &str) -> Self {
        self.annotations.insert(name, value.to_owned());
        self
    }

    /// Without a media type in the manifest itself.
    #[must_use]
    pub fn untyped(self) -> Self {
        Self { typed: Typed::No, ..self }
    }

    /// The image.
    #[must_use]
    pub fn build(self) -> Built {
        let config = self.config.to_string().into_bytes();
        let layers: Vec<Value> = self.layers.iter().map(|layer| descriptor(self.layer_type, layer)).collect();
        let mut document = json!({
            "schemaVersion": 2,
            "config": descriptor(self.config_type, &config),
            "layers": layers,
        });
        let optional = [
            ("mediaType", (self.typed == Typed::Yes).then(|| json!(self.media_type))),
            ("subject", self.subject),
            ("artifactType", self.artifact_type.as_ref().map(|text| json!(text))),
            ("annotations", (!self.annotations.is_empty()).then(|| json!(self.annotations))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                document[name] = value;
            }
        }
        let blobs = self.layers.into_iter().chain([config]).collect();
        Built {
            artifact_type: self.artifact_type,
            ..Built::of(self.media_type, &document, blobs, Vec::new())
        }
    }
}
