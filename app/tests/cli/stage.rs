//! The program in a place of its own, a small registry to run it on, and what came of it as text to compare.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::server::{Behaviour, Server};
use clean_registry_core::name::Digest;
use insta::Settings;
use insta::internals::SettingsBindDropGuard;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_clean-registry");
/// No run takes longer, or it hangs.
const SECONDS: &str = "120";

/// What is different every time, and what stands for it. Images that go were created in years that are long gone, and
/// always have the same digests.
const FILTERS: [(&str, &str); 12] = [
    (r"127\.0\.0\.1:\d+", "[host]"),
    (r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d \[", "[time] ["),
    (r"20(2[4-9]|[3-9]\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[moment]"),
    (r"20\d{6}T\d{6}Z(-\d+)?", "[run]"),
    (r"\d{4} days old", "[age] days old"),
    (r#""age_days": ?\d{4}"#, r#""age_days": "[age]""#),
    (r"in \d+ requests", "in [n] requests"),
    (r"sha256:[0-9a-f]{64}", "sha256:[digest]"),
    (r"sha256-[0-9a-f]{64}", "sha256-[digest]"),
    (r"sha256:[0-9a-f]{12}", "sha256:[short]"),
    (r"sha256-[0-9a-f]{12}…", "sha256-[short]…"),
    (r"/([0-9a-f]{2}/)?[0-9a-f]{64}/", "/[hex]/"),
];

/// A directory to run the program in, with a configuration.
pub struct Stage {
    directory: TempDir,
    config: Value,
    environment: Vec<(String, String)>,
    /// Whatever is compared while this lives is compared without what is different every time.
    _redacted: SettingsBindDropGuard,
}

impl Stage {
    /// With a configuration in the script's form, for the registry at `url`.
    pub fn new(url: &str) -> Self {
        let stage = Self::bare();
        stage.configure(|config| {
            *config = json!({
                "registry": { "url": url },
                "cleanup": {
                    "days_to_keep": 30,
                    "protected_tags": ["latest"],
                    "protected_patterns": ["release"],
                },
            });
        })
    }

    /// Without a configuration.
    pub fn bare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings::clone_current();
        let path = directory.path().to_str().unwrap().to_owned();
        // In the order in which they are tried.
        settings.add_filter(&path, "[directory]");
        for (pattern, stands_for) in FILTERS {
            settings.add_filter(pattern, stands_for);
        }
        let _redacted = settings.bind_to_scope();
        Self { directory, config: Value::Null, environment: Vec::new(), _redacted }
    }

    /// Changes the configuration.
    pub fn configure(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self.write("config.json", &serde_json::to_string_pretty(&self.config).unwrap());
        self
    }

    /// Sets a variable of the environment, which is empty otherwise.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Everything the program and the test have written here, in one.
    pub fn files(&self) -> String {
        let mut text = String::new();
        let mut queue = vec![self.directory.path().to_owned()];
        while let Some(directory) = queue.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    queue.push(path);
                } else {
                    text.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap()));
                }
            }
        }
        text
    }

    /// Runs the program to its end; the words of `line` are its arguments.
    pub fn run(&self, line: &str) -> Ended {
        self.run_in(line, |_| ())
    }

    /// The same in other surroundings.
    pub fn run_in(&self, line: &str, surroundings: impl FnOnce(&mut Command)) -> Ended {
        let mut command = self.command(&["timeout", "--kill-after=1", SECONDS, PROGRAM], line);
        surroundings(&mut command);
        Ended::of(&command.output().unwrap())
    }

    /// The same with standard error going where standard output goes.
    pub fn run_into_one(&self, line: &str) -> Ended {
        let launcher = ["timeout", "--kill-after=1", SECONDS, "sh", "-c", r#""$@" 2>&1"#, "sh", PROGRAM];
        Ended::of(&self.command(&launcher, line).output().unwrap())
    }

    /// The same on a terminal, with these redirections.
    pub fn run_on_terminal(&self, line: &str, streams: &str) -> Ended {
        let line = format!("{PROGRAM} {line} --state-dir state --log-file log {streams}");
        let mut command = Command::new("timeout");
        command.args([
            "--kill-after=1",
            SECONDS,
            "script",
            "--quiet",
            "--return",
            "--command",
            &line,
            "/dev/null",
        ]);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.path("home"));
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        Ended::of(&command.output().unwrap())
    }

    /// Starts the program.
    pub fn start(&self, line: &str) -> Child {
        self.start_in(line, |command| {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        })
    }

    /// The same in other surroundings.
    pub fn start_in(&self, line: &str, surroundings: impl FnOnce(&mut Command)) -> Child {
        let mut command = self.command(&[PROGRAM], line);
        surroundings(&mut command);
        command.spawn().unwrap()
    }

    fn command(&self, launcher: &[&str], line: &str) -> Command {
        let mut command = Command::new(launcher[0]);
        command.args(&launcher[1..]).args(line.split_whitespace());
        command.args(["--state-dir", "state", "--log-file", "log"]);
        command.env_clear().current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("PATH", format!("{}:/usr/bin:/bin", self.directory.path().display()));
        command.env("HOME", self.path("home"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Self { code: output.status.code().unwrap_or(-1), stdout, stderr }
    }

    /// Waits for what was started.
    pub fn wait(child: Child) -> Self {
        Self::of(&child.wait_with_output().unwrap())
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let mut text = format!("exit code {}\n", self.code);
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                text.push_str(&format!("-- {name}\n{stream}"));
            }
        }
        text
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Compares what a run came to with how it is written down.
macro_rules! shown {
    ($ended:expr, @$expected:literal) => {
        insta::assert_snapshot!($ended.text(), @$expected)
    };
}
pub(crate) use shown;

/// A small shop: images whose time has come, and every ground to keep the others that one meets daily.
pub struct Shop {
    pub server: Server,
    _directory: TempDir,
}

impl Shop {
    /// Open to everybody.
    pub fn open() -> Self {
        Self::of(Behaviour::default())
    }

    /// One that behaves like this.
    pub fn of(behaviour: Behaviour) -> Self {
        let shop = Self::empty(behaviour);
        let api = old("api", "2019-03-01T00:00:00Z");
        shop.push("shop/api", "latest", &api);
        shop.push("shop/api", "2019", &api);
        shop.push("shop/api", "release-9", &old("release-9", "2019-05-01T00:00:00Z"));
        let amd64 = old("tool amd64", "2020-04-01T00:00:00Z").on("linux", "amd64");
        let attestation = Builder::attestation(&amd64);
        shop.push("shop/tool", "1.0", &Built::index([amd64, attestation]));
        shop.push("shop/tool", "undated", &Builder::image("undated").build());
        let web = old("web 1.0", "2020-01-01T00:00:00Z");
        shop.push("shop/web", "1.0", &web);
        shop.push("shop/web", web.tag_about(".sig").as_str(), &Builder::signature(&web));
        shop.push("shop/web", "1.1", &old("web 1.1", "2021-01-01T00:00:00Z"));
        shop.push("shop/web", "1.2", &young("web 1.2"));
        shop
    }

    /// One that holds nothing.
    pub fn empty(behaviour: Behaviour) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(directory.path(), behaviour).unwrap();
        Self { server, _directory: directory }
    }

    /// Places an image behind the registry's back.
    pub fn push(&self, repo: &str, tag: &str, built: &Built) -> Digest {
        let (repo, tag) = (repo.parse().unwrap(), tag.parse().unwrap());
        let digest = built.write(self.server.store(), &repo).unwrap();
        self.server.store().write_tag(&repo, &tag, &digest).unwrap();
        digest
    }

    /// A stage for it.
    pub fn stage(&self) -> Stage {
        Stage::new(&self.server.url())
    }

    /// Everything in its storage.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.server.store().files().unwrap()
    }
}

/// An image of that date.
pub fn old(name: &str, created: &str) -> Built {
    Builder::image(name).created_text(created).layer(noise(name, 4096)).build()
}

/// An image of two days ago.
pub fn young(name: &str) -> Built {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    Builder::image(name).created(now - SignedDuration::from_hours(49)).layer(noise(name, 4096)).build()
}
