//! Which links and blobs are broken, and which images suffer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Fault, Flaw, Flaws, Image, Read, Severity, Wrong};
use crate::gc::Known;
use crate::layout::Place;
use crate::name::{Digest, RepoName, Tag};
use crate::stored::{BlobId, Stored, StoredRepo};

/// Indexes within indexes, deeper than anybody pushes them.
const DEEPEST: usize = 64;

/// Everything that is broken in `stored`, with the images each fault breaks; the worst first.
///
/// `known` has learned of every manifest, `flaws` has seen it, and `read` is what was found by reading
/// everything, if it was. Files in `arrived` were missing when they were listed and have come since.
#[must_use]
pub fn faults(
    stored: &Stored,
    known: &Known,
    flaws: &Flaws,
    read: &Read,
    arrived: &BTreeSet<String>,
) -> Vec<Fault> {
    let unreadable: BTreeMap<Digest, &str> = known.unreadable().collect();
    let mut search = Search { stored, known, flaws, read, arrived, unreadable, found: BTreeMap::new() };
    let gaps = search.bad_links();
    search.bad_content();
    for (name, repo) in &stored.repos {
        let mut look = Look::at(&search, name, repo, gaps.get(&Some(name.clone())));
        look.all();
        let broken = look.broken;
        search.note(broken);
    }
    let mut faults: Vec<Fault> = search.found.into_iter().map(|(key, found)| found.fault(key)).collect();
    faults.sort_by(|one, other| (one.severity, &one.path).cmp(&(other.severity, &other.path)));
    faults
}

/// Where, and what.
type Key = (String, Wrong);

/// A fault as it is collected.
#[derive(Debug, Clone, Default)]
struct Found {
    missing: Option<String>,
    breaks: BTreeSet<Image>,
}

impl Found {
    fn fault(self, (path, wrong): Key) -> Fault {
        // An index may be sparse on purpose: whoever tags it means it to be pulled.
        let counts = |image: &Image| image.tag.is_some() || !matches!(wrong, Wrong::IncompleteIndex { .. });
        let severity = if self.breaks.iter().any(counts) { Severity::Broken } else { Severity::Damaged };
        Fault { severity, wrong, path, breaks: self.breaks.into_iter().collect(), missing: self.missing }
    }
}

struct Search<'a> {
    stored: &'a Stored,
    known: &'a Known,
    flaws: &'a Flaws,
    read: &'a Read,
    arrived: &'a BTreeSet<String>,
    unreadable: BTreeMap<Digest, &'a str>,
    found: BTreeMap<Key, Found>,
}

/// The links of one repository that say nothing usable, with what is wrong.
#[derive(Debug, Default)]
struct BadLinks {
    layers: BTreeMap<Digest, Key>,
    revisions: BTreeMap<Digest, Key>,
    tags: BTreeMap<Tag, Key>,
}

impl<'a> Search<'a> {
    /// Notes what the scan could not understand, each a fault of its own whether or not it breaks anything.
    fn bad_links(&mut self) -> BTreeMap<Option<RepoName>, BadLinks> {
        let mut bad: BTreeMap<Option<RepoName>, BadLinks> = BTreeMap::new();
        let other = |(path, says): (&String, &String)| {
            let repository = Place::split(path).and_then(|(name, _)| name.parse().ok());
            (path.clone(), repository, Wrong::OtherLink { says: says.clone() })
        };
        let other_links = self.read.other_links.iter().map(other);
        let gaps =
            self.stored.gaps.iter().map(|gap| {
                (gap.path.clone(), gap.repository.clone(), Wrong::BadLink { why: gap.why.clone() })
            });
        for (path, name, wrong) in gaps.chain(other_links) {
            let key = (path, wrong);
            self.found.entry(key.clone()).or_default();
            let links = bad.entry(name).or_default();
            match Place::parse(&key.0) {
                Some(Place::LayerLink { digest, .. }) => drop(links.layers.insert(digest, key)),
                Some(Place::RevisionLink { digest, .. }) => drop(links.revisions.insert(digest, key)),
                Some(Place::TagCurrent { tag, .. }) => drop(links.tags.insert(tag, key)),
                _ => {}
            }
        }
        bad
    }

    /// Bytes that are wrong are a fault even where nothing needs them. Of manifests the scan has told already.
    fn bad_content(&mut self) {
        for digest in self.read.wrong_content.iter().filter(|digest| !self.unreadable.contains_key(*digest)) {
            let Fact { key, .. } =
                Fact::at(&Place::BlobData(*digest), Wrong::WrongContent { digest: *digest });
            self.found.entry(key).or_default();
        }
    }

