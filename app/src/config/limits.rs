//! `limits`: what a run may come to at most.

use std::fmt;

use clean_registry_core::limits::{ForRepositories, Limit, Limits, Percent};
use clean_registry_core::name::Bytes;
use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use super::PatternList;

/// What a run may come to at most. A plan that comes to more is refused whole.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsSection {
    /// Neither more tags than this may go, nor more manifests.
    pub max_delete: Option<u64>,
    /// Neither more than this share of the registry's tags may go, nor of its manifests: `30`, `12.5` or `30%`.
    pub max_percent: Option<PercentText>,
    /// No more than this may be freed, as the plan estimates it: `20 GiB`, or a number of bytes.
    pub max_bytes: Option<BytesText>,
    /// A repository that loses a tag keeps at least so many.
    pub min_tags_left: Option<u64>,
    /// Limits of repositories. Of each limit the first entry that names a repository and has that limit decides.
    #[serde(default)]
    pub repositories: Vec<RepositoryLimits>,
}

/// What holds for each of some repositories by itself.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryLimits {
    /// Which: `*` stays within a path component, `**` crosses them.
    pub repos: PatternList,
    /// Neither more tags than this may go from the repository, nor more manifests.
    pub max_delete: Option<u64>,
    /// Neither more than this share of its tags may go, nor of its manifests.
    pub max_percent: Option<PercentText>,
    /// No more than this may go from it, whether or not another repository gives up the same.
    pub max_bytes: Option<BytesText>,
    /// If it loses a tag it keeps at least so many.
    pub min_tags_left: Option<u64>,
}

impl LimitsSection {
    /// The limits as a plan is held to them.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let Self { max_delete, max_percent, max_bytes, min_tags_left, repositories } = self;
        let all = limit((*max_delete, *max_percent, *max_bytes, *min_tags_left));
        let repositories = repositories.iter().map(|entry| ForRepositories {
            repos: entry.repos.0.clone(),
            limit: limit((entry.max_delete, entry.max_percent, entry.max_bytes, entry.min_tags_left)),
        });
        Limits { all, repositories: repositories.collect() }
    }
}

type Keys = (Option<u64>, Option<PercentText>, Option<BytesText>, Option<u64>);

fn limit((max_delete, max_percent, max_bytes, min_tags_left): Keys) -> Limit {
    Limit {
        max_delete,
        max_percent: max_percent.map(|percent| percent.0),
        max_bytes: max_bytes.map(|bytes| bytes.0),
        min_tags_left,
    }
}

/// A share as people write it: a number from 0 to 100, with two decimals at most, with or without `%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "NumberOrText")]
pub struct PercentText(pub Percent);

/// So many bytes as people write it: a number, or one with a unit such as `GiB` (1024³) or `GB` (1000³).
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "NumberOrText")]
pub struct BytesText(pub Bytes);

/// For the schema only.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "tells the schema that both are allowed")]
enum NumberOrText {
    Number(f64),
    Text(String),
}

impl PercentText {
    fn parse(text: &str) -> Option<Self> {
        let number = text.trim().trim_end_matches('%').trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > 2 {
            return None;
        }
        let hundredths =
            whole.parse::<u32>().ok()?.checked_mul(100)? + format!("{decimals:0<2}").parse::<u32>().ok()?;
        Some(Self(Percent(hundredths))).filter(|percent| percent.0 <= Percent::ALL)
    }
}

impl BytesText {
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse::<bytesize::ByteSize>().ok().map(|size| Self(Bytes(size.0)))
    }
}

impl<'de> Deserialize<'de> for PercentText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsText {
            parse: Self::parse,
            expected: "a share from 0 to 100, such as 30, 12.5 or 30%",
        })
    }
}

impl<'de> Deserialize<'de> for BytesText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsText {
            parse: Self::parse,
            expected: "a number of bytes, such as 20 GiB or 1048576",
        })
    }
}

/// Reads a number or a text, both by what is written.
struct AsText<T> {
    parse: fn(&str) -> Option<T>,
    expected: &'static str,
}

impl<T> Visitor<'_> for AsText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::custom(format!("{text:?} is not {}", self.expected)))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Limits, String> {
        serde_saphyr::from_str::<LimitsSection>(yaml)
            .map(|section| section.limits())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn shares_are_read_as_people_write_them() {
        for (text, hundredths) in [
            ("30", 3000),
            ("0", 0),
            ("100", 10_000),
            ("12.5", 1250),
            ("'30%'", 3000),
            ("33.33 %", 3333),
            ("0.05", 5),
        ] {
            let percent = read(&format!("max_percent: {text}")).unwrap().all.max_percent;
            assert_eq!(percent, Some(Percent(hundredths)), "{text}");
        }
        for text in ["101", "100.01", "-1", "33.333", "many", "''", "true", "1.5.2", "99999999999"] {
            assert!(read(&format!("max_percent: {text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("20 GiB", 20 << 30),
            ("1.5GiB", 3 << 29),
            ("20GB", 20_000_000_000),
            ("5", 5),
            ("512 KiB", 512 << 10),
            ("0", 0),
        ] {
            assert_eq!(
                read(&format!("max_bytes: {text}")).unwrap().all.max_bytes,
                Some(Bytes(bytes)),
                "{text}"
            );
        }
        for text in ["-1", "GiB", "20 apples", "''", "20 GiB or so"] {
            assert!(read(&format!("max_bytes: {text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn json_reads_the_same() {
        let json = r#"{"max_percent": 12.5, "max_bytes": "20 GiB", "repositories": [{"repos": ["a/**"], "min_tags_left": 1}]}"#;
        let section: LimitsSection = serde_json::from_str(json).unwrap();
        let yaml =
            "{max_percent: 12.5, max_bytes: 20 GiB, repositories: [{repos: [a/**], min_tags_left: 1}]}";
        assert_eq!(section.limits(), read(yaml).unwrap());
        assert!(section.limits().repositories[0].repos.mean("a/b/c"));
    }

    #[test]
    fn an_entry_says_which_repositories_it_is_about() {
        for entry in ["{max_delete: 1}", "{repos: [], max_delete: 1}", "{repos: ['a['], max_delete: 1}"] {
            assert!(read(&format!("repositories: [{entry}]")).is_err(), "{entry}");
        }
    }
}
