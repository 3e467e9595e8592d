//! When an image was created, as far as that can be believed.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::decision::Undated;
use crate::inventory::Repo;
use crate::manifest::{Content, Created, Manifest, Role, Source};
use crate::name::Digest;

/// 2013-01-01T00:00:00Z: nothing older can be a container image.
const FIRST_CONTAINERS: i64 = 1_356_998_400;

/// Indexes nested deeper than this have no date.
const MAX_DEPTH: usize = 64;

/// A date of creation that can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dated {
    /// When.
    pub at: Timestamp,
    /// Where that was found.
    pub source: Source,
    /// The manifest that says so: the image itself, or the newest child of an index.
    pub said_by: Digest,
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
