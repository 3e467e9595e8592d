//! What a rule says. How it is carried out is in `retention`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use semver::VersionReq;
use serde::{Serialize, Serializer};

use super::clock::Clock;
use crate::decision::Period;
use crate::name::{RepoName, Tag};
use crate::pattern::Patterns;

/// One rule. The first that claims a tag decides about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// What it is called in reasons.
    pub name: String,
    /// Whose tags it claims.
    pub repos: Patterns,
    /// Which tags it claims.
    pub tags: Patterns,
    /// What becomes of what it claims.
    pub then: Then,
    /// Tags of its repositories that never go, whichever rule claims them.
    #[serde(skip_serializing_if = "Patterns::is_empty")]
    pub protect: Patterns,
    /// What "newest" means to `last`.
    pub order: Order,
    /// What else divides the tags of a repository into groups, each judged by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_by: Vec<GroupKey>,
    /// What age is measured by; `None`: as the policy says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<BTreeSet<Clock>>,
    /// What became known to the registry so short a time ago never goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<SignedDuration>,
    /// As [`super::Policy::untagged`], for its repositories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untagged: Option<UntaggedRule>,
    /// As [`super::Policy::orphans`], for its repositories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphans: Option<Orphans>,
}

impl Rule {
    /// A rule that claims nothing and says nothing.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            repos: Patterns::default(),
            tags: Patterns::default(),
            then: Then::Nothing,
            protect: Patterns::default(),
            order: Order::Age,
            group_by: Vec::new(),
            clock: None,
            grace: None,
            untagged: None,
            orphans: None,
        }
    }

    /// What its tag pattern captures, if it claims `tag` of `repo`.
    #[must_use]
    pub fn claims(&self, repo: &RepoName, tag: &Tag) -> Option<BTreeMap<String, String>> {
        if self.then == Then::Nothing || !self.repos.mean(repo.as_str()) {
            return None;
        }
        self.tags.captures(tag.as_str())
    }

    /// The labels and annotations that it has to know.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        let grouped = self.group_by.iter().filter_map(|key| match key {
            GroupKey::Label(label) => Some(label.as_str()),
            GroupKey::Capture(_) => None,
        });
        let expiring = match &self.then {
            Then::Expire { labels } => labels.as_slice(),
            _ => &[],
        };
        grouped.chain(expiring.iter().map(String::as_str))
    }
}

/// What becomes of what a rule claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The rule claims no tag.
    Nothing,
    /// It goes unless one of these is a ground to keep it.
    Keep(Box<Keep>),
    /// It goes.
    DeleteAll,
    /// An image that carries one of these labels or annotations goes when the time it names is over; one that carries none is not
    /// claimed.
    Expire {
        /// The labels and annotations; the first that is there counts.
        labels: Vec<String>,
    },
}

/// Grounds to keep, any of which suffices. Counts are of images: tags that share a digest count once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Keep {
    /// The newest so many, by the rule's order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// What is at most so old.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<SignedDuration>,
    /// What is at most so much older than the newest of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_newest: Option<SignedDuration>,
    /// The newest of each of the last so many calendar periods that have one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub calendar: BTreeMap<Period, u32>,
    /// What was pulled so short a time ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulled_within: Option<SignedDuration>,
    /// Versions that satisfy this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semver: Option<VersionReq>,
    /// The newest lines of versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semver_last: Option<Lines>,
}

impl Keep {
    /// Whether it has no ground.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a ground goes by the date of an image.
    #[must_use]
    pub fn needs_date(&self, order: &Order) -> bool {
        self.within.is_some()
            || self.within_newest.is_some()
            || !self.calendar.is_empty()
            || (self.last.is_some() && *order == Order::Age)
    }
}

/// How many of the newest lines of versions stay; what is not given is not counted: all of them.
///
/// A pre-release is in no line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// Of the major versions.
    pub major: Option<u32>,
    /// Of the minor versions of each.
    pub minor: Option<u32>,
    /// Of the patches of each.
    pub patch: Option<u32>,
    /// Of the pre-releases, whatever their line; by default none.
    pub prerelease: Option<u32>,
}

/// What makes an image newer than another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Its date.
    #[default]
    Age,
    /// The version that its tag is, or that the group `version` of the tag pattern captures.
    Semver,
    /// Its tag, sorted as people do.
    Natural,
    /// What this group of the tag pattern captures, sorted as people do.
    Capture(String),
}

/// What divides the tags of a repository into groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupKey {
    /// What a group of the tag pattern captures.
    Capture(String),
    /// A label or an annotation of the image.
    Label(String),
}

/// What becomes of untagged manifests that nothing needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UntaggedRule {
    /// They stay.
    Keep,
    /// They go so long after their last push.
    After(SignedDuration),
}

impl UntaggedRule {
    /// How long after their last push they go; `None`: never.
    #[must_use]
    pub const fn after(self) -> Option<SignedDuration> {
        match self {
            Self::Keep => None,
            Self::After(age) => Some(age),
        }
    }
}

/// What becomes of referrers whose subject is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orphans {
    /// They stay.
    #[default]
    Keep,
    /// They go.
    Delete,
}

/// Where the days of the calendar begin.
#[derive(Debug, Clone)]
pub struct Zone {
    /// As it was written: `UTC`, `+02:00`, `Europe/Berlin`.
    pub name: String,
    /// What that is.
    pub zone: TimeZone,
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }
}

impl Zone {
    /// Whether it is UTC.
    #[must_use]
    pub fn is_utc(&self) -> bool {
        self.name == "UTC"
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}
