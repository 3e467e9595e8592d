//! What goes although no tag of it was judged has to be asked for where it is.

use jiff::SignedDuration;

use super::Promises;
use crate::name::RepoName;

impl Promises {
    /// How long after their last push untagged manifests of `repository` may go; `None`: never.
    pub(super) fn untagged_of(&self, repository: &RepoName) -> Option<SignedDuration> {
        let said = self.untagged_of_rules.iter().find(|(repos, _)| repos.mean(repository.as_str()));
        said.map_or(self.untagged, |(_, untagged)| *untagged)
    }

    /// Whether referrers of `repository` may go because their subject is gone.
    pub(super) fn may_remove_orphans(&self, repository: &RepoName) -> bool {
        let said = self.orphans.iter().find(|(repos, _)| repos.mean(repository.as_str()));
        said.is_some_and(|(_, may_go)| *may_go)
    }
}

#[cfg(test)]
mod tests;
