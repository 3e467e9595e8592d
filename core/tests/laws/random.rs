//! Random registries: honest digests, otherwise everything that can be met.

use std::collections::BTreeSet;
use std::sync::Arc;

use clean_registry_core::in_use::RegistryNames;
use clean_registry_core::inventory::{Concern, Gap, Inventory, Powers, Repo};
use clean_registry_core::manifest::{Blob, Child, Content, Created, Manifest, Role, Source};
use clean_registry_core::name::{Bytes, Digest, MediaType, RepoName, Tag};
use clean_registry_core::policy::Policy;
use clean_registry_core::policy::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

/// The moment of every judgement, in seconds since 1970.
pub const NOW: i64 = 1_780_000_000;
const DAY: i64 = 24 * 60 * 60;

pub fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a date of 2026")
}

pub fn inventory() -> impl Strategy<Value = Inventory> {
    let powers = select(vec![Powers::DeleteOnly, Powers::DeleteAndUntag]);
    let uses = prop_oneof![1 => Just(vec![]), 1 => vec(used(), 1..4)];
    (powers, vec(repo(), 1..4), uses).prop_map(|(powers, repos, uses)| {
        let name = |position| format!("repo-{position}").parse::<RepoName>().expect("a name");
        let repos = repos.into_iter().enumerate().map(|(position, repo)| (name(position), repo));
        let (registry, repos) = ("registry".to_owned(), repos.collect());
        let mut inventory = Inventory::of(registry, now(), powers, repos);
        uses.iter().for_each(|used| used.add(&mut inventory));
        inventory
    })
}

/// What a workload uses: of one repository, or by its ID alone.
#[derive(Debug, Clone)]
pub enum Used {
    Tag(Index, Index),
    Digest(Index, Index),
    Id(Index, Index),
    Config(Index, Index),
}

pub fn used() -> impl Strategy<Value = Used> {
    let at = || (any::<Index>(), any::<Index>());
    prop_oneof![
        at().prop_map(|(repo, tag)| Used::Tag(repo, tag)),
        at().prop_map(|(repo, digest)| Used::Digest(repo, digest)),
        at().prop_map(|(repo, digest)| Used::Id(repo, digest)),
        at().prop_map(|(repo, digest)| Used::Config(repo, digest)),
    ]
}

impl Used {
    /// A workload uses it, as it would write that down.
    pub fn add(&self, inventory: &mut Inventory) {
        let (Self::Tag(repo, _) | Self::Digest(repo, _) | Self::Id(repo, _) | Self::Config(repo, _)) = self;
        let (name, repo) = pick(inventory.repos.iter().collect(), *repo).expect("at least one repository");
        let manifest = |index: &Index| pick(repo.manifests.iter().collect(), *index);
        let text = match self {
            Self::Tag(_, index) => pick(repo.tags.keys().collect(), *index)
                .map(|tag| format!("Registry.example:443/{name}:{tag}")),
            Self::Digest(_, index) => manifest(index)
                .map(|(digest, _)| format!("docker-pullable://registry.example/{name}@{digest}")),
            Self::Id(_, index) => manifest(index).map(|(digest, _)| digest.to_string()),
            Self::Config(_, index) => manifest(index).and_then(|(_, manifest)| match &manifest.content {
                Content::Image { config, .. } => Some(config.digest.hex()),
                _ => None,
            }),
        };
        let names = RegistryNames::new(["registry.example"]).expect("a name");
        if let Some(text) = text {
            inventory.in_use.hold(&names, &text, "a workload");
        }
    }
}

pub fn policy() -> impl Strategy<Value = Policy> {
    let tags = subsequence(vec!["latest".to_owned(), "v1".to_owned()], 0..=2);
    let patterns = vec!["release".to_owned(), "MAIN".to_owned(), ".sig".to_owned()];
    let patterns = prop_oneof![3 => Just(Vec::new()), 2 => subsequence(patterns, 1..=3)];
    let created = || BTreeSet::from([Clock::Created]);
    let clock = prop_oneof![
        3 => Just(created()),
        1 => Just(BTreeSet::from([Clock::Pushed])),
        1 => Just(BTreeSet::from([Clock::Created, Clock::Pushed])),
    ];
    let untagged =
        prop::option::of(select(vec![0, 7, 30]).prop_map(|days| SignedDuration::from_hours(24 * days)));
    (select(vec![0, 1, 30, 30, 30, 365]), tags, patterns, clock, untagged).prop_map(
        |(days_to_keep, tags, protected_patterns, clock, untagged)| Policy {
            clock,
            untagged,
            ..Policy::simple(days_to_keep, BTreeSet::from_iter(tags), protected_patterns)
        },
    )
}

