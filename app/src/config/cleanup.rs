//! What to keep: the simple form, and the rules.

use std::collections::{BTreeMap, BTreeSet};

use clean_registry_core::audit::Promises;
use clean_registry_core::decision::Period;
use clean_registry_core::pattern::{PatternError, Patterns};
use clean_registry_core::policy::Policy;
use clean_registry_core::policy::clock::Clock;
use clean_registry_core::policy::rule::{
    GroupKey, Keep, Lines, Order, Orphans, Rule, Then, UntaggedRule, Zone,
};
use jiff::SignedDuration;
use jiff::tz::{Offset, TimeZone};
use schemars::JsonSchema;
use semver::VersionReq;
use serde::{Deserialize, Deserializer, de};

use crate::age::AgeText;

/// What to keep.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cleanup {
    /// An image created longer ago than this many days goes, unless a rule claims it.
    pub days_to_keep: Option<u32>,
    /// Tags that never go: exact names.
    #[serde(default)]
    pub protected_tags: Vec<String>,
    /// Tags that contain one of these never go: compared without case.
    #[serde(default)]
    pub protected_patterns: Vec<String>,
    /// Tags that never go: globs, or regular expressions between slashes.
    #[serde(default)]
    pub protect: PatternList,
    /// What the age of an image is measured by; with several the newest counts. By default `created`.
    pub clock: Option<Clocks>,
    /// Untagged manifests that nothing needs go this long after their last push, such as `7d`; by default never. Only the storage
    /// shows them.
    pub untagged: Option<UntaggedText>,
    /// What becomes of signatures, attestations and the like.
    #[serde(default)]
    pub referrers: Referrers,
    /// Where the days of `hourly` to `yearly` begin: `UTC`, `+02:00` or `Europe/Berlin`. By default UTC.
    #[serde(default)]
    pub timezone: ZoneText,
    /// The rules. The first that claims a tag decides about it; a tag that none claims goes by `days_to_keep`, or stays.
    #[serde(default)]
    pub rules: Vec<RuleSection>,
}

/// What the age of an image is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClockName {
    /// When it was created, as it says itself.
    Created,
    /// When its tag was last pushed, as the storage tells.
    Pushed,
}

/// At least one of the clocks.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "Vec<ClockName>")]
pub struct Clocks(BTreeSet<Clock>);

impl<'de> Deserialize<'de> for Clocks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<ClockName>::deserialize(deserializer)?;
        let clocks: BTreeSet<Clock> = names
            .into_iter()
            .map(|name| match name {
                ClockName::Created => Clock::Created,
                ClockName::Pushed => Clock::Pushed,
            })
            .collect();
        if clocks.is_empty() {
            return Err(de::Error::custom("clock must name created, pushed or both"));
        }
        Ok(Self(clocks))
    }
}

/// One text, or a list of texts.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text or a list of texts; a number stands in quotes")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Vec<String> {
    fn from(texts: OneOrMany) -> Self {
        match texts {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}

/// A pattern, or a list of them: a glob, a `/regular expression/` that matches the whole name, or either with a `!` before it, which
/// excludes.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "OneOrMany")]
pub struct PatternList(pub Patterns);

impl<'de> Deserialize<'de> for PatternList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts: Vec<String> = OneOrMany::deserialize(deserializer)?.into();
        if texts.is_empty() {
            return Err(de::Error::custom(PatternError::Empty));
        }
        Patterns::new(texts.iter().map(String::as_str)).map(Self).map_err(de::Error::custom)
    }
}

/// `keep`, or the age at which they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct UntaggedText(UntaggedRule);

impl<'de> Deserialize<'de> for UntaggedText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "keep" {
            return Ok(Self(UntaggedRule::Keep));
        }
        let age: AgeText = text.parse().map_err(|error| de::Error::custom(format!("{error}, or keep")))?;
        Ok(Self(UntaggedRule::After(age.length())))
    }
}

/// What becomes of signatures, attestations and the like. Those whose subject is there follow it, always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Referrers {
    /// Those whose subject is gone; by default they stay. Only the storage shows that it is.
    pub orphans: Option<OrphanName>,
}

/// What becomes of referrers whose subject is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrphanName {
    /// They stay.
    Keep,
    /// They go.
    Delete,
}

