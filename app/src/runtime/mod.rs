//! Where the registry's process lives, and what can be done to it there: run its collector, stop it, start it again.

pub mod bare;
pub mod collector;
pub mod config;
pub mod docker;
pub mod measure;
