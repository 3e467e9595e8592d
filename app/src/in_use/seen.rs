//! Looks for manifests that are in use and that no tag leads to: over the API nothing else shows them, and what they need must be known.

use std::collections::BTreeSet;
use std::sync::Arc;

use clean_registry_core::in_use::InUse;
use clean_registry_core::inventory::{Concern, Gap, Inventory, Repo};
use clean_registry_core::manifest::Manifest;
use clean_registry_core::name::{Digest, RepoName};
use futures_util::{StreamExt as _, stream};

use crate::registry::{Reader, Reference};

/// Repositories looked at side by side.
const REPOSITORIES: usize = 16;

/// Notes in `inventory` what is in use, and adds the manifests that are used by digest and were not seen, with all that they list at
/// any depth. One that cannot be read may need anything: its repository stays whole. One that is not there is used by nobody here.
pub async fn note(reader: &Reader, inventory: &mut Inventory, in_use: InUse) {
    inventory.in_use = in_use;
    // A storage shows every manifest.
    if inventory.storage.is_some() {
        return;
    }
    let in_use = &inventory.in_use;
    let repos = inventory.repos.iter_mut();
    let looks = repos.map(|(name, repo)| look(reader, name, repo, in_use.digests(name).collect()));
    stream::iter(looks).buffer_unordered(REPOSITORIES).for_each(std::future::ready).await;
}

async fn look(reader: &Reader, name: &RepoName, repo: &mut Repo, mut queue: Vec<Digest>) {
    let mut asked = BTreeSet::new();
    while let Some(digest) = queue.pop() {
        if repo.manifests.contains_key(&digest) || !asked.insert(digest) {
            continue;
        }
        match read(reader, name, digest).await {
            Ok(Some(manifest)) => {
                queue.extend(manifest.children().iter().map(|child| child.digest).chain(manifest.subject));
                repo.manifests.insert(digest, Arc::new(manifest));
            }
            Ok(None) => {}
            Err(why) => {
                let why = format!("{digest}, which is in use or part of what is: {why}");
                repo.gaps.push(Gap { concerns: Concern::Repository, why });
            }
        }
    }
}

async fn read(reader: &Reader, name: &RepoName, digest: Digest) -> Result<Option<Manifest>, String> {
    let raw = reader.manifest(name, &Reference::Digest(digest)).await.map_err(|error| error.to_string())?;
    let parse =
        |raw: crate::registry::RawManifest| Manifest::parse(&raw.bytes, Some(raw.media_type.as_str()));
    raw.map(parse).transpose().map_err(|error| error.to_string())
}
