//! Sees what a registry holds, in its storage: one pass over the keys, one read of each manifest, and one of each configuration that
//! dates an image nobody has dated before.
//!
//! The whole storage is read whatever the scope: what a removal frees, and what an untagged manifest is needed for, may lie in any
//! repository.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use clean_registry_core::gc::{Known, References};
use clean_registry_core::inventory::{Concern, Gap, Holdings, Repo};
use clean_registry_core::layout::Place;
use clean_registry_core::manifest::{ImageConfig, Manifest};
use clean_registry_core::name::{Bytes, Digest, RepoName, Tag};
use clean_registry_core::stored::{Spares, StorageGap, Stored, StoredRepo, StoredTag};

use super::{CONFIG_LIMIT, Scope, Sought, attestations, whole_repository};
use crate::progress::Progress;
use crate::scan::{self, ScanError, Tags};
use crate::state::{Facts, ReferencesFile};
use crate::storage::{Depth, Storage, StorageError, absolute};

/// What to look at, and with what.
#[derive(Debug, Clone, Copy)]
pub struct StorageSurvey<'a> {
    /// The storage.
    pub storage: &'a dyn Storage,
    /// What is known of manifests by digest.
    pub facts: &'a Facts,
    /// What manifests list, as far as it was read before, where reading one costs a request.
    pub memory: Option<&'a ReferencesFile>,
    /// Which repositories.
    pub scope: &'a Scope,
    /// What earlier runs left undone.
    pub also: &'a BTreeMap<RepoName, Sought>,
    /// Told how far it is.
    pub progress: &'a Progress,
}

/// What was seen in a storage.
#[derive(Debug, Default)]
pub struct Seen {
    /// The repositories that were looked for, there or not.
    pub repos: BTreeMap<RepoName, Repo>,
    /// What is broken outside of every repository.
    pub gaps: Vec<String>,
    /// What indexes of other repositories list.
    pub listed_elsewhere: BTreeSet<Digest>,
    /// All of it.
    pub holdings: Holdings,
}

/// Every manifest that exists somewhere, or why it cannot be read. What is not stored is missing.
type Manifests = HashMap<Digest, Result<Arc<Manifest>, String>>;
/// What configurations say of their creation, or why they cannot be read.
type Configs = HashMap<Digest, Result<ImageConfig, String>>;

