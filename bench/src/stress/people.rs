//! Those who push, and those who delete.
//!
//! At any time images are few and their layers shared, so that the same bytes come again and again: as garbage, as what another
//! repository has, as what is being pushed. Some images are mortal: people delete them by digest. The others are only ever replaced
//! under their tags, which are their own: a tag of theirs that is gone, or leads nowhere, was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry_core::name::Digest;
use tokio::time::sleep;

use super::client::{Client, Refused};
use super::dice::Dice;

/// How many repositories there are.
const REPOSITORIES: usize = 4;
/// How many images of each kind are being pushed at a time, here and there, again and again.
const WINDOW: usize = 30;
/// After so many pushes one leaves, never to come again, and the next one comes: what is broken then stays so.
const TURNS: u64 = 16;
/// How many layers the images share.
const LAYERS: usize = 12;
/// How many tags each kind has in a repository.
const TAGS: usize = 5;
/// A push that is refused so often is given up.
const ATTEMPTS: usize = 60;

/// Whether people delete it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Life {
    /// Nobody deletes it by digest.
    Kept,
    /// Somebody may.
    Mortal,
}

/// What there is to be pushed: the same for the same seed, one by its number.
#[derive(Debug)]
pub struct Wares {
    seed: u64,
    /// How many pushes were begun.
    turns: AtomicU64,
}

/// What happened.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Pushes under a tag that were accepted.
    pub pushes: AtomicU64,
    /// Manifests that were accepted, children of indexes included.
    pub manifests: AtomicU64,
    /// Pushes begun anew because something was refused.
    pub retries: AtomicU64,
    /// Pushes that never succeeded.
    pub given_up: AtomicU64,
    /// Manifests that people deleted.
    pub deleted: AtomicU64,
    /// The tags of what is never deleted, with their repositories, once a push to them was accepted.
    pub kept_tags: Mutex<BTreeSet<(String, String)>>,
    /// What was refused, and how often.
    pub refusals: Mutex<BTreeMap<String, u64>>,
}

/// What a pusher believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// That a blob is there when the registry says so.
    Head,
    /// Nothing: after a refusal everything is sent again.
    Nothing,
}

/// All that people share.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// The registry.
    pub client: Client,
    /// What happened so far.
    pub ledger: Arc<Ledger>,
    /// What is pushed.
    pub wares: Arc<Wares>,
    /// Set when they are to stop.
    pub is_over: Arc<AtomicBool>,
}

impl Wares {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, turns: AtomicU64::new(0) }
    }

    /// One of those that are pushed at this time.
    fn pick(&self, life: Life, dice: &mut Dice) -> Built {
        let first = self.turns.load(Ordering::Relaxed) / TURNS;
        self.get(life, first + dice.below(WINDOW) as u64)
    }

    /// Every third is an index of two images that no tag points at.
    fn get(&self, life: Life, number: u64) -> Built {
        let kind = match life {
            Life::Kept => "kept",
            Life::Mortal => "mortal",
        };
        if !number.is_multiple_of(3) {
            return self.image(kind, number);
        }
        let os = match life {
            Life::Kept => "linux",
            Life::Mortal => "windows",
        };
        let child = |number, architecture| self.image("child", number).on(os, architecture);
        Built::index([child(number, "amd64"), child(number + 3, "arm64")])
    }

    /// With a configuration and a layer of its own, and some that others have.
    fn image(&self, kind: &str, number: u64) -> Built {
        let name = format!("{kind} {number} of {}", self.seed);
        let mut dice = Dice::new(self.seed, number);
        let own = noise(&name, 64 + dice.below(400));
        let shared = (0..=dice.below(2)).map(|_| dice.below(LAYERS)).collect::<BTreeSet<_>>();
        // The shared ones change slowly: they become garbage, too.
        let shared =
            shared.into_iter().map(|layer| (number + layer as u64) / LAYERS as u64 * 100 + layer as u64);
        let image = Builder::image(&name).layer(own);
        shared.fold(image, |image, layer| image.layer(noise(&format!("layer {layer}"), 256))).build()
    }
}

fn repository(number: usize) -> String {
    format!("team/app-{number}")
}

