//! What the rules make of the tags of a repository: who claims a tag, and which grounds of that rule keep it.
//!
//! Counts only protect. They count images, which is digests: tags that share one count once and share its place. Images of equal
//! standing share a place as well, so that no coin is tossed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::clock::{self, Clock, Dated};
use super::rule::{GroupKey, Keep, Order, Rule, Then};
use super::version::{TagVersion, natural};
use super::{Policy, calendar, label, lines};
use crate::decision::{Cause, Ground, Keeper, Miss, Undated, Unjudged};
use crate::inventory::{Pulls, Repo};
use crate::name::{Digest, RepoName, Tag};

/// What the rules say of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It stays.
    Keep(Vec<Ground>),
    /// No ground of its rule keeps it.
    Go(Cause),
}

/// A tag that a rule claims.
pub(super) struct Claimed<'a> {
    pub(super) tag: &'a Tag,
    pub(super) digest: Digest,
    pub(super) dated: Result<Dated, Undated>,
    pub(super) version: Option<TagVersion>,
    captures: BTreeMap<String, String>,
}

impl Claimed<'_> {
    /// Where its version ought to stand.
    fn version_text(&self) -> String {
        self.captures.get("version").map_or(self.tag.as_str(), String::as_str).to_owned()
    }
}

/// The rules over one repository.
pub(super) struct Retention<'a> {
    pub(super) policy: &'a Policy,
    pub(super) name: &'a RepoName,
    pub(super) repo: &'a Repo,
    pub(super) now: Timestamp,
}

