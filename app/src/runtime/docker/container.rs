//! One container: what it was made of, what is in it, and whether it runs.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as EngineError;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerInspectResponse, ContainerState, ExecConfig};
use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use clean_registry_core::name::Bytes;
use futures_util::TryStreamExt;

use super::exec::{self, Line, OnLine, Output};
use super::{ANSWER_TIMEOUT, Engine, Error};

/// Configuration files are small; a path that leads to a disk image is a mistake.
const LARGEST_FILE: usize = 16 << 20;
/// As many as Linux follows in one path.
const MOST_LINKS: usize = 40;
/// A process that dies of its configuration does so at once.
const SETTLING: Duration = Duration::from_millis(250);
const SETTLING_ROUNDS: u32 = 6;

/// A container of an engine, as it was made; whether it runs is asked anew every time.
#[derive(Debug, Clone)]
pub struct Container {
    engine: Engine,
    name: String,
    id: String,
    made: Arc<ContainerInspectResponse>,
}

impl Container {
    pub(super) async fn find(engine: &Engine, name: &str) -> Result<Self, Error> {
        let made = engine
            .docker
            .inspect_container(name, None)
            .await
            .map_err(|error| Error::of(&engine.endpoint, name, "inspect the container", &error))?;
        let id = made.id.clone().unwrap_or_else(|| name.to_owned());
        Ok(Self { engine: engine.clone(), name: name.to_owned(), id, made: Arc::new(made) })
    }

    /// The name it was asked for by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The image it was made from, as its owner wrote it.
    #[must_use]
    pub fn image(&self) -> Option<&str> {
        self.made.config.as_ref()?.image.as_deref()
    }

    /// The environment of its process.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let environment = self.made.config.as_ref().and_then(|config| config.env.as_deref());
        let pairs = environment.unwrap_or_default().iter().filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The command line of its process, program first.
    #[must_use]
    pub fn command_line(&self) -> Vec<String> {
        let arguments = self.made.args.iter().flatten();
        self.made.path.iter().chain(arguments).cloned().collect()
    }

    /// Whether a path lies on a volume or a directory mounted into it, rather than in its own layer.
    #[must_use]
    pub fn is_mounted(&self, path: &str) -> bool {
        let points = self.made.mounts.iter().flatten().filter_map(|point| point.destination.as_deref());
        points.into_iter().any(|point| Path::new(path).starts_with(point))
    }

    /// Where the engine's host has what the container has at `path`, if that lies on a volume or a directory of the host.
    #[must_use]
    pub fn on_host(&self, path: &str) -> Option<PathBuf> {
        let points = self.made.mounts.iter().flatten();
        let around = points.filter_map(|point| {
            let inside = Path::new(path).strip_prefix(point.destination.as_deref()?).ok()?.to_owned();
            Some((point.source.as_deref()?, inside))
        });
        // The innermost mount is what the container sees.
        let (source, inside) = around.min_by_key(|(_, inside)| inside.components().count())?;
        Some(if inside.as_os_str().is_empty() { source.into() } else { Path::new(source).join(inside) })
    }

    /// Whether its process runs now.
    ///
    /// # Errors
    /// The container is gone, or the engine is.
    pub async fn is_running(&self) -> Result<bool, Error> {
        Ok(self.state().await?.running.unwrap_or(false))
    }

