//! After the last step in a repository: whatever was to stay must still lead somewhere.

use clean_registry_core::name::Tag;
use futures_util::{StreamExt as _, stream};

use super::{Site, Stop};
use crate::registry::Error;
use crate::state::StateError;

/// Tags looked at side by side.
const TAGS: usize = 32;

impl Site<'_> {
    /// Looks at every tag that is listed, and puts back the deleted manifest that one of them needs: a push that pointed a tag
    /// at it was accepted while it was being deleted, since the registry does not serialise the two (FACTS section 4.4).
    ///
    /// Returns the positions of the steps that were taken back, each with the reason.
    pub(super) async fn settle(&mut self) -> Result<Vec<(usize, String)>, StateError> {
        if self.deleted.is_empty() {
            return Ok(Vec::new());
        }
        match self.revive_all().await {
            Ok(revived) => Ok(revived),
            Err(Stop::State(error)) => Err(error),
            Err(Stop::Registry(error)) => {
                tracing::error!(
                    "{}: whether its tags still lead somewhere could not be seen: {error}",
                    self.name
                );
                Ok(Vec::new())
            }
        }
    }

    async fn revive_all(&mut self) -> Result<Vec<(usize, String)>, Stop> {
        let mut revived = Vec::new();
        for tag in self.leading_nowhere().await? {
            match self.revive(&tag).await? {
                Some(position) => {
                    revived.push((position, format!("tag {tag} was moved to it while it was deleted")))
                }
                None => tracing::error!(
                    "{}: tag {tag} leads nowhere, and no manifest of this run helps",
                    self.name
                ),
            }
        }
        Ok(revived)
    }

    /// The listed tags without a manifest, but for those that led nowhere before.
    async fn leading_nowhere(&self) -> Result<Vec<Tag>, Error> {
        let before = self.apply.inventory.repos.get(&self.name);
        let broken_before = |tag: &Tag| before.is_some_and(|repo| repo.tags.get(tag) == Some(&None));
        let tags = self.list().await?.into_iter().filter(|tag| !broken_before(tag));
        let look = |tag: Tag| async move {
            let seen = self.head_tag(&tag).await;
            seen.map(|digest| digest.is_none().then_some(tag))
        };
        let seen: Vec<Result<Option<Tag>, Error>> =
            stream::iter(tags).map(look).buffer_unordered(TAGS).collect().await;
        seen.into_iter().filter_map(Result::transpose).collect()
    }

    /// Puts back what this run deleted here, last first, until `tag` leads somewhere; what did not help is deleted again.
    async fn revive(&mut self, tag: &Tag) -> Result<Option<usize>, Stop> {
        for index in (0..self.deleted.len()).rev() {
            let (position, digest) = self.deleted[index];
            self.put_back(digest).await?;
            if self.head_tag(tag).await?.is_some() {
                self.deleted.remove(index);
                return Ok(Some(position));
            }
            self.apply.writer.delete_manifest(&self.name, &digest).await?;
        }
        Ok(None)
    }
}
