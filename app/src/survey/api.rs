//! Sees what a registry holds, over its API.
//!
//! Requests are the cost. Cold: one a tag, one a distinct image for its configuration, one a child of an index. Warm: one HEAD a
//! tag. Where there is a referrers API, one more a manifest, for who refers to it changes; where there is none, one to learn that.
//! Whatever cannot be learned becomes a gap, and the survey goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clean_registry_core::inventory::{Concern, Gap, Inventory, Powers, Repo};
use clean_registry_core::manifest::{ImageConfig, Manifest};
use clean_registry_core::name::{Digest, RepoName, Tag};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use super::{CONFIG_LIMIT, Scope, Sought, attestations, earlier, whole_repository};
use crate::progress::Progress;
use crate::registry::{Error, RawManifest, Reader, Reference, Untags};
use crate::state::Facts;

/// Repositories under way at once. Requests have a limit of their own; this one bounds memory.
const REPOSITORIES: usize = 32;
/// Tags of one repository under way at once.
const TAGS: usize = 64;

/// What to look at, and with what.
#[derive(Debug)]
pub struct Survey<'a> {
    /// The registry.
    pub reader: &'a Reader,
    /// What is known of manifests by digest.
    pub facts: &'a Facts,
    /// Which repositories.
    pub scope: &'a Scope,
    /// Manifests to look for although no tag may lead to them.
    pub also: &'a BTreeMap<RepoName, Sought>,
    /// Told how far it is.
    pub progress: &'a Progress,
}

