//! Our plan-only pass, as the program makes it and through the library, beside `find` and the registries' own dry runs, over the same storage, one after the other in every round, so that
//! whatever else the machine does hits all alike.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cleaner::SCRIPTS;
use crate::finding::Finding;

/// How many times faster than the registries' dry runs, and than those that remove untagged manifests.
const FASTER: f64 = 10.0;
const FASTER_UNTAGGED: f64 = 100.0;

/// One command that is timed.
struct Contender {
    name: &'static str,
    command: Vec<String>,
    /// The fewest seconds that any round took: on the clock, and of the processors.
    wall: f64,
    cpu: f64,
}

impl Contender {
    fn new(name: &'static str, command: Vec<String>) -> Self {
        Self { name, command, wall: f64::INFINITY, cpu: f64::INFINITY }
    }

    /// Runs it where nothing counts.
    fn warm(&self) -> io::Result<()> {
        let [program, arguments @ ..] = self.command.as_slice() else { return Ok(()) };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.succeed(command.status()?)
    }

    fn succeed(&self, status: ExitStatus) -> io::Result<()> {
        let failed = || io::Error::other(format!("{} failed: {:?}", self.name, self.command));
        status.success().then_some(()).ok_or_else(failed)
    }

    fn run(&mut self, report: &Path) -> io::Result<()> {
        let mut command = Command::new("python3");
        command.arg(format!("{SCRIPTS}/usage.py")).arg(report).args(&self.command);
        command.env("OTEL_TRACES_EXPORTER", "none").stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        self.succeed(command.status()?)?;
        let wall = begun.elapsed().as_secs_f64();
        let report: Value = serde_json::from_slice(&fs::read(report)?)?;
        let cpu = report["cpu_seconds"].as_f64().unwrap_or(f64::NAN);
        eprintln!("{wall:8.2} s {cpu:8.2} s of processors  {}", self.name);
        (self.wall, self.cpu) = (self.wall.min(wall), self.cpu.min(cpu));
        Ok(())
    }
}

/// Times everything over the storage below the directory that comes first. The rounds with `-m` take minutes each: there are
/// none unless they are asked for.
///
/// # Errors
/// If a command fails.
pub fn run(arguments: &[&str]) -> io::Result<Vec<Finding>> {
    let usage = || io::Error::other("bench gc DIRECTORY [--rounds N] [--untagged N] [--ours COMMAND]");
    let [directory, options @ ..] = arguments else { return Err(usage()) };
    let (mut rounds, mut untagged, mut ours) = (3, 0, None);
    for pair in options.chunks(2) {
        match pair {
            ["--rounds", number] => rounds = number.parse().map_err(io::Error::other)?,
            ["--untagged", number] => untagged = number.parse().map_err(io::Error::other)?,
            ["--ours", command] => ours = Some((*command).to_owned()),
            _ => return Err(usage()),
        }
    }
    let directory = fs::canonicalize(directory)?;
    let work = TempDir::new()?;
    let config = work.path().join("config.yml");
    let storage = json!({ "filesystem": { "rootdirectory": directory }, "delete": { "enabled": true } });
    fs::write(
        &config,
        json!({ "version": "0.1", "log": { "level": "error" }, "storage": storage }).to_string(),
    )?;
    let report = work.path().join("usage.json");
    let state = work.path().join("state");
    let place = Place { directory, config, state, ours };
    let mut findings = race(place.plain()?, rounds, FASTER, &report)?;
    if untagged > 0 {
        findings.extend(race(place.untagged()?, untagged, FASTER_UNTAGGED, &report)?);
    }
    Ok(findings)
}

/// Where everything is.
struct Place {
    directory: PathBuf,
    config: PathBuf,
    /// Where the program keeps its journal.
    state: PathBuf,
    ours: Option<String>,
}

