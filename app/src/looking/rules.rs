//! What each rule of the policy would free, as the storage tells.

use std::collections::BTreeMap;
use std::sync::Arc;

use clean_registry_core::gc::Removed;
use clean_registry_core::inventory::{Inventory, Powers};
use clean_registry_core::policy::judge;
use clean_registry_core::usage::{RuleUsage, rules};

use super::Looking;
use crate::failure::Failure;
use crate::state::Facts;
use crate::survey::{Scope, Seen, StorageSurvey};

impl Looking {
    /// Judges the storage by each rule of the configuration's policy alone, and counts what only that would free.
    ///
    /// # Errors
    /// When the storage cannot be surveyed.
    pub async fn usage_by_rule(&self) -> Result<Vec<RuleUsage>, Failure> {
        let policy = self.config.policy();
        let labels = policy.labels().into_iter().map(str::to_owned).collect();
        let facts = Facts::load(&self.state().facts_path(), labels);
        let (storage, progress, also) = (&*self.storage, &self.progress, BTreeMap::new());
        let survey =
            StorageSurvey { storage, facts: &facts, memory: None, scope: &Scope::All, also: &also, progress };
        let Seen { repos, listed_elsewhere, holdings, .. } = survey.take().await?;
        let holdings = Arc::new(holdings);
        let inventory = Inventory::of(storage.location(), self.now, Powers::DeleteAndUntag, repos);
        let inventory = Inventory { listed_elsewhere, storage: Some(Arc::clone(&holdings)), ..inventory };
        let judged = policy.parts().into_iter();
        let parts: Vec<(String, Removed)> =
            judged.map(|(rule, part)| (rule, judge(&inventory, &part, self.now).removed())).collect();
        Ok(rules(&holdings.stored, &holdings.known, &parts))
    }
}
