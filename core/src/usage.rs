//! What takes the room in a storage: by repository and by tag, and what would be free without something.
//!
//! A line *holds* the blobs that its images need. What only one line holds is *unique* to it: that is what would be freed if it went.
//! Every blob is held once or more, or by nothing, so that the totals add up to the storage's bytes exactly. The work grows with the
//! number of blobs that manifests list, not with its square.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::gc::{Known, Removed, Settings, decide, needed};
use crate::name::{Bytes, Digest, RepoName, Tag};
use crate::stored::{BlobId, BlobSet, Stored, StoredRepo};

mod holders;

use holders::Holders;

/// What takes the room in a storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// A line for each repository.
    pub repositories: Vec<RepositoryUsage>,
    /// A line for each tag, and in each repository one for all that has none.
    pub tags: Vec<TagUsage>,
    /// All together.
    pub total: Total,
}

/// What a repository takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepositoryUsage {
    /// The repository.
    pub repository: RepoName,
    /// How many tags it has.
    pub tags: usize,
    /// How many manifests.
    pub manifests: usize,
    /// What it takes.
    #[serde(flatten)]
    pub held: Held,
    /// What only its manifests hold that no tag of it leads to, out of all that it alone holds.
    pub untagged: Bytes,
    /// What its unfinished uploads take; not counted otherwise.
    pub uploads: Bytes,
}

/// What a tag takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TagUsage {
    /// The repository.
    pub repository: RepoName,
    /// The tag; absent: all manifests of the repository that no tag leads to.
    pub tag: Option<Tag>,
    /// What it points at.
    pub digest: Option<Digest>,
    /// What it takes.
    #[serde(flatten)]
    pub held: Held,
}

/// What a line takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// All that its images need, each blob once.
    pub total: Bytes,
    /// What no other line needs.
    pub unique: Bytes,
    /// What other lines need as well.
    pub shared: Bytes,
}

/// What takes the room altogether. The first six add up to `blobs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Total {
    /// What exactly one repository holds.
    pub unique: Bytes,
    /// What several repositories hold, once.
    pub shared: Bytes,
    /// What is needed, and held by no repository that could be understood: it may have come while we looked.
    pub other: Bytes,
    /// What nothing needs and a collection would free.
    pub garbage: Bytes,
    /// What nothing needs and a collection would leave: it is too young, or something broken might need it.
    pub spared: Bytes,
    /// All blobs.
    pub blobs: Bytes,
    /// Of what is held, that which no tag leads to.
    pub untagged: Bytes,
    /// Unfinished uploads: no blobs.
    pub uploads: Bytes,
    /// Files that a crash of the registry left: no blobs.
    pub temporary_files: Bytes,
}

/// What a rule of the policy would free by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleUsage {
    /// The rule.
    pub rule: String,
    /// How many manifests it removes.
    pub manifests: usize,
    /// The blobs that nothing needs any more once they are gone. What is garbage already is not among them.
    pub bytes: Bytes,
}

/// Counts what takes the room. What a collection would free is asked of it with `settings`.
#[must_use]
pub fn usage(stored: &Stored, known: &Known, settings: &Settings) -> Usage {
    let (mut by_repository, mut by_tag) = (Holders::new(stored), Holders::new(stored));
    let mut tagged = stored.blobs.set();
    for repo in stored.repos.values() {
        by_repository.add(1, &everything(stored, known, repo));
        for group in groups(stored, known, repo) {
            by_tag.add(group.tags.len().max(1), &group.blobs);
            if !group.tags.is_empty() {
                for blob in &group.blobs {
                    tagged.insert(*blob);
                }
            }
        }
    }
    let (mut repositories, mut tags) = (Vec::new(), Vec::new());
    for (name, repo) in &stored.repos {
        let held = by_repository.held(stored, &everything(stored, known, repo));
        let lines = tag_lines(stored, known, (name, repo), &by_tag);
        repositories.push(repository_line((name, repo), held, &lines));
        tags.extend(lines);
    }
    Usage { repositories, tags, total: total(stored, known, settings, &by_repository, &tagged) }
}

/// What each of these rules would free, if its manifests went and no others. `rules` are named, each with what it removes.
#[must_use]
pub fn rules(stored: &Stored, known: &Known, rules: &[(String, Removed)]) -> Vec<RuleUsage> {
    let before = needed(stored, known, &Removed::new());
    let rule = |(rule, removed): &(String, Removed)| {
        let after = needed(stored, known, removed);
        let freed = stored.blobs.iter().filter(|(id, _)| before.contains(*id) && !after.contains(*id));
        RuleUsage {
            rule: rule.clone(),
            manifests: removed.values().map(std::collections::BTreeSet::len).sum(),
            bytes: freed.map(|(_, blob)| blob.size).sum(),
        }
    };
    rules.iter().map(rule).collect()
}

fn repository_line(
    (name, repo): (&RepoName, &StoredRepo),
    held: Held,
    lines: &[TagUsage],
) -> RepositoryUsage {
    RepositoryUsage {
        repository: name.clone(),
        tags: repo.tags.len(),
        manifests: repo.revisions.len(),
        held,
        untagged: lines.iter().filter(|line| line.tag.is_none()).map(|line| line.held.unique).sum(),
        uploads: repo.uploads.values().map(|upload| upload.size).sum(),
    }
}

