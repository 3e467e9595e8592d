//! How garbage is collected.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::age::AgeText;
use crate::gc::Mode;

/// How garbage is collected after a deletion.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GarbageCollection {
    /// Which collector; by default `native` where the storage can be reached, else `exec` when a container is named.
    pub mode: Option<CollectorMode>,
    /// Whether the container is restarted after a collection in it, for `exec`.
    #[serde(default)]
    pub restart: Restart,
    /// How `native` deals with people who push meanwhile; by default the safest that is possible.
    pub native: Option<Mode>,
    /// How old a blob, and every link to it, must be to be collected by `native`; by default `24h`.
    pub grace: Option<AgeText>,
    /// How old a layer link must be to go when its blob is gone; by default as `grace`. `native` only, as all that follow.
    pub dangling_links: Option<AgeText>,
    /// Uploads that nobody continued for so long go; by default they stay.
    pub uploads: Option<AgeText>,
    /// Temporary files that a crash of the registry left so long ago go; by default they stay.
    pub temporary_files: Option<AgeText>,
    /// Repositories that have been empty for so long go; by default they stay.
    pub empty_repositories: Option<AgeText>,
    /// Folders that hold nothing go as well, wherever they are.
    #[serde(default)]
    pub empty_folders: bool,
    /// How long a request may be under way in a registry that is not restarted; by default `60s`, on object stores `15m`.
    pub wait: Option<AgeText>,
    /// A line for `sh` that closes the registry to writes: stops it, or makes it read-only.
    pub close_command: Option<String>,
    /// A line for `sh` that opens it again.
    pub open_command: Option<String>,
}

/// Which collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CollectorMode {
    /// Ours, over the storage.
    Native,
    /// The registry's own in the running container. An image pushed during it can lose layers.
    Exec,
    /// The registry's own in a one-off container while the registry's is stopped: safe against pushes.
    Offline,
    /// Not at all: nothing is freed.
    None,
}

/// Whether the container is restarted after a collection in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Restart {
    /// When its blob descriptor cache is on: else the next push would be broken.
    #[default]
    Auto,
    /// Never: somebody else sees to the cache.
    Never,
}