impl Place {
    fn plain(&self) -> io::Result<Vec<Contender>> {
        let tree = self.directory.display().to_string();
        let find = ["find", &tree, "-type", "f"].map(str::to_owned).to_vec();
        Ok(vec![
            Contender::new("ours", self.ours(&[])?),
            Contender::new("ours, library alone", self.library(&[])?),
            Contender::new("find -type f", find),
            Contender::new("3.1.1 --dry-run", self.registry("3", &[])?),
            Contender::new("2.8.2 --dry-run", self.registry("2", &[])?),
        ])
    }

    fn untagged(&self) -> io::Result<Vec<Contender>> {
        Ok(vec![
            Contender::new("ours, untagged too", self.ours(&["--untagged=0s"])?),
            Contender::new("ours, library alone", self.library(&["--untagged"])?),
            Contender::new("3.1.1 --dry-run -m", self.registry("3", &["-m"])?),
            Contender::new("2.8.2 --dry-run -m", self.registry("2", &["-m"])?),
        ])
    }

    /// What was asked for, split at spaces, with `DIR` for the directory; else the program that was built beside this one.
    fn ours(&self, more: &[&str]) -> io::Result<Vec<String>> {
        let tree = self.directory.display().to_string();
        let mut command: Vec<String> = match &self.ours {
            Some(command) => command.split(' ').map(|word| word.replace("DIR", &tree)).collect(),
            None => {
                let program = crate::cleaner::program()?.display().to_string();
                let state = self.state.display().to_string();
                let words = ["gc", "--storage", &tree, "--plan", "--grace", "0s", "--state-dir", &state];
                std::iter::once(program).chain(words.map(str::to_owned)).collect()
            }
        };
        command.extend(more.iter().map(|word| (*word).to_owned()));
        Ok(command)
    }

    /// The pass of this program.
    fn library(&self, more: &[&str]) -> io::Result<Vec<String>> {
        let this = std::env::current_exe()?.display().to_string();
        let mut command = vec![this, "pass".to_owned(), self.directory.display().to_string()];
        command.extend(more.iter().map(|word| (*word).to_owned()));
        Ok(command)
    }

    fn registry(&self, major: &str, more: &[&str]) -> io::Result<Vec<String>> {
        let program = std::env::var(format!("CLEAN_REGISTRY_TEST_REGISTRY_{major}")).map_err(|_| {
            io::Error::other(format!("CLEAN_REGISTRY_TEST_REGISTRY_{major} names no registry; see README.md"))
        })?;
        let mut command = vec![program, "garbage-collect".to_owned(), "--dry-run".to_owned()];
        command.extend(more.iter().map(|word| (*word).to_owned()));
        command.push(self.config.display().to_string());
        Ok(command)
    }
}

/// Runs each in turn, `rounds` times, and compares the first, which is ours, with the others. What is compared is work on a
/// warm cache, so that each runs once before its clock starts: what ran before it has driven its files out.
fn race(mut contenders: Vec<Contender>, rounds: u32, faster: f64, report: &Path) -> io::Result<Vec<Finding>> {
    for _ in 0..rounds {
        for contender in &mut contenders {
            contender.warm()?;
            contender.run(report)?;
        }
    }
    let mut findings = Vec::new();
    for Contender { name, wall, cpu, .. } in &contenders {
        let figure = format!("{wall:.2}, {cpu:.2}");
        findings.push(Finding::told(format!("gc: {name}: seconds, of the processors"), figure));
    }
    let (ours, ours_cpu) = (contenders[0].wall, contenders[0].cpu);
    for Contender { name, wall, cpu, .. } in contenders.iter().filter(|other| !other.name.starts_with("ours"))
    {
        let least = if name.starts_with("find") { 1.0 } else { faster };
        findings.push(Finding::at_least(format!("gc: times faster than {name}"), wall / ours, least));
        let ratio = format!("{:.1}", cpu / ours_cpu);
        findings.push(Finding::told(format!("gc: times less of the processors than {name}"), ratio));
    }
    Ok(findings)
}