impl Referrers {
    fn orphans(self) -> Option<Orphans> {
        Some(match self.orphans? {
            OrphanName::Keep => Orphans::Keep,
            OrphanName::Delete => Orphans::Delete,
        })
    }
}

/// A time zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct ZoneText(Zone);

impl<'de> Deserialize<'de> for ZoneText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let zone = match (name.as_str(), offset(&name)) {
            ("UTC", _) => TimeZone::UTC,
            (_, Some(offset)) => TimeZone::fixed(offset),
            _ => TimeZone::get(&name).map_err(|_| {
                de::Error::custom(format!(
                    "{name:?} is no time zone known here: write UTC, +02:00 or Europe/Berlin"
                ))
            })?,
        };
        Ok(Self(Zone { name, zone }))
    }
}

/// `+02:00`
fn offset(text: &str) -> Option<Offset> {
    let sign = match text.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text[1..].split_once(':')?;
    let number = |digits: &str, most: i32| {
        let value = digits.parse::<i32>().ok().filter(|_| digits.len() == 2)?;
        (0..=most).contains(&value).then_some(value)
    };
    Offset::from_seconds(sign * (number(hours, 14)? * 3600 + number(minutes, 59)? * 60)).ok()
}

/// A rule, checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "RawRule")]
#[schemars(with = "RawRule", rename = "Rule")]
pub struct RuleSection(pub Rule);

/// One rule. It claims the tags that match `tags` in the repositories that match `repos`; the first rule that claims a tag decides.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawRule {
    /// What it is called in reasons.
    name: String,
    /// Whose tags it claims; by default those of every repository.
    #[serde(default)]
    repos: PatternList,
    /// Which tags it claims; by default all.
    tags: Option<PatternList>,
    /// The grounds to keep what it claims, any of which suffices. What none keeps goes.
    keep: Option<KeepSection>,
    /// `all`: everything that it claims goes, whatever its age.
    delete: Option<DeleteAll>,
    /// Labels or annotations, such as `quay.expires-after`, that say how long after its date an image goes. An image without one is
    /// not claimed.
    expires: Option<Labels>,
    /// What "newest" means to `keep.last`: `age`, `semver`, `natural`, or the name of a group of the pattern in `tags`.
    order: Option<String>,
    /// Divides the tags of a repository into groups, each judged by itself: names of groups of the pattern in `tags`, or
    /// `label:NAME`.
    #[serde(default)]
    group_by: Vec<String>,
    /// What age is measured by, for this rule.
    clock: Option<Clocks>,
    /// What it claims never goes before it is so old, by any clock.
    grace: Option<AgeText>,
    /// Tags of its repositories that never go, whichever rule claims them.
    #[serde(default)]
    protect: PatternList,
    /// As `cleanup.untagged`, for its repositories; or `keep`.
    untagged: Option<UntaggedText>,
    /// As `cleanup.referrers`, for its repositories.
    #[serde(default)]
    referrers: Referrers,
}

/// The word that has to be spelled out.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum DeleteAll {
    /// Everything the rule claims.
    All,
}

/// A label or an annotation, or a list of them.
#[derive(JsonSchema)]
#[schemars(with = "OneOrMany")]
struct Labels(Vec<String>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let labels: Vec<String> = OneOrMany::deserialize(deserializer)?.into();
        if labels.is_empty() || labels.iter().any(String::is_empty) {
            return Err(de::Error::custom("expires must name a label, such as quay.expires-after"));
        }
        Ok(Self(labels))
    }
}

/// Grounds to keep. Counts are of images: tags that share a digest count once.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Keep")]
struct KeepSection {
    /// The newest so many of each group, by the rule's `order`.
    last: Option<u32>,
    /// What is at most so old, such as `30d`.
    within: Option<AgeText>,
    /// What is at most so much older than the newest of its group: a group nobody pushes to is never emptied.
    within_newest: Option<AgeText>,
    /// The newest of each of the last so many hours that have an image.
    hourly: Option<u32>,
    /// The newest of each of the last so many days that have an image.
    daily: Option<u32>,
    /// The newest of each of the last so many ISO weeks that have an image.
    weekly: Option<u32>,
    /// The newest of each of the last so many months that have an image.
    monthly: Option<u32>,
    /// The newest of each of the last so many years that have an image.
    yearly: Option<u32>,
    /// What was pulled so short a time ago, as `pulls` tells.
    pulled_within: Option<AgeText>,
    /// Versions that satisfy this, such as `>=2, <4`.
    semver: Option<Requirement>,
    /// The newest lines of versions.
    semver_last: Option<LinesSection>,
}

