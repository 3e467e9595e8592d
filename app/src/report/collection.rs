//! What a collection of ours would remove, and what it removed.

use clean_registry_core::gc::Garbage;
use clean_registry_core::name::{Bytes, count};
use clean_registry_core::plan::Freed;
use clean_registry_core::stored::{Age, Spares, StorageGap};
use serde::Serialize;

use crate::age::AgeText;
use crate::failure::Exit;
use crate::gc::{Mode, Outcome, Scanned, Wishes};
use crate::storage::{Storage, StorageError};

/// Lines of one kind that are shown to people.
const SHOWN: usize = 20;

/// What a collection would remove.
#[derive(Debug, Serialize)]
pub struct Planned {
    /// The storage.
    pub storage: String,
    /// How old something must be, at least.
    pub grace: String,
    /// What there is.
    pub holds: Holds,
    /// What would go.
    #[serde(flatten)]
    pub garbage: Garbage,
    /// What is broken, and what it spares.
    pub gaps: Vec<StorageGap>,
    /// Files that an interrupted collection had hidden: they would be brought back first.
    pub hidden: usize,
    /// All bytes that would go.
    pub bytes: Bytes,
    /// Requests, or system calls, that it took to find out.
    pub requests: u64,
}

/// What a storage holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Holds {
    /// Repositories.
    pub repositories: usize,
    /// Tags.
    pub tags: usize,
    /// Manifests, once in each repository that has them.
    pub manifests: usize,
    /// Blobs, once.
    pub blobs: usize,
    /// Their bytes, unless only their names were looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// Unfinished uploads.
    pub uploads: usize,
    /// What those take.
    pub upload_bytes: Bytes,
}

impl Holds {
    fn of(scanned: &Scanned) -> Self {
        let repos = || scanned.stored.repos.values();
        Self {
            repositories: repos().len(),
            tags: repos().map(|repo| repo.tags.len()).sum(),
            manifests: repos().map(|repo| repo.revisions.len()).sum(),
            blobs: scanned.stored.blobs.len(),
            bytes: scanned.stored.blobs.bytes(),
            uploads: repos().map(|repo| repo.uploads.len()).sum(),
            upload_bytes: repos().flat_map(|repo| repo.uploads.values()).map(|upload| upload.size).sum(),
        }
    }
}

impl Planned {
    /// Tells what was decided.
    ///
    /// # Errors
    /// When the quarantine cannot be listed.
    pub async fn new(
        storage: &dyn Storage,
        wishes: &Wishes,
        scanned: &Scanned,
    ) -> Result<Self, StorageError> {
        Ok(Self {
            storage: storage.location(),
            grace: wishes.grace.to_string(),
            holds: Holds::of(scanned),
            bytes: scanned.decided.garbage.bytes(),
            garbage: scanned.decided.garbage.clone(),
            gaps: scanned.decided.gaps.clone(),
            hidden: storage.hidden().await?.len(),
            requests: storage.requests(),
        })
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let Holds { repositories, tags, manifests, blobs, bytes, uploads, upload_bytes } = self.holds;
        let mut lines = vec![format!(
            "{} holds {}, {}, {} and {}{}",
            self.storage,
            count(repositories, "repository", "repositories"),
            count(tags, "tag", "tags"),
            count(manifests, "manifest", "manifests"),
            count(blobs, "blob", "blobs"),
            bytes.map(|bytes| format!(": {bytes}")).unwrap_or_default(),
        )];
        if self.hidden > 0 {
            lines.push(format!(
                "An interrupted collection had hidden {}; the next one brings them back first",
                count(self.hidden, "file", "files")
            ));
        }
        lines.extend(gap_lines(&self.gaps));
        let manifests = self
            .garbage
            .manifests
            .iter()
            .map(|found| format!("  {}@{}", found.repository, found.digest.short()));
        lines.extend(section("Manifests that nothing needs", manifests.collect()));
        lines.extend(section(
            "Empty repositories",
            self.garbage.repositories.iter().map(|name| format!("  {name}")).collect(),
        ));
        let abandoned = self
            .garbage
            .uploads
            .iter()
            .map(|upload| format!("  {} {}: {}", upload.repository, upload.id, upload.bytes));
        lines.extend(section("Abandoned uploads", abandoned.collect()));
        let blob_bytes: Bytes = self.garbage.blobs.iter().map(|blob| blob.bytes).sum();
        let mut garbage = format!(
            "Garbage older than {}: {} with {blob_bytes}, {}",
            self.grace,
            count(self.garbage.blobs.len(), "blob", "blobs"),
            count(self.garbage.links.len(), "layer link", "layer links"),
        );
        if !self.garbage.temporary_files.is_empty() {
            garbage += ", ";
            garbage += &count(self.garbage.temporary_files.len(), "temporary file", "temporary files");
        }
        lines.push(garbage);
        lines.push(format!("{} would be freed. Nothing has been touched.", self.bytes));
        if uploads > self.garbage.uploads.len() {
            lines.push(format!(
                "hint: {} with {upload_bytes}; --uploads removes abandoned ones",
                count(uploads, "upload is unfinished", "uploads are unfinished")
            ));
        }
        if self.garbage.blobs.is_empty() && self.grace != AgeText(Age(0)).to_string() {
            lines.push("hint: what is younger stays; --grace 0s shows it, too".to_owned());
        }
        lines.join("\n")
    }
}