    fn note(&mut self, broken: Vec<(Fact, Image)>) {
        for (fact, image) in broken {
            let found = self.found.entry(fact.key).or_default();
            found.missing = fact.missing;
            found.breaks.insert(image);
        }
    }
}

/// Something that is wrong with a manifest in a repository.
#[derive(Debug, Clone)]
struct Fact {
    key: Key,
    missing: Option<String>,
}

impl Fact {
    fn at(place: &Place, wrong: Wrong) -> Self {
        Self { key: (place.key(), wrong), missing: None }
    }

    /// The file itself is what is missing.
    fn missing(place: &Place, wrong: Wrong) -> Self {
        Self { missing: Some(place.key()), ..Self::at(place, wrong) }
    }
}

/// A look at one repository.
struct Look<'s, 'a> {
    search: &'s Search<'a>,
    name: &'a RepoName,
    repo: &'a StoredRepo,
    bad: Option<&'s BadLinks>,
    /// The blobs with a link that says what it should.
    linked: HashSet<BlobId>,
    /// What is wrong with the manifests that were looked at; nothing for most.
    facts: HashMap<Digest, Vec<Fact>>,
    seen: HashSet<Digest>,
    broken: Vec<(Fact, Image)>,
}

impl<'s, 'a> Look<'s, 'a> {
    fn at(
        search: &'s Search<'a>,
        name: &'a RepoName,
        repo: &'a StoredRepo,
        bad: Option<&'s BadLinks>,
    ) -> Self {
        let blobs = &search.stored.blobs;
        let is_good =
            |blob: &BlobId| bad.is_none_or(|bad| !bad.layers.contains_key(&blobs.get(*blob).digest));
        let aliased = repo.aliases.iter().filter_map(|(_, target, _)| blobs.find((*target)?));
        let linked = repo.layers.iter().map(|(blob, _)| *blob).filter(is_good).chain(aliased).collect();
        let (facts, seen, broken) = (HashMap::new(), HashSet::new(), Vec::new());
        Self { search, name, repo, bad, linked, facts, seen, broken }
    }

    fn all(&mut self) {
        for digest in self.repo.revisions.keys() {
            self.look(*digest, 0);
        }
        self.tags();
        self.untagged();
    }

    fn tags(&mut self) {
        for (tag, stored) in &self.repo.tags {
            let image =
                Image { repository: self.name.clone(), tag: Some(tag.clone()), digest: stored.target };
            if let Some(key) = self.bad.and_then(|bad| bad.tags.get(tag)) {
                self.broken.push((Fact { key: key.clone(), missing: None }, image));
                continue;
            }
            let Some(digest) = stored.target else { continue };
            if !self.repo.revisions.contains_key(&digest) && !self.has_arrived(&self.revision(digest)) {
                let place = Place::TagCurrent { repo: self.name.clone(), tag: tag.clone() };
                let missing = Some(self.revision(digest).key());
                let fact = Fact { missing, ..Fact::at(&place, Wrong::DanglingTag { digest }) };
                self.broken.push((fact, image));
                continue;
            }
            let facts = self.facts.get(&digest).into_iter().flatten();
            self.broken.extend(facts.map(|fact| (fact.clone(), image.clone())));
        }
    }

    /// What no tag points at and nothing that is broken lists is named by its digest.
    fn untagged(&mut self) {
        let mut named: HashSet<Digest> = self.repo.tagged().collect();
        for digest in self.facts.keys() {
            let blob = self.search.stored.blobs.find(*digest);
            let lists = blob.map(|blob| self.search.known.lists(blob)).unwrap_or_default();
            named.extend(lists.iter().map(|listed| self.search.stored.blobs.get(*listed).digest));
        }
        for (digest, facts) in &self.facts {
            if named.contains(digest) || !self.repo.revisions.contains_key(digest) {
                continue;
            }
            let image = Image { repository: self.name.clone(), tag: None, digest: Some(*digest) };
            self.broken.extend(facts.iter().map(|fact| (fact.clone(), image.clone())));
        }
    }

    /// Finds what is wrong with a manifest and with what it lists.
    fn look(&mut self, digest: Digest, depth: usize) {
        if depth > DEEPEST || !self.seen.insert(digest) {
            return;
        }
        let mut facts = self.own_facts(digest);
        let lists = self.search.stored.blobs.find(digest).map(|blob| self.search.known.lists(blob));
        for listed in lists.unwrap_or_default() {
            let child = self.search.stored.blobs.get(*listed).digest;
            if !self.is_manifest(*listed, child) {
                facts.extend(self.link_fact(*listed, child));
                continue;
            }
            facts.extend(self.child_fact(*listed, child));
            self.look(child, depth + 1);
            facts.extend(self.facts.get(&child).into_iter().flatten().cloned());
        }
        if !facts.is_empty() {
            self.facts.insert(digest, facts);
        }
    }

