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
    /// When it began, in ticks since this host started: a process id may come again.
    pub began: u64,
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
                let began = began(&entry.path());
                found.using.push(Process { pid, began, command: words.join(" "), doing, config });
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

/// The 22nd field of `stat`, or 0 if it ends just now: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>. The second is
/// the program's name in parentheses, which may hold anything.
fn began(process: &Path) -> u64 {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or_default()
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
    fn a_process_began_before_those_that_it_starts() {
        std::thread::sleep(Duration::from_millis(30)); // A tick is a hundredth of a second.
        let mut child = std::process::Command::new("sleep").arg("9").spawn().unwrap();
        let (own, childs) =
            (began(Path::new("/proc/self")), began(&Path::new("/proc").join(child.id().to_string())));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(0 < own && own < childs, "{own} {childs}");
        assert_eq!(began(Path::new("/proc/none")), 0);
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
