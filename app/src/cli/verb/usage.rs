//! `usage`: what takes the room.

use crate::cli::arguments::{By, Form};
use crate::failure::{Exit, Failure};
use crate::looking::Looking;

/// Prints what takes the room.
///
/// # Errors
/// When the storage cannot be listed.
pub async fn run(_looking: &Looking, _by: By, _form: Form) -> Result<Exit, Failure> {
    Ok(Exit::Done)
}
