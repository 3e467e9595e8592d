//! Whether an address and a storage are the same registry, as far as looking tells.
//!
//! What is said in both is compared both ways, for the repositories that were pushed to last: a copy of a registry falls behind
//! there first. Who is about to change anything asks for more: see [`crate::apply::prove_by_upload`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clean_registry_core::inventory::{Powers, Repo};
use clean_registry_core::manifest::{Content, Manifest};
use clean_registry_core::name::{Digest, RepoName, Tag};
use clean_registry_core::stored::{Stamp, Stored, StoredRepo};
use thiserror::Error;

use super::whole_repository;
use crate::registry::{Error, Reader, Reference};
use crate::storage::Storage;

/// So many repositories are compared.
const SAMPLE: usize = 3;
/// So many repositories are asked for tags where the storage holds none.
const MOST_EMPTIED: usize = 20;

/// Why what was read in a storage does not tell of a registry.
#[derive(Debug, Error)]
pub enum ProofError {
    /// They hold different things.
    #[error("{host} and {storage} are not the same registry: {what}")]
    Different {
        /// The registry that answers.
        host: String,
        /// The storage that was read.
        storage: String,
        /// What is different.
        what: String,
    },
    /// The registry.
    #[error(transparent)]
    Registry(#[from] Error),
}

impl ProofError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Different { .. } => Some(
                "the storage must be the rootdirectory of the registry at registry.url; nothing was changed"
                    .to_owned(),
            ),
            Self::Registry(error) => error.hint(),
        }
    }
}

/// Compares what the registry says with what its storage holds. Returns what the answers let guess of its powers; `None` where
/// they tell nothing.
///
/// # Errors
/// When the two are different, or the registry does not answer.
pub async fn prove_by_looking(
    api: &Reader,
    storage: &Arc<dyn Storage>,
    stored: &Stored,
) -> Result<Option<Powers>, ProofError> {
    let proof = Proof { api, stored: Reader::over_storage(Arc::clone(storage)) };
    if stored.repos.is_empty() {
        return proof.compare_catalogs().await.map(|()| None);
    }
    let mut powers = None;
    for (name, repo) in sample(stored) {
        match proof.compare(name, repo).await {
            Err(ProofError::Registry(error @ (Error::Forbidden { .. } | Error::Status { .. }))) => {
                tracing::debug!("{name} cannot be compared: {error}");
            }
            compared => powers = powers.or(compared?),
        }
    }
    Ok(powers)
}

/// Notes which repositories hold manifests that the registry has in its storage and does not serve: Distribution 3 those of
/// schema 1 (FACTS section 3, S7). What it does not serve it would not take back.
pub async fn note_unserved(api: &Reader, repos: &mut BTreeMap<RepoName, Repo>) {
    for (name, repo) in repos {
        let of_schema_1 =
            |(_, manifest): &(&Digest, &Arc<Manifest>)| matches!(manifest.content, Content::Schema1 { .. });
        let Some((digest, _)) = repo.manifests.iter().find(of_schema_1) else { continue };
        if let Err(error) = api.manifest(name, &Reference::Digest(*digest)).await {
            repo.gaps.push(whole_repository(format!("manifest {digest} is stored and not served: {error}")));
        }
    }
}

/// The repositories that were pushed to last.
fn sample(stored: &Stored) -> Vec<(&RepoName, &StoredRepo)> {
    let pushed = |repo: &StoredRepo| -> Option<Stamp> {
        repo.tags.values().map(|tag| tag.stamp).chain(repo.revisions.values().copied()).max()
    };
    let mut repos: Vec<_> =
        stored.repos.iter().filter_map(|(name, repo)| Some((pushed(repo)?, name, repo))).collect();
    repos.sort_by_key(|(stamp, name, _)| (std::cmp::Reverse(*stamp), *name));
    repos.into_iter().take(SAMPLE).map(|(_, name, repo)| (name, repo)).collect()
}

struct Proof<'a> {
    api: &'a Reader,
    stored: Reader,
}

impl Proof<'_> {
    /// The storage holds nothing. A repository of which nothing but folders is left is listed, and is nothing.
    async fn compare_catalogs(&self) -> Result<(), ProofError> {
        let listing = self.api.catalog().await;
        if let (true, Some(error)) = (listing.repositories.is_empty(), listing.broke_off) {
            return Err(error.into());
        }
        for name in listing.repositories.iter().take(MOST_EMPTIED) {
            let Some(tag) = self.api.tags(name).await?.names.into_iter().next() else { continue };
            // It may have come just now.
            if !self.stored.tags(name).await?.names.contains(&tag) {
                return Err(self.different(format!("{name}:{tag} is only in the first")));
            }
        }
        Ok(())
    }

    async fn compare(&self, name: &RepoName, repo: &StoredRepo) -> Result<Option<Powers>, ProofError> {
        let listed = self.api.tags(name).await?;
        let unseen: BTreeSet<&Tag> =
            listed.names.iter().filter(|tag| !repo.tags.contains_key(*tag)).collect();
        if !unseen.is_empty() {
            let now: BTreeSet<Tag> = self.stored.tags(name).await?.names.into_iter().collect();
            if let Some(tag) = unseen.into_iter().find(|tag| !now.contains(*tag)) {
                return Err(self.different(format!("{name}:{tag} is only in the first")));
            }
        }
        let tags = repo.tags.iter().filter(|(_, link)| leads(repo, link.target));
        let reference = match tags.max_by_key(|(_, link)| link.stamp) {
            Some((tag, _)) => Some(Reference::Tag(tag.clone())),
            None => newest_manifest(repo).map(Reference::Digest),
        };
        if let Some(reference) = reference {
            self.compare_heads(name, &reference).await?;
        }
        Ok(listed.powers_hint)
    }

    async fn compare_heads(&self, name: &RepoName, reference: &Reference) -> Result<(), ProofError> {
        // Before and after: it may be moving.
        let Ok(before) = self.stored.head(name, reference).await else { return Ok(()) };
        let served = self.api.head(name, reference).await?;
        let Ok(after) = self.stored.head(name, reference).await else { return Ok(()) };
        if served == before || served == after {
            return Ok(());
        }
        let show =
            |digest: Option<Digest>| digest.map_or_else(|| "absent".to_owned(), |digest| digest.short());
        let (served, held) = (show(served), show(after));
        Err(self.different(format!("{name}:{reference} is {served} in the first and {held} in the second")))
    }

    fn different(&self, what: String) -> ProofError {
        let (host, storage) = (self.api.host().to_owned(), self.stored.host().to_owned());
        ProofError::Different { host, storage, what }
    }
}

fn leads(repo: &StoredRepo, target: Option<Digest>) -> bool {
    target.is_some_and(|target| repo.revisions.contains_key(&target))
}

fn newest_manifest(repo: &StoredRepo) -> Option<Digest> {
    repo.revisions.iter().max_by_key(|(_, stamp)| **stamp).map(|(digest, _)| *digest)
}
