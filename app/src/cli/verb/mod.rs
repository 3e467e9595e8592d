//! The verbs, one a file.

pub mod apply;
pub mod check;
pub mod compare;
pub mod config;
pub mod demo;
pub mod explain;
pub mod gc;
pub mod plan;
pub mod run;
pub mod runs;
pub mod undo;
pub mod usage;
pub mod verify;

use clean_registry_core::name::Tag;
use serde::Serialize;

use crate::failure::{Exit, Failure};

/// A tag as it fits in a line: that of a signature names a whole digest.
fn short(tag: &Tag) -> String {
    match tag.subject() {
        Some(_) => format!("{}…{}", &tag.as_str()[..19], &tag.as_str()[71..]),
        None => tag.to_string(),
    }
}

/// Prints a result as JSON.
fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Bug, error))?;
    print(&text);
    Ok(())
}

/// Prints a line of a result. Whoever closes the pipe has read enough.
pub(super) fn print(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}
