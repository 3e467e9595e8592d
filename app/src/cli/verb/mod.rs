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

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

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

/// What a verb prints, kept for the report on several registries.
#[derive(Debug, Default)]
pub struct Printed {
    /// The texts, in order.
    pub text: String,
    /// The result for programs.
    pub json: Option<serde_json::Value>,
}

tokio::task_local! {
    /// Where what is printed goes in the work on one of several registries; elsewhere it goes to standard output.
    static PRINTED: Arc<Mutex<Printed>>;
}

/// Does `work`, and keeps what it prints.
pub(super) async fn printed<F: Future>(work: F) -> (F::Output, Printed) {
    let kept = Arc::new(Mutex::new(Printed::default()));
    let output = PRINTED.scope(Arc::clone(&kept), work).await;
    let printed = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
    (output, printed)
}

/// Where what is printed is to be kept, if it is.
fn kept() -> Option<Arc<Mutex<Printed>>> {
    PRINTED.try_with(Arc::clone).ok()
}

/// Prints a result as JSON.
pub(super) fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    if let Some(kept) = kept() {
        let value = serde_json::to_value(value).map_err(|error| Failure::new(Exit::Bug, error))?;
        kept.lock().unwrap_or_else(PoisonError::into_inner).json = Some(value);
        return Ok(());
    }
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Bug, error))?;
    print(&text);
    Ok(())
}

/// Why a result could not be printed: the disk that it was to go to is full, say.
static UNPRINTED: Mutex<Option<io::Error>> = Mutex::new(None);

/// What kept a result from being printed, if anything did.
pub(super) fn unprinted() -> Option<io::Error> {
    UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Prints a line of a result. Whoever closes the pipe has read enough.
pub(super) fn print(text: &str) {
    if let Some(kept) = kept() {
        let printed = &mut kept.lock().unwrap_or_else(PoisonError::into_inner).text;
        printed.push_str(text);
        printed.push('\n');
        return;
    }
    let mut stdout = io::stdout();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        *UNPRINTED.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}
