//! Names of a registry, parsed once: holding one is proof that it is well formed.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Why a text is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not `algorithm:hex` at all.
    #[error("{0:?} is not a digest")]
    NotADigest(String),
    /// A digest of an algorithm other than sha256.
    #[error("digest {0:?} is not sha256")]
    OtherAlgorithm(String),
    /// Outside the grammar of repository names.
    #[error("{0:?} is not a repository name")]
    NotARepository(String),
    /// Outside the grammar of tags.
    #[error("{0:?} is not a tag")]
    NotATag(String),
}

/// A sha256 digest, 32 bytes in memory, `sha256:<64 hex>` in text.
///
/// Every other algorithm is refused here and becomes a gap where it was met: Distribution stores all content
/// under sha256 (FACTS section 1).
/// Grammar: <https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests>
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Ord for Digest {
    /// In the order of the bytes. The first eight tell nearly always, and fit into one register.
    fn cmp(&self, other: &Self) -> Ordering {
        self.begin().cmp(&other.begin()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Digest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest with these raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 64 lower-case hexadecimal digits, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut hex = String::with_capacity(64);
        for digit in self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]) {
            hex.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
        hex
    }

    /// The first byte, by which storages are divided.
    #[must_use]
    pub const fn first(&self) -> u8 {
        self.0[0]
    }

    const fn begin(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        format!("sha256:{}", &self.hex()[..12])
    }

    /// Reads the 64 digits that follow the algorithm. `None` unless all are lower-case hexadecimal.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        if hex.len() != 64 {
            return None;
        }
        let (mut bytes, mut all) = ([0; 32], 0);
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| NIBBLES[usize::from(digit)]);
            *byte = high << 4 | low;
            all |= high | low;
        }
        // No digit of sixteen has a high bit: one look at the end is enough.
        (all < 16).then_some(Self(bytes))
    }
}

/// What each byte is as a lower-case hexadecimal digit. There are millions of digests to be read.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [u8::MAX; 256];
    let mut digit = 0;
    while digit < 16 {
        nibbles[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    nibbles
};

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once(':') {
            Some(("sha256", hex)) => {
                Self::from_hex(hex).ok_or_else(|| NameError::NotADigest(text.to_owned()))
            }
            Some((algorithm, hex)) if !algorithm.is_empty() && !hex.is_empty() => {
                Err(NameError::OtherAlgorithm(text.to_owned()))
            }
            _ => Err(NameError::NotADigest(text.to_owned())),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A repository's name, such as `team/app`.
///
/// Grammar: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests>
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoName(Arc<str>);

impl FromStr for RepoName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() <= 255 && text.split('/').all(is_path_component) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::NotARepository(text.to_owned()))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_well = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    ends_well
        && bytes.split(alphanumeric).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

/// A tag, such as `v1.2.3`.
///
/// Grammar: <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests>
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let mut bytes = text.bytes();
        let well_formed = text.len() <= 128
            && bytes.next().is_some_and(word)
            && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if well_formed { Ok(Self(text.into())) } else { Err(NameError::NotATag(text.to_owned())) }
    }
}

impl Tag {
    /// The manifest this tag is about by its name alone: the fallback tag `sha256-<hex>` of the referrers API, or
    /// cosign's `sha256-<hex>.sig`, `.att` and `.sbom`.
    ///
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema>
    #[must_use]
    pub fn subject(&self) -> Option<Digest> {
        let rest = self.0.strip_prefix("sha256-")?;
        let (hex, suffix) = rest.split_at_checked(64)?;
        matches!(suffix, "" | ".sig" | ".att" | ".sbom").then(|| Digest::from_hex(hex))?
    }
}

macro_rules! text_like {
    ($($name:ident),*) => {$(
        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    )*};
}
text_like!(RepoName, Tag);

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(Digest, RepoName, Tag);

/// What a manifest or blob claims to be.
///
/// The four manifest types a registry serves have names of their own; every other type is kept as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Arc<str>);

impl MediaType {
    /// `application/vnd.oci.image.manifest.v1+json`
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// `application/vnd.oci.image.index.v1+json`
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// `application/vnd.docker.distribution.manifest.v2+json`
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// `application/vnd.docker.distribution.manifest.v1+prettyjws`: schema 1, signed.
    pub const SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// `application/vnd.docker.distribution.manifest.v1+json`: schema 1, unsigned.
    pub const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    /// `application/vnd.oci.image.config.v1+json`
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// `application/vnd.docker.container.image.v1+json`
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