fn tag_lines(
    stored: &Stored,
    known: &Known,
    (name, repo): (&RepoName, &StoredRepo),
    holders: &Holders,
) -> Vec<TagUsage> {
    let mut lines = Vec::new();
    for group in groups(stored, known, repo) {
        let held = holders.held(stored, &group.blobs);
        let line = |tag: Option<&Tag>| TagUsage {
            repository: name.clone(),
            tag: tag.cloned(),
            digest: group.digest,
            held,
        };
        if group.tags.is_empty() {
            lines.push(line(None));
        }
        lines.extend(group.tags.iter().map(|tag| line(Some(tag))));
    }
    // What leads nowhere takes nothing, and is told all the same.
    let told: std::collections::BTreeSet<Tag> = lines.iter().filter_map(|line| line.tag.clone()).collect();
    lines.extend(repo.tags.iter().filter(|(tag, _)| !told.contains(*tag)).map(|(tag, at)| TagUsage {
        repository: name.clone(),
        tag: Some(tag.clone()),
        digest: at.target,
        held: Held::default(),
    }));
    // Tags by name, what has none last.
    lines.sort_by(|one, other| (one.tag.is_none(), &one.tag).cmp(&(other.tag.is_none(), &other.tag)));
    lines
}

fn total(
    stored: &Stored,
    known: &Known,
    settings: &Settings,
    by_repository: &Holders,
    tagged: &BlobSet,
) -> Total {
    let mut total = Total::default();
    let needed = needed(stored, known, &Removed::new());
    let garbage = garbage(stored, known, settings);
    for (id, blob) in stored.blobs.iter() {
        let holders = by_repository.of(id);
        let kind = match holders {
            1 => &mut total.unique,
            2.. => &mut total.shared,
            0 if needed.contains(id) => &mut total.other,
            0 if garbage.contains(id) => &mut total.garbage,
            0 => &mut total.spared,
        };
        *kind = *kind + blob.size;
        total.blobs = total.blobs + blob.size;
        if holders > 0 && !tagged.contains(id) {
            total.untagged = total.untagged + blob.size;
        }
    }
    let uploads = stored.repos.values().flat_map(|repo| repo.uploads.values());
    total.uploads = uploads.map(|upload| upload.size).sum();
    total.temporary_files = stored.temporary.iter().map(|file| file.size).sum();
    total
}

/// The blobs that a collection would free. Manifests without tags are needed here: they are counted as such.
fn garbage(stored: &Stored, known: &Known, settings: &Settings) -> BlobSet {
    let settings = Settings::blobs_only(settings.now, settings.grace);
    let mut garbage = stored.blobs.set();
    let found = decide(stored, known, &Removed::new(), &settings).garbage.blobs;
    for blob in found.iter().filter_map(|blob| stored.blobs.find(blob.digest)) {
        garbage.insert(blob);
    }
    garbage
}

/// All that the manifests of a repository need, each blob once.
fn everything(stored: &Stored, known: &Known, repo: &StoredRepo) -> Vec<BlobId> {
    closure(stored, known, repo.revisions.keys().chain(&repo.signatures).copied())
}

/// What some tags of a repository on one manifest hold, or what no tag leads to.
struct Group {
    /// The tags; none for what none leads to.
    tags: Vec<Tag>,
    digest: Option<Digest>,
    blobs: Vec<BlobId>,
}

/// What each tag of a repository holds, and at the end what no tag leads to, if there is anything.
fn groups(stored: &Stored, known: &Known, repo: &StoredRepo) -> Vec<Group> {
    let mut tags: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
    for (tag, at) in &repo.tags {
        // A tag on what its repository does not have holds nothing: a collection takes no notice of it.
        if let Some(digest) = at.target.filter(|digest| repo.revisions.contains_key(digest)) {
            tags.entry(digest).or_default().push(tag.clone());
        }
    }
    let mut led_to: HashSet<BlobId> = HashSet::new();
    let mut groups = Vec::with_capacity(tags.len() + 1);
    for (digest, tags) in tags {
        let blobs = closure(stored, known, [digest]);
        led_to.extend(blobs.iter().filter(|blob| known.is_manifest(**blob)));
        groups.push(Group { tags, digest: Some(digest), blobs });
    }
    let is_led_to = |digest: Digest| stored.blobs.find(digest).is_some_and(|blob| led_to.contains(&blob));
    let untagged = repo.revisions.keys().copied().filter(|digest| !is_led_to(*digest));
    let blobs = closure(stored, known, untagged.chain(repo.signatures.iter().copied()));
    if !blobs.is_empty() {
        groups.push(Group { tags: Vec::new(), digest: None, blobs });
    }
    groups
}

/// All blobs that these need, themselves included, each once.
fn closure(stored: &Stored, known: &Known, roots: impl IntoIterator<Item = Digest>) -> Vec<BlobId> {
    let mut queue: Vec<BlobId> = roots.into_iter().filter_map(|digest| stored.blobs.find(digest)).collect();
    let mut seen: HashSet<BlobId> = HashSet::new();
    while let Some(blob) = queue.pop() {
        if seen.insert(blob) {
            queue.extend_from_slice(known.lists(blob));
        }
    }
    seen.into_iter().collect()
}
