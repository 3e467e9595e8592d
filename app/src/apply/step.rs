//! The four steps, each between a look before and a look after.

use std::collections::BTreeSet;

use bytes::Bytes;
use clean_registry_core::journal::Outcome;
use clean_registry_core::manifest::Manifest;
use clean_registry_core::name::{Digest, MediaType, Tag};
use clean_registry_core::plan::Step;

use super::{Site, Stop};
use crate::registry::{Deletes, Error, Reference, Refusal, Untagged, remove_left_tag};

/// How often a deletion that left a tag behind is tried again.
const DELETE_TRIES: usize = 2;

impl Site<'_> {
    /// Deletes a manifest with all the tags on it.
    pub(super) async fn delete(&mut self, position: usize, step: &Step) -> Result<Outcome, Stop> {
        if let Some(pointer) = self.standing_pointer(step.digest) {
            return Ok(Outcome::Stale { why: format!("{pointer}, which points at it, is still there") });
        }
        if !self.keep_in_vault(step.digest).await? {
            return Ok(Outcome::Already);
        }
        // What holds it is gone, so it goes by itself; asked to delete it, the registry would say it is not there.
        if step.tags.is_empty() && self.apply.writer.reader().habits().untagged == Untagged::Collected {
            return Ok(Outcome::Already);
        }
        if let Some(why) = self.moved(step).await? {
            return Ok(Outcome::Stale { why });
        }
        self.intend(position, step)?;
        let mut dangling = None;
        for _ in 0..DELETE_TRIES {
            if let Some(why) = self.look_again(step).await? {
                return Ok(Outcome::Stale { why });
            }
            let sent = self.send_delete(step).await;
            let after = self.list().await?;
            if let Some(why) = self.bring_back_vanished(step, &after).await? {
                return Ok(Outcome::Reverted { why });
            }
            if self.head_digest(step.digest).await?.is_some() {
                if let Err(refusal) = sent {
                    self.tag_anew(step).await?;
                    return Err(refusal.into());
                }
                return Ok(Outcome::Failed { why: "accepted, but the manifest is still there".to_owned() });
            }
            let is_cleared =
                self.clear_left_tags(step).await | self.delete_standing_tags(step, &after).await?;
            let after = if is_cleared { self.list().await? } else { after };
            dangling = self.dangling(step, &after).await?;
            if dangling.is_none() {
                return Ok(Outcome::Done);
            }
            // The tag would be listed and lead nowhere: the image comes back, so that the registry is whole.
            self.put_back_with_tags(step).await?;
        }
        let tag = dangling.map(|tag| tag.to_string()).unwrap_or_default();
        Ok(Outcome::Reverted { why: format!("the registry does not let go of tag {tag}") })
    }

    /// Asks the registry to delete the manifest, and before that the tags on it where they hold it.
    async fn send_delete(&self, step: &Step) -> Result<(), Refusal> {
        let writer = self.apply.writer;
        if writer.reader().habits().deletes == Deletes::AfterTags {
            for tag in &step.tags {
                writer.delete_tag(&self.name, tag).await?;
            }
        }
        writer.delete_manifest(&self.name, &step.digest).await.map(drop)
    }

    /// Points the tags of the step at its manifest again where they were deleted before it, and it would not go.
    async fn tag_anew(&self, step: &Step) -> Result<(), Stop> {
        if self.apply.writer.reader().habits().deletes == Deletes::AfterTags {
            for tag in &step.tags {
                self.tag_again(tag, step.digest).await?;
            }
        }
        Ok(())
    }

    /// Deletes tags of the step that still lead to the manifest although it is gone by its digest: some registries keep
    /// both apart. Whether there were any.
    async fn delete_standing_tags(&self, step: &Step, listed: &BTreeSet<Tag>) -> Result<bool, Stop> {
        let mut is_any = false;
        for tag in step.tags.iter().filter(|tag| listed.contains(*tag)) {
            // Both are there again when somebody has pushed the same image meanwhile.
            if self.head_tag(tag).await? == Some(step.digest)
                && self.head_digest(step.digest).await?.is_none()
            {
                self.apply.writer.delete_tag(&self.name, tag).await?;
                is_any = true;
            }
        }
        Ok(is_any)
    }

    /// Tags that went with the manifest and are none of the step's were moved to it in the moment it was deleted: that push was
    /// accepted, so both come back.
    async fn bring_back_vanished(&self, step: &Step, after: &BTreeSet<Tag>) -> Result<Option<String>, Stop> {
        let others = self.listed.difference(after).filter(|tag| !step.tags.contains(tag));
        let vanished: Vec<Tag> = others.cloned().collect();
        let Some(first) = vanished.first() else { return Ok(None) };
        self.put_back_with_tags(step).await?;
        self.put_back_moved(&vanished, step.digest).await?;
        Ok(Some(format!("tag {first} had been moved to it and vanished with it")))
    }

    /// Deletes a tag alone; its manifest must stay.
    pub(super) async fn untag(&mut self, position: usize, step: &Step) -> Result<Outcome, Stop> {
        let [tag] = step.tags.as_slice() else { return Ok(malformed()) };
        if !self.keep_in_vault(step.digest).await? {
            return Ok(Outcome::Stale { why: "its manifest is gone".to_owned() });
        }
        if let Some(why) = self.moved(step).await? {
            return Ok(Outcome::Stale { why });
        }
        self.intend(position, step)?;
        if let Some(why) = self.moved(step).await? {
            return Ok(Outcome::Stale { why });
        }
        self.apply.writer.delete_tag(&self.name, tag).await?;
        if self.head_digest(step.digest).await?.is_none() {
            self.put_back(step.digest).await?;
            let stay =
                self.graph.tags_on(step.digest).iter().filter(|tag| !self.untagged.contains_key(**tag));
            for tag in stay {
                self.tag_again(tag, step.digest).await?;
            }
            return Ok(Outcome::Reverted { why: "the manifest went with its tag".to_owned() });
        }
        self.listed.remove(tag);
        match self.head_tag(tag).await? {
            Some(digest) if digest == step.digest => {
                Ok(Outcome::Failed { why: "accepted, but the tag is still there".to_owned() })
            }
            _ => {
                self.untagged.insert(tag.clone(), (position, step.digest));
                Ok(Outcome::Done)
            }
        }
    }

    /// Points a tag at a manifest, if nothing has taken the tag meanwhile.
    pub(super) async fn tag(&mut self, position: usize, step: &Step) -> Result<Outcome, Stop> {
        let [tag] = step.tags.as_slice() else { return Ok(malformed()) };
        match self.head_tag(tag).await? {
            Some(digest) if digest == step.digest => return Ok(Outcome::Already),
            Some(digest) => return Ok(Outcome::Stale { why: format!("tag {tag} now points at {digest}") }),
            None => {}
        }
        let (media_type, bytes) = self.bytes(step.digest).await?;
        self.intend(position, step)?;
        self.put(Reference::Tag(tag.clone()), &media_type, bytes).await?;
        Ok(if self.head_tag(tag).await? == Some(step.digest) {
            Outcome::Done
        } else {
            Outcome::Failed { why: "accepted, but the tag does not point there".to_owned() }
        })
    }

    /// Puts a manifest back from the vault.
    pub(super) async fn restore(&mut self, position: usize, step: &Step) -> Result<Outcome, Stop> {
        if self.head_digest(step.digest).await?.is_some() {
            return Ok(Outcome::Already);
        }
        self.apply.vault.get(step.digest)?;
        self.intend(position, step)?;
        self.put_back(step.digest).await?;
        Ok(if self.head_digest(step.digest).await?.is_some() {
            Outcome::Done
        } else {
            Outcome::Failed { why: "accepted, but the manifest is not there".to_owned() }
        })
    }

    /// The last look before a deletion: a tag of the step points elsewhere, or a tag that has come since the plan was audited
    /// needs the manifest. The listing is the last thing to be asked for: a tag that is pushed after it goes unseen.
    async fn look_again(&mut self, step: &Step) -> Result<Option<String>, Error> {
        if let Some(why) = self.moved(step).await? {
            return Ok(Some(why));
        }
        let now = self.list().await?;
        let new: Vec<Tag> = now.difference(&self.listed).cloned().collect();
        self.listed = now;
        for tag in &new {
            self.note(tag).await?;
        }
        let needing = self.needed.get(&step.digest).filter(|tag| !step.tags.contains(tag));
        Ok(needing.map(|tag| format!("tag {tag}, which has come since, needs it")))
    }

    /// A tag of the step that points elsewhere by now.
    async fn moved(&self, step: &Step) -> Result<Option<String>, Error> {
        for tag in &step.tags {
            match self.head_tag(tag).await? {
                Some(digest) if digest == step.digest => {}
                Some(digest) => return Ok(Some(format!("tag {tag} now points at {digest}"))),
                None => return Ok(Some(format!("tag {tag} is gone"))),
            }
        }
        Ok(None)
    }

    /// A tag of the step that is still listed and leads nowhere.
    async fn dangling(&self, step: &Step, listed: &BTreeSet<Tag>) -> Result<Option<Tag>, Error> {
        for tag in step.tags.iter().filter(|tag| listed.contains(*tag)) {
            if self.head_tag(tag).await?.is_none() {
                return Ok(Some(tag.clone()));
            }
        }
        Ok(None)
    }

    /// Removes in the storage what the registry has left of tags whose manifest it deleted (FACTS section 2). Whether anything was
    /// removed: what could not be is left to the next look.
    async fn clear_left_tags(&self, step: &Step) -> bool {
        let Some(storage) = self.apply.storage else { return false };
        let mut is_any = false;
        for tag in &step.tags {
            match remove_left_tag(storage, &self.name, tag, step.digest).await {
                Ok(true) => {
                    tracing::warn!(
                        "{}:{tag} was left by the registry, and removed in its storage",
                        self.name
                    );
                    is_any = true;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!("whether {}:{tag} was left cannot be seen: {error}", self.name),
            }
        }
        is_any
    }

    /// Reads a manifest and keeps it, so that it can be put back. False if it is gone.
    async fn keep_in_vault(&self, digest: Digest) -> Result<bool, Stop> {
        let reference = Reference::Digest(digest);
        let Some(manifest) = self.apply.writer.reader().manifest(&self.name, &reference).await? else {
            return Ok(false);
        };
        // A type that something between has taken off would be refused when the manifest is put back.
        let parsed = Manifest::parse(&manifest.bytes, Some(manifest.media_type.as_str()));
        let media_type = parsed.map_or(manifest.media_type, |parsed| parsed.media_type);
        self.apply.vault.put(digest, &media_type, &manifest.bytes)?;
        Ok(true)
    }

    async fn bytes(&self, digest: Digest) -> Result<(MediaType, Bytes), Stop> {
        let reference = Reference::Digest(digest);
        if let Some(manifest) = self.apply.writer.reader().manifest(&self.name, &reference).await? {
            return Ok((manifest.media_type, manifest.bytes));
        }
        let (media_type, bytes) = self.apply.vault.get(digest)?;
        Ok((media_type, bytes.into()))
    }

    /// Puts a manifest back by its digest, from the vault.
    pub(super) async fn put_back(&self, digest: Digest) -> Result<(), Stop> {
        let (media_type, bytes) = self.apply.vault.get(digest)?;
        self.put(Reference::Digest(digest), &media_type, bytes.into()).await
    }

    /// Points a tag at a manifest of the vault, unless somebody has taken the tag meanwhile.
    pub(super) async fn tag_again(&self, tag: &Tag, digest: Digest) -> Result<(), Stop> {
        if self.head_tag(tag).await?.is_some() {
            return Ok(());
        }
        let (media_type, bytes) = self.apply.vault.get(digest)?;
        self.put(Reference::Tag(tag.clone()), &media_type, bytes.into()).await
    }

    async fn put_back_with_tags(&self, step: &Step) -> Result<(), Stop> {
        self.put_back(step.digest).await?;
        for tag in &step.tags {
            self.tag_again(tag, step.digest).await?;
        }
        Ok(())
    }

    /// Tags that vanished with `digest`: one whose last target is still there did not go with that one, but was moved to
    /// `digest` while it was being deleted.
    async fn put_back_moved(&self, vanished: &[Tag], digest: Digest) -> Result<(), Stop> {
        for tag in vanished {
            let stood_elsewhere = match self.graph.target(tag) {
                Some(target) => self.head_digest(target).await?.is_some(),
                None => true,
            };
            if stood_elsewhere {
                self.tag_again(tag, digest).await?;
            }
        }
        Ok(())
    }

    async fn put(&self, reference: Reference, media_type: &MediaType, bytes: Bytes) -> Result<(), Stop> {
        self.apply.writer.put_manifest(&self.name, &reference, media_type, bytes).await?;
        Ok(())
    }

    /// An index that lists `digest`, or a referrer about it, that was to go first and did not.
    fn standing_pointer(&self, digest: Digest) -> Option<Digest> {
        let gone = |pointer: &Digest| self.deleted.contains_key(pointer) || self.absent.contains(pointer);
        self.graph.parents(digest).chain(self.graph.referrers(digest)).find(|pointer| !gone(pointer))
    }

    pub(super) async fn list(&self) -> Result<BTreeSet<Tag>, Error> {
        Ok(self.apply.writer.reader().tags(&self.name).await?.names.into_iter().collect())
    }

    pub(super) async fn head_tag(&self, tag: &Tag) -> Result<Option<Digest>, Error> {
        self.apply.writer.reader().head(&self.name, &Reference::Tag(tag.clone())).await
    }

    pub(super) async fn head_digest(&self, digest: Digest) -> Result<Option<Digest>, Error> {
        self.apply.writer.reader().head(&self.name, &Reference::Digest(digest)).await
    }
}

fn malformed() -> Outcome {
    Outcome::Failed { why: "the step does not name one tag".to_owned() }
}
