//! What a registry holds, seen at one moment, holes included.

use serde::{Deserialize, Serialize};

/// What deleting can do in a registry (FACTS section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Powers {
    /// Manifests are deleted by digest, and every tag on the digest goes with it (Distribution 2.x).
    DeleteOnly,
    /// A tag can be deleted by itself as well (Distribution 3.x, zot and others).
    DeleteAndUntag,
}