/// Something that can only make more stay.
#[derive(Debug, Clone)]
pub enum More {
    Days(u32),
    ProtectedTag(Index),
    Pattern(&'static str),
    GapOfTag(Index),
    GapOfManifest(Index),
    GapOfRepository,
    Used(Used),
}

pub fn ground() -> impl Strategy<Value = More> {
    prop_oneof![
        (1..400_u32).prop_map(More::Days),
        any::<Index>().prop_map(More::ProtectedTag),
        select(vec!["v", "release", "sha256", ".sig", ""]).prop_map(More::Pattern),
        any::<Index>().prop_map(More::GapOfTag),
        any::<Index>().prop_map(More::GapOfManifest),
        Just(More::GapOfRepository),
        used().prop_map(More::Used),
    ]
}

impl More {
    /// Adds it to the first repository, or to the policy.
    pub fn add(&self, inventory: &mut Inventory, policy: &mut Policy) {
        if let Self::Used(used) = self {
            return used.add(inventory);
        }
        let repo = inventory.repos.values_mut().next().expect("at least one repository");
        let tag = |index: &Index| pick(repo.tags.keys().cloned().collect(), *index);
        let concerns = match self {
            Self::Days(days) => {
                policy.days_to_keep = policy.days_to_keep.map(|keep| keep + days);
                None
            }
            Self::ProtectedTag(index) => {
                policy.protected_tags.extend(tag(index).map(|tag| tag.to_string()));
                None
            }
            Self::Pattern(pattern) => {
                policy.protected_patterns.push((*pattern).to_owned());
                None
            }
            Self::GapOfTag(index) => tag(index).map(Concern::Tag),
            Self::GapOfManifest(index) => {
                pick(repo.manifests.keys().copied().collect(), *index).map(Concern::Manifest)
            }
            Self::GapOfRepository => Some(Concern::Repository),
            Self::Used(_) => None,
        };
        repo.gaps.extend(concerns.map(gap));
    }
}

fn pick<T>(mut all: Vec<T>, index: Index) -> Option<T> {
    (!all.is_empty()).then(|| all.swap_remove(index.index(all.len())))
}

fn gap(concerns: Concern) -> Gap {
    Gap { concerns, why: "random".to_owned() }
}

/// What a manifest is made from: its references point at manifests made before it.
#[derive(Debug, Clone)]
struct Seed {
    kind: Kind,
    created: Option<String>,
    references: Vec<(Index, Role)>,
    subject: Option<Index>,
    layer: u8,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Image,
    Index,
    Artifact,
    Schema1,
}

#[derive(Debug, Clone)]
struct TagSeed {
    name: TagName,
    target: Target,
}

#[derive(Debug, Clone)]
enum TagName {
    Plain(&'static str),
    About(Index, &'static str),
}

#[derive(Debug, Clone)]
enum Target {
    Manifest(Index),
    Unread,
    Unknown,
}

fn repo() -> impl Strategy<Value = Repo> {
    let gap_of_repository = prop::bool::weighted(0.05);
    let gaps = prop_oneof![3 => Just(vec![]), 1 => vec(any::<Index>(), 1..3)];
    let unfinished = prop_oneof![2 => Just(vec![]), 1 => vec(any::<Index>(), 1..3)];
    let tags = vec((tag_seed(), pushed()), 1..9);
    (vec((seed(), pushed()), 1..10), tags, gap_of_repository, gaps, unfinished).prop_map(
        |(seeds, tags, blind, gaps, unfinished)| {
            let mut repo = Repo::default();
            let (seeds, pushes): (Vec<Seed>, Vec<Option<Timestamp>>) = seeds.into_iter().unzip();
            let digests = add_manifests(&mut repo, &seeds);
            repo.pushed =
                digests.iter().zip(pushes).filter_map(|(digest, at)| Some((*digest, at?))).collect();
            for (tag, at) in &tags {
                let tag = add_tag(&mut repo, &digests, tag);
                repo.tags_pushed.extend(at.map(|at| (tag, at)));
            }
            let torn = gaps.iter().filter_map(|index| pick(digests.clone(), *index));
            repo.gaps.extend(torn.map(|digest| gap(Concern::Manifest(digest))));
            repo.gaps.extend(blind.then(|| gap(Concern::Repository)));
            repo.unfinished = unfinished.iter().filter_map(|index| pick(digests.clone(), *index)).collect();
            repo
        },
    )
}

/// When something was pushed, if that is known.
fn pushed() -> impl Strategy<Value = Option<Timestamp>> {
    let days = prop_oneof![9 => 0..60_i64, 1 => Just(-1_i64), 1 => Just(20_000_i64)];
    let at = |days| Timestamp::from_second(NOW - days * DAY).expect("within range");
    prop_oneof![1 => Just(None), 6 => days.prop_map(move |days| Some(at(days)))]
}

fn seed() -> impl Strategy<Value = Seed> {
    let kind = prop_oneof![
        4 => Just(Kind::Image), 4 => Just(Kind::Index), 2 => Just(Kind::Artifact), 1 => Just(Kind::Schema1)
    ];
    let role = prop_oneof![5 => Just(Role::Image), 1 => Just(Role::Attestation)];
    let subject = prop::option::weighted(0.25, any::<Index>());
    (kind, created(), vec((any::<Index>(), role), 0..4), subject, 0..4_u8).prop_map(
        |(kind, created, references, subject, layer)| Seed { kind, created, references, subject, layer },
    )
}

fn created() -> impl Strategy<Value = Option<String>> {
    let at = |second| Timestamp::from_second(second).expect("within range").to_string();
    prop_oneof![
        8 => (31..60_i64).prop_map(move |days| Some(at(NOW - days * DAY))),
        4 => (0..30_i64).prop_map(move |days| Some(at(NOW - days * DAY))),
        1 => (-1..=1_i64).prop_map(move |second| Some(at(NOW - 30 * DAY + second))),
        1 => (1..9_i64).prop_map(move |second| Some(at(NOW + second))),
        1 => select(vec!["1970-01-01T00:00:00Z", "1980-01-01T00:00:00Z", "2012-12-31T23:59:59Z", "nonsense", ""])
            .prop_map(|text| Some(text.to_owned())),
        1 => Just(None),
    ]
}

fn tag_seed() -> impl Strategy<Value = TagSeed> {
    let plain = select(vec!["v1", "v2", "v3", "v4", "latest", "Release-9", "main-2"]);
    let suffix = select(vec!["", ".sig", ".att", ".sbom"]);
    let name = prop_oneof![
        2 => plain.prop_map(TagName::Plain),
        1 => (any::<Index>(), suffix).prop_map(|(subject, suffix)| TagName::About(subject, suffix)),
    ];
    let target = prop_oneof![
        20 => any::<Index>().prop_map(Target::Manifest), 1 => Just(Target::Unread), 1 => Just(Target::Unknown)
    ];
    (name, target).prop_map(|(name, target)| TagSeed { name, target })
}

fn missing() -> Digest {
    Digest::of(b"missing")
}

fn add_manifests(repo: &mut Repo, seeds: &[Seed]) -> Vec<Digest> {
    let mut digests: Vec<Digest> = Vec::new();
    for seed in seeds {
        let manifest = manifest(seed, &digests);
        // As honest as a registry: what says the same has the same digest, in whatever repository.
        let digest = Digest::of(format!("{manifest:?}").as_bytes());
        repo.manifests.insert(digest, Arc::new(manifest));
        digests.push(digest);
    }
    digests
}

fn manifest(seed: &Seed, earlier: &[Digest]) -> Manifest {
    let layer = Blob { digest: Digest::of(&[seed.layer]), size: Bytes(100) };
    let annotation = |source| seed.created.clone().map(|text| Created { text, source });
    // One reference in nine leads to what is not here.
    let refer = |index: &Index| *earlier.get(index.index(earlier.len() * 9 / 8 + 1)).unwrap_or(&missing());
    let (media_type, content, created) = match seed.kind {
        Kind::Image => {
            let config = Digest::of(seed.created.as_deref().unwrap_or_default().as_bytes());
            let content =
                Content::Image { config: Blob { digest: config, size: Bytes(10) }, layers: vec![layer] };
            (MediaType::OCI_MANIFEST, content, annotation(Source::Config))
        }
        Kind::Index => {
            let child =
                |(index, role): &(Index, Role)| Child { digest: refer(index), platform: None, role: *role };
            let children = seed.references.iter().map(child).collect();
            let dated = (seed.layer == 0).then(|| annotation(Source::Annotation)).flatten();
            (MediaType::OCI_INDEX, Content::Index { children, blobs: vec![] }, dated)
        }
        Kind::Artifact => {
            let dated = (seed.layer == 0).then(|| annotation(Source::Annotation)).flatten();
            (MediaType::OCI_MANIFEST, Content::Artifact { blobs: vec![layer] }, dated)
        }
        Kind::Schema1 => {
            let content = Content::Schema1 { layers: vec![layer.digest] };
            (MediaType::SCHEMA1, content, annotation(Source::History))
        }
    };
    Manifest {
        media_type: MediaType::new(media_type),
        size: Bytes(1),
        content,
        subject: seed.subject.as_ref().map(refer),
        created,
        labels: std::collections::BTreeMap::new(),
        foreign_digests: vec![],
    }
}

fn add_tag(repo: &mut Repo, digests: &[Digest], seed: &TagSeed) -> Tag {
    let name = match &seed.name {
        TagName::Plain(name) => (*name).to_owned(),
        TagName::About(subject, suffix) => {
            let subject = pick(digests.to_vec(), *subject).unwrap_or_else(missing);
            format!("sha256-{}{suffix}", subject.hex())
        }
    };
    let tag: Tag = name.parse().expect("a tag");
    let target = match &seed.target {
        Target::Manifest(index) => pick(digests.to_vec(), *index),
        Target::Unread => Some(missing()),
        Target::Unknown => None,
    };
    if target.is_none() {
        repo.gaps.push(gap(Concern::Tag(tag.clone())));
    }
    repo.tags.insert(tag.clone(), target);
    tag
}
