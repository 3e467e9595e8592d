//! Small registries for tests, written so that each reads like a sentence, and short words for what becomes of them.
//!
//! A manifest's digest is that of its name here; what is told of it uses the name again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::audit::{Audited, Promises, Unsound, audit};
use crate::decision::{Cause, Decision, Ground, Keeper, Miss, Undated};
use crate::in_use::RegistryNames;
use crate::inventory::{Concern, Gap, Inventory, Powers, Pulls, Repo};
use crate::manifest::{Blob, Child, Content, Created, Manifest, Role, Source};
use crate::name::{Bytes, Digest, MediaType, RepoName, Tag};
use crate::pattern::Patterns;
use crate::plan::{Plan, Step, draw};
use crate::policy::rule::Orphans;
use crate::policy::{Policy, judge};

pub fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

pub fn seconds_old(seconds: i64) -> String {
    (now() - SignedDuration::from_secs(seconds)).to_string()
}

pub fn days_old(days: i64) -> String {
    seconds_old(days * 24 * 60 * 60)
}

pub fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

pub fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// The name of a tag that is about `subject`: with an empty suffix the fallback tag, with `.sig` cosign's.
pub fn about(subject: &str, suffix: &str) -> String {
    format!("sha256-{}{suffix}", digest(subject).hex())
}

/// Keeps for 30 days, and `latest`, and whatever contains `release`.
pub fn policy() -> Policy {
    Policy::simple(30, BTreeSet::from(["latest".to_owned()]), vec!["release".to_owned()])
}

pub fn promises(policy: &Policy) -> Promises {
    let rules = policy.rules.iter();
    Promises {
        protected_tags: policy.protected_tags.clone(),
        protected_patterns: policy.protected_patterns.clone(),
        untagged: policy.untagged,
        untagged_of_rules: rules
            .clone()
            .filter_map(|rule| Some((rule.repos.clone(), rule.untagged?.after())))
            .collect(),
        orphans: rules
            .filter_map(|rule| Some((rule.repos.clone(), rule.orphans? == Orphans::Delete)))
            .chain([(Patterns::default(), policy.orphans == Orphans::Delete)])
            .collect(),
        ..Promises::default()
    }
}

/// A repository in the making.
#[derive(Clone)]
pub struct Sample {
    name: RepoName,
    repo: Repo,
    names: BTreeMap<Digest, String>,
}

pub fn repo(name: &str) -> Sample {
    Sample { name: name.parse().unwrap(), repo: Repo::default(), names: BTreeMap::new() }
}

impl Sample {
    /// An image with a configuration of 10 bytes, a layer of 100 and a manifest of 1.
    pub fn image(self, name: &str, created: &str) -> Self {
        self.manifest(name, image_content(name), Some((created, Source::Config)))
    }

    pub fn undated_image(self, name: &str) -> Self {
        self.manifest(name, image_content(name), None)
    }

    pub fn index(self, name: &str, images: &[&str]) -> Self {
        self.attested_index(name, images, &[])
    }

    pub fn attested_index(self, name: &str, images: &[&str], attestations: &[&str]) -> Self {
        let child = |role| move |name: &&str| Child { digest: digest(name), platform: None, role };
        let children =
            images.iter().map(child(Role::Image)).chain(attestations.iter().map(child(Role::Attestation)));
        let content = Content::Index { children: children.collect(), blobs: Vec::new() };
        self.manifest(name, content, None)
    }

    /// What has no date, as signatures and attestations.
    pub fn artifact(self, name: &str) -> Self {
        let blobs = vec![blob(&format!("{name} layer"), 100)];
        self.manifest(name, Content::Artifact { blobs }, None)
    }

    pub fn manifest(mut self, name: &str, content: Content, created: Option<(&str, Source)>) -> Self {
        let created = created.map(|(text, source)| Created { text: text.to_owned(), source });
        let manifest = Manifest { created, ..manifest_of(content) };
        self.repo.manifests.insert(digest(name), Arc::new(manifest));
        self.names.insert(digest(name), name.to_owned());
        self
    }

