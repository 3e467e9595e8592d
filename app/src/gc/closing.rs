//! Closing a registry to writes, proving it closed, and opening it again.
//!
//! Nothing but a registry that takes no writes makes a plain sweep safe: a grace period cannot (FACTS section 4.2).

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clean_registry_core::journal::Record;
use thiserror::Error;

use super::processes::{self, Process, Processes};
use crate::registry::{Error as RegistryError, Reader, Refusal, Writer};
use crate::runtime::docker::{self, Container};
use crate::state::{RunLog, StateError};
use crate::storage::Storage;

/// How long a registry may take to be seen closed, or open.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why a registry is not closed, or not open again.
#[derive(Debug, Error)]
pub enum ClosingError {
    /// It takes writes, and nothing is known that would close it.
    #[error("the registry is open to pushes: {0}")]
    Open(String),
    /// It may take writes, and this user may not see whether it does.
    #[error("the registry may be open to pushes: {0}")]
    Hidden(String),
    /// It took writes although it was to be closed.
    #[error("the registry was opened by somebody else during the collection: {0}")]
    OpenedMeanwhile(String),
    /// What was to be restarted runs on, with the requests and the cache that it had.
    #[error("the registry was not restarted: process {pid} still stores there (`{command}`)")]
    NotRestarted {
        /// The process.
        pid: u32,
        /// Its command line.
        command: String,
    },
    /// Whether it takes writes cannot be told.
    #[error("whether a registry writes to {0} cannot be told from here")]
    Unknown(String),
    /// A command of the owner's failed.
    #[error("`{command}` failed: {why}")]
    Command {
        /// The command.
        command: String,
        /// How.
        why: String,
    },
    /// The engine.
    #[error(transparent)]
    Docker(#[from] docker::Error),
    /// The journal.
    #[error(transparent)]
    State(#[from] StateError),
    /// The owner did not close it.
    #[error("nobody closed the registry")]
    Declined,
}

impl ClosingError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Open(_) => {
                "stop it or make it read-only and run this again; or let it be closed for you: registry.container, or \
                 --close-command and --open-command with --mode barrier; or --mode quarantine"
            }
            Self::Hidden(_) => "run this as root, or as the user the registry runs as",
            Self::NotRestarted { .. } => {
                "every registry on this storage has to be restarted by --close-command and --open-command, or by its container; \
                 what was hidden is back, and nothing was removed"
            }
            Self::OpenedMeanwhile(_) => "images pushed during the collection should be pushed again",
            Self::Unknown(_) => {
                "name the registry's URL, container or configuration; or stop it and say so with --mode offline"
            }
            Self::Docker(error) => return error.hint().map(str::to_owned),
            Self::Command { .. } | Self::State(_) | Self::Declined => return None,
        };
        Some(hint.to_owned())
    }
}

/// The registry takes no writes, and how that is known. Whoever sweeps asks for it.
#[derive(Debug)]
pub struct Closed(pub(super) String);

/// What can be looked at to tell whether a registry takes writes.
#[derive(Debug, Default)]
pub struct Watch {
    /// The storage, for people.
    pub storage: String,
    /// The storage's directory, if it is on this host.
    pub directory: Option<PathBuf>,
    /// The registry's address; asked once, without trying again.
    pub reader: Option<Reader>,
    /// Its container.
    pub container: Option<Container>,
}

/// Whether a registry takes writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It does, and what shows that.
    Open(String),
    /// It may: something that this user may not look into.
    Hidden(String),
    /// It does not, and what shows that.
    Closed(String),
    /// Nothing shows anything.
    Unknown,
}

impl Watch {
    /// What can be looked at of a registry on `storage`.
    #[must_use]
    pub fn of(storage: &dyn Storage, container: Option<Container>, reader: Option<Reader>) -> Self {
        let directory = storage.directory().map(Into::into);
        Self { storage: storage.location(), directory, reader, container }
    }