/// A requirement on versions: <https://docs.rs/semver/latest/semver/enum.Op.html>.
#[derive(JsonSchema)]
#[schemars(with = "String")]
struct Requirement(VersionReq);

impl<'de> Deserialize<'de> for Requirement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed = text.parse().map(Self);
        parsed.map_err(|error| de::Error::custom(format!("{text:?} is no requirement on versions: {error}")))
    }
}

/// How many of the newest lines stay; what is left out is not counted: all of them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LinesSection {
    /// Of the major versions.
    major: Option<u32>,
    /// Of the minor versions of each.
    minor: Option<u32>,
    /// Of the patches of each.
    patch: Option<u32>,
    /// Of the pre-releases, whatever their line; by default none.
    prerelease: Option<u32>,
}

impl TryFrom<KeepSection> for Keep {
    type Error = String;

    fn try_from(section: KeepSection) -> Result<Self, String> {
        let counts = [
            (Period::Hour, section.hourly),
            (Period::Day, section.daily),
            (Period::Week, section.weekly),
            (Period::Month, section.monthly),
            (Period::Year, section.yearly),
        ];
        let calendar: BTreeMap<Period, u32> =
            counts.into_iter().filter_map(|(unit, count)| Some((unit, count?))).collect();
        if section.last == Some(0) || calendar.values().any(|count| *count == 0) {
            return Err(
                "keep: a count of 0 keeps nothing; leave it out, or spell out `delete: all`".to_owned()
            );
        }
        let lines = section.semver_last.map(|lines| Lines {
            major: lines.major,
            minor: lines.minor,
            patch: lines.patch,
            prerelease: lines.prerelease,
        });
        if lines.is_some_and(|lines| [lines.major, lines.minor, lines.patch].contains(&Some(0))) {
            return Err("keep.semver_last: a count of 0 keeps nothing; leave it out".to_owned());
        }
        let keep = Self {
            last: section.last,
            within: section.within.map(AgeText::length),
            within_newest: section.within_newest.map(AgeText::length),
            calendar,
            pulled_within: section.pulled_within.map(AgeText::length),
            semver: section.semver.map(|requirement| requirement.0),
            semver_last: lines,
        };
        if keep.is_empty() {
            return Err(
                "keep has no ground; spell out `delete: all` if everything it claims is to go".to_owned()
            );
        }
        Ok(keep)
    }
}

impl TryFrom<RawRule> for RuleSection {
    type Error = String;