impl<'a> Retention<'a> {
    /// What is said of each of these images that a rule claims; of the others nothing.
    pub(super) fn judge(&self, images: impl Iterator<Item = (&'a Tag, Digest)>) -> BTreeMap<&'a Tag, Said> {
        let mut claimed: BTreeMap<usize, Vec<Claimed<'a>>> = BTreeMap::new();
        for (tag, digest) in images {
            if let Some((position, captures)) = self.claimant(tag, digest) {
                let image = self.claimed(&self.policy.rules[position], (tag, digest), captures);
                claimed.entry(position).or_default().push(image);
            }
        }
        let rules = claimed.into_iter().map(|(position, images)| (&self.policy.rules[position], images));
        rules.flat_map(|(rule, images)| self.by_rule(rule, images)).collect()
    }

    /// The first rule that claims a tag, and what its pattern captures.
    fn claimant(&self, tag: &Tag, digest: Digest) -> Option<(usize, BTreeMap<String, String>)> {
        self.policy.rules.iter().enumerate().find_map(|(position, rule)| {
            let captures = rule.claims(self.name, tag)?;
            match &rule.then {
                Then::Expire { labels } if self.first_label(labels, digest).is_none() => None,
                _ => Some((position, captures)),
            }
        })
    }

    fn claimed(
        &self,
        rule: &Rule,
        (tag, digest): (&'a Tag, Digest),
        captures: BTreeMap<String, String>,
    ) -> Claimed<'a> {
        let dated = clock::dated(self.repo, (tag, digest), self.clock_of(rule), self.now);
        let mut claimed = Claimed { tag, digest, dated, version: None, captures };
        claimed.version = TagVersion::read(&claimed.version_text());
        claimed
    }

    fn clock_of<'r>(&'r self, rule: &'r Rule) -> &'r BTreeSet<Clock> {
        rule.clock.as_ref().unwrap_or(&self.policy.clock)
    }

    fn by_rule(&self, rule: &Rule, images: Vec<Claimed<'a>>) -> Vec<(&'a Tag, Said)> {
        let mut groups: BTreeMap<Vec<Option<String>>, Vec<Claimed<'a>>> = BTreeMap::new();
        for image in images {
            groups.entry(self.group_of(rule, &image)).or_default().push(image);
        }
        groups.into_values().flat_map(|group| self.by_group(rule, &group)).collect()
    }

    fn group_of(&self, rule: &Rule, image: &Claimed<'_>) -> Vec<Option<String>> {
        let part = |key: &GroupKey| match key {
            GroupKey::Capture(group) => image.captures.get(group).cloned(),
            GroupKey::Label(key) => label::of(self.repo, image.digest, key).map(str::to_owned),
        };
        rule.group_by.iter().map(part).collect()
    }

    fn by_group(&self, rule: &Rule, group: &[Claimed<'a>]) -> Vec<(&'a Tag, Said)> {
        let said: Vec<Said> = match &rule.then {
            Then::Nothing => return Vec::new(),
            Then::DeleteAll => {
                group.iter().map(|_| Said::Go(Cause::DeleteAll { rule: rule.name.clone() })).collect()
            }
            Then::Expire { labels } => group.iter().map(|image| self.by_label(rule, labels, image)).collect(),
            Then::Keep(keep) => Group::new(self, rule, keep, group).judge(),
        };
        let tags = group.iter().map(|image| image.tag);
        tags.zip(group.iter().zip(said).map(|(image, said)| self.with_grace(rule, image, said))).collect()
    }

    fn first_label<'l>(&self, labels: &'l [String], digest: Digest) -> Option<(&'l String, &'a str)> {
        labels.iter().find_map(|key| Some((key, label::of(self.repo, digest, key)?)))
    }

    fn by_label(&self, rule: &Rule, labels: &[String], image: &Claimed<'_>) -> Said {
        let rule = rule.name.clone();
        let Some((key, value)) = self.first_label(labels, image.digest) else {
            return Said::Keep(Vec::new());
        };
        let (label, value) = (key.clone(), value.to_owned());
        let at = match &image.dated {
            Ok(dated) => label::expiry(&value, dated.at),
            Err(why) => return Said::Keep(vec![Ground::Undated { why: why.clone() }]),
        };
        match at {
            None => Said::Keep(vec![Ground::Unjudged { rule, why: Unjudged::Label { label, value } }]),
            Some(until) if until > self.now => {
                Said::Keep(vec![Ground::Kept { rule, by: Keeper::Unexpired { label, until } }])
            }
            Some(at) => Said::Go(Cause::Expired { rule, label, at }),
        }
    }

    /// A rule's grace: by the newest date that is known of an image, whichever clock the rule goes by.
    fn with_grace(&self, rule: &Rule, image: &Claimed<'_>, said: Said) -> Said {
        let Some(grace) = rule.grace else { return said };
        let pushed = clock::pushed(self.repo, image.tag, image.digest);
        let created = clock::created(self.repo, image.digest, self.now);
        let ground = match pushed.into_iter().chain(created.clone()).map(|dated| dated.at).max() {
            Some(at) if self.now.duration_since(at) > grace => return said,
            Some(at) => Ground::Grace { rule: rule.name.clone(), at, grace },
            None => Ground::Undated { why: created.err().unwrap_or(Undated::Absent) },
        };
        match said {
            Said::Go(_) => Said::Keep(vec![ground]),
            kept @ Said::Keep(_) => kept,
        }
    }
}

/// The images of one group under a rule that keeps some.
struct Group<'g, 'a> {
    rule: &'g Rule,
    keep: &'g Keep,
    images: &'g [Claimed<'a>],
    repo: &'g Repo,
    now: Timestamp,
    newest: Option<Timestamp>,
    places: BTreeMap<Digest, u32>,
    calendar: BTreeMap<Digest, Vec<Keeper>>,
    lines: BTreeSet<&'a Tag>,
}

impl<'g, 'a> Group<'g, 'a> {
    fn new(retention: &'g Retention<'a>, rule: &'g Rule, keep: &'g Keep, images: &'g [Claimed<'a>]) -> Self {
        let dates = newest_dates(images);
        Self {
            rule,
            keep,
            images,
            repo: retention.repo,
            now: retention.now,
            newest: dates.values().max().copied(),
            places: if keep.last.is_some() { places(images, &rule.order) } else { BTreeMap::new() },
            calendar: calendar::keepers(&dates, &keep.calendar, &retention.policy.timezone.zone),
            lines: keep.semver_last.map(|last| lines::newest(images, last)).unwrap_or_default(),
        }
    }

