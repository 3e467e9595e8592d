//! Decides what a container registry may lose, and cannot act.
//!
//! There is no disk, network, process, environment or clock in this crate: what it needs to know it is handed, what
//! it finds it returns. Data flows one way:
//! `Inventory` → [`policy::judge`] → `Verdicts` → [`plan::draw`] → `Plan` → [`audit::audit`] → `Sound`.
//!
//! A module uses only those above it in the list below.

// Digest, RepoName, Tag, MediaType, Bytes: parsed once, holding one is proof.
pub mod name;
// What a manifest says, from its bytes.
pub mod manifest;
// Distribution's storage paths and what they mean.
pub mod layout;
// What a storage holds, as one pass over it sees.
pub mod stored;
// What workloads use of a registry, as they write it.
pub mod in_use;
// Which stored bytes nobody needs.
pub mod gc;
// What a registry holds, seen at one moment, holes included.
pub mod inventory;
// What is broken in a storage, which images suffer, and what is left over.
pub mod check;
// Which tags cannot be pulled.
pub mod verify;
// What can be mended without losing anything, and its own pair of eyes.
pub mod repair;
// What takes the room.
pub mod usage;
// Who needs whom.
pub mod graph;
// Which names are meant.
pub mod pattern;
// Keep on grounds, or remove for a cause.
pub mod decision;
// The owner's wishes, and what they come to.
pub mod policy;
// What in a policy cannot have been meant.
pub mod lint;
// Ordered actions with inverses.
pub mod plan;
// What another policy would do differently.
pub mod compare;
// The second pair of eyes: uses neither graph nor policy nor decision.
pub mod audit;
// What the registry's own collector would lose.
pub mod hazard;
// What a plan may come to at most.
pub mod limits;
// What was done, and its inversion.
pub mod journal;
// What a plan comes to, in numbers.
pub mod report;

#[cfg(test)]
mod sample;