    fn is_manifest(&self, blob: BlobId, digest: Digest) -> bool {
        self.search.known.is_manifest(blob) || self.search.unreadable.contains_key(&digest)
    }

    /// What is wrong with a manifest by itself.
    fn own_facts(&self, digest: Digest) -> Vec<Fact> {
        let mut facts = Vec::new();
        let is_linked = self.repo.revisions.contains_key(&digest);
        if let Some(key) = self.bad.and_then(|bad| bad.revisions.get(&digest)) {
            facts.push(Fact { key: key.clone(), missing: None });
        }
        let blob = Place::BlobData(digest);
        if is_linked && self.search.known.is_absent(digest) && !self.has_arrived(&blob) {
            let wrong = Wrong::RevisionWithoutBlob { digest };
            facts.push(Fact { missing: Some(blob.key()), ..Fact::at(&self.revision(digest), wrong) });
        }
        if let Some(why) = self.search.unreadable.get(&digest) {
            facts.push(Fact::at(&blob, Wrong::UnreadableManifest { digest, why: (*why).to_owned() }));
        } else {
            facts.extend(self.content_fact(digest));
        }
        facts.extend(self.search.flaws.of_manifest(digest).iter().filter_map(|flaw| self.flaw_fact(flaw)));
        facts
    }

    fn flaw_fact(&self, flaw: &Flaw) -> Option<Fact> {
        let fact = match flaw {
            Flaw::Missing { digest } => match digest.parse() {
                Ok(named) => {
                    Fact::missing(&Place::BlobData(named), Wrong::MissingBlob { digest: digest.clone() })
                }
                Err(_) => {
                    let path = digest.parse().map_or_else(
                        |_| format!("repositories/{}", self.name),
                        |alias| Place::LayerAlias { repo: self.name.clone(), alias }.key(),
                    );
                    Fact { key: (path, Wrong::MissingBlob { digest: digest.clone() }), missing: None }
                }
            },
            Flaw::MissingChild { digest } => {
                Fact::missing(&self.revision(*digest), Wrong::IncompleteIndex { child: *digest })
            }
            Flaw::WrongSize { digest, stored, said } => {
                let (digest, stored, said) = (*digest, *stored, *said);
                let wrong = if stored < said {
                    Wrong::TruncatedBlob { digest, stored, said }
                } else {
                    Wrong::WrongSize { digest, stored, said }
                };
                Fact::at(&Place::BlobData(digest), wrong)
            }
        };
        let has_arrived = fact.missing.as_ref().is_some_and(|key| self.search.arrived.contains(key));
        (!has_arrived).then_some(fact)
    }

    /// A blob is served by the link of its repository.
    fn link_fact(&self, blob: BlobId, digest: Digest) -> Option<Fact> {
        if let Some(fact) = self.content_fact(digest) {
            return Some(fact);
        }
        if self.linked.contains(&blob)
            || self.repo.revisions.contains_key(&digest)
            || self.search.flaws.is_foreign(digest)
        {
            return None;
        }
        if let Some(key) = self.bad.and_then(|bad| bad.layers.get(&digest)) {
            return Some(Fact { key: key.clone(), missing: None });
        }
        let place = Place::LayerLink { repo: self.name.clone(), digest };
        let fact = Fact::missing(&place, Wrong::MissingLayerLink { digest });
        (!self.has_arrived(&place)).then_some(fact)
    }

    fn child_fact(&self, blob: BlobId, child: Digest) -> Option<Fact> {
        let place = self.revision(child);
        // Distribution 2.8 finds a manifest by its layer link, too.
        let is_there = self.repo.revisions.contains_key(&child)
            || self.linked.contains(&blob)
            || self.has_arrived(&place);
        (!is_there).then(|| Fact::missing(&place, Wrong::IncompleteIndex { child }))
    }

    fn content_fact(&self, digest: Digest) -> Option<Fact> {
        let is_wrong = self.search.read.wrong_content.contains(&digest);
        is_wrong.then(|| Fact::at(&Place::BlobData(digest), Wrong::WrongContent { digest }))
    }

    fn revision(&self, digest: Digest) -> Place {
        Place::RevisionLink { repo: self.name.clone(), digest }
    }

    fn has_arrived(&self, place: &Place) -> bool {
        !self.search.arrived.is_empty() && self.search.arrived.contains(&place.key())
    }
}
