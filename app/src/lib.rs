//! Acts on registries: the library behind the binary `clean-registry`.

pub mod cli;
pub mod demo;
pub mod registry;
pub mod runtime;
pub mod state;
