//! What the repository holds now that it did not hold when the plan was audited.

use std::collections::{BTreeMap, BTreeSet};

use clean_registry_core::manifest::Manifest;
use clean_registry_core::name::{Digest, Tag};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Site;
use crate::registry::{Error, Reference};

/// Tags looked at side by side.
const TAGS: usize = 32;

impl Site<'_> {
    /// Looks at every tag before the first step: whoever pushed since the plan was audited may need what is to go.
    pub(super) async fn look_around(&mut self) -> Result<(), Error> {
        let now = self.targets().await?;
        let changed: Vec<Tag> =
            now.iter().filter(|(tag, to)| self.is_news(tag, **to)).map(|(tag, _)| tag.clone()).collect();
        self.listed = now.into_keys().collect();
        for tag in changed {
            self.note(&tag).await?;
        }
        Ok(())
    }

    /// Every tag and what it points at now; `None` where it leads nowhere.
    pub(super) async fn targets(&self) -> Result<BTreeMap<Tag, Option<Digest>>, Error> {
        let look = |tag: Tag| async move {
            let target = self.head_tag(&tag).await?;
            Ok::<_, Error>((tag, target))
        };
        stream::iter(self.list().await?).map(look).buffer_unordered(TAGS).try_collect().await
    }

    /// Whether a tag has come to point at something else than it did when the plan was audited.
    pub(super) fn is_news(&self, tag: &Tag, target: Option<Digest>) -> bool {
        target.is_some() && self.graph.target(tag) != target
    }

    /// Notes what a tag that is new, or has moved, needs: it stays.
    pub(super) async fn note(&mut self, tag: &Tag) -> Result<(), Error> {
        for digest in self.needs(tag).await? {
            self.needed.entry(digest).or_insert_with(|| tag.clone());
        }
        Ok(())
    }

    /// What a tag needs now: the manifest it points at, what that lists at any depth, and what either is about.
    pub(super) async fn needs(&self, tag: &Tag) -> Result<BTreeSet<Digest>, Error> {
        let mut needs: BTreeSet<Digest> = tag.subject().into_iter().collect();
        let mut queue = vec![Reference::Tag(tag.clone())];
        while let Some(reference) = queue.pop() {
            let Some(raw) = self.apply.writer.reader().manifest(&self.name, &reference).await? else {
                continue;
            };
            needs.insert(raw.digest);
            let Ok(manifest) = Manifest::parse(&raw.bytes, Some(raw.media_type.as_str())) else { continue };
            needs.extend(manifest.subject);
            let children = manifest.children().iter().map(|child| child.digest);
            let unseen: Vec<Digest> = children.filter(|child| needs.insert(*child)).collect();
            queue.extend(unseen.into_iter().map(Reference::Digest));
        }
        Ok(needs)
    }
}