    /// Reads a media type from a header or a document: parameters are dropped, case is folded.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let essence = text.split(';').next().unwrap_or_default().trim();
        Self(essence.to_ascii_lowercase().into())
    }

    /// An image manifest, Docker's or OCI's.
    #[must_use]
    pub fn is_image(&self) -> bool {
        matches!(&*self.0, Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// An index, OCI's or Docker's manifest list.
    #[must_use]
    pub fn is_index(&self) -> bool {
        matches!(&*self.0, Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// Docker's schema 1, signed or not.
    #[must_use]
    pub fn is_schema1(&self) -> bool {
        matches!(&*self.0, Self::SCHEMA1 | Self::SCHEMA1_SIGNED)
    }

    /// Any type a registry serves under `/manifests/`.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        self.is_image() || self.is_index() || self.is_schema1()
    }

    /// The configuration of a container image, which tells when it was created.
    #[must_use]
    pub fn is_image_config(&self) -> bool {
        matches!(&*self.0, Self::OCI_CONFIG | Self::DOCKER_CONFIG)
    }
}

impl FromStr for MediaType {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}
text_like!(MediaType);
serde_as_text!(MediaType);

/// A number of bytes. Text is for people: powers of 1024, one decimal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl std::ops::Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self(0), |total, item| total + item)
    }
}

impl fmt::Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        f.pad(&format!("{value:.1} {}", UNITS[unit]))
    }
}

/// A number of things in words: `1 day`, `2 days`.
#[must_use]
pub fn count<N: fmt::Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let noun = if number == N::from(1) { one } else { many };
    format!("{number} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_sha256_in_lower_case_or_nothing() {
        let hex = "0123456789abcdef".repeat(4);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        assert_eq!(digest.to_string(), format!("sha256:{hex}"));
        for (text, is_other_algorithm) in [
            (format!("sha512:{hex}{hex}"), true),
            (format!("sha256:{}", hex.to_uppercase()), false),
            (format!("sha256:{}", &hex[1..]), false),
            (format!("sha256:{hex}\n"), false),
            (hex.clone(), false),
            (String::new(), false),
        ] {
            let error = text.parse::<Digest>().unwrap_err();
            assert_eq!(matches!(error, NameError::OtherAlgorithm(_)), is_other_algorithm, "{text:?}");
        }
    }

    #[test]
    fn digests_are_ordered_as_their_bytes_are() {
        let mut all: Vec<[u8; 32]> = (0..=u8::MAX).map(|number| *Digest::of(&[number]).as_bytes()).collect();
        for at in 0..32 {
            let mut bytes = [0x80; 32];
            for byte in [0, 0x7f, 0xff] {
                bytes[at] = byte;
                all.push(bytes);
            }
        }
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
            assert_eq!(Digest::from_bytes(*a).cmp(&Digest::from_bytes(*b)), a.cmp(b));
        }
    }

    #[test]
    fn repository_names_follow_the_specification() {
        for good in ["a", "team/app", "a.b-c__d_e--f/0", "foo/1st"] {
            assert!(good.parse::<RepoName>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "A", "a..b", "a___b", "_a", "a_", "a/_uploads", "a b", "../a"] {
            assert!(bad.parse::<RepoName>().is_err(), "{bad}");
        }
        assert!("a".repeat(256).parse::<RepoName>().is_err());
    }

    #[test]
    fn tags_follow_the_specification() {
        for good in ["latest", "v1.2.3-rc.1", "_x", "A", &"a".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a:b", "ä", &"a".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_names_its_subject_only_in_the_known_forms() {
        let digest = Digest::of(b"subject");
        for suffix in ["", ".sig", ".att", ".sbom"] {
            let tag: Tag = format!("sha256-{}{suffix}", digest.hex()).parse().unwrap();
            assert_eq!(tag.subject(), Some(digest), "{tag}");
        }
        for other in
            ["sha256-abc".to_owned(), format!("sha256-{}.bak", digest.hex()), format!("x{}", digest.hex())]
        {
            assert_eq!(other.parse::<Tag>().unwrap().subject(), None, "{other}");
        }
    }

    #[test]
    fn bytes_are_readable() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1.0 MiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
