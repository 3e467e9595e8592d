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

/// Where the processes of this host are told of.
const TOLD: &str = "/proc";
/// The namespace of all processes of a host, by the number that the kernel gives it:
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h> (`PROC_PID_INIT_INO`)
const WHOLE_HOST: &str = "pid:[4026531836]";

/// How often, and how long apart, a process is looked at that cannot be looked into.
const LOOKS: u32 = 4;
const MOMENT: Duration = Duration::from_millis(50);

/// A registry that stores in the directory that was asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// When it was started, in ticks since the host was: no two processes have this and the id in common.
    pub started: Option<u64>,
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

    /// Whether it is the very same process as one of these.
    #[must_use]
    pub fn is_one_of(&self, others: &[Self]) -> bool {
        others.iter().any(|other| (self.pid, self.started) == (other.pid, other.started))
    }
}

/// What the processes of this host tell.
#[derive(Debug, Default)]
pub struct Processes {
    /// Registries that store there.
    pub using: Vec<Process>,
    /// Processes that look like registries and cannot be looked into: they may store there.
    pub hidden: Vec<(u32, String)>,
    /// How much of the host that is.
    pub sight: Sight,
}

/// Whether all processes of a host are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sight {
    /// Every one.
    Whole,
    /// Others may be there: outside of the container that this runs in, or another user's where `/proc` is mounted with `hidepid`.
    #[default]
    Partial,
}

/// Looks at every process of this host, as far as it is shown.
#[must_use]
pub fn storing_in(directory: &Path) -> Processes {
    told_in(Path::new(TOLD), directory)
}

fn told_in(told: &Path, directory: &Path) -> Processes {
    let mut found = Processes::default();
    let Some(wanted) = identity(directory) else { return found };
    let Ok(entries) = fs::read_dir(told) else { return found };
    found.sight = sight(told);
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
                let started = started(&entry.path());
                found.using.push(Process { pid, started, command: words.join(" "), doing, config });
            }
            Some(_) => {}
            None if !entry.path().exists() => {}
            None => found.hidden.push((pid, words.join(" "))),
        }
    }
    found
}

/// A container has processes of its own, and shows no others. Where `/proc` keeps from a user what is not his, the first process
/// is not his, either.
fn sight(told: &Path) -> Sight {
    let home = fs::read_link(told.join("self/ns/pid"));
    let is_host = home.is_ok_and(|home| home == Path::new(WHOLE_HOST));
    if is_host && fs::read(told.join("1/cmdline")).is_ok() { Sight::Whole } else { Sight::Partial }
}

/// The twenty-second word of its `stat`, whose second is a name in parentheses that may be anything.
fn started(process: &Path) -> Option<u64> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (_, words) = stat.rsplit_once(')')?;
    words.split_whitespace().nth(19)?.parse().ok()
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
    use std::os::unix::fs::symlink;

    use super::*;

    /// What tells of processes as it would in this namespace, with or without the first of them.
    fn told(namespace: &str, first: Option<&str>) -> tempfile::TempDir {
        let told = tempfile::tempdir().unwrap();
        fs::create_dir_all(told.path().join("self/ns")).unwrap();
        symlink(namespace, told.path().join("self/ns/pid")).unwrap();
        if let Some(first) = first {
            fs::create_dir_all(told.path().join("1")).unwrap();
            fs::write(told.path().join("1/cmdline"), first).unwrap();
        }
        told
    }

    #[test]
    fn who_is_shown_a_part_of_the_processes_knows_it() {
        let here = tempfile::tempdir().unwrap();
        let sight = |told: tempfile::TempDir| told_in(told.path(), here.path()).sight;
        assert_eq!(sight(told(WHOLE_HOST, Some("/sbin/init"))), Sight::Whole);
        assert_eq!(sight(told("pid:[4026532201]", Some("/sbin/init"))), Sight::Partial, "in a container");
        assert_eq!(sight(told(WHOLE_HOST, None)), Sight::Partial, "hidepid");
        assert_eq!(sight(tempfile::tempdir().unwrap()), Sight::Partial, "no /proc");
        assert_eq!(told_in(Path::new("/nonexistent"), here.path()).sight, Sight::Partial);
    }

    #[test]
    fn a_process_is_told_from_the_next_one_of_its_number() {
        let told = tempfile::tempdir().unwrap();
        fs::write(told.path().join("stat"), "7 (a (b) c) S 1 1 1 0 -1 64 0 0 0 0 0 0 0 0 20 0 1 0 4711 1 1")
            .unwrap();
        assert_eq!(started(told.path()), Some(4711));
        assert!(started(Path::new("/proc/self")).is_some());
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
