//! What a stress is to be.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// People push and delete while a collector loops; at the end every manifest that the registry accepted and that nobody
/// deleted must be whole.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench stress", no_binary_name = true, about, long_about = None)]
pub struct Options {
    /// The registry's program.
    #[arg(long, value_name = "PROGRAM")]
    pub registry: PathBuf,
    /// A whole configuration for it, with {ADDR} for where it listens and {ROOT} for a storage on the local disk. For another
    /// storage it must be JSON, which is YAML, and name one that is new. Without it: the local disk and no cache.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep descriptors of blobs in the registry's memory, as most configurations do.
    #[arg(long, conflicts_with = "config")]
    pub cache: bool,
    /// How long people push.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// The same number makes the same choices, as far as what happens side by side allows.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many push at a time.
    #[arg(long, default_value_t = 6)]
    pub pushers: u64,
    /// How many delete at a time.
    #[arg(long, default_value_t = 2)]
    pub deleters: u64,
    /// What collects.
    #[arg(long, value_enum, default_value_t = Kind::None)]
    pub collector: Kind,
    /// A shell command that collects once, with {STORAGE} for the directory, {CONFIG} for the registry's configuration, and
    /// {CLOSE}, {OPEN} and {RESTART} for commands that stop and start the registry.
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "collector")]
    pub command: Option<String>,
    /// Milliseconds between two rounds of the collector. One that closes the registry must leave it open now and then.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 20)]
    pub pause: u64,
    /// The collector is one that loses images: fail when none is broken.
    #[arg(long)]
    pub expect_broken: bool,
    /// Leave the storage where it is, to be looked at.
    #[arg(long)]
    pub keep: bool,
}

/// The collectors that need no program of ours. All but the first and the last lose images, and are here so that the stress
/// can be seen to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Nothing is collected.
    None,
    /// The registry's own garbage-collect.
    Official,
    /// Manifests are marked, then blobs listed and removed: the order of the registry's own.
    MarkThenSweep,
    /// Blobs are listed first, then manifests marked, then what is not marked is removed.
    ListFirst,
    /// As before, and what is to go is hidden before it is purged, without another look.
    NoRescan,
    /// Hidden, looked at again, and restored where needed.
    Rescan,
}
