//! Every digest a manifest lists, read as widely as any registry reads it.
//!
//! Not a model of manifests: what a model leaves out would be swept. Keys are compared without case and repeated keys
//! all count, because Go's JSON reads them so; whole unknown documents are searched as well.

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

use crate::name::{Digest, MediaType};

/// What a manifest lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Everything it needs: configuration, layers, children, and whatever else has a digest in it.
    pub listed: Vec<Listed>,
    /// What it is about. It does not need it: that may be gone.
    pub subject: Option<Digest>,
}

/// A digest as a manifest lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The digest, of whatever algorithm.
    pub digest: String,
    /// How sure it is that a manifest is behind it; `None` where it cannot be one.
    pub certainty: Option<Certainty>,
}

/// How sure it is that the bytes behind a digest are a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// An index lists it as something else, as BuildKit's cache lists layers: if it is no manifest, it is a leaf.
    Perhaps,
    /// A root, or listed as a manifest: if it cannot be read, what it needs is unknown.
    Manifest,
}

/// Why bytes are no manifest.
#[derive(Debug, Error)]
pub enum NoManifest {
    /// It cannot be parsed.
    #[error("not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// It is something else.
    #[error("none of the fields of a manifest is there")]
    NoField,
}

/// The fields of which every manifest has at least one.
const FIELDS: [&str; 5] = ["config", "layers", "manifests", "blobs", "fslayers"];

impl References {
    /// All digests that the manifest in `bytes` lists.
    ///
    /// # Errors
    /// When it is no manifest.
    pub fn read(bytes: &[u8]) -> Result<Self, NoManifest> {
        let Json::Map(fields) = serde_json::from_slice(bytes)? else { return Err(NoManifest::NoField) };
        if !fields.iter().any(|(name, _)| FIELDS.contains(&name.as_str())) {
            return Err(NoManifest::NoField);
        }
        let mut references = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "subject" => references.subject = value.texts(&["digest"]).find_map(|text| text.parse().ok()),
                "manifests" => value.collect(Where::Child, &mut references.listed),
                _ => value.collect(Where::Elsewhere, &mut references.listed),
            }
        }
        Ok(references)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In `manifests[]`.
    Child,
    Elsewhere,
}

impl Where {
    fn certainty(self, media_type: Option<&String>) -> Option<Certainty> {
        match media_type {
            Some(media_type) if MediaType::new(media_type).is_manifest() => Some(Certainty::Manifest),
            None if self == Self::Child => Some(Certainty::Manifest),
            _ if self == Self::Child => Some(Certainty::Perhaps),
            _ => None,
        }
    }
}

/// JSON with repeated keys kept and keys in lower case; of the scalars only texts matter.
enum Json {
    Map(Vec<(String, Json)>),
    List(Vec<Json>),
    Text(String),
    Other,
}

impl Json {
    /// The texts under any of these keys, if it is an object.
    fn texts(&self, wanted: &'static [&str]) -> impl DoubleEndedIterator<Item = &String> {
        let fields: &[(String, Self)] = if let Self::Map(fields) = self { fields } else { &[] };
        let named = fields.iter().filter(|(name, _)| wanted.contains(&name.as_str()));
        named.filter_map(|(_, value)| if let Self::Text(text) = value { Some(text) } else { None })
    }

    fn collect(&self, place: Where, found: &mut Vec<Listed>) {
        match self {
            Self::Map(fields) => {
                let certainty = place.certainty(self.texts(&["mediatype"]).next_back());
                let digests = self.texts(&["digest", "blobsum"]);
                found.extend(digests.map(|digest| Listed { digest: digest.clone(), certainty }));
                fields.iter().for_each(|(_, value)| value.collect(place, found));
            }
            Self::List(items) => items.iter().for_each(|item| item.collect(place, found)),
            Self::Text(_) | Self::Other => {}
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            fields.push((name.to_ascii_lowercase(), value));
        }
        Ok(Json::Map(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }
}
