//! References that a file, a command or a URL lists: between blanks or line ends, or as a JSON array of texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use clean_registry_core::in_use::Reference;
use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;

use super::Used;

/// The longest list that is read. A longer one is no list of references.
const LONGEST: u64 = 64 << 20;
/// What a command has to say about its failure, at most.
const LAST_WORDS: usize = 2000;

/// Why a list cannot be read.
#[derive(Debug, Error)]
pub enum ListedError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The command cannot be run, or ended with another code than 0.
    #[error("the command failed: {0}")]
    Command(String),
    /// The command did not end in time.
    #[error("the command did not end within {} seconds", .0.as_secs())]
    Endless(Duration),
    /// The URL did not answer.
    #[error("{url}: {reason}")]
    Url {
        /// The URL, without what may be secret in it.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It is not a text, or not a list.
    #[error("it is not a list of references: {0}")]
    NotAList(String),
}

impl ListedError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Endless(_) => Some("`timeout` says how long it may take"),
            Self::NotAList(_) => Some(
                "write references between blanks or line ends, `#` before comments, or a JSON array of texts",
            ),
            Self::File { .. } | Self::Command(_) | Self::Url { .. } => None,
        }
    }
}

pub(super) fn of_file(path: &Path, name: &str) -> Result<Vec<Used>, ListedError> {
    let file = |source| ListedError::File { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(file)?.len();
    if length > LONGEST {
        return Err(too_long());
    }
    read(std::fs::read(path).map_err(file)?, name)
}

/// What a line for `sh` prints. It gets the environment of this program and no input, and is ended when its time is up.
pub(super) async fn of_command(
    command: &str,
    name: &str,
    (environment, timeout): (&BTreeMap<String, String>, Duration),
) -> Result<Vec<Used>, ListedError> {
    let printed = run("sh", &["-c".to_owned(), command.to_owned()], (environment, timeout)).await;
    read(printed.map_err(|failed| failed.into_listed())?, name)
}

/// Why a program did not say what it was asked.
#[derive(Debug)]
pub(super) enum Failed {
    Endless(Duration),
    TooLong,
    Other(String),
}

impl Failed {
    fn into_listed(self) -> ListedError {
        match self {
            Self::Endless(time) => ListedError::Endless(time),
            Self::TooLong => too_long(),
            Self::Other(why) => ListedError::Command(why),
        }
    }
}

/// What a program prints. It is ended when its time is up, and all that it started with it.
pub(super) async fn run(
    program: &str,
    arguments: &[String],
    (environment, timeout): (&BTreeMap<String, String>, Duration),
) -> Result<Vec<u8>, Failed> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env_clear().envs(environment).kill_on_drop(true).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Failed::Other(format!("{program}: {error}")))?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    match tokio::time::timeout(timeout, talk(&mut child)).await {
        Err(_) => Err(Failed::Endless(timeout)),
        Ok(Err(Failed::TooLong)) => Err(Failed::TooLong),
        Ok(ended) => {
            group.0 = None;
            ended
        }
    }
}

/// The processes of a command. Whoever lets go of them before the command has ended, ends them: after Ctrl-C, too.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn talk(child: &mut tokio::process::Child) -> Result<Vec<u8>, Failed> {
    let (mut printed, mut said) = (Vec::new(), Vec::new());
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Failed::Other("it has no output".to_owned()));
    };
    let (mut stdout, mut stderr) = (stdout.take(LONGEST + 1), stderr.take(LONGEST));
    let failed = |error: std::io::Error| Failed::Other(error.to_string());
    let read = async {
        match stdout.read_to_end(&mut printed).await.map_err(failed)? as u64 {
            length if length > LONGEST => Err(Failed::TooLong),
            _ => Ok(()),
        }
    };
    // Whoever prints without end must not be waited for until it has nothing to say of its errors.
    tokio::try_join!(read, async { stderr.read_to_end(&mut said).await.map_err(failed) })?;
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(printed);
    }
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(LAST_WORDS)..]).trim().to_owned();
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    Err(Failed::Other(format!("{status}{said}")))
}

pub(super) async fn of_url(url: &str, name: &str, timeout: Duration) -> Result<Vec<Used>, ListedError> {
    let refused = |reason: String| ListedError::Url { url: shown(url), reason };
    let plain = || reqwest::Client::builder().connect_timeout(timeout).timeout(timeout.saturating_mul(2));
    let client = crate::registry::tls::build(plain, &[]).map_err(|error| refused(error.to_string()))?;
    let answer = client.get(url).send().await.map_err(|error| refused(root(&error)))?;
    if !answer.status().is_success() {
        return Err(refused(format!("it answers {}", answer.status())));
    }
    let mut bytes = Vec::new();
    let mut body = answer.bytes_stream();
    while let Some(part) = body.next().await {
        bytes.extend_from_slice(&part.map_err(|error| refused(root(&error)))?);
        if bytes.len() as u64 > LONGEST {
            return Err(too_long());
        }
    }
    read(bytes, name)
}

/// The innermost cause: what lies around it names the URL, and what is secret in it.
pub(super) fn root(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.last().map_or_else(|| "it does not answer".to_owned(), ToString::to_string)
}

/// A URL without credentials and query.
pub(super) fn shown(url: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(url) else { return "(no URL)".to_owned() };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

fn too_long() -> ListedError {
    ListedError::NotAList(format!("it is longer than {} MiB", LONGEST >> 20))
}

/// What a list holds. One that cannot be read whole is not believed in part: it may be no list at all.
fn read(bytes: Vec<u8>, name: &str) -> Result<Vec<Used>, ListedError> {
    let not_a_list = |why: &dyn std::fmt::Display| ListedError::NotAList(why.to_string());
    let text = String::from_utf8(bytes).map_err(|error| not_a_list(&error))?;
    let text = text.trim_start_matches('\u{feff}');
    let used: Vec<Used> = if text.trim_start().starts_with('[') {
        let references: Vec<String> = serde_json::from_str(text).map_err(|error| not_a_list(&error))?;
        references.into_iter().map(|reference| Used { reference, by: name.to_owned() }).collect()
    } else {
        text.lines().enumerate().flat_map(|(number, line)| of_line(number + 1, line, name)).collect()
    };
    match used.iter().find_map(|used| Some((used, Reference::parse(&used.reference).err()?))) {
        Some((used, unreadable)) => Err(not_a_list(&format!("{}: {unreadable}", used.by))),
        None => Ok(used),
    }
}

/// The references of a line, and no comment: `#` is in no reference, and no blank either.
fn of_line<'a>(number: usize, line: &'a str, name: &'a str) -> impl Iterator<Item = Used> + 'a {
    let words = line.split('#').next().unwrap_or_default().split_whitespace();
    words.map(move |word| Used { reference: word.to_owned(), by: format!("{name}, line {number}") })
}

#[cfg(test)]
mod tests;
