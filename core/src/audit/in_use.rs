//! What workloads have come to use since the plan was drawn stays.

use super::repo::RepoAudit;
use crate::in_use::{Holders, named};
use crate::plan::Step;

impl RepoAudit<'_> {
    /// A tag of the step that is used by its name, or a manifest that is used by its digest or by that of its configuration.
    pub(super) fn object_to_in_use(&self, step: &Step) -> Option<String> {
        let in_use = self.surroundings.in_use;
        let by_name = step.tags.iter().flat_map(|tag| in_use.of_tag(self.name, tag));
        let manifest = self.repo.manifests.get(&step.digest);
        let by_digest = manifest.map(|manifest| in_use.of_manifest(self.name, step.digest, manifest));
        let holders = by_name.chain(by_digest.unwrap_or_default()).collect::<Holders>();
        (!holders.is_empty()).then(|| format!("it is in use by {}", named(&holders)))
    }
}

#[cfg(test)]
mod tests;
