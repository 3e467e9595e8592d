//! Arguments, configuration, exit codes and hints; one verb a file.

pub mod config;
