//! Decides what a container registry may lose, and cannot act.
//!
//! There is no disk, network, process, environment or clock in this crate: what it needs to know it is handed, what
//! it finds it returns. Data flows one way:
//! `Inventory` → [`policy::judge`] → `Verdicts` → [`plan::draw`] → `Plan` → [`audit::audit`] → `Sound`.
//!
//! A module uses only those above it in this list.

pub mod audit;
pub mod decision;
pub mod gc;
pub mod graph;
pub mod hazard;
pub mod inventory;
pub mod journal;
pub mod layout;
pub mod manifest;
pub mod name;
pub mod plan;
pub mod policy;
pub mod report;

#[cfg(test)]
mod sample;
