//! The built program, run by itself: nothing of this machine's environment, home or state reaches it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use clean_registry::demo::sample::{DAYS_TO_KEEP, PROTECTED_PATTERNS, PROTECTED_TAGS};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::registry::scratch;

const PROGRAM: &str = env!("CARGO_BIN_EXE_clean-registry");
/// No run takes longer, or it hangs.
const SECONDS: &str = "120";

/// A place to run the program from, with a `config.json` in the script's form.
pub struct Program {
    directory: TempDir,
    config: Value,
}

/// What a run came to.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    /// Standard output as JSON; `null` where it is none.
    pub json: Value,
}

impl Ended {
    /// The run's name.
    pub fn run(&self) -> &str {
        self.json["run"].as_str().unwrap_or_else(|| panic!("nothing was done: {self:#?}"))
    }

    /// The steps as `action repository digest` with what came of each.
    pub fn steps(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let steps = self.json["steps"].as_array().into_iter().flatten();
        let name = |step: &Value| {
            format!("{} {} {}", text(&step["action"]), text(&step["repository"]), text(&step["digest"]))
        };
        steps.map(|step| (name(step), text(&step["outcome"]))).collect()
    }

    /// The same run, having ended with this code.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}; log:\n{}", self.code, self.stderr)
    }
}

impl Program {
    /// Cleans the registry at `url` as the sample's policy says.
    pub fn new(url: &str, login: Option<(&str, &str)>) -> Self {
        let (user, password) = login.unwrap_or_default();
        let config = json!({
            "registry": { "url": url, "user": user, "password": password, "container": "" },
            "cleanup": {
                "days_to_keep": DAYS_TO_KEEP,
                "protected_tags": PROTECTED_TAGS,
                "protected_patterns": PROTECTED_PATTERNS,
            },
            "paths": { "config": "/etc/distribution/config.yml", "storage": "/var/lib/registry" },
        });
        let program = Self { directory: scratch(), config };
        program.write_config();
        program
    }

    /// Changes the configuration.
    pub fn configure(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self.write_config();
        self
    }

    fn write_config(&self) {
        fs::write(self.path("config.json"), self.config.to_string()).unwrap();
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// The directories of the runs on its one registry, oldest first.
    pub fn runs(&self) -> Vec<PathBuf> {
        let list = |directory: &Path| {
            let entries = fs::read_dir(directory).into_iter().flatten();
            let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            paths
        };
        list(&self.state()).iter().flat_map(|registry| list(&registry.join("runs"))).collect()
    }

    /// Runs a verb to its end, with its result as JSON.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.run_by(&[], arguments)
    }

    /// The same by way of `launcher`, which runs the command that follows.
    pub fn run_by(&self, launcher: &[&str], arguments: &[&str]) -> Ended {
        let launcher = [&["timeout", "--kill-after=1", SECONDS], launcher, &[PROGRAM]].concat();
        ended(self.command(&launcher, arguments).output().unwrap())
    }

    /// Starts a verb.
    pub fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(&[PROGRAM], arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A command that runs the program, sealed: by way of `launcher`, which names it last.
    fn command(&self, launcher: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(launcher[0]);
        command.args(&launcher[1..]).args(["--output", "json", "--state-dir", "state", "--log-file", "log"]);
        command.args(arguments).env_clear().current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.path("home")).env("XDG_STATE_HOME", self.path("home/state"));
        command
    }
}

/// Waits for what was started.
pub fn wait(child: Child) -> Ended {
    ended(child.wait_with_output().unwrap())
}

fn ended(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let json = serde_json::from_str(&stdout).unwrap_or_default();
    Ended { code: output.status.code().unwrap_or(-1), stdout, stderr, json }
}