    fn judge(&self) -> Vec<Said> {
        self.images.iter().map(|image| self.say(image)).collect()
    }

    /// Every ground is asked. What a ground cannot know keeps, whatever the others say.
    fn say(&self, image: &Claimed<'_>) -> Said {
        let mut grounds = Vec::new();
        let mut misses = Vec::new();
        for asked in [self.last(image), self.dates(image), self.pulled(image), self.versions(image)] {
            for answer in asked {
                match answer {
                    Ok(ground) => grounds.push(ground),
                    Err(miss) => misses.push(miss),
                }
            }
        }
        if grounds.is_empty() {
            Said::Go(Cause::NotKept { rule: self.rule.name.clone(), misses })
        } else {
            Said::Keep(grounds)
        }
    }

    fn kept(&self, by: Keeper) -> Ground {
        Ground::Kept { rule: self.rule.name.clone(), by }
    }

    fn unjudged(&self, why: Unjudged) -> Ground {
        Ground::Unjudged { rule: self.rule.name.clone(), why }
    }

    fn last(&self, image: &Claimed<'_>) -> Vec<Result<Ground, Miss>> {
        let Some(last) = self.keep.last else { return Vec::new() };
        vec![match self.places.get(&image.digest) {
            Some(&place) if place <= last => Ok(self.kept(Keeper::Last { place, last })),
            Some(&place) => Err(Miss::Last { place, last }),
            None => Ok(self.unplaced(image)),
        }]
    }

    fn unplaced(&self, image: &Claimed<'_>) -> Ground {
        match (&self.rule.order, &image.dated) {
            (Order::Age, Err(why)) => Ground::Undated { why: why.clone() },
            (Order::Age, Ok(_)) => Ground::Undated { why: Undated::Absent },
            (Order::Semver | Order::Natural, _) => {
                self.unjudged(Unjudged::NoVersion { text: image.version_text() })
            }
            (Order::Capture(group), _) => self.unjudged(Unjudged::NoCapture { group: group.clone() }),
        }
    }

    fn dates(&self, image: &Claimed<'_>) -> Vec<Result<Ground, Miss>> {
        if !self.keep.needs_date(&self.rule.order) {
            return Vec::new();
        }
        let at = match &image.dated {
            Ok(dated) => dated.at,
            Err(why) => return vec![Ok(Ground::Undated { why: why.clone() })],
        };
        let mut said = Vec::new();
        if let Some(within) = self.keep.within {
            let is_young = self.now.duration_since(at) <= within;
            let keeper = Keeper::Within { at, within };
            said.push(if is_young { Ok(self.kept(keeper)) } else { Err(Miss::Within { at, within }) });
        }
        if let (Some(within), Some(newest)) = (self.keep.within_newest, self.newest) {
            let is_near = newest.duration_since(at) <= within;
            let keeper = Keeper::WithinNewest { newest, within };
            said.push(if is_near { Ok(self.kept(keeper)) } else { Err(Miss::WithinNewest { at, within }) });
        }
        let periods = self.calendar.get(&image.digest);
        if let Some(keepers) = periods {
            said.extend(keepers.iter().map(|keeper| Ok(self.kept(keeper.clone()))));
        } else {
            said.extend(self.keep.calendar.keys().map(|unit| Err(Miss::Calendar { unit: *unit })));
        }
        said
    }

    fn pulled(&self, image: &Claimed<'_>) -> Vec<Result<Ground, Miss>> {
        let Some(within) = self.keep.pulled_within else { return Vec::new() };
        let Some(pulls) = &self.repo.pulls else { return vec![Ok(self.unjudged(Unjudged::Pulls))] };
        vec![match last_pull(self.repo, pulls, image) {
            Some(at) if self.now.duration_since(at) <= within => Ok(self.kept(Keeper::Pulled { at, within })),
            _ if self.now.duration_since(pulls.since) < within => Ok(self.unjudged(Unjudged::Pulls)),
            _ => Err(Miss::Pulled { within }),
        }]
    }