    /// Looks at everything there is to look at. One sign that it is open is enough; all must say that it is closed.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn look(&self) -> Result<Seen, docker::Error> {
        let mut closed: Vec<String> = Vec::new();
        for seen in [self.look_at_container().await?, self.look_at_address().await, self.look_at_processes()]
        {
            match seen {
                Seen::Open(_) | Seen::Hidden(_) => return Ok(seen),
                Seen::Closed(sign) => closed.push(sign),
                Seen::Unknown => {}
            }
        }
        Ok(if closed.is_empty() { Seen::Unknown } else { Seen::Closed(closed.join(", ")) })
    }

    async fn look_at_container(&self) -> Result<Seen, docker::Error> {
        let Some(container) = &self.container else { return Ok(Seen::Unknown) };
        if !container.is_running().await? {
            return Ok(Seen::Closed(format!("container {} is stopped", container.name())));
        }
        // One that runs may be read-only: its address tells.
        Ok(match &self.reader {
            Some(_) => Seen::Unknown,
            None => Seen::Open(format!("container {} is running", container.name())),
        })
    }

    /// What the registry's address tells.
    pub async fn look_at_address(&self) -> Seen {
        let Some(reader) = &self.reader else { return Seen::Unknown };
        let Ok(probe) = "clean-registry-probe".parse() else { return Seen::Unknown };
        let host = reader.host();
        match Writer::new(reader.clone()).probe(&probe).await {
            Err(Refusal::ReadOnly { .. }) => Seen::Closed(format!("{host} is read-only")),
            // The address may be wrong, or not for this host: that nobody answers shows nothing.
            Err(Refusal::Other(RegistryError::Unreachable { .. })) => Seen::Unknown,
            _ => Seen::Open(format!("{host} answers, and is not read-only")),
        }
    }

    /// The registries of this host that store there, as far as they can be looked into.
    #[must_use]
    pub fn registries(&self) -> Vec<Process> {
        self.directory.as_deref().map(processes::storing_in).unwrap_or_default().using
    }

    /// Waits until none of `before` runs any more. One that is told to end may finish a request first.
    ///
    /// # Errors
    /// [`ClosingError::NotRestarted`].
    pub async fn has_ended(&self, before: &[Process]) -> Result<(), ClosingError> {
        let began = Instant::now();
        let is_same = |one: &Process, other: &Process| (one.pid, one.began) == (other.pid, other.began);
        loop {
            let left = self.registries().into_iter().find(|now| before.iter().any(|old| is_same(old, now)));
            match left {
                None => return Ok(()),
                Some(Process { pid, command, .. }) if began.elapsed() > PATIENCE => {
                    return Err(ClosingError::NotRestarted { pid, command });
                }
                Some(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    fn look_at_processes(&self) -> Seen {
        let Some(directory) = &self.directory else { return Seen::Unknown };
        let Processes { using, hidden } = processes::storing_in(directory);
        if let Some(process) = using.iter().find(|process| process.may_write()) {
            return Seen::Open(format!("process {} stores there (`{}`)", process.pid, process.command));
        }
        if let Some((pid, command)) = hidden.first() {
            return Seen::Hidden(format!(
                "process {pid} may store there, and cannot be looked into (`{command}`)"
            ));
        }
        match using.first() {
            Some(process) => Seen::Closed(format!("process {} is read-only", process.pid)),
            None if is_network(directory) => Seen::Unknown,
            None => Seen::Closed("no registry of this host stores there".to_owned()),
        }
    }
}

/// On a network file system, registries of other hosts may store, too.
fn is_network(directory: &std::path::Path) -> bool {
    const NFS: i64 = 0x6969;
    const SMB: [i64; 3] = [0x517b, 0xfe53_4d42, 0xff53_4d42_u32 as i64];
    const FUSE: i64 = 0x6573_5546;
    const CEPH: i64 = 0x00c3_6400;
    rustix::fs::statfs(directory).is_ok_and(|found| {
        #[expect(clippy::useless_conversion, reason = "the type differs between architectures")]
        let kind = i64::from(found.f_type);
        [NFS, FUSE, CEPH].contains(&kind) || SMB.contains(&kind)
    })
}

/// How a registry is closed and opened again.
#[derive(Debug, Clone)]
pub enum Closing {
    /// Its container is stopped and started.
    Container(Container),
    /// By commands of the owner's, each a line for `sh`.
    Commands {
        /// Closes it.
        close: String,
        /// Opens it.
        open: String,
    },
    /// The owner is asked at the terminal.
    Ask,
    /// It is closed already, or the owner says that it is: it is only looked at.
    Nothing,
}

impl Closing {
    /// Closes the registry and proves it.
    ///
    /// # Errors
    /// When it cannot be closed, or is seen open all the same.
    pub async fn close(&self, watch: &Watch, log: Option<&RunLog>) -> Result<Closed, ClosingError> {
        match self {
            Self::Container(container) => {
                record(log, &Record::Stopping { container: container.name().to_owned() })?;
                container.stop().await?;
            }
            Self::Commands { close, open } => {
                record(log, &Record::Closing { open: open.clone() })?;
                run(close).await?;
            }
            Self::Ask => ask("Stop the registry now, or make it read-only; then press Enter: ")?,
            Self::Nothing => {}
        }
        self.prove(watch).await
    }

    /// A registry that is being closed may answer for a moment more.
    async fn prove(&self, watch: &Watch) -> Result<Closed, ClosingError> {
        let began = Instant::now();
        let is_over = || began.elapsed() > PATIENCE || matches!(self, Self::Nothing);
        loop {
            match watch.look().await? {
                Seen::Closed(sign) => return Ok(Closed(sign)),
                Seen::Open(sign) if is_over() => return Err(ClosingError::Open(sign)),
                Seen::Hidden(sign) if is_over() => return Err(ClosingError::Hidden(sign)),
                Seen::Open(_) | Seen::Hidden(_) => tokio::time::sleep(LOOK_EVERY).await,
                // What closed it, or who says that it is closed, is all that is known.
                Seen::Unknown => {
                    let sign = match self {
                        Self::Container(container) => format!("container {} was stopped", container.name()),
                        Self::Commands { close, .. } => format!("`{close}` says so"),
                        Self::Ask | Self::Nothing => "its owner says so".to_owned(),
                    };
                    return Ok(Closed(sign));
                }
            }
        }
    }

    /// Looks once more, after the sweep: whoever opened the registry meanwhile may have lost a push.
    ///
    /// # Errors
    /// [`ClosingError::OpenedMeanwhile`].
    pub async fn still_closed(&self, watch: &Watch) -> Result<(), ClosingError> {
        match watch.look().await? {
            Seen::Open(sign) | Seen::Hidden(sign) => Err(ClosingError::OpenedMeanwhile(sign)),
            _ => Ok(()),
        }
    }

    /// Opens the registry again.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn open(&self, log: Option<&RunLog>) -> Result<(), ClosingError> {
        match self {
            Self::Container(container) => {
                container.start().await?;
                record(log, &Record::Started { container: container.name().to_owned() })
            }
            Self::Commands { open, .. } => {
                run(open).await?;
                record(log, &Record::Opened)
            }
            Self::Ask => ask("The registry can be started again now; press Enter when it is: "),
            Self::Nothing => Ok(()),
        }
    }

    /// Whether it closes and opens a registry by itself.
    #[must_use]
    pub const fn is_able(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// Asks at the terminal, if there is one.
    #[must_use]
    pub fn ask_if_possible() -> Self {
        if io::stdin().is_terminal() && io::stderr().is_terminal() { Self::Ask } else { Self::Nothing }
    }
}

/// Runs a command line of the owner's.
///
/// # Errors
/// When it cannot be run, or ends with another code than 0.
pub async fn run(command: &str) -> Result<(), ClosingError> {
    let failed = |why: String| ClosingError::Command { command: command.to_owned(), why };
    let mut shell = tokio::process::Command::new("sh");
    let ended =
        shell.args(["-c", command]).stdin(std::process::Stdio::null()).stdout(io::stderr()).status().await;
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn record(log: Option<&RunLog>, record: &Record) -> Result<(), ClosingError> {
    log.map_or(Ok(()), |log| log.record(record)).map_err(Into::into)
}

fn ask(question: &str) -> Result<(), ClosingError> {
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{question}").and_then(|()| stderr.flush());
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(read) if read > 0 => Ok(()),
        _ => Err(ClosingError::Declined),
    }
}