impl Survey<'_> {
    /// Takes the inventory, as of `now` or of the registry's own time, whichever is earlier: a clock that runs ahead must not
    /// make images old.
    ///
    /// # Errors
    /// When the registry cannot be reached or does not let itself be listed at all. All else is a gap.
    pub async fn take(&self, now: Timestamp) -> Result<Inventory, Error> {
        let taken_at = earlier(now, self.reader.ping().await?);
        let (names, gaps) = self.names().await?;
        self.progress.begin("survey", 0);
        let surveyed: Vec<(RepoName, Repo, Option<Powers>)> = stream::iter(names)
            .map(|name| self.repository(name))
            .buffer_unordered(REPOSITORIES)
            .collect()
            .await;
        self.progress.end();
        let powers = match self.reader.habits().untags {
            Untags::ByName | Untags::ByVendor => Powers::DeleteAndUntag,
            Untags::Not => Powers::DeleteOnly,
            Untags::Asked => weakest(surveyed.iter().filter_map(|(.., powers)| *powers)),
        };
        let repos = surveyed.into_iter().map(|(name, repo, _)| (name, repo)).collect();
        let seen = Inventory::of(self.reader.host().to_owned(), taken_at, powers, repos);
        Ok(Inventory { gaps, ..seen })
    }

    /// The repositories to look at, and what the catalog could not tell.
    async fn names(&self) -> Result<(BTreeSet<RepoName>, Vec<String>), Error> {
        if let Scope::These(names) = self.scope {
            return Ok((names.clone(), Vec::new()));
        }
        let listing = self.reader.catalog().await;
        let mut gaps: Vec<String> = Vec::new();
        match listing.broke_off {
            Some(error) if listing.repositories.is_empty() => return Err(error),
            Some(error) => gaps.push(format!("the catalog broke off, repositories may be missing: {error}")),
            None => {}
        }
        gaps.extend(listing.odd.iter().map(|name| format!("{name:?} is not a repository name; left alone")));
        let names = listing.repositories.into_iter().chain(self.also.keys().cloned());
        Ok((names.filter(|name| self.scope.includes(name)).collect(), gaps))
    }

    async fn repository(&self, name: RepoName) -> (RepoName, Repo, Option<Powers>) {
        let mut repo = Repo::default();
        let powers = match self.reader.tags(&name).await {
            Ok(listed) => {
                repo.gaps
                    .extend(listed.odd.iter().map(|tag| whole_repository(format!("{tag:?} is not a tag"))));
                self.tags(&name, listed.names, &mut repo).await;
                listed.powers_hint
            }
            Err(error) => {
                repo.gaps.push(whole_repository(format!("its tags cannot be listed: {error}")));
                None
            }
        };
        self.also(&name, &mut repo).await;
        self.children(&name, &mut repo).await;
        let mut asked = BTreeSet::new();
        while self.referrers(&name, &mut repo, &mut asked).await {
            self.children(&name, &mut repo).await;
        }
        self.dates(&name, &mut repo).await;
        (name, repo, powers)
    }

    async fn tags(&self, name: &RepoName, tags: Vec<Tag>, repo: &mut Repo) {
        self.progress.grow(tags.len());
        let resolve = |tag: Tag| async move {
            let seen = self.tag(name, &tag).await;
            (tag, seen)
        };
        let mut resolved = stream::iter(tags).map(resolve).buffer_unordered(TAGS);
        while let Some((tag, seen)) = resolved.next().await {
            let target = match seen {
                Seen::Manifest(digest, manifest) => {
                    repo.manifests.insert(digest, manifest);
                    Some(digest)
                }
                Seen::Absent => {
                    let why = "it is listed, but there is no such manifest".to_owned();
                    repo.gaps.push(Gap { concerns: Concern::Tag(tag.clone()), why });
                    None
                }
                Seen::Unreadable(why) => {
                    repo.gaps.push(whole_repository(format!("tag {tag}: {why}")));
                    None
                }
            };
            repo.tags.insert(tag, target);
            self.progress.step();
        }
    }

    /// A tag of the last survey probably points at what is known: a HEAD tells. Any other is read at once.
    async fn tag(&self, name: &RepoName, tag: &Tag) -> Seen {
        let mut reference = Reference::Tag(tag.clone());
        if self.facts.knows_tag(name, tag) {
            match self.reader.head(name, &reference).await {
                Ok(Some(digest)) => match self.facts.manifest(digest) {
                    Some(manifest) => return Seen::Manifest(digest, manifest),
                    None => reference = Reference::Digest(digest),
                },
                Ok(None) => return Seen::Absent,
                Err(error) => return Seen::Unreadable(error.to_string()),
            }
        }
        self.read(name, &reference).await
    }

    async fn read(&self, name: &RepoName, reference: &Reference) -> Seen {
        let raw: RawManifest = match self.reader.manifest(name, reference).await {
            Ok(Some(raw)) => raw,
            Ok(None) => return Seen::Absent,
            Err(error) => return Seen::Unreadable(error.to_string()),
        };
        if let Some(known) = self.facts.manifest(raw.digest) {
            return Seen::Manifest(raw.digest, known);
        }
        match self.facts.parse(&raw.bytes, Some(raw.media_type.as_str())) {
            Ok(manifest) => {
                self.facts.note_undated(raw.digest, Arc::clone(&manifest));
                Seen::Manifest(raw.digest, manifest)
            }
            Err(error) => Seen::Unreadable(format!("{}: {error}", raw.digest)),
        }
    }

    async fn also(&self, name: &RepoName, repo: &mut Repo) {
        let Some(sought) = self.also.get(name) else { return };
        for digest in sought.unfinished.union(&sought.left_alone) {
            match self.read(name, &Reference::Digest(*digest)).await {
                Seen::Manifest(digest, manifest) => drop(repo.manifests.insert(digest, manifest)),
                Seen::Absent => continue,
                Seen::Unreadable(why) => {
                    // What one that stays needs is not known; one that may go is left for the next time.
                    let stays = sought.left_alone.contains(digest);
                    let concerns = if stays { Concern::Repository } else { Concern::Manifest(*digest) };
                    repo.gaps.push(Gap { concerns, why: format!("{digest}: {why}") });
                    continue;
                }
            }
            if sought.unfinished.contains(digest) {
                repo.unfinished.insert(*digest);
            }
        }
    }

    /// Reads what indexes list, level by level.
    async fn children(&self, name: &RepoName, repo: &mut Repo) {
        let mut asked = BTreeSet::new();
        loop {
            let mut listed: BTreeMap<Digest, Digest> = BTreeMap::new();
            for (parent, manifest) in &repo.manifests {
                let children = manifest.children().iter().map(|child| child.digest);
                let unread =
                    children.filter(|child| !repo.manifests.contains_key(child) && !asked.contains(child));
                listed.extend(unread.map(|child| (child, *parent)));
            }
            if listed.is_empty() {
                return;
            }
            asked.extend(listed.keys().copied());
            let read = |(child, parent): (Digest, Digest)| async move {
                let _claim = self.facts.claim(child).await;
                let seen = match self.facts.manifest(child).or_else(|| self.facts.undated(child)) {
                    Some(manifest) => Seen::Manifest(child, manifest),
                    None => self.read(name, &Reference::Digest(child)).await,
                };
                (child, parent, seen)
            };
            let mut children = stream::iter(listed).map(read).buffer_unordered(TAGS);
            while let Some((child, parent, seen)) = children.next().await {
                match seen {
                    Seen::Manifest(digest, manifest) => drop(repo.manifests.insert(digest, manifest)),
                    Seen::Absent => {
                        let why = format!("its child {child} is not there");
                        repo.gaps.push(Gap { concerns: Concern::Manifest(parent), why });
                    }
                    Seen::Unreadable(why) => repo.gaps.push(whole_repository(format!("{child}: {why}"))),
                }
            }
        }
    }

    /// Reads what is about the manifests, where the registry lists that; whether there was any that was not known. The
    /// fallback tags of registries, and of clients, that list nothing are tags like any other: both are looked at.
    ///
    /// What is about a manifest goes with it or stays with it; what cannot be listed could be left behind, so the manifest stays.
    async fn referrers(&self, name: &RepoName, repo: &mut Repo, asked: &mut BTreeSet<Digest>) -> bool {
        let unasked: Vec<Digest> =
            repo.manifests.keys().filter(|digest| asked.insert(**digest)).copied().collect();
        let list = |subject: Digest| async move { (subject, self.reader.referrers(name, subject).await) };
        let listed: Vec<_> = stream::iter(unasked).map(list).buffer_unordered(TAGS).collect().await;
        let mut found: BTreeMap<Digest, Digest> = BTreeMap::new();
        for (subject, listed) in listed {
            match listed {
                Ok(referrers) => {
                    found.extend(referrers.into_iter().flatten().map(|digest| (digest, subject)))
                }
                Err(error) => {
                    let why = format!("what is about it cannot be listed: {error}");
                    repo.gaps.push(Gap { concerns: Concern::Manifest(subject), why });
                }
            }
        }
        found.retain(|digest, _| !repo.manifests.contains_key(digest));
        let read = |(digest, subject): (Digest, Digest)| async move {
            (subject, self.read(name, &Reference::Digest(digest)).await)
        };
        let mut referrers = stream::iter(found).map(read).buffer_unordered(TAGS);
        let mut is_any = false;
        while let Some((subject, seen)) = referrers.next().await {
            match seen {
                Seen::Manifest(digest, manifest) if manifest.subject == Some(subject) => {
                    is_any = true;
                    repo.manifests.insert(digest, manifest);
                }
                // Listed and gone, or about something else: nothing to go or to stay with it.
                Seen::Manifest(..) | Seen::Absent => {}
                Seen::Unreadable(why) => {
                    let why = format!("what is about it cannot be read: {why}");
                    repo.gaps.push(Gap { concerns: Concern::Manifest(subject), why });
                }
            }
        }
        is_any
    }

    /// Reads the configurations that tell when images were created, each once.
    async fn dates(&self, name: &RepoName, repo: &mut Repo) {
        let attestations = attestations(repo);
        let mut by_config: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        for (digest, manifest) in &mut repo.manifests {
            // Another repository may have been first to read its date.
            if let Some(known) = self.facts.manifest(*digest) {
                *manifest = known;
                continue;
            }
            match manifest.dating_config() {
                Some(config) if !attestations.contains(digest) => {
                    by_config.entry(config.digest).or_default().push(*digest);
                }
                _ => self.facts.learn(*digest, Arc::clone(manifest)),
            }
        }
        let undated = by_config.into_iter().map(|(config, images)| (config, images, &repo.manifests));
        let read = |(config, images, manifests)| self.date(name, config, images, manifests);
        let dated: Vec<(Digest, Arc<Manifest>, Option<String>)> =
            stream::iter(undated).map(read).buffer_unordered(TAGS).flat_map(stream::iter).collect().await;
        for (digest, manifest, gap) in dated {
            repo.manifests.insert(digest, manifest);
            repo.gaps.extend(gap.map(|why| Gap { concerns: Concern::Manifest(digest), why }));
        }
    }

    /// The images of one configuration with its date, and why not if it could not be read.
    async fn date(
        &self,
        name: &RepoName,
        config: Digest,
        images: Vec<Digest>,
        manifests: &BTreeMap<Digest, Arc<Manifest>>,
    ) -> Vec<(Digest, Arc<Manifest>, Option<String>)> {
        let _claim = self.facts.claim(config).await;
        let known: Option<Vec<_>> = images.iter().map(|image| self.facts.manifest(*image)).collect();
        if let Some(known) = known {
            return images.into_iter().zip(known).map(|(image, manifest)| (image, manifest, None)).collect();
        }
        let read = self.config(name, config).await;
        let dated = images.into_iter().map(|image| {
            let mut manifest = Manifest::clone(&manifests[&image]);
            match &read {
                Ok(config) => manifest.take_config(config),
                Err(why) => {
                    // No annotation stands in for a configuration that is there and cannot be read.
                    manifest.created = None;
                    return (image, Arc::new(manifest), Some(format!("its configuration {config}: {why}")));
                }
            }
            let manifest = Arc::new(manifest);
            self.facts.learn(image, Arc::clone(&manifest));
            (image, manifest, None)
        });
        dated.collect()
    }

    /// What a configuration tells, or why it cannot be read. Images of other repositories may have the same one.
    async fn config(&self, name: &RepoName, config: Digest) -> Result<ImageConfig, String> {
        if let Some(known) = self.facts.config(config) {
            return Ok(known);
        }
        let bytes = match self.reader.blob(name, &config, CONFIG_LIMIT).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err("it is not there".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        let read = self.facts.parse_config(&bytes).map_err(|error| error.to_string())?;
        self.facts.note_config(config, read.clone());
        Ok(read)
    }
}

enum Seen {
    Manifest(Digest, Arc<Manifest>),
    Absent,
    Unreadable(String),
}

/// Unless every repository is known to be able to delete a tag alone, none is.
fn weakest(hints: impl Iterator<Item = Powers>) -> Powers {
    let hints: BTreeSet<bool> = hints.map(|powers| powers == Powers::DeleteAndUntag).collect();
    if hints == BTreeSet::from([true]) { Powers::DeleteAndUntag } else { Powers::DeleteOnly }
}
