//! The gate behind every run: no tag that could be pulled before may be broken after.

use clean_registry_core::inventory::Inventory;
use clean_registry_core::verify::{BrokenTag, newly_broken};

use super::Work;
use crate::failure::Exit;
use crate::looking;
use crate::report::Report;
use crate::scan::ScanError;

/// The tags that cannot be pulled, or why that cannot be told.
pub(super) type Broken = Result<Vec<BrokenTag>, ScanError>;

impl Work<'_> {
    /// The tags that cannot be pulled; `None` where no storage is read.
    pub(super) async fn broken(&self, inventory: &Inventory) -> Option<Broken> {
        inventory.storage.as_ref()?;
        let storage = self.ctx.storage().await?;
        Some(looking::broken_tags(&**storage).await)
    }

    /// The gate behind every run: a tag that could be pulled before and cannot be pulled now makes it fail, and so does it where that
    /// cannot be told.
    pub(super) async fn verify(&self, before: &Option<Broken>, inventory: &Inventory, report: &mut Report) {
        let (Some(before), Some(after)) = (before, self.broken(inventory).await) else { return };
        let is_empty = report.summary.as_ref().is_some_and(|summary| summary.total.kept == 0);
        let troubles: Vec<String> = match (before, &after) {
            // Of a bucket whose last image has gone nothing is left to be seen.
            (Ok(_), Err(ScanError::NotARegistry { .. })) if is_empty => Vec::new(),
            (Ok(before), Ok(after)) => newly_broken(before, after).into_iter().map(told).collect(),
            (Err(error), _) | (_, Err(error)) => {
                vec![format!("whether every tag can be pulled as before cannot be told: {error}")]
            }
        };
        for trouble in troubles {
            tracing::error!("{trouble}");
            report.gaps.push(trouble);
            report.exit = Exit::InPart;
        }
    }
}

fn told(broken: &BrokenTag) -> String {
    format!("{}:{} could be pulled before this run, and cannot be now", broken.repository, broken.tag)
}