    fn try_from(raw: RawRule) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("rule {:?}: {why}", raw.name));
        if raw.name.trim().is_empty() {
            return Err("a rule needs a name: reasons are given with it".to_owned());
        }
        let then = match (raw.keep, raw.delete, raw.expires) {
            (Some(keep), None, None) => {
                Then::Keep(Box::new(keep.try_into().map_err(|why| format!("rule {:?}: {why}", raw.name))?))
            }
            (None, Some(DeleteAll::All), None) => Then::DeleteAll,
            (None, None, Some(Labels(labels))) => Then::Expire { labels },
            (None, None, None) => Then::Nothing,
            _ => return wrong("only one of keep, delete and expires can be meant"),
        };
        let says_nothing =
            raw.protect.0.is_empty() && raw.untagged.is_none() && raw.referrers.orphans.is_none();
        if then == Then::Nothing && (raw.tags.is_some() || says_nothing) {
            return wrong("needs keep, expires or `delete: all` to say what becomes of the tags it claims");
        }
        let tags = raw.tags.unwrap_or_default().0;
        let groups: BTreeSet<String> = tags
            .included()
            .iter()
            .flat_map(|pattern| pattern.groups().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let order = match raw.order.as_deref() {
            None | Some("age") => Order::Age,
            Some("semver") => Order::Semver,
            Some("natural") => Order::Natural,
            Some(group) if groups.contains(group) => Order::Capture(group.to_owned()),
            Some(other) => {
                return wrong(&format!("order {other:?} {}", no_group(&groups, "age, semver, natural")));
            }
        };
        let group_by = raw.group_by.iter().filter(|key| *key != "repository");
        let group_by: Result<Vec<GroupKey>, String> = group_by
            .map(|key| match key.strip_prefix("label:") {
                Some(label) if !label.is_empty() => Ok(GroupKey::Label(label.to_owned())),
                _ if groups.contains(key) => Ok(GroupKey::Capture(key.clone())),
                _ => Err(format!("group_by {key:?} {}", no_group(&groups, "repository, label:NAME"))),
            })
            .collect();
        let rule = Rule {
            repos: raw.repos.0,
            tags,
            then,
            protect: raw.protect.0,
            order,
            group_by: group_by.map_err(|why| format!("rule {:?}: {why}", raw.name))?,
            clock: raw.clock.map(|clocks| clocks.0),
            grace: raw.grace.map(AgeText::length),
            untagged: raw.untagged.map(|untagged| untagged.0),
            orphans: raw.referrers.orphans(),
            ..Rule::named(&raw.name)
        };
        Ok(Self(rule))
    }
}

fn no_group(groups: &BTreeSet<String>, words: &str) -> String {
    let known = groups.iter().map(|group| format!(", {group}")).collect::<String>();
    format!("is none of {words}{known}; a group is written (?<name>...) in a pattern of tags")
}

impl Cleanup {
    /// Why this cannot be meant.
    pub(super) fn fault(&self) -> Option<(&'static str, String)> {
        let asks_nothing = self.days_to_keep.is_none()
            && self.rules.is_empty()
            && self.untagged().is_none()
            && self.referrers.orphans() != Some(Orphans::Delete);
        if asks_nothing {
            return Some((
                "cleanup",
                "says nothing of what may go: it needs days_to_keep or rules".to_owned(),
            ));
        }
        let mut names = BTreeSet::new();
        let twice = self.rules.iter().find(|rule| !names.insert(rule.0.name.as_str()))?;
        Some(("cleanup.rules", format!("has two rules of the name {:?}", twice.0.name)))
    }

    /// The policy that it states.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let cleanup = self.clone();
        let by_creation = || BTreeSet::from([Clock::Created]);
        Policy {
            days_to_keep: cleanup.days_to_keep,
            clock: cleanup.clock.map_or_else(by_creation, |clocks| clocks.0),
            untagged: self.untagged(),
            protected_tags: cleanup.protected_tags.into_iter().collect(),
            protected_patterns: cleanup.protected_patterns,
            protect: cleanup.protect.0,
            rules: cleanup.rules.into_iter().map(|rule| rule.0).collect(),
            orphans: cleanup.referrers.orphans().unwrap_or_default(),
            timezone: cleanup.timezone.0,
        }
    }

    fn untagged(&self) -> Option<SignedDuration> {
        match self.untagged {
            Some(UntaggedText(UntaggedRule::After(age))) => Some(age),
            _ => None,
        }
    }

    /// What the audit holds a plan against: the owner's own words.
    #[must_use]
    pub fn promises(&self) -> Promises {
        let everywhere = (Patterns::default(), self.protect.0.clone());
        let rules = || self.rules.iter().map(|rule| &rule.0);
        let of_rules = rules().map(|rule| (rule.repos.clone(), rule.protect.clone()));
        let untagged = rules().filter_map(|rule| Some((rule.repos.clone(), rule.untagged?.after())));
        let orphans = rules().filter_map(|rule| Some((rule.repos.clone(), rule.orphans? == Orphans::Delete)));
        let else_orphans = (Patterns::default(), self.referrers.orphans() == Some(Orphans::Delete));
        Promises {
            untagged: self.untagged(),
            untagged_of_rules: untagged.collect(),
            orphans: orphans.chain([else_orphans]).collect(),
            protected_tags: self.protected_tags.iter().cloned().collect(),
            protected_patterns: self.protected_patterns.clone(),
            protect: std::iter::once(everywhere).chain(of_rules).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
