//! Every digest a manifest lists, read as widely as any registry reads it.
//!
//! Not a model of manifests: what a model leaves out would be swept. Keys are compared without case and repeated keys
//! all count, because Go's JSON reads them so; whole unknown documents are searched as well.

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

/// A digest as a manifest lists it, of whatever algorithm.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub digest: String,
    pub media_type: Option<String>,
    place: Where,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In `manifests[]`.
    Child,
    Elsewhere,
}

impl Listed {
    /// Listed among the children of an index.
    pub(super) fn is_child(&self) -> bool {
        self.place == Where::Child
    }
}

/// Why bytes are no manifest.
#[derive(Debug, Error)]
pub(super) enum NoManifest {
    #[error("not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("none of the fields of a manifest is there")]
    NoField,
}

/// The fields of which every manifest has at least one.
const FIELDS: [&str; 5] = ["config", "layers", "manifests", "blobs", "fslayers"];

/// All digests that the manifest in `bytes` lists.
pub(super) fn listing(bytes: &[u8]) -> Result<Vec<Listed>, NoManifest> {
    let Json::Map(fields) = serde_json::from_slice(bytes)? else { return Err(NoManifest::NoField) };
    if !fields.iter().any(|(name, _)| FIELDS.contains(&name.as_str())) {
        return Err(NoManifest::NoField);
    }
    let mut found = Vec::new();
    // The subject is what a referrer is about, not what it needs: it may be gone.
    for (name, value) in fields.iter().filter(|(name, _)| name != "subject") {
        let place = if name == "manifests" { Where::Child } else { Where::Elsewhere };
        value.collect(place, &mut found);
    }
    Ok(found)
}

/// JSON with repeated keys kept and keys in lower case; of the scalars only texts matter.
enum Json {
    Map(Vec<(String, Json)>),
    List(Vec<Json>),
    Text(String),
    Other,
}

impl Json {
    fn collect(&self, place: Where, found: &mut Vec<Listed>) {
        match self {
            Self::Map(fields) => {
                let texts = |wanted: &'static [&str]| {
                    fields.iter().filter(|(name, _)| wanted.contains(&name.as_str())).filter_map(
                        |(_, value)| {
                            if let Self::Text(text) = value { Some(text) } else { None }
                        },
                    )
                };
                let media_type = texts(&["mediatype"]).next_back();
                found.extend(texts(&["digest", "blobsum"]).map(|digest| Listed {
                    digest: digest.clone(),
                    media_type: media_type.cloned(),
                    place,
                }));
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