    /// A file's bytes, also of a stopped container; `None` when there is none. Symbolic links are followed.
    ///
    /// # Errors
    /// The path is a directory or a device, the file is larger than 16 MiB, or the engine does not hand it out.
    pub async fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let Some(archive) = self.archive(&path).await? else { return Ok(None) };
            match first_entry(&archive) {
                Ok(Entry::File(bytes)) => return Ok(Some(bytes)),
                Ok(Entry::Link(target)) => path = beside(&path, &target),
                Ok(Entry::Other) => return Err(self.not_a_file(&path, "it is neither a file nor a link")),
                Err(error) => return Err(self.not_a_file(&path, &error.to_string())),
            }
        }
        Err(self.not_a_file(&path, "too many symbolic links"))
    }

    /// Runs a command inside, as the container's own user and in its environment, to its end.
    ///
    /// # Errors
    /// The container is not running, or the engine is lost meanwhile. An exit code other than 0 is no error.
    pub async fn exec(&self, argv: &[&str]) -> Result<Output, Error> {
        let mut output = Output::default();
        output.code = self.exec_with(argv, &mut |line| output.push(line)).await?;
        Ok(output)
    }

    /// As [`exec`](Self::exec), with every line handed over while the command runs; returns the exit code.
    ///
    /// Dropping the future does not end the command: the engine has no way to.
    ///
    /// # Errors
    /// As `exec`.
    pub async fn exec_with(&self, argv: &[&str], on_line: &mut OnLine<'_>) -> Result<i64, Error> {
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.iter().map(ToString::to_string).collect()),
            ..ExecConfig::default()
        };
        let doing = format!("run `{}` in container {:?}", argv.join(" "), self.name);
        let lost = |error: EngineError| self.error(&doing, &error);
        let command = self.docker().create_exec(&self.id, config).await.map_err(lost)?.id;
        match self.docker().start_exec(&command, None).await {
            Ok(StartExecResults::Attached { output, input: _input }) => {
                exec::read_lines(output, on_line).await.map_err(lost)?;
            }
            Ok(StartExecResults::Detached) => {}
            Err(error) if exec::is_missing_program(&error) => {
                on_line(Line::Err(&error.to_string()));
                return Ok(127);
            }
            Err(error) => return Err(lost(error)),
        }
        self.exit_code(&command, &doing).await
    }

    /// The engine learns of the end a moment after the output closes.
    async fn exit_code(&self, command: &str, doing: &str) -> Result<i64, Error> {
        for _ in 0..100 {
            let seen =
                self.docker().inspect_exec(command).await.map_err(|error| self.error(doing, &error))?;
            match (seen.running, seen.exit_code) {
                (Some(false) | None, Some(code)) => return Ok(code),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        Err(Error::Lost { doing: doing.to_owned(), reason: "its output ended and it runs on".to_owned() })
    }

    /// What a directory takes inside, by the container's own `du -sk`; `None` where there is no `du`.
    ///
    /// # Errors
    /// The path is missing or cannot be read in full, or the container is not running.
    pub async fn measure(&self, path: &str) -> Result<Option<Bytes>, Error> {
        let output = self.exec(&["du", "-sk", path]).await?;
        if matches!(output.code, 126 | 127) {
            return Ok(None);
        }
        disk_usage(&output).map(Some).map_err(|reason| Error::Unmeasured {
            container: self.name.clone(),
            path: path.to_owned(),
            reason,
        })
    }

    /// Whether it is still there once it is stopped: one that was made with `--rm` is not.
    #[must_use]
    pub fn outlives_a_stop(&self) -> bool {
        let host_config = self.made.host_config.as_ref();
        host_config.and_then(|config| config.auto_remove) != Some(true)
    }

    /// Stops it, and sees that it stopped. Takes as long as the container's own stop timeout allows.
    ///
    /// # Errors
    /// It would be removed by stopping, it runs on, or the engine is lost.
    pub async fn stop(&self) -> Result<(), Error> {
        if !self.outlives_a_stop() {
            return Err(Error::RemovedOnStop(self.name.clone()));
        }
        let doing = format!("stop container {:?}", self.name);
        self.patient().stop_container(&self.id, None).await.map_err(|error| self.error(&doing, &error))?;
        if self.is_running().await? { Err(Error::StillRunning(self.name.clone())) } else { Ok(()) }
    }

    /// Starts it, and sees that it stays up.
    ///
    /// # Errors
    /// It does not start, ends within a second or two, or the engine is lost.
    pub async fn start(&self) -> Result<(), Error> {
        let doing = format!("start container {:?}", self.name);
        self.docker().start_container(&self.id, None).await.map_err(|error| self.error(&doing, &error))?;
        self.settle().await
    }

    /// Restarts it, and sees that it stays up. Done by the engine in one, so that nobody need come back to start it.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart(&self) -> Result<(), Error> {
        let doing = format!("restart container {:?}", self.name);
        self.patient().restart_container(&self.id, None).await.map_err(|error| self.error(&doing, &error))?;
        self.settle().await
    }

    async fn settle(&self) -> Result<(), Error> {
        for _ in 0..SETTLING_ROUNDS {
            tokio::time::sleep(SETTLING).await;
            let state = self.state().await?;
            if state.running != Some(true) || state.restarting == Some(true) {
                let code = state.exit_code.unwrap_or_default();
                return Err(Error::DoesNotStayUp { container: self.name.clone(), code });
            }
        }
        Ok(())
    }

    /// Podman calls a container `stopped`, a word the client library does not know, until it has cleaned up after it.
    async fn state(&self) -> Result<ContainerState, Error> {
        let mut seen = self.docker().inspect_container(&self.id, None).await;
        for _ in 0..SETTLING_ROUNDS {
            if !matches!(seen, Err(EngineError::JsonDataError { .. })) {
                break;
            }
            tokio::time::sleep(SETTLING).await;
            seen = self.docker().inspect_container(&self.id, None).await;
        }
        let seen = seen.map_err(|error| self.error("inspect the container", &error))?;
        Ok(seen.state.unwrap_or_default())
    }

    async fn archive(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut pieces = self.docker().download_from_container(&self.id, Some(options));
        let mut archive = Vec::new();
        loop {
            match pieces.try_next().await {
                Ok(None) => return Ok(Some(archive)),
                Ok(Some(piece)) if archive.len() + piece.len() <= LARGEST_FILE => {
                    archive.extend_from_slice(&piece);
                }
                Ok(Some(_)) => return Err(self.not_a_file(path, "larger than 16 MiB")),
                Err(error) => return self.missing_path(path, &error),
            }
        }
    }

    /// 404 stands for a missing path and for a missing container.
    fn missing_path(&self, path: &str, error: &EngineError) -> Result<Option<Vec<u8>>, Error> {
        match self.error(&format!("read {path} in container {:?}", self.name), error) {
            Error::Refused { status: 404, .. } => Ok(None),
            error => Err(error),
        }
    }

    fn not_a_file(&self, path: &str, reason: &str) -> Error {
        Error::NotAFile { container: self.name.clone(), path: path.to_owned(), reason: reason.to_owned() }
    }

    pub(super) fn error(&self, doing: &str, error: &EngineError) -> Error {
        Error::of(&self.engine.endpoint, &self.name, doing, error)
    }

    pub(super) fn docker(&self) -> &Docker {
        &self.engine.docker
    }

    /// The engine answers a request to stop only when the container has stopped.
    fn patient(&self) -> Docker {
        let own = self.made.config.as_ref().and_then(|config| config.stop_timeout).unwrap_or_default();
        let own = Duration::from_secs(u64::try_from(own).unwrap_or_default());
        self.docker().clone().with_timeout(ANSWER_TIMEOUT + own)
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn made(&self) -> &ContainerInspectResponse {
        &self.made
    }
}

enum Entry {
    File(Vec<u8>),
    Link(String),
    Other,
}

fn first_entry(archive: &[u8]) -> std::io::Result<Entry> {
    let mut archive = tar::Archive::new(archive);
    let Some(entry) = archive.entries()?.next() else { return Ok(Entry::Other) };
    let mut entry = entry?;
    let kind = entry.header().entry_type();
    if kind.is_file() {
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        return Ok(Entry::File(bytes));
    }
    let target = if kind.is_symlink() { entry.link_name()? } else { None };
    Ok(target.map_or(Entry::Other, |target| Entry::Link(target.to_string_lossy().into_owned())))
}

/// Where a link at `path` leads. The engine resolves `..` itself, within the container.
fn beside(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    format!("{directory}/{target}")
}

/// The total of `du -sk`. Files that vanish while it runs are no fault: a registry is at work there.
fn disk_usage(output: &Output) -> Result<Bytes, String> {
    let complaint = output.stderr.lines().find(|line| !line.contains("No such file or directory"));
    if let Some(complaint) = complaint.filter(|_| output.code != 0) {
        return Err(complaint.trim().to_owned());
    }
    let total = output.stdout.lines().last().and_then(|line| line.split_whitespace().next());
    match total.and_then(|total| total.parse::<u64>().ok()) {
        Some(kibibytes) => Ok(Bytes(kibibytes.saturating_mul(1024))),
        None => Err(output.stderr.lines().last().unwrap_or("du printed no total").trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_taken_only_when_nothing_was_left_out() {
        let usage = |stdout: &str, stderr: &str, code| {
            disk_usage(&Output { stdout: stdout.to_owned(), stderr: stderr.to_owned(), code })
        };
        assert_eq!(usage("12\t/var/lib/registry\n", "", 0), Ok(Bytes(12 * 1024)));
        let gone = "du: cannot access '/r/_uploads/1': No such file or directory\n";
        assert_eq!(usage("12\t/r\n", gone, 1), Ok(Bytes(12 * 1024)));
        assert_eq!(usage("", gone, 1), Err(gone.trim().to_owned()));
        let denied = "du: /r/x: Permission denied\n";
        assert_eq!(usage("12\t/r\n", denied, 1), Err(denied.trim().to_owned()));
        assert!(usage("", "", 0).is_err());
    }

    #[test]
    fn links_lead_from_where_they_lie() {
        assert_eq!(beside("/etc/docker/registry/config.yml", "../x.yml"), "/etc/docker/registry/../x.yml");
        assert_eq!(beside("/etc/config.yml", "/run/c.yml"), "/run/c.yml");
        assert_eq!(beside("/config.yml", "c.yml"), "/c.yml");
    }
}
