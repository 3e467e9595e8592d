//! The gate behind every run: no tag that could be pulled before may be broken after.

use clean_registry_core::inventory::Inventory;
use clean_registry_core::verify::{BrokenTag, newly_broken};

use super::Work;
use crate::failure::Exit;
use crate::looking;
use crate::report::Report;

impl Work<'_> {
    /// The tags that cannot be pulled, if the storage tells.
    pub(super) async fn broken(&self, inventory: &Inventory) -> Option<Vec<BrokenTag>> {
        inventory.storage.as_ref()?;
        let storage = self.ctx.storage().await?;
        let broken = looking::broken_tags(&**storage).await;
        broken
            .inspect_err(|error| tracing::warn!("whether every tag can be pulled cannot be told: {error}"))
            .ok()
    }

    /// The gate behind every run: a tag that could be pulled before and cannot be pulled now makes it fail.
    pub(super) async fn verify(
        &self,
        before: &Option<Vec<BrokenTag>>,
        inventory: &Inventory,
        report: &mut Report,
    ) {
        let (Some(before), Some(after)) = (before, self.broken(inventory).await) else { return };
        for broken in newly_broken(before, &after) {
            let trouble = format!(
                "{}:{} could be pulled before this run, and cannot be now",
                broken.repository, broken.tag
            );
            tracing::error!("{trouble}");
            report.gaps.push(trouble);
            report.exit = Exit::InPart;
        }
    }
}
