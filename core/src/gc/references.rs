//! Every digest a manifest lists, read as widely as any registry reads it.
//!
//! Not a model of manifests: what a model leaves out would be swept. Keys are compared without case and repeated keys
//! all count, because Go's JSON reads them so; whole unknown documents are searched as well.
//!
//! Nothing is built of what is read but the list of digests: a registry has many manifests.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
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

/// The keys that matter. Every manifest has at least one of `config`, `layers`, `manifests`, `blobs` and `fsLayers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Digest,
    BlobSum,
    MediaType,
    Manifests,
    Subject,
    OtherField,
    Unknown,
}

impl Key {
    const KNOWN: [(&'static str, Self); 9] = [
        ("digest", Self::Digest),
        ("blobsum", Self::BlobSum),
        ("mediatype", Self::MediaType),
        ("manifests", Self::Manifests),
        ("subject", Self::Subject),
        ("config", Self::OtherField),
        ("layers", Self::OtherField),
        ("blobs", Self::OtherField),
        ("fslayers", Self::OtherField),
    ];

    fn of(text: &str) -> Self {
        if text.is_ascii() { Self::of_ascii(text) } else { Self::of_ascii(&folded(text)) }
    }

    fn of_ascii(text: &str) -> Self {
        let known = Self::KNOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        known.map_or(Self::Unknown, |(_, key)| *key)
    }

    const fn is_field(self) -> bool {
        matches!(self, Self::Manifests | Self::OtherField)
    }
}

/// Two letters beyond ASCII are the same as one within it to Go: <https://pkg.go.dev/encoding/json#Unmarshal>,
/// <https://github.com/golang/go/blob/go1.25.0/src/encoding/json/fold.go>
fn folded(text: &str) -> String {
    text.replace('\u{17f}', "s").replace('\u{212a}', "k")
}

impl References {
    /// All digests that the manifest in `bytes` lists.
    ///
    /// # Errors
    /// When it is no manifest.
    pub fn read(bytes: &[u8]) -> Result<Self, NoManifest> {
        let mut document = Document::default();
        let mut json = serde_json::Deserializer::from_slice(bytes);
        Top(&mut document).deserialize(&mut json)?;
        json.end()?;
        if document.has_field { Ok(document.references) } else { Err(NoManifest::NoField) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In `manifests[]`.
    Child,
    Elsewhere,
}

impl Where {
    fn certainty(self, media_type: Option<&str>) -> Option<Certainty> {
        match media_type {
            Some(media_type) if MediaType::new(media_type).is_manifest() => Some(Certainty::Manifest),
            None if self == Self::Child => Some(Certainty::Manifest),
            _ if self == Self::Child => Some(Certainty::Perhaps),
            _ => None,
        }
    }
}

/// What has been read of a manifest.
#[derive(Default)]
struct Document {
    has_field: bool,
    references: References,
}

/// A descriptor's texts: its digests, and the last media type it says.
#[derive(Default)]
struct Texts {
    digests: Vec<String>,
    media_type: Option<String>,
}

impl Texts {
    fn take(&mut self, key: Key, text: Option<String>) {
        match (key, text) {
            (Key::Digest | Key::BlobSum, Some(text)) => self.digests.push(text),
            (Key::MediaType, Some(text)) => self.media_type = Some(text),
            _ => {}
        }
    }

    /// Puts the digests before what has been listed from `start` on: an object lists its own before those within it.
    fn list(self, place: Where, start: usize, listed: &mut Vec<Listed>) {
        if !self.digests.is_empty() {
            let certainty = place.certainty(self.media_type.as_deref());
            let own = self.digests.into_iter().map(|digest| Listed { digest, certainty });
            listed.splice(start..start, own);
        }
    }
}

/// Scalars of which only their being there matters.
macro_rules! scalars {
    ($nothing:expr) => {
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("JSON")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($nothing)
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($nothing)
        }
    };
}

macro_rules! seeds {
    ($($name:ty => $value:ty),*) => {$(
        impl<'de> DeserializeSeed<'de> for $name {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.deserialize_any(self)
            }
        }
    )*};
}

seeds!(Name => Key, Top<'_> => (), About => Option<Digest>, Within<'_> => Option<String>);

/// A key.
struct Name;

impl Visitor<'_> for Name {
    type Value = Key;

    scalars!(Key::Unknown);

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Key, E> {
        Ok(Key::of(text))
    }
}

/// The outermost value.
struct Top<'a>(&'a mut Document);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    scalars!(());

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Document { has_field, references } = self.0;
        while let Some(key) = map.next_key_seed(Name)? {
            *has_field |= key.is_field();
            if key == Key::Subject {
                references.subject = map.next_value_seed(About)?;
                continue;
            }
            let place = if key == Key::Manifests { Where::Child } else { Where::Elsewhere };
            map.next_value_seed(Within { place, key, listed: &mut references.listed })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        Within::new(&mut Vec::new()).visit_seq(list).map(drop)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// What a manifest is about: the digest of a descriptor.
struct About;

impl<'de> Visitor<'de> for About {
    type Value = Option<Digest>;

    scalars!(None);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut digest = None;
        while let Some(key) = map.next_key_seed(Name)? {
            let text = map.next_value_seed(Within { key, ..Within::new(&mut Vec::new()) })?;
            if let (Key::Digest, Some(text), None) = (key, text, digest) {
                digest = text.parse().ok();
            }
        }
        Ok(digest)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Within::new(&mut Vec::new()).visit_seq(list).map(|_| None)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Any value within, searched for digests. It is itself returned if it is a text that its key makes worth it.
struct Within<'a> {
    place: Where,
    key: Key,
    listed: &'a mut Vec<Listed>,
}

impl<'a> Within<'a> {
    const fn new(listed: &'a mut Vec<Listed>) -> Self {
        Self { place: Where::Elsewhere, key: Key::Unknown, listed }
    }
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = Option<String>;

    scalars!(None);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Self { place, listed, .. } = self;
        let (start, mut texts) = (listed.len(), Texts::default());
        while let Some(key) = map.next_key_seed(Name)? {
            let text = map.next_value_seed(Within { place, key, listed: &mut *listed })?;
            texts.take(key, text);
        }
        texts.list(place, start, listed);
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let Self { place, listed, .. } = self;
        while list.next_element_seed(Within { place, ..Within::new(listed) })?.is_some() {}
        Ok(None)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let is_wanted = matches!(self.key, Key::Digest | Key::BlobSum | Key::MediaType);
        Ok(is_wanted.then(|| text.to_owned()))
    }
}

#[cfg(test)]
mod tests;
