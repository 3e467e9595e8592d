//! What has come into use since a plan was drawn.

use clean_registry_core::audit::{Audited, Sound, audit};
use clean_registry_core::inventory::Inventory;

use super::{Work, refused};
use crate::failure::Failure;
use crate::in_use;

impl Work<'_> {
    /// Asks again what is in use, just before anything is deleted: the plan may be old. What has come into use since, and what that
    /// needs, is taken out of it.
    pub(super) async fn leave_what_is_used(
        &self,
        sound: Sound,
        inventory: &mut Inventory,
    ) -> Result<Audited, Failure> {
        if !sound.plan().steps.iter().any(|step| step.action.removes()) {
            return Ok(Audited { sound, stale: Vec::new() });
        }
        in_use::note(&self.ctx.reader, inventory, self.ctx.in_use().await?).await;
        let audited = audit(sound.plan().clone(), inventory, &self.ctx.config.promises());
        let audited =
            audited.map_err(|unsound| refused(&format!("the plan did not pass its audit: {unsound}")))?;
        for stale in &audited.stale {
            tracing::warn!("{}: left alone, {}", stale.step, stale.why);
        }
        Ok(audited)
    }
}
