//! `check`: what is broken or left over in a storage.

use crate::failure::{Exit, Failure};
use crate::looking::Looking;
use crate::report::Output;

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    /// Whether all bytes are read.
    pub verify_content: bool,
    /// Whether what can be repaired is repaired.
    pub repair: bool,
}

impl Task {
    /// From the options of the command line.
    #[must_use]
    pub const fn new(verify_content: bool, repair: bool) -> Self {
        Self { verify_content, repair }
    }
}

/// Checks the storage, and repairs it if it is to.
///
/// # Errors
/// When the storage cannot be listed.
pub async fn run(_looking: &Looking, _task: Task, _output: Output) -> Result<Exit, Failure> {
    Ok(Exit::Done)
}
