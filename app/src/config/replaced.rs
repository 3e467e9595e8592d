//! A section that one of several registries has of its own in place of the one that stands beside `registries`.

use std::fmt;

use serde_json::{Map, Value};

use crate::in_use::called;
use crate::in_use::section::SourceSection;

/// A shared section that a registry replaces whole, and what of it the registry does not repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Its key.
    section: String,
    /// The keys of it that are dropped; of `in_use` the names of the sources.
    dropped: Vec<String>,
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { section, dropped } = self;
        write!(
            f,
            "{section} replaces the one beside registries whole: what that says of {} does not hold here; repeat what is to hold",
            dropped.join(", ")
        )
    }
}

/// What of a shared section is dropped where a registry has its `own`, if anything is. An empty one says plainly that nothing of it
/// is to hold.
pub(super) fn replaced(section: &str, shared: &Value, own: &Value) -> Option<Replaced> {
    let dropped: Vec<String> = match (shared, own) {
        (Value::Object(shared), Value::Object(own)) if !own.is_empty() => left_out(shared, own),
        (Value::Array(shared), Value::Array(own)) if !own.is_empty() => sources_left_out(shared, own),
        _ => Vec::new(),
    };
    (!dropped.is_empty()).then(|| Replaced { section: section.to_owned(), dropped })
}

fn left_out(shared: &Map<String, Value>, own: &Map<String, Value>) -> Vec<String> {
    shared.keys().filter(|key| !own.contains_key(*key)).cloned().collect()
}

fn sources_left_out(shared: &[Value], own: &[Value]) -> Vec<String> {
    let left_out = shared.iter().filter(|source| !own.contains(source));
    let sources = left_out.filter_map(|source| serde_json::from_value::<SourceSection>(source.clone()).ok());
    called(&sources.collect::<Vec<_>>())
}
