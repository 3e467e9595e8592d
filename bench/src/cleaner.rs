//! `clean-registry` as a process: with a configuration, a state and a log of its own.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The directory of this crate, where the scripts are.
pub const SCRIPTS: &str = env!("CARGO_MANIFEST_DIR");

/// The program, ready to be run on one registry.
#[derive(Debug)]
pub struct Cleaner {
    directory: TempDir,
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// The largest resident set.
    pub peak_mib: f64,
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Wall time.
    pub wall: Duration,
}

impl Cleaner {
    /// For the registry at `address`; it has never seen it.
    ///
    /// # Errors
    /// If its files cannot be written.
    pub fn new(address: SocketAddr) -> io::Result<Self> {
        let directory = TempDir::new()?;
        let config = json!({
            "registry": { "url": format!("http://{address}") },
            "cleanup": { "days_to_keep": 30, "protected_tags": ["latest"], "protected_patterns": ["release"] },
        });
        std::fs::write(directory.path().join("config.json"), config.to_string())?;
        Ok(Self { directory })
    }

    /// Makes it forget what it saw.
    ///
    /// # Errors
    /// If its state cannot be removed.
    pub fn forget(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.state()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Runs `plan`, which must find `tags` tags and nothing that it could not read, and says how long it took.
    ///
    /// # Errors
    /// If it fails, or does not see everything.
    pub fn plan(&self, tags: usize) -> io::Result<Duration> {
        let begun = Instant::now();
        let output = self.command(Command::new(program()?)).output()?;
        let took = begun.elapsed();
        succeeded(&output, tags)?;
        Ok(took)
    }

    /// The same, with what it took from the system.
    ///
    /// # Errors
    /// As [`Cleaner::plan`].
    pub fn plan_measured(&self, tags: usize) -> io::Result<Usage> {
        let report = self.directory.path().join("usage.json");
        let mut command = Command::new("python3");
        command.arg(format!("{SCRIPTS}/usage.py")).arg(&report).arg(program()?);
        let begun = Instant::now();
        let output = self.command(command).output()?;
        let wall = begun.elapsed();
        succeeded(&output, tags)?;
        let report: Value = serde_json::from_slice(&std::fs::read(report)?)?;
        let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
        Ok(Usage {
            peak_mib: number("peak_kib") / 1024.0,
            cpu: Duration::try_from_secs_f64(number("cpu_seconds")).map_err(io::Error::other)?,
            wall,
        })
    }

    fn command(&self, mut command: Command) -> Command {
        let path = |name: &str| self.directory.path().join(name);
        command.arg("plan").arg("--config").arg(path("config.json"));
        command.arg("--state-dir").arg(self.state()).arg("--log-file").arg(path("log"));
        command
            .env("DOCKER_CONFIG", self.directory.path())
            .env_remove("CLEAN_REGISTRY_USER")
            .env_remove("DEBUG");
        command
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }
}

/// The program that was built beside this one.
pub fn program() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("clean-registry"))
}

fn succeeded(output: &Output, tags: usize) -> io::Result<()> {
    let log = String::from_utf8_lossy(&output.stderr);
    let is_whole = log.contains(&format!("with {tags} tags in ")) && !log.contains("not fully known");
    if output.status.success() && is_whole {
        return Ok(());
    }
    Err(io::Error::other(format!("clean-registry did not see all of {tags} tags ({}): {log}", output.status)))
}
