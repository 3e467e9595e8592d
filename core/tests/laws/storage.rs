//! Random storages: repositories that share layers and list each other's manifests, with everything broken that can be.
//!
//! A node's digest is that of its number, so that manifests may list and be about each other in circles.

use std::collections::{BTreeMap, BTreeSet};

use clean_registry_core::gc::{Known, LetGo, References, Removed, Settings, Undated};
use clean_registry_core::name::{Bytes, Digest, RepoName};
use clean_registry_core::stored::{
    Age, Spares, Stamp, StorageGap, Stored, StoredBlob, StoredRepo, StoredTag, StoredUpload,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

pub const NOW: i64 = 1_800_000_000;
/// Nodes below this are layers, those from here on manifests.
pub const LAYERS: usize = 6;
pub const NODES: usize = 14;
const REPOS: usize = 3;

/// How long ago, in hours; `None` if nobody knows.
pub type Hours = Option<i64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Stored,
    /// Pushed after the blobs were listed.
    Late,
    Missing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// As a layer or configuration.
    Layer,
    /// As a layer, by its sha512.
    LayerBySha512,
    /// As a manifest.
    Child,
    /// Among manifests, with a layer's media type.
    Disguised,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub state: State,
    pub age: Hours,
    /// Of manifests.
    pub is_broken: bool,
    pub lists: BTreeSet<(usize, How)>,
    pub subject: Option<usize>,
}

#[derive(Debug, Clone, Default)]
pub struct Repo {
    pub revisions: BTreeMap<usize, Hours>,
    /// A tag whose link says nothing points at `None`.
    pub tags: Vec<Option<usize>>,
    pub links: BTreeMap<usize, Hours>,
    /// Links under the sha512 of the node.
    pub aliases: BTreeMap<usize, Hours>,
    pub uploads: Vec<Hours>,
    pub gaps: Vec<Spares>,
}

#[derive(Debug, Clone)]
pub struct Storage {
    pub nodes: Vec<Node>,
    pub repos: BTreeMap<RepoName, Repo>,
    /// A gap outside of all repositories.
    pub gap: Option<Spares>,
    pub odd_roots: BTreeSet<usize>,
}

pub fn digest(node: usize) -> Digest {
    Digest::of(node.to_string().as_bytes())
}

pub fn sha512(node: usize) -> String {
    format!("sha512:{node:0>128}")
}

pub fn stamp(age: Hours) -> Stamp {
    age.map_or(Stamp::UNKNOWN, |hours| Stamp::from_second(NOW - hours * 3600))
}

fn hours() -> impl Strategy<Value = Hours> {
    prop_oneof![8 => Just(Some(100)), 2 => (-1i64..60).prop_map(Some), 1 => Just(None)]
}

/// What stays must be older than the grace in each kind: else the next run finds what was too young to be found.
pub fn settings() -> impl Strategy<Value = Settings> {
    let age = |least: u64| prop_oneof![Just(None), (least..60).prop_map(|hours| Some(Age(hours * 3600)))];
    (0u64..30).prop_flat_map(move |grace| {
        (age(0), age(grace), age(0), age(grace)).prop_map(move |(untagged, links, uploads, empty)| Settings {
            now: Stamp::from_second(NOW),
            grace: Age(grace * 3600),
            untagged,
            dangling_links: links,
            uploads,
            temporary_files: None,
            empty_repositories: empty,
            let_go: LetGo::default(),
            in_use: None,
            undated: Undated::Young,
        })
    })
}

/// Storages without anything that cannot be read.
pub fn whole() -> impl Strategy<Value = Storage> {
    storage().prop_map(|mut storage| {
        storage.gap = None;
        storage.nodes.iter_mut().for_each(|node| node.is_broken = false);
        for repo in storage.repos.values_mut() {
            repo.gaps.clear();
            repo.tags.retain(Option::is_some);
        }
        storage
    })
}