impl Ledger {
    fn refused(&self, refused: &Refused) {
        let what = match refused {
            Refused::Transport(_) => "no answer".to_owned(),
            other => other.to_string(),
        };
        *self.refusals.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    fn accepted(&self, repo: &str, tag: &str, life: Life) {
        self.pushes.fetch_add(1, Ordering::Relaxed);
        if life == Life::Kept {
            let mut tags = self.kept_tags.lock().unwrap_or_else(PoisonError::into_inner);
            tags.insert((repo.to_owned(), tag.to_owned()));
        }
    }
}

impl Crowd {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Pushes one thing after the other until it is over.
    pub async fn push_on(self, mut dice: Dice) {
        while self.goes_on() {
            let life = if dice.one_in(2) { Life::Kept } else { Life::Mortal };
            let repo = repository(dice.below(REPOSITORIES));
            let prefix = if life == Life::Kept { "keep" } else { "v" };
            let tag = format!("{prefix}-{}", dice.below(TAGS));
            let built = self.wares.pick(life, &mut dice);
            self.wares.turns.fetch_add(1, Ordering::Relaxed);
            if self.push_until_accepted(&repo, &tag, &built, &mut dice).await {
                self.ledger.accepted(&repo, &tag, life);
            }
        }
    }

    /// As a client would that was refused: again, and again. True if it was accepted at last.
    async fn push_until_accepted(&self, repo: &str, tag: &str, built: &Built, dice: &mut Dice) -> bool {
        for attempt in 0..ATTEMPTS {
            let trust = if attempt % 2 == 0 { Trust::Head } else { Trust::Nothing };
            match self.push(repo, tag, built, trust, dice).await {
                Ok(()) => return true,
                Err(refused) => self.ledger.refused(&refused),
            }
            self.ledger.retries.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(5 << attempt.min(4))).await;
            if attempt > 2 && !self.goes_on() {
                // Nobody waits for this one.
                return false;
            }
        }
        self.ledger.given_up.fetch_add(1, Ordering::Relaxed);
        false
    }

    async fn push(
        &self,
        repo: &str,
        reference: &str,
        built: &Built,
        trust: Trust,
        dice: &mut Dice,
    ) -> Result<(), Refused> {
        for child in &built.children {
            let digest = child.digest().to_string();
            Box::pin(self.push(repo, &digest, child, trust, dice)).await?;
        }
        for blob in &built.blobs {
            self.push_blob(repo, blob, trust, dice).await?;
        }
        self.client.put(repo, reference, (&built.media_type, &built.bytes)).await?;
        self.ledger.manifests.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn push_blob(&self, repo: &str, blob: &[u8], trust: Trust, dice: &mut Dice) -> Result<(), Refused> {
        if trust == Trust::Head && self.client.has_blob(repo, Digest::of(blob)).await? {
            return Ok(());
        }
        if trust == Trust::Head && dice.one_in(2) {
            return self.client.mount(repo, &repository(dice.below(REPOSITORIES)), blob).await;
        }
        self.client.upload(repo, blob, dice).await
    }

    /// Deletes one thing after the other until it is over.
    pub async fn delete_on(self, mut dice: Dice) {
        while self.goes_on() {
            let repo = repository(dice.below(REPOSITORIES));
            let digest = self.wares.pick(Life::Mortal, &mut dice).digest();
            match self.client.delete(&repo, digest).await {
                Ok(true) => drop(self.ledger.deleted.fetch_add(1, Ordering::Relaxed)),
                Ok(false) => {}
                Err(refused) => {
                    self.ledger.refused(&refused);
                    sleep(Duration::from_millis(50)).await;
                }
            }
            sleep(Duration::from_millis(2 + dice.below(6) as u64)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_wares_and_no_mortal_is_kept() {
        let digests = |wares: &Wares, life| -> BTreeSet<Digest> {
            let built = (0..100).map(|number| wares.get(life, number));
            built
                .flat_map(|built| {
                    built.children.iter().chain([&built]).map(Built::digest).collect::<Vec<_>>()
                })
                .collect()
        };
        let (one, again, other) = (Wares::new(1), Wares::new(1), Wares::new(2));
        assert_eq!(digests(&one, Life::Kept), digests(&again, Life::Kept));
        assert!(digests(&one, Life::Kept).is_disjoint(&digests(&other, Life::Kept)));
        let mortal: BTreeSet<Digest> =
            (0..100).map(|number| one.get(Life::Mortal, number).digest()).collect();
        assert!(mortal.is_disjoint(&digests(&one, Life::Kept)), "what is deleted is nothing that is kept");
    }
}
