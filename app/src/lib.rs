//! Acts on registries: the library behind the binary `clean-registry`.

pub mod demo;
pub mod registry;
pub mod runtime;