impl StorageSurvey<'_> {
    /// Looks through the storage.
    ///
    /// # Errors
    /// When it cannot be listed whole, or is no registry's. All else is a gap.
    pub async fn take(&self) -> Result<Seen, ScanError> {
        scan::refuse_strangers(self.storage).await?;
        self.progress.begin("survey", 0);
        let (blobs, _) = scan::blobs(self.storage, Depth::Layout).await?;
        let stored = scan::repositories(self.storage, blobs, Tags::Read, Depth::Layout).await?;
        let (known, manifests) = self.manifests(&stored).await;
        let mut repos: BTreeMap<RepoName, Repo> = BTreeMap::new();
        for (name, repo) in stored.repos.iter().filter(|(name, _)| self.scope.includes(name)) {
            repos.insert(name.clone(), self.repository(name, repo, &manifests));
        }
        for name in self.sought().filter(|name| self.scope.includes(name)) {
            repos.entry(name.clone()).or_default();
        }
        let gaps = note_gaps(&stored.gaps, &mut repos);
        self.date(&stored, &mut repos).await;
        self.progress.end();
        let listed_elsewhere = self.listed_elsewhere(&stored, &manifests);
        Ok(Seen { repos, gaps, listed_elsewhere, holdings: Holdings { stored, known } })
    }

    /// What is seen in a storage that holds nothing.
    #[must_use]
    pub fn nothing(&self) -> Seen {
        let names = self.sought().filter(|name| self.scope.includes(name));
        let repos = names.map(|name| (name.clone(), Repo::default())).collect();
        Seen { repos, ..Seen::default() }
    }

    /// What was asked for by name.
    fn sought(&self) -> impl Iterator<Item = &RepoName> {
        let named = if let Scope::These(names) = self.scope { Some(names) } else { None };
        named.into_iter().flatten().chain(self.also.keys())
    }

    /// Reads every manifest that can be reached, once.
    async fn manifests(&self, stored: &Stored) -> (Known, Manifests) {
        let (mut known, mut manifests) = (Known::default(), Manifests::new());
        known.visit_roots(stored);
        loop {
            let mut unread = known.unread();
            if unread.is_empty() {
                break;
            }
            self.recall(stored, (&mut known, &mut manifests), &mut unread);
            let understand =
                |digest: Digest, bytes: Vec<u8>| (References::read(&bytes), self.parse(digest, &bytes));
            for (digest, read) in self.read_each(unread, understand).await {
                match read {
                    Ok(Some((references, manifest))) => {
                        let references = references.map_err(|error| error.to_string());
                        let manifest = references.as_ref().map_err(Clone::clone).and(manifest);
                        if let Some(memory) = self.memory {
                            memory.note(digest, &references);
                        }
                        known.learn(&stored.blobs, digest, &references);
                        manifests.insert(digest, manifest);
                    }
                    Ok(None) => known.absent(digest),
                    Err(why) => {
                        known.learn(&stored.blobs, digest, &Err(why.clone()));
                        manifests.insert(digest, Err(why));
                    }
                }
            }
        }
        let saved = self.memory.map(|memory| memory.save(|digest| stored.blobs.find(digest).is_some()));
        if let Some(Err(error)) = saved {
            tracing::warn!("what was learned is not kept for the next time: {error}");
        }
        (known, manifests)
    }

    /// Takes out of `unread` what was read before: what it lists and what it says are both known.
    fn recall(
        &self,
        stored: &Stored,
        (known, manifests): (&mut Known, &mut Manifests),
        unread: &mut Vec<Digest>,
    ) {
        let Some(memory) = self.memory else { return };
        let mut wanted: BTreeSet<Digest> = unread.iter().copied().collect();
        let read = memory.read(|digest, fact| {
            let is_stored = stored.blobs.find(digest).is_some() && fact.is_ok();
            if let Some(manifest) =
                self.facts.manifest(digest).filter(|_| is_stored && wanted.remove(&digest))
            {
                known.learn(&stored.blobs, digest, &fact);
                manifests.insert(digest, Ok(manifest));
            }
        });
        if let Err(error) = read {
            tracing::warn!("what was learned before cannot be used: {error}");
        }
        unread.retain(|digest| wanted.contains(digest));
    }

    fn parse(&self, digest: Digest, bytes: &[u8]) -> Result<Arc<Manifest>, String> {
        match self.facts.manifest(digest) {
            Some(known) => Ok(known),
            None => self.facts.parse(bytes, None).map_err(|error| error.to_string()),
        }
    }

    /// Reads blobs side by side; `None` is one that is not there, an error one that cannot be read or is not what its digest says.
    async fn read_each<T: Send>(
        &self,
        digests: Vec<Digest>,
        understand: impl Fn(Digest, Vec<u8>) -> T + Sync,
    ) -> Vec<(Digest, Result<Option<T>, String>)> {
        self.progress.grow(digests.len());
        let keys: HashMap<String, Digest> =
            digests.into_iter().map(|digest| (absolute(&Place::BlobData(digest).key()), digest)).collect();
        let read = Mutex::new(Vec::with_capacity(keys.len()));
        let on_read = |key: String, bytes: Result<Option<Vec<u8>>, StorageError>| {
            let Some(digest) = keys.get(&key) else { return };
            let understood = match bytes {
                Ok(Some(bytes)) if Digest::of(&bytes) == *digest => Ok(Some(understand(*digest, bytes))),
                Ok(Some(bytes)) => Err(format!("its {} bytes are not what its digest says", bytes.len())),
                Ok(None) => Ok(None),
                Err(error) => Err(error.to_string()),
            };
            read.lock().unwrap_or_else(PoisonError::into_inner).push((*digest, understood));
            self.progress.step();
        };
        self.storage.read_all(keys.keys().cloned().collect(), &on_read).await;
        read.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn repository(&self, name: &RepoName, stored: &StoredRepo, manifests: &Manifests) -> Repo {
        let mut repo = Repo::default();
        for (digest, stamp) in &stored.revisions {
            repo.pushed.extend(stamp.at().map(|at| (*digest, at)));
            match manifests.get(digest) {
                Some(Ok(manifest)) => drop(repo.manifests.insert(*digest, Arc::clone(manifest))),
                Some(Err(why)) => {
                    let path = Place::BlobData(*digest).key();
                    repo.gaps
                        .push(whole_repository(format!("{path}: manifest {digest} cannot be read: {why}")));
                }
                None => {
                    let path = Place::RevisionLink { repo: name.clone(), digest: *digest }.key();
                    let why = format!("{path}: the manifest it makes exist is not stored");
                    repo.gaps.push(Gap { concerns: Concern::Manifest(*digest), why });
                }
            }
        }
        for (tag, link) in &stored.tags {
            note_tag(name, tag, link, &mut repo);
        }
        note_missing_children(&mut repo);
        let unfinished = self.also.get(name).into_iter().flat_map(|sought| &sought.unfinished);
        repo.unfinished = unfinished.filter(|digest| repo.manifests.contains_key(digest)).copied().collect();
        repo
    }

    fn listed_elsewhere(&self, stored: &Stored, manifests: &Manifests) -> BTreeSet<Digest> {
        let outside = stored.repos.iter().filter(|(name, _)| !self.scope.includes(name));
        let revisions = outside.flat_map(|(_, repo)| repo.revisions.keys());
        let read = revisions.filter_map(|digest| manifests.get(digest)?.as_ref().ok());
        read.flat_map(|manifest| manifest.children().iter().map(|child| child.digest)).collect()
    }

    /// Reads the configurations that tell when images were created, each once, and dates the images.
    async fn date(&self, stored: &Stored, repos: &mut BTreeMap<RepoName, Repo>) {
        let mut undated: Vec<(RepoName, Digest, Digest)> = Vec::new();
        for (name, repo) in &*repos {
            let attestations = attestations(repo);
            for (digest, manifest) in &repo.manifests {
                match manifest.dating_config().filter(|_| !attestations.contains(digest)) {
                    _ if self.facts.manifest(*digest).is_some() => {}
                    Some(config) => undated.push((name.clone(), *digest, config.digest)),
                    None => self.facts.learn(*digest, Arc::clone(manifest)),
                }
            }
        }
        let configs = self.configs(stored, undated.iter().map(|(.., config)| *config).collect()).await;
        for (name, image, config) in undated {
            if let Some(repo) = repos.get_mut(&name) {
                self.date_image(repo, image, config, &configs);
            }
        }
    }

    fn date_image(&self, repo: &mut Repo, image: Digest, config: Digest, configs: &Configs) {
        let Some(manifest) = repo.manifests.get_mut(&image) else { return };
        match configs.get(&config) {
            Some(Ok(config)) => {
                Arc::make_mut(manifest).take_config(config);
                self.facts.learn(image, Arc::clone(manifest));
            }
            failed => {
                // No annotation stands in for a configuration that is there and cannot be read.
                *manifest = Arc::new(Manifest { created: None, ..Manifest::clone(manifest) });
                let why = failed.and_then(|failed| failed.as_ref().err().cloned());
                let why = why.unwrap_or_else(|| "it is not stored".to_owned());
                let why = format!("{}: its configuration {config}: {why}", Place::BlobData(config).key());
                repo.gaps.push(Gap { concerns: Concern::Manifest(image), why });
            }
        }
    }

    /// What the configurations tell; one that is not stored is missing.
    async fn configs(&self, stored: &Stored, digests: BTreeSet<Digest>) -> Configs {
        let mut configs = Configs::new();
        let mut wanted = Vec::new();
        for config in digests {
            let size = stored.blobs.find(config).map(|blob| stored.blobs.get(blob).size);
            if size.is_some_and(|size| size > Bytes(CONFIG_LIMIT)) {
                configs.insert(config, Err(format!("it has more than {CONFIG_LIMIT} bytes")));
            } else {
                wanted.push(config);
            }
        }
        let parse = |_, bytes: Vec<u8>| self.facts.parse_config(&bytes).map_err(|error| error.to_string());
        for (config, read) in self.read_each(wanted, parse).await {
            match read {
                Ok(Some(parsed)) => drop(configs.insert(config, parsed)),
                Ok(None) => {}
                Err(why) => drop(configs.insert(config, Err(why))),
            }
        }
        configs
    }
}