pub fn storage() -> impl Strategy<Value = Storage> {
    let gap = prop_oneof![19 => Just(None), 1 => spares().prop_map(Some)];
    let odd_roots = prop_oneof![9 => Just(BTreeSet::new()), 1 => btree_set(LAYERS..NODES, 1..=1)];
    let nodes: Vec<_> = (0..NODES).map(node).collect();
    (nodes, vec(repo(), 1..=REPOS), gap, odd_roots).prop_map(|(mut nodes, repos, gap, odd_roots)| {
        // What is late nobody can have listed as a layer: whoever does so does not ask whether it exists.
        let late: Vec<usize> = (LAYERS..NODES).filter(|number| nodes[*number].state == State::Late).collect();
        for node in &mut nodes {
            node.lists.retain(|(to, how)| *how != How::Disguised || !late.contains(to));
        }
        let name = |number| format!("repo-{number}").parse().expect("a name");
        let repos = repos.into_iter().enumerate().map(|(number, repo)| (name(number), repo)).collect();
        Storage { nodes, repos, gap, odd_roots }
    })
}

fn spares() -> impl Strategy<Value = Spares> {
    select(vec![Spares::Nothing, Spares::Manifests, Spares::Everything])
}

fn node(number: usize) -> impl Strategy<Value = Node> {
    let state = prop_oneof![8 => Just(State::Stored), 1 => Just(State::Late), 1 => Just(State::Missing)];
    let layer = (0..LAYERS, select(vec![How::Layer, How::Layer, How::LayerBySha512, How::Disguised]));
    let child = (LAYERS..NODES, select(vec![How::Child, How::Child, How::Child, How::Disguised]));
    let lists = prop_oneof![
        3 => btree_set(layer, 0..4).boxed(),
        2 => btree_set(child, 0..3).boxed(),
    ];
    let subject = prop_oneof![2 => Just(None), 1 => (LAYERS..NODES).prop_map(Some)];
    (state, hours(), prop::bool::weighted(0.05), lists, subject).prop_map(
        move |(state, age, is_broken, lists, subject)| {
            if number < LAYERS {
                return Node { state, age, is_broken: false, lists: BTreeSet::new(), subject: None };
            }
            Node { state, age, is_broken, lists, subject }
        },
    )
}

fn repo() -> impl Strategy<Value = Repo> {
    let target = prop_oneof![19 => (LAYERS..NODES).prop_map(Some), 1 => Just(None)];
    let gaps = prop_oneof![9 => Just(Vec::new()), 1 => vec(spares(), 1..=1)];
    (
        btree_map(LAYERS..NODES, hours(), 0..6),
        vec(target, 0..3),
        btree_map(0..NODES, hours(), 0..6),
        btree_map(0..NODES, hours(), 0..2),
        vec(hours(), 0..2),
        gaps,
    )
        .prop_map(|(revisions, tags, links, aliases, uploads, gaps)| Repo {
            revisions,
            tags,
            links,
            aliases,
            uploads,
            gaps,
        })
}

/// Manifests that a policy removes. What was not there when the blobs were listed it cannot know.
pub fn removed(storage: &Storage, chosen: &[(usize, usize)]) -> Removed {
    let mut removed = Removed::new();
    for (name, repo) in chosen.iter().filter_map(|(at, _)| storage.repos.iter().nth(*at)) {
        let wanted = |node: &&usize| chosen.iter().any(|(_, to)| to == *node);
        let stored = |node: &&usize| storage.nodes[**node].state == State::Stored;
        let digests = repo.revisions.keys().filter(wanted).filter(stored).map(|node| digest(*node));
        removed.entry(name.clone()).or_default().extend(digests);
    }
    removed
}

pub fn choice() -> impl Strategy<Value = Vec<(usize, usize)>> {
    vec((0..REPOS, LAYERS..NODES), 0..5)
}