fn section(title: &str, mut lines: Vec<String>) -> Vec<String> {
    if lines.is_empty() {
        return lines;
    }
    let more = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    if more > 0 {
        lines.push(format!("  and {more} more; --output json lists all"));
    }
    lines.insert(0, format!("{title}:"));
    lines
}

fn gap_lines(gaps: &[StorageGap]) -> Vec<String> {
    let lines = gaps.iter().map(|gap| {
        let spared = match (gap.spares, &gap.repository) {
            (Spares::Nothing, _) => String::new(),
            (Spares::Manifests, Some(name)) => format!(" (every manifest of {name} stays)"),
            (Spares::Everything, Some(name)) => format!(" (all that {name} links stays)"),
            (_, None) => " (whatever it may need stays)".to_owned(),
        };
        format!("  {gap}{spared}")
    });
    section("Broken or not understood", lines.collect())
}

/// What a collection removed.
#[derive(Debug, Serialize)]
pub struct Removed {
    /// The storage.
    pub storage: String,
    /// How.
    pub mode: Mode,
    /// What went, but for what failed.
    #[serde(flatten)]
    pub garbage: Garbage,
    /// How many blobs are gone.
    pub removed_blobs: u64,
    /// How many links, manifests and other files are gone.
    pub removed_files: u64,
    /// Folders without anything in them that are gone.
    pub removed_folders: u64,
    /// Hidden files that turned out to be needed.
    pub restored: u64,
    /// The bytes that are gone, as another listing shows.
    pub freed: Freed,
    /// How long the registry was closed, in seconds.
    pub closed_for: Option<f64>,
    /// How it was known to be closed.
    pub closed_by: Option<String>,
    /// What is broken, and what it spared.
    pub gaps: Vec<StorageGap>,
    /// What could not be removed or checked.
    pub troubles: Vec<String>,
    /// How old something had to be, at least.
    pub grace: String,
    /// Requests, or system calls, that it took.
    pub requests: u64,
}

impl Removed {
    /// Tells what came of a collection.
    #[must_use]
    pub fn new(mode: Mode, storage: &dyn Storage, wishes: &Wishes, outcome: Outcome, freed: Bytes) -> Self {
        let troubles = outcome.troubles().collect();
        Self {
            storage: storage.location(),
            mode,
            removed_blobs: outcome.swept.blobs,
            removed_files: outcome.swept.others,
            removed_folders: outcome.folders,
            restored: outcome.restored,
            freed: Freed(freed),
            closed_for: outcome.closed_for.map(|time| time.as_secs_f64()),
            closed_by: outcome.closed_by,
            troubles,
            grace: wishes.grace.to_string(),
            gaps: outcome.gaps,
            garbage: outcome.garbage,
            requests: storage.requests(),
        }
    }

    /// Done, or in part where something could not be removed or understood.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let is_blind = self.gaps.iter().any(|gap| gap.spares == Spares::Everything);
        if is_blind || !self.troubles.is_empty() { Exit::InPart } else { Exit::Done }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = gap_lines(&self.gaps);
        lines.extend(section(
            "Not done",
            self.troubles.iter().map(|trouble| format!("  {trouble}")).collect(),
        ));
        lines.push(format!(
            "Garbage collection: {}, {} and {} removed",
            count(self.removed_blobs, "blob", "blobs"),
            count(self.removed_files, "other file", "other files"),
            count(self.removed_folders, "empty folder", "empty folders"),
        ));
        if self.restored > 0 {
            lines.push(format!(
                "{} turned out to be needed and came back",
                count(self.restored, "hidden file", "hidden files")
            ));
        }
        if let Some(seconds) = self.closed_for {
            lines.push(format!("The registry was closed for {seconds:.1} s"));
        }
        lines.push(format!("Storage: {} freed (listed again after the collection)", self.freed.0));
        if self.removed_blobs == 0 && self.grace != AgeText(Age(0)).to_string() {
            lines.push(format!(
                "hint: what is younger than {} stays; --plan --grace 0s shows it, too",
                self.grace
            ));
        }
        lines.join("\n")
    }
}