/// A tag leads where its link says, if that manifest exists here.
fn note_tag(name: &RepoName, tag: &Tag, link: &StoredTag, repo: &mut Repo) {
    repo.tags_pushed.extend(link.stamp.at().map(|at| (tag.clone(), at)));
    let is_torn =
        |digest: &Digest| !repo.manifests.contains_key(digest) && repo.blind_spots().next().is_none();
    let target = link.target.filter(|digest| !is_torn(digest));
    if let (Some(digest), None) = (link.target, target) {
        let path = Place::TagCurrent { repo: name.clone(), tag: tag.clone() }.key();
        let why = format!("{path}: it points at {digest}, which does not exist here");
        repo.gaps.push(Gap { concerns: Concern::Tag(tag.clone()), why });
    }
    repo.tags.insert(tag.clone(), target);
}

fn note_missing_children(repo: &mut Repo) {
    let mut missing = Vec::new();
    for (parent, manifest) in &repo.manifests {
        let children = manifest.children().iter().map(|child| child.digest);
        for child in children.filter(|child| !repo.manifests.contains_key(child)) {
            let why = format!("its child {child} is not there");
            missing.push(Gap { concerns: Concern::Manifest(*parent), why });
        }
    }
    repo.gaps.extend(missing);
}

/// Adds what the scan found broken to the repositories it is in, and returns what is in none of them.
fn note_gaps(found: &[StorageGap], repos: &mut BTreeMap<RepoName, Repo>) -> Vec<String> {
    let mut wide = Vec::new();
    for gap in found {
        let concerns = match gap.spares {
            Spares::Nothing => Concern::Nothing,
            Spares::Manifests | Spares::Everything => Concern::Repository,
        };
        match &gap.repository {
            Some(name) => {
                if let Some(repo) = repos.get_mut(name) {
                    repo.gaps.push(Gap { concerns, why: gap.to_string() });
                }
            }
            None if gap.spares == Spares::Nothing => tracing::warn!("{gap}"),
            None => wide.push(gap.to_string()),
        }
    }
    wide
}
