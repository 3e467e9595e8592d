//! Registries of any size, made up: for the benchmarks, and for whoever needs a large one.

pub mod generate;
