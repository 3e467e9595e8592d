//! Finds the registries of this host that store in a directory: every process is looked at for a configuration whose root directory
//! is that directory, as that process sees it. Registries in containers are processes of the host.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::runtime::config::{self, RegistryConfig};

/// What its own collector is started with.
const COLLECT: &str = "garbage-collect";

/// How often, and how long apart, a process is looked at that cannot be looked into.
const LOOKS: u32 = 4;
const MOMENT: Duration = Duration::from_millis(50);

/// A registry that stores in the directory that was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Its command line, for people.
    pub command: String,
    /// What it was started for.
    pub doing: Doing,
    /// What it was started with.
    pub config: RegistryConfig,
}

/// What a registry's program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It serves.
    Serving,
    /// It collects garbage, whatever its configuration says of writes.
    Collecting,
}

impl Process {
    /// Whether it may write.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.doing == Doing::Collecting || !self.config.read_only
    }
}

/// What the processes of this host tell.
#[derive(Debug, Default)]
pub struct Processes {
    /// Registries that store there.
    pub using: Vec<Process>,
    /// Processes that look like registries and cannot be looked into: they may store there.
    pub hidden: Vec<(u32, String)>,
}

/// What tells a process from another that has its number later: the number, and when it began, in ticks since the host did.
pub type Life = (u32, u64);

impl Processes {
    /// Those that write there, or may, with what they were started with, for people.
    #[must_use]
    pub fn writers(self) -> BTreeMap<Life, String> {
        let using = self.using.into_iter().filter(Process::may_write);
        let using = using.map(|process| (process.pid, process.command));
        let life = |(pid, command)| Some(((pid, began(pid)?), command));
        using.chain(self.hidden).filter_map(life).collect()
    }
}

/// `None` if it has ended. <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it, in parentheses, may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(19)?.parse().ok()
}

/// Looks at every process of this host.
#[must_use]
pub fn storing_in(directory: &Path) -> Processes {
    let mut found = Processes::default();
    let Some(wanted) = identity(directory) else { return found };
    let Ok(entries) = fs::read_dir("/proc") else { return found };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let words = words(&entry.path().join("cmdline"));
        if !looks_like_a_registry(&words) {
            continue;
        }
        match look_patiently(&entry.path(), &words) {
            Some((config, root)) if identity(&root) == Some(wanted) => {
                let collects = words.iter().any(|word| word == COLLECT);
                let doing = if collects { Doing::Collecting } else { Doing::Serving };
                found.using.push(Process { pid, command: words.join(" "), doing, config });
            }
            Some(_) => {}
            None if !entry.path().exists() => {}
            None => found.hidden.push((pid, words.join(" "))),
        }
    }
    found
}

/// Distribution is started as `registry serve config.yml`; images that wrap it leave the file as the last argument. Its own
/// collector is the same program.
fn looks_like_a_registry(words: &[String]) -> bool {
    let program = words.first().and_then(|program| program.rsplit('/').next()).unwrap_or_default();
    let works = words.iter().any(|word| word == "serve" || word == COLLECT);
    program.contains("registry") && works && !program.contains("clean-registry")
}

/// A process that begins or ends just now cannot be looked into for a moment.
fn look_patiently(process: &Path, words: &[String]) -> Option<(RegistryConfig, PathBuf)> {
    let look = |_| {
        let seen = look_into(process, words);
        if seen.is_none() {
            std::thread::sleep(MOMENT);
        }
        seen
    };
    (0..LOOKS).find_map(look)
}

/// The configuration of a process and the root directory it means, as this process can reach it; `None` if that may not be seen.
fn look_into(process: &Path, words: &[String]) -> Option<(RegistryConfig, PathBuf)> {
    let environment = environment(&process.join("environ"))?;
    let file = config::path(words, &environment)?;
    let inside = process.join("root");
    let file =
        if Path::new(&file).is_absolute() { below(&inside, &file) } else { process.join("cwd").join(file) };
    let config = RegistryConfig::read(&fs::read(file).ok()?, &environment).ok()?;
    let root = config.root_directory.clone().unwrap_or_default();
    let root = if config.driver == "filesystem" { below(&inside, &root) } else { PathBuf::new() };
    Some((config, root))
}

fn below(inside: &Path, path: &str) -> PathBuf {
    inside.join(path.trim_start_matches('/'))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn words(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn environment(path: &Path) -> Option<BTreeMap<String, String>> {
    let bytes = fs::read(path).ok()?;
    let pairs = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    Some(
        pairs
            .filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_began_once_and_one_that_is_not_there_did_not() {
        let own = began(std::process::id());
        assert!(own.is_some_and(|ticks| ticks > 0));
        assert_eq!(own, began(std::process::id()));
        assert_ne!(own, began(1));
        assert_eq!(began(u32::MAX), None);
    }

    #[test]
    fn a_registry_is_known_by_how_it_is_started() {
        let is = |line: &str| looks_like_a_registry(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for registry in [
            "registry serve /etc/distribution/config.yml",
            "/usr/bin/docker-registry serve c.yml",
            "/x/registry-3.1.1 serve c",
            "registry garbage-collect c.yml",
        ] {
            assert!(is(registry), "{registry}");
        }
        for other in ["registry help c.yml", "clean-registry serve", "nginx", "cat registry"] {
            assert!(!is(other), "{other}");
        }
    }
}
