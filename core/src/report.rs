//! What a plan comes to, in numbers, repository by repository.

use serde::Serialize;

use crate::inventory::Inventory;
use crate::name::{Bytes, RepoName};
use crate::plan;
use crate::policy::Verdicts;

/// A plan in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// A line for every repository that was looked at.
    pub repositories: Vec<Line>,
    /// All of them together.
    pub total: Counts,
}

/// One repository in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The repository.
    pub repository: RepoName,
    /// Its numbers.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Numbers of a repository, or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Tags that were listed.
    pub tags: usize,
    /// Those that stay.
    pub kept: usize,
    /// Those that go.
    pub removed: usize,
    /// Bytes that might be freed.
    pub bytes: Bytes,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.tags += other.tags;
        self.kept += other.kept;
        self.removed += other.removed;
        self.bytes = self.bytes + other.bytes;
    }
}

/// Counts what `verdicts` come to.
#[must_use]
pub fn summarize(inventory: &Inventory, verdicts: &Verdicts) -> Summary {
    let bytes = plan::estimate(inventory, verdicts);
    let mut summary = Summary::default();
    for (repository, judged) in &verdicts.repos {
        let tags = judged.tags.len();
        let kept = judged.tags.values().filter(|decision| decision.is_keep()).count();
        let bytes = bytes.get(repository).copied().unwrap_or_default();
        let counts = Counts { tags, kept, removed: tags - kept, bytes };
        summary.total += counts;
        summary.repositories.push(Line { repository: repository.clone(), counts });
    }
    summary
}