    /// A manifest read from its bytes, as the registry would serve it.
    pub fn parsed(mut self, name: &str, bytes: &str) -> Self {
        let manifest = Manifest::parse(bytes.as_bytes(), None).unwrap();
        self.repo.manifests.insert(digest(name), Arc::new(manifest));
        self.names.insert(digest(name), name.to_owned());
        self
    }

    /// Adds a layer of 1000 bytes to an image.
    pub fn layer(mut self, image: &str, layer: &str) -> Self {
        match &mut self.edit(image).content {
            Content::Image { layers, .. } => layers.push(blob(layer, 1000)),
            other => panic!("{image} is no image but {other:?}"),
        }
        self
    }

    pub fn annotated(mut self, name: &str, created: &str) -> Self {
        self.edit(name).created = Some(Created { text: created.to_owned(), source: Source::Annotation });
        self
    }

    pub fn label(mut self, name: &str, key: &str, value: &str) -> Self {
        self.edit(name).labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Pulls have been watched for so many days; these tags were pulled so many days ago.
    pub fn pulls(mut self, days: i64, tags: &[(&str, i64)]) -> Self {
        let ago = |days: i64| now() - SignedDuration::from_hours(24 * days);
        let tags = tags.iter().map(|(name, days)| (tag(name), ago(*days))).collect();
        self.repo.pulls = Some(Pulls { since: ago(days), tags, digests: BTreeMap::new() });
        self
    }

    /// A pull of an image by its digest, so many days ago, where pulls are watched.
    pub fn digest_pulled(mut self, name: &str, days: i64) -> Self {
        let at = now() - SignedDuration::from_hours(24 * days);
        self.repo.pulls.as_mut().unwrap().digests.insert(digest(name), at);
        self
    }

    pub fn subject(mut self, referrer: &str, subject: &str) -> Self {
        self.names.insert(digest(subject), subject.to_owned());
        self.edit(referrer).subject = Some(digest(subject));
        self
    }

    fn edit(&mut self, name: &str) -> &mut Manifest {
        Arc::make_mut(self.repo.manifests.get_mut(&digest(name)).unwrap())
    }

    pub fn tag(mut self, name: &str, target: &str) -> Self {
        self.names.insert(digest(target), target.to_owned());
        self.repo.tags.insert(tag(name), Some(digest(target)));
        self
    }

    /// A manifest's last push, so many days ago.
    pub fn pushed(mut self, name: &str, days: i64) -> Self {
        self.repo.pushed.insert(digest(name), now() - SignedDuration::from_hours(24 * days));
        self
    }

    /// A tag's last push, so many days ago.
    pub fn tag_pushed(mut self, name: &str, days: i64) -> Self {
        self.repo.tags_pushed.insert(tag(name), now() - SignedDuration::from_hours(24 * days));
        self
    }

    /// A tag that is listed and points at nothing that exists.
    pub fn dangling_tag(mut self, name: &str) -> Self {
        self.repo.tags.insert(tag(name), None);
        self.gap(Concern::Tag(tag(name)), "404")
    }

    pub fn gap(mut self, concerns: Concern, why: &str) -> Self {
        self.repo.gaps.push(Gap { concerns, why: why.to_owned() });
        self
    }

    pub fn unfinished(mut self, name: &str) -> Self {
        self.repo.unfinished.insert(digest(name));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.repo.manifests.remove(&digest(name)).unwrap();
        self
    }

    pub fn untagged(mut self, name: &str) -> Self {
        self.repo.tags.remove(&tag(name)).unwrap();
        self
    }
}

/// A manifest that says nothing but what it points at.
pub fn manifest_of(content: Content) -> Manifest {
    let media_type = MediaType::new(match content {
        Content::Index { .. } => MediaType::OCI_INDEX,
        Content::Schema1 { .. } => MediaType::SCHEMA1,
        Content::Image { .. } | Content::Artifact { .. } => MediaType::OCI_MANIFEST,
    });
    let (size, subject, created, foreign_digests) = (Bytes(1), None, None, Vec::new());
    let labels = BTreeMap::new();
    Manifest { media_type, size, content, subject, created, labels, foreign_digests }
}

pub fn blob(name: &str, size: u64) -> Blob {
    Blob { digest: digest(name), size: Bytes(size) }
}

fn image_content(name: &str) -> Content {
    let layers = vec![blob(&format!("{name} layer"), 100)];
    Content::Image { config: blob(&format!("{name} config"), 10), layers }
}

/// A registry of samples.
pub struct World {
    pub inventory: Inventory,
    names: BTreeMap<Digest, String>,
}

pub fn world<const N: usize>(powers: Powers, samples: [Sample; N]) -> World {
    let mut names = BTreeMap::new();
    let mut repos = BTreeMap::new();
    for sample in samples {
        names.extend(sample.names);
        repos.insert(sample.name, sample.repo);
    }
    let registry = "registry.example:5000".to_owned();
    World { inventory: Inventory::of(registry, now(), powers, repos), names }
}

impl World {
    /// The same while `by` uses what `reference` names; `NAME` in braces is the digest of that name.
    pub fn used(mut self, reference: &str, by: &str) -> Self {
        let names = RegistryNames::new([self.inventory.registry.as_str()]).unwrap();
        let reference =
            match reference.split_once('{').map(|(before, rest)| (before, rest.trim_end_matches('}'))) {
                Some((before, name)) => format!("{before}{}", digest(name)),
                None => reference.to_owned(),
            };
        self.inventory.in_use.hold(&names, &reference, by);
        self
    }

