//! Sees what a registry holds: the first of the deeds. Over its API, or in its storage, which shows more.
//!
//! Whatever cannot be learned becomes a gap, and the survey goes on.

use std::collections::BTreeSet;

use clean_registry_core::inventory::{Concern, Gap, Repo};
use clean_registry_core::manifest::Role;
use clean_registry_core::name::{Digest, RepoName};
use globset::GlobMatcher;
use jiff::{SignedDuration, Timestamp};

mod api;
mod proof;
mod storage;

pub use api::Survey;
pub use proof::{ProofError, note_unserved, prove_by_looking};
pub use storage::{Seen, StorageSurvey};

/// Clocks further apart than this are worth a word.
const CLOCKS_AGREE: SignedDuration = SignedDuration::from_mins(10);
/// No image configuration is larger, in bytes.
const CONFIG_LIMIT: u64 = 8 << 20;

/// Which repositories to look at.
#[derive(Debug, Clone)]
pub enum Scope {
    /// All of them.
    All,
    /// Those whose name matches.
    Matching(GlobMatcher),
    /// Exactly these.
    These(BTreeSet<RepoName>),
}

impl Scope {
    /// Whether `name` is to be looked at.
    #[must_use]
    pub fn includes(&self, name: &RepoName) -> bool {
        match self {
            Self::All => true,
            Self::Matching(glob) => glob.is_match(name.as_str()),
            Self::These(names) => names.contains(name),
        }
    }
}

/// Manifests of one repository to look for although no tag may lead to them.
#[derive(Debug, Clone, Default)]
pub struct Sought {
    /// An earlier run meant to delete these, and did not come to it.
    pub unfinished: BTreeSet<Digest>,
    /// An earlier run left these alone: they stay, and so does what they need.
    pub left_alone: BTreeSet<Digest>,
}

impl Sought {
    /// Adds a manifest that may go if nothing needs it; false if it was one already.
    pub fn insert(&mut self, digest: Digest) -> bool {
        self.unfinished.insert(digest)
    }
}

/// The untagged manifests that indexes list as attestations only: they carry no date, so none is asked for.
fn attestations(repo: &Repo) -> BTreeSet<Digest> {
    let children = || repo.manifests.values().flat_map(|manifest| manifest.children());
    let listed_as = |role| children().filter(move |child| child.role == role).map(|child| child.digest);
    let images: BTreeSet<Digest> =
        listed_as(Role::Image).chain(repo.tags.values().copied().flatten()).collect();
    listed_as(Role::Attestation).filter(|digest| !images.contains(digest)).collect()
}

const fn whole_repository(why: String) -> Gap {
    Gap { concerns: Concern::Repository, why }
}

/// The earlier of the time here and the registry's own, if it tells: a clock that runs ahead must not make images old.
#[must_use]
pub fn earlier(here: Timestamp, there: Option<Timestamp>) -> Timestamp {
    let Some(there) = there else { return here };
    if here.duration_since(there).abs() > CLOCKS_AGREE {
        tracing::warn!("the clocks disagree: {here} here, {there} at the registry; the earlier one counts");
    }
    here.min(there)
}
