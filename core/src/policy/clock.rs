//! When an image was created, and when it was pushed, as far as that can be believed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decision::Undated;
use crate::inventory::Repo;
use crate::manifest::{Content, Created, Manifest, Role, Source};
use crate::name::{Digest, Tag};

/// 2013-01-01T00:00:00Z: nothing older can be a container image.
const FIRST_CONTAINERS: i64 = 1_356_998_400;

/// Indexes nested deeper than this have no date.
const MAX_DEPTH: usize = 64;

/// What an image's age is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// When it was created, as it says itself.
    Created,
    /// When its tag was last pushed, as the storage tells (FACTS section 5).
    Pushed,
}

impl Clock {
    /// What happened then.
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Pushed => "pushed",
        }
    }
}

/// A date that can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dated {
    /// When.
    pub at: Timestamp,
    /// Where that was found.
    pub source: Source,
    /// The manifest that says so: the image itself, or the newest child of an index.
    pub said_by: Digest,
}

/// The date of the image that `tag` points at, by `clocks`; the newest of several.
///
/// Where pushes are to count and are not known, no other date stands in: the push may have been the newest.
///
/// # Errors
/// Why there is no date to go by.
pub fn dated(
    repo: &Repo,
    (tag, digest): (&Tag, Digest),
    clocks: &BTreeSet<Clock>,
    now: Timestamp,
) -> Result<Dated, Undated> {
    let pushed = clocks.contains(&Clock::Pushed).then(|| pushed(repo, tag, digest)).transpose()?;
    let created = clocks.contains(&Clock::Created).then(|| created(repo, digest, now));
    match (created, pushed) {
        (Some(Ok(created)), pushed) => Ok(pushed.map_or(created, |pushed| pushed.max(created))),
        (_, Some(pushed)) => Ok(pushed),
        (created, None) => created.unwrap_or(Err(Undated::Absent)),
    }
}

/// When `tag` was last pushed. A date in the future is believed: it keeps.
///
/// # Errors
/// When that is not known, or from before 2013.
pub fn pushed(repo: &Repo, tag: &Tag, digest: Digest) -> Result<Dated, Undated> {
    let at = *repo.tags_pushed.get(tag).ok_or(Undated::PushUnknown)?;
    if at.as_second() < FIRST_CONTAINERS {
        return Err(Undated::Implausible { created: at });
    }
    Ok(Dated { at, source: Source::Push, said_by: digest })
}

/// When `digest` was created.
///
/// An index is as old as its newest image, at any depth; attestations do not count; one image without a date leaves it
/// undated. An index that lists no image goes by its own annotation.
///
/// # Errors
/// Why there is no date to go by: absent, unparsable, in the future of `now`, or from before 2013.
pub fn created(repo: &Repo, digest: Digest, now: Timestamp) -> Result<Dated, Undated> {
    Reader { repo, now, seen: BTreeMap::new() }.read(digest, 0)
}

/// Each manifest is read once, so that indexes that share children cost no more than what they list.
struct Reader<'a> {
    repo: &'a Repo,
    now: Timestamp,
    seen: BTreeMap<Digest, Result<Dated, Undated>>,
}

impl Reader<'_> {
    fn read(&mut self, digest: Digest, depth: usize) -> Result<Dated, Undated> {
        if let Some(known) = self.seen.get(&digest) {
            return known.clone();
        }
        let Some(manifest) = self.repo.manifests.get(&digest) else { return Err(Undated::Absent) };
        // What is met again inside itself, or lies deeper than anyone nests, has no date.
        self.seen.insert(digest, Err(Undated::NoImages));
        let dated = match manifest.content {
            Content::Index { .. } if depth < MAX_DEPTH => self.newest_child(manifest, digest, depth),
            Content::Index { .. } => Err(Undated::NoImages),
            _ => believe(manifest, digest, self.now),
        };
        self.seen.insert(digest, dated.clone());
        dated
    }

    fn newest_child(&mut self, index: &Manifest, digest: Digest, depth: usize) -> Result<Dated, Undated> {
        let mut newest: Option<Dated> = None;
        for child in index.children().iter().filter(|child| child.role == Role::Image) {
            let dated = self.read(child.digest, depth + 1);
            newest = newest.max(Some(dated.map_err(|_| Undated::Child { digest: child.digest })?));
        }
        match newest {
            Some(dated) => Ok(dated),
            None if index.created.is_some() => believe(index, digest, self.now),
            None => Err(Undated::NoImages),
        }
    }
}

fn believe(manifest: &Manifest, digest: Digest, now: Timestamp) -> Result<Dated, Undated> {
    let Some(Created { text, source }) = &manifest.created else { return Err(Undated::Absent) };
    let created: Timestamp = text.parse().map_err(|_| Undated::Unparsable { text: text.clone() })?;
    if created > now {
        Err(Undated::Future { created })
    } else if created.as_second() < FIRST_CONTAINERS {
        Err(Undated::Implausible { created })
    } else {
        Ok(Dated { at: created, source: *source, said_by: digest })
    }
}