    fn versions(&self, image: &Claimed<'_>) -> Vec<Result<Ground, Miss>> {
        let mut said = Vec::new();
        let Some(version) = &image.version else {
            if self.keep.semver.is_some() || self.keep.semver_last.is_some() {
                said.push(Ok(self.unjudged(Unjudged::NoVersion { text: image.version_text() })));
            }
            return said;
        };
        if let Some(requirement) = &self.keep.semver {
            let (is_satisfied, requirement) = (version.satisfies(requirement), requirement.to_string());
            let keeper = Keeper::Semver { version: version.to_string(), requirement: requirement.clone() };
            said.push(if is_satisfied { Ok(self.kept(keeper)) } else { Err(Miss::Semver { requirement }) });
        }
        if self.keep.semver_last.is_some() {
            let keeper = Keeper::SemverLast { version: version.to_string() };
            let is_in_line = self.lines.contains(image.tag);
            said.push(if is_in_line { Ok(self.kept(keeper)) } else { Err(Miss::SemverLast) });
        }
        said
    }
}

/// The last pull of an image by its tag or its digest, or of anything that it lists: who names the digest of a platform's image asks
/// for no index.
fn last_pull(repo: &Repo, pulls: &Pulls, image: &Claimed<'_>) -> Option<Timestamp> {
    let listed = repo.with_listed(image.digest);
    let by_digest = listed.iter().filter_map(|digest| pulls.digests.get(digest));
    by_digest.chain(pulls.tags.get(image.tag)).max().copied()
}

/// The newest date of each image that has one.
fn newest_dates(images: &[Claimed<'_>]) -> BTreeMap<Digest, Timestamp> {
    let mut dates: BTreeMap<Digest, Timestamp> = BTreeMap::new();
    for image in images {
        if let Ok(dated) = &image.dated {
            let date = dates.entry(image.digest).or_insert(dated.at);
            *date = dated.at.max(*date);
        }
    }
    dates
}

/// The place of each image in the order, from 1 for the newest: how many are newer, and one. What cannot be ordered has none.
fn places(images: &[Claimed<'_>], order: &Order) -> BTreeMap<Digest, u32> {
    let mut best: BTreeMap<Digest, &Claimed<'_>> = BTreeMap::new();
    for image in images.iter().filter(|image| is_orderable(image, order)) {
        let known = best.entry(image.digest).or_insert(image);
        if compare(image, known, order).is_gt() {
            *known = image;
        }
    }
    let mut sorted: Vec<&Claimed<'_>> = best.into_values().collect();
    sorted.sort_by(|a, b| compare(b, a, order));
    let mut places = BTreeMap::new();
    let mut place = 0;
    for (newer, image) in (0_u32..).zip(&sorted) {
        let ties = newer > 0 && compare(sorted[newer as usize - 1], image, order).is_eq();
        place = if ties { place } else { newer + 1 };
        places.insert(image.digest, place);
    }
    places
}

fn is_orderable(image: &Claimed<'_>, order: &Order) -> bool {
    match order {
        Order::Age => image.dated.is_ok(),
        Order::Semver => image.version.is_some(),
        Order::Natural => true,
        Order::Capture(group) => image.captures.contains_key(group),
    }
}

fn compare(a: &Claimed<'_>, b: &Claimed<'_>, order: &Order) -> Ordering {
    match order {
        Order::Age => date(a).cmp(&date(b)),
        Order::Semver => match (&a.version, &b.version) {
            (Some(a), Some(b)) => a.precedence(b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        },
        Order::Natural => natural(a.tag.as_str(), b.tag.as_str()),
        Order::Capture(group) => {
            let captured = |image: &Claimed<'_>| image.captures.get(group).cloned().unwrap_or_default();
            natural(&captured(a), &captured(b))
        }
    }
}

fn date(image: &Claimed<'_>) -> Option<Timestamp> {
    image.dated.as_ref().ok().map(|dated| dated.at)
}

#[cfg(test)]
mod tests;