    pub fn plan(&self, policy: &Policy) -> Plan {
        draw(&self.inventory, &judge(&self.inventory, policy, now()), policy, now())
    }

    pub fn audit(&self, plan: Plan) -> Result<Audited, Unsound> {
        audit(plan, &self.inventory, &promises(&policy()))
    }

    /// What becomes of every tag (`:tag`) and manifest (`@name`), with all reasons.
    pub fn fates(&self, policy: &Policy) -> Vec<String> {
        let mut fates = Vec::new();
        for judged in judge(&self.inventory, policy, now()).repos.values() {
            for (tag, decision) in &judged.tags {
                fates.push(format!("{} {}", self.tag(tag), self.decision(decision)));
            }
            for (digest, decision) in &judged.manifests {
                fates.push(format!("@{} {}", self.name(*digest), self.decision(decision)));
            }
        }
        fates.sort();
        fates
    }

    /// The steps of a plan, one a line: `delete @name :tag`.
    pub fn steps<'a>(&self, steps: impl IntoIterator<Item = &'a Step>) -> Vec<String> {
        let step = |step: &Step| {
            let tags: String = step.tags.iter().map(|tag| format!(" {}", self.tag(tag))).collect();
            format!("{} @{}{tags}", step.action, self.name(step.digest))
        };
        steps.into_iter().map(step).collect()
    }

    /// `text` with the names of manifests for their digests.
    pub fn readable(&self, text: &str) -> String {
        let named = self.names.iter();
        named.fold(text.to_owned(), |text, (digest, name)| text.replace(&digest.hex(), name))
    }

    pub fn name(&self, digest: Digest) -> &str {
        self.names.get(&digest).map_or("?", String::as_str)
    }

    fn tag(&self, tag: &Tag) -> String {
        self.readable(&format!(":{tag}"))
    }

    fn decision(&self, decision: &Decision) -> String {
        match decision {
            Decision::Keep(grounds) => {
                let grounds: Vec<String> = grounds.as_slice().iter().map(|one| self.ground(one)).collect();
                format!("stays: {}", grounds.join(", "))
            }
            Decision::Remove(cause) => format!("goes: {}", self.cause(cause)),
        }
    }