impl Node {
    fn bytes(&self) -> Vec<u8> {
        if self.is_broken {
            return b"no JSON".to_vec();
        }
        let listed = |wanted: &[How]| -> String {
            let found = self.lists.iter().filter(|(_, how)| wanted.contains(how));
            let descriptors = found.map(|(to, how)| match how {
                How::Layer => format!(r#"{{"digest":"{}"}}"#, digest(*to)),
                How::LayerBySha512 => format!(r#"{{"digest":"{}"}}"#, sha512(*to)),
                How::Child => format!(r#"{{"digest":"{}"}}"#, digest(*to)),
                How::Disguised => {
                    format!(r#"{{"mediaType":"application/octet-stream","digest":"{}"}}"#, digest(*to))
                }
            });
            descriptors.collect::<Vec<_>>().join(",")
        };
        let (layers, children) =
            (listed(&[How::Layer, How::LayerBySha512]), listed(&[How::Child, How::Disguised]));
        let subject = self
            .subject
            .map_or_else(String::new, |subject| format!(r#","subject":{{"digest":"{}"}}"#, digest(subject)));
        format!(r#"{{"layers":[{layers}],"manifests":[{children}]{subject}}}"#).into_bytes()
    }
}

impl Storage {
    pub fn stored(&self) -> Stored {
        let listed = (0..NODES).filter(|number| self.nodes[*number].state == State::Stored);
        let blobs = listed.map(|number| StoredBlob {
            digest: digest(number),
            size: Bytes(1 + number as u64),
            stamp: stamp(self.nodes[number].age),
        });
        let mut stored = Stored { blobs: blobs.collect(), ..Stored::default() };
        stored.odd.roots = self.odd_roots.iter().map(|node| digest(*node)).collect();
        stored.gaps.extend(self.gap.map(|spares| gap(None, spares)));
        for (name, repo) in &self.repos {
            stored.gaps.extend(repo.gaps.iter().map(|spares| gap(Some(name.clone()), *spares)));
            stored.repos.insert(name.clone(), repo.stored(&stored));
        }
        stored
    }

    /// Reads what is asked for.
    pub fn known(&self) -> Known {
        let (stored, mut known) = (self.stored(), Known::default());
        let numbers: BTreeMap<Digest, usize> = (0..NODES).map(|number| (digest(number), number)).collect();
        known.visit_roots(&stored);
        loop {
            let unread = known.unread();
            if unread.is_empty() {
                return known;
            }
            for digest in unread {
                let number = numbers[&digest];
                let node = &self.nodes[number];
                // A layer is as little JSON as a broken manifest.
                let bytes = if number < LAYERS { b"layer".to_vec() } else { node.bytes() };
                if node.state == State::Missing {
                    known.absent(digest);
                } else {
                    let read = References::read(&bytes).map_err(|error| error.to_string());
                    known.learn(&stored.blobs, digest, &read);
                }
            }
        }
    }
}

fn gap(repository: Option<RepoName>, spares: Spares) -> StorageGap {
    StorageGap { path: "somewhere".to_owned(), repository, spares, why: "broken".to_owned() }
}

impl Repo {
    fn stored(&self, stored: &Stored) -> StoredRepo {
        let revisions = self.revisions.iter().map(|(node, age)| (digest(*node), stamp(*age)));
        let mut repo = StoredRepo { revisions: revisions.collect(), ..StoredRepo::default() };
        for (node, age) in &self.links {
            match stored.blobs.find(digest(*node)) {
                Some(blob) => repo.layers.push((blob, stamp(*age))),
                None => repo.dangling.push((digest(*node), stamp(*age))),
            }
        }
        let aliases = self.aliases.iter();
        repo.aliases = aliases.map(|(node, age)| (sha512(*node), Some(digest(*node)), stamp(*age))).collect();
        for (number, target) in self.tags.iter().enumerate() {
            let tag = format!("v{number}").parse().expect("a tag");
            repo.tags.insert(tag, StoredTag { target: target.map(digest), stamp: stamp(Some(100)) });
        }
        for (number, age) in self.uploads.iter().enumerate() {
            let id = format!("00000000-0000-4000-8000-{number:0>12}").parse().expect("an upload");
            let upload = StoredUpload { newest: stamp(*age), size: Bytes(1), keys: Vec::new() };
            repo.uploads.insert(id, upload);
        }
        repo
    }
}
