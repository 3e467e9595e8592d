//! Around the changes of a run: the proof that what is changed is what was read, and the closing of a registry that is its storage.

use std::collections::BTreeSet;

use clean_registry_core::inventory::Inventory;
use clean_registry_core::name::RepoName;
use clean_registry_core::plan::Plan;

use super::Work;
use crate::apply::{Unproven, prove_by_upload};
use crate::collect::native::closing as closing_of;
use crate::failure::Failure;
use crate::gc::Mode;
use crate::gc::closing::{ClosingError, Seen, Watch};
use crate::registry::Refusal;
use crate::state::RunLog;

impl Work<'_> {
    /// Makes sure that what is about to be changed is what was read.
    pub(super) async fn prove_same(&self, plan: &Plan, inventory: &Inventory) -> Result<(), Failure> {
        if plan.steps.is_empty() {
            return Ok(());
        }
        match self.read_storage(inventory).await {
            Some(storage) => {
                let repositories: BTreeSet<&RepoName> =
                    plan.steps.iter().map(|step| &step.repository).collect();
                match prove_by_upload(&self.writer, &**storage, repositories.into_iter()).await {
                    // What was compared was the same, and every step looks at the registry again.
                    Err(Unproven::Refused(refusal @ Refusal::Forbidden { .. })) => {
                        tracing::warn!("that the registry stores where it was read is not tried: {refusal}");
                        Ok(())
                    }
                    proven => Ok(proven?),
                }
            }
            None => Ok(()),
        }
    }

    /// Makes sure that no registry is at work on the storage, before anything in it is changed; called once a run, after the plan
    /// has passed its audit and before the first step, and only where the registry is its storage and has no address.
    ///
    /// When it returns `Ok`, no process writes to the storage until the end of the run: what is read from then on stays so, but
    /// for what the run itself does. It changes nothing in the storage.
    ///
    /// # Errors
    /// When a registry may be at work on it: nothing has been changed then.
    pub(super) async fn close_for_storage(&mut self, log: &RunLog) -> Result<(), Failure> {
        let setting = self.ctx.setting().await?;
        let Some(storage) = self.ctx.storage().await else { return Ok(()) };
        let closing = closing_of(&self.ctx.config, setting).await?;
        let watch = Watch::of(&**storage, setting.container.clone(), None);
        let told = self.ctx.config.garbage_collection.native == Some(Mode::Offline);
        match watch.look().await.map_err(ClosingError::from)? {
            Seen::Closed(sign) => tracing::info!("the registry takes no writes: {sign}"),
            Seen::Unknown if told => {}
            Seen::Open(sign) if !closing.is_able() => return Err(ClosingError::Open(sign).into()),
            Seen::Hidden(sign) if !closing.is_able() => return Err(ClosingError::Hidden(sign).into()),
            Seen::Unknown if !closing.is_able() => {
                return Err(ClosingError::Unknown(storage.location()).into());
            }
            Seen::Open(_) | Seen::Hidden(_) | Seen::Unknown => {
                self.closed = Some(closing.clone());
                closing.close(&watch, Some(log)).await?;
            }
        }
        Ok(())
    }

    /// Opens the registry again, if this run has closed it.
    pub(super) async fn open_again(&mut self, log: &RunLog) -> Result<(), Failure> {
        match self.closed.take() {
            Some(closing) => Ok(closing.open(Some(log)).await?),
            None => Ok(()),
        }
    }
}
