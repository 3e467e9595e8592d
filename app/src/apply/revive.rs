//! Putting back what was deleted with or before something that, as it turned out, has to stay.

use std::collections::BTreeSet;

use clean_registry_core::name::{Digest, Tag};

use super::{Site, Stop};
use crate::state::StateError;

/// The positions of the steps that were taken back, each with the reason.
type Revived = Vec<(usize, String)>;

impl Site<'_> {
    /// `digest` was to go and stays: its signatures and other referrers went before it, and come back.
    pub(super) async fn revive_what_follows(&mut self, digest: Digest) -> Result<Revived, StateError> {
        let revived = self.revive(digest, &format!("{digest}, which it is about, stays")).await;
        self.or_tell(revived, "what is about a manifest that stays could not be put back")
    }

    /// After the last step: looks at every tag that is listed, and puts back what was deleted and one of them needs.
    /// A push that needed it was accepted while it was being deleted, since the registry does not serialise the two
    /// (FACTS section 4.4).
    pub(super) async fn settle(&mut self) -> Result<Revived, StateError> {
        if self.deleted.is_empty() {
            return Ok(Vec::new());
        }
        let revived = self.revive_for_tags().await;
        self.or_tell(revived, "whether its tags still lead somewhere could not be seen")
    }

    fn or_tell(&mut self, revived: Result<Revived, Stop>, what: &str) -> Result<Revived, StateError> {
        match revived {
            Ok(revived) => Ok(revived),
            Err(Stop::State(error)) => Err(error),
            Err(Stop::Registry(error)) => {
                self.tell(&format!("{what}: {error}"));
                Ok(Vec::new())
            }
        }
    }

    fn tell(&mut self, trouble: &str) {
        let trouble = format!("{}: {trouble}", self.name);
        tracing::error!("{trouble}");
        self.troubles.push(trouble);
    }

    async fn revive_for_tags(&mut self) -> Result<Revived, Stop> {
        let mut revived = Vec::new();
        for (tag, target) in self.targets().await? {
            if target.is_none() && self.led_somewhere(&tag) {
                let found = self.revive_for(&tag).await?;
                if found.is_empty() {
                    self.tell(&format!("tag {tag} leads nowhere, and no manifest of this run helps"));
                }
                revived.extend(found);
            } else if self.is_news(&tag, target) {
                for digest in self.needs(&tag).await? {
                    revived.extend(
                        self.revive(digest, &format!("tag {tag}, which has come since, needs it")).await?,
                    );
                }
            }
        }
        Ok(revived)
    }

    /// Whether `tag` is not one of those that led nowhere before.
    fn led_somewhere(&self, tag: &Tag) -> bool {
        let before = self.apply.inventory.repos.get(&self.name);
        before.is_none_or(|repo| repo.tags.get(tag) != Some(&None))
    }

    /// Which manifest a tag that leads nowhere names, nobody tells: each that was deleted here is put back, last first,
    /// until the tag leads somewhere. What did not help goes again.
    async fn revive_for(&mut self, tag: &Tag) -> Result<Revived, Stop> {
        let mut candidates: Vec<(usize, Digest)> =
            self.deleted.iter().map(|(digest, (position, _))| (*position, *digest)).collect();
        candidates.sort_unstable_by_key(|(position, _)| std::cmp::Reverse(*position));
        for (_, digest) in candidates {
            // Children went after their index and are candidates before it; whole again, they go again if they did not help.
            let revived =
                self.revive(digest, &format!("tag {tag} was moved to it while it was deleted")).await?;
            if self.head_tag(tag).await?.is_some() {
                return Ok(revived);
            }
            self.delete_again(&revived).await?;
        }
        Ok(Vec::new())
    }

    async fn delete_again(&mut self, revived: &Revived) -> Result<(), Stop> {
        for (position, _) in revived.iter().rev() {
            let Some((digest, tags)) = self.reinstated.remove(position) else { continue };
            self.apply.writer.delete_manifest(&self.name, &digest).await?;
            self.deleted.insert(digest, (*position, tags));
        }
        Ok(())
    }

    /// Puts back whatever of `digest`, its children and what is about any of them was deleted here: in the reverse of the order in which
    /// it went, so that what is pointed at comes before whoever points.
    async fn revive(&mut self, digest: Digest, why: &str) -> Result<Revived, Stop> {
        let belongings = self.belongings(digest);
        let mut lost: Vec<(usize, Digest)> =
            belongings.iter().filter_map(|digest| Some((self.deleted.get(digest)?.0, *digest))).collect();
        lost.sort_unstable_by_key(|(position, _)| std::cmp::Reverse(*position));
        let mut revived = Vec::new();
        for (position, lost) in lost {
            self.put_back(lost).await?;
            let Some((_, tags)) = self.deleted.remove(&lost) else { continue };
            for tag in &tags {
                self.tag_again(tag, lost).await?;
            }
            self.reinstated.insert(position, (lost, tags));
            revived.push((position, why.to_owned()));
        }
        let about = |tag: &Tag| tag.subject().is_some_and(|subject| belongings.contains(&subject));
        let untagged: Vec<Tag> = self.untagged.keys().filter(|tag| about(tag)).cloned().collect();
        for tag in untagged {
            let Some((position, target)) = self.untagged.remove(&tag) else { continue };
            self.tag_again(&tag, target).await?;
            revived.push((position, why.to_owned()));
        }
        Ok(revived)
    }

    /// `digest`, all its children and everything that is about any of them.
    fn belongings(&self, digest: Digest) -> BTreeSet<Digest> {
        let mut belongings = BTreeSet::new();
        let mut queue = vec![digest];
        while let Some(digest) = queue.pop() {
            if belongings.insert(digest) {
                queue.extend(self.graph.children(digest).chain(self.graph.referrers(digest)));
                queue.extend(self.graph.tags_about(digest).iter().filter_map(|tag| self.graph.target(tag)));
            }
        }
        belongings
    }
}