    fn ground(&self, ground: &Ground) -> String {
        match ground {
            Ground::ProtectedTag { tag } => format!("protected tag {tag}"),
            Ground::ProtectedPattern { pattern } => format!("pattern {pattern}"),
            Ground::Protected { pattern, .. } => format!("protected {pattern}"),
            Ground::InUse { by } => format!("in use by {}", Vec::from_iter(by.clone()).join(" + ")),
            Ground::Gap { why } => format!("gap {why}"),
            Ground::Unjudged { why, .. } => format!("unjudged: {why}"),
            Ground::Grace { .. } => "grace".to_owned(),
            Ground::Kept { by, .. } => self.keeper(by),
            Ground::Undated { why } => format!("undated {}", self.undated(why)),
            Ground::Young { age_days, .. } => format!("young {age_days}"),
            Ground::Tagged { tag } => format!("tagged {}", self.tag(tag)),
            Ground::NeededBy { digest } => format!("needed by {}", self.name(*digest)),
            Ground::About { subject } => format!("about {}", self.name(*subject)),
            Ground::CannotUntag { digest, because } => {
                format!("cannot untag {} ({})", self.name(*digest), self.ground(because))
            }
            Ground::RecentlyPushed { .. } => "recently pushed".to_owned(),
            Ground::ListedElsewhere => "listed elsewhere".to_owned(),
            Ground::OrphanReferrer => "orphan".to_owned(),
            Ground::NoRule => "no rule".to_owned(),
            Ground::Unclaimed => "unclaimed".to_owned(),
        }
    }

    fn keeper(&self, by: &Keeper) -> String {
        match by {
            Keeper::Last { place, .. } => format!("last {place}"),
            Keeper::Within { .. } => "within".to_owned(),
            Keeper::WithinNewest { .. } => "within newest".to_owned(),
            Keeper::Calendar { period, .. } => period.clone(),
            Keeper::Pulled { .. } => "pulled".to_owned(),
            Keeper::Semver { version, .. } => format!("semver {version}"),
            Keeper::SemverLast { version } => format!("line {version}"),
            Keeper::Unexpired { until, .. } => format!("until {until}"),
        }
    }

    fn undated(&self, why: &Undated) -> String {
        match why {
            Undated::Absent => "absent".to_owned(),
            Undated::Unparsable { text } => format!("unparsable {text:?}"),
            Undated::Future { .. } => "future".to_owned(),
            Undated::Implausible { .. } => "implausible".to_owned(),
            Undated::Child { digest } => format!("child {}", self.name(*digest)),
            Undated::NoImages => "no images".to_owned(),
            Undated::PushUnknown => "push unknown".to_owned(),
        }
    }

    fn cause(&self, cause: &Cause) -> String {
        match cause {
            Cause::Older { age_days, .. } => format!("older {age_days}"),
            Cause::NotKept { misses, .. } => {
                let misses: Vec<String> = misses.iter().map(|miss| self.miss(miss)).collect();
                format!("not {}", misses.join(", "))
            }
            Cause::DeleteAll { .. } => "delete all".to_owned(),
            Cause::Expired { at, .. } => format!("expired {at}"),
            Cause::Orphan => "orphan".to_owned(),
            Cause::Untagged { age, .. } => format!("untagged {}", age.as_hours() / 24),
            Cause::ParentGoes { parent } => format!("parent {}", self.name(*parent)),
            Cause::SubjectGoes { subject } => format!("subject {}", self.name(*subject)),
            Cause::Unfinished => "unfinished".to_owned(),
            Cause::Undo { run } => format!("undo {run}"),
        }
    }
    fn miss(&self, miss: &Miss) -> String {
        match miss {
            Miss::Last { place, .. } => format!("last {place}"),
            Miss::Within { .. } => "within".to_owned(),
            Miss::WithinNewest { .. } => "within newest".to_owned(),
            Miss::Calendar { unit } => unit.to_string(),
            Miss::Pulled { .. } => "pulled".to_owned(),
            Miss::Semver { .. } => "semver".to_owned(),
            Miss::SemverLast => "line".to_owned(),
        }
    }
}
