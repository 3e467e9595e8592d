//! Credentials that `docker login` stored: in `config.json`, or with a helper it names.
//!
//! <https://docs.docker.com/reference/cli/docker/login/#credential-stores>

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use thiserror::Error;

use super::Credentials;
use crate::secret::Secret;

/// How long a helper may think.
const HELPER_TIME: Duration = Duration::from_secs(30);
/// What Docker Hub's credentials are filed under.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The user name under which a helper hands out an identity token.
const TOKEN_USER: &str = "<token>";

/// Why stored credentials cannot be had. Nothing of what is stored is in it.
#[derive(Debug, Error)]
pub enum CredentialError {
    /// The file is there and cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what docker writes.
    #[error("{path} line {line} column {column} is not docker's configuration")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in it, from one.
        line: usize,
        /// Where in the line, from one.
        column: usize,
    },
    /// The stored credentials of a registry are not what docker writes.
    #[error("{path} has unreadable credentials for {host}")]
    Garbled {
        /// The file.
        path: PathBuf,
        /// The registry.
        host: String,
    },
    /// A helper cannot be started.
    #[error("cannot run the credential helper {helper}")]
    NoHelper {
        /// The program.
        helper: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A helper failed.
    #[error("the credential helper {helper} gave none for {host}: {reason}")]
    Helper {
        /// The program.
        helper: String,
        /// The registry.
        host: String,
        /// What went wrong.
        reason: String,
    },
}

/// The part of `config.json` about credentials.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: HashMap<String, Entry>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The credentials docker has for the registry `host` (`host[:port]`, a path is ignored), from `config.json` in the
/// directory `docker_config`. As docker does: the helper for the host, else the store, else the file itself. `None`
/// when there are none. May wait 30 seconds for a helper.
///
/// # Errors
///
/// A [`CredentialError`] when there may be credentials that cannot be had.
pub fn docker_credentials(docker_config: &Path, host: &str) -> Result<Option<Credentials>, CredentialError> {
    let path = docker_config.join("config.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CredentialError::Unreadable { path, source }),
    };
    let config: DockerConfig = serde_json::from_str(&text).map_err(|error| CredentialError::Malformed {
        path: path.clone(),
        line: error.line(),
        column: error.column(),
    })?;
    let key = key(host);
    let from_helper = match config.helper(key) {
        Some(name) => ask_helper(&program(name, key)?, key, HELPER_TIME)?,
        None => None,
    };
    match from_helper {
        Some(credentials) => Ok(Some(credentials)),
        None => config.stored(key).map_err(|_| CredentialError::Garbled { path, host: key.to_owned() }),
    }
}

/// What docker files the credentials of `host` under.
fn key(host: &str) -> &str {
    match host.split('/').next().unwrap_or_default() {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    }
}

/// The text of a configuration is not what docker writes.
struct Unreadable;

impl DockerConfig {
    fn helper(&self, key: &str) -> Option<&str> {
        let own = self.cred_helpers.get(key).or(self.creds_store.as_ref());
        own.map(String::as_str).filter(|name| !name.is_empty())
    }

    /// What the file itself holds for `key`: under just that, or under a URL of the same host.
    fn stored(&self, key: &str) -> Result<Option<Credentials>, Unreadable> {
        let by_host =
            || self.auths.iter().find(|(name, _)| host_of(name) == host_of(key)).map(|(_, entry)| entry);
        self.auths.get(key).or_else(by_host).map_or(Ok(None), Entry::credentials)
    }
}

/// `https://host/v1/` and `host` name the same registry. A path without a scheme is a namespace's own entry.
fn host_of(name: &str) -> &str {
    let rest = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://"));
    rest.map_or(name, |rest| rest.split('/').next().unwrap_or_default())
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, Unreadable> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Credentials::IdentityToken(Secret::new(token))));
        }
        if let Some(auth) = self.auth.as_ref().filter(|auth| !auth.is_empty()) {
            return decode(auth).map(Some).ok_or(Unreadable);
        }
        let pair = self.username.clone().zip(self.password.clone());
        Ok(pair.map(|(user, password)| Credentials::Basic { user, password: Secret::new(password) }))
    }
}

/// Base64 of `user:password`. Old versions of docker padded it with zero bytes.
fn decode(auth: &str) -> Option<Credentials> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    let password = Secret::new(password.trim_end_matches('\0'));
    Some(Credentials::Basic { user: user.to_owned(), password })
}

/// The program of the helper `name`, which is no path.
fn program(name: &str, host: &str) -> Result<String, CredentialError> {
    if name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Ok(format!("docker-credential-{name}"));
    }
    let reason = "its name is no program's".to_owned();
    Err(CredentialError::Helper { helper: format!("{name:?}"), host: host.to_owned(), reason })
}

/// Asks a helper. `None` when it has nothing for `host`.
/// <https://github.com/docker/docker-credential-helpers#development>
fn ask_helper(program: &str, host: &str, time: Duration) -> Result<Option<Credentials>, CredentialError> {
    let failed = |reason: &str| CredentialError::Helper {
        helper: program.to_owned(),
        host: host.to_owned(),
        reason: reason.to_owned(),
    };
    let mut child =
        start(program).map_err(|source| CredentialError::NoHelper { helper: program.to_owned(), source })?;
    let output = converse(&mut child, host, time);
    if output.is_none() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(&error.to_string()))?;
    let output = output.ok_or_else(|| failed("it did not answer in time"))?;
    if status.success() {
        return read_answer(&output).map(Some).ok_or_else(|| failed("its answer cannot be read"));
    }
    if output.contains("credentials not found") {
        return Ok(None);
    }
    Err(failed(&status.to_string()))
}

fn start(program: &str) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
}

/// Tells the helper `host` and reads what it says, for at most `time`.
fn converse(child: &mut Child, host: &str, time: Duration) -> Option<String> {
    if let Some(mut input) = child.stdin.take() {
        // A helper that does not listen may still answer.
        let _ = writeln!(input, "{host}");
    }
    let output = child.stdout.take()?;
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = output.take(1 << 20).read_to_string(&mut text);
        // Nobody listens any more when the time was up.
        let _ = send.send(read.map(|_| text).unwrap_or_default());
    });
    receive.recv_timeout(time).ok()
}

fn read_answer(text: &str) -> Option<Credentials> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let Answer { username, secret } = serde_json::from_str(text).ok()?;
    let secret = Secret::new(secret);
    Some(match username.as_str() {
        TOKEN_USER => Credentials::IdentityToken(secret),
        _ => Credentials::Basic { user: username, password: secret },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::time::Instant;

    use super::*;

    fn found(config: &str, host: &str) -> Result<Option<Credentials>, CredentialError> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        docker_credentials(directory.path(), host)
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic { user: user.into(), password: Secret::new(password) }
    }

    #[test]
    fn stored_credentials_are_found_by_host() {
        let config = r#"{
            "auths": {
                "a.example:5000": {"auth": "YWxpY2U6czM6Y3JldA=="},
                "https://b.example/v2/": {"username": "bob", "password": "pw"},
                "c.example": {"auth": "dXNlcjo=", "identitytoken": "idt"},
                "d.example": {},
                "e.example/team": {"auth": "dXNlcjpw"},
                "https://index.docker.io/v1/": {"auth": "aHViOnB3AA=="}
            },
            "credsStore": "", "HttpHeaders": {"x": "y"}
        }"#;
        for (host, expected) in [
            ("a.example:5000", Some(basic("alice", "s3:cret"))),
            ("a.example:5000/prefix", Some(basic("alice", "s3:cret"))),
            ("a.example", None),
            ("b.example", Some(basic("bob", "pw"))),
            ("c.example", Some(Credentials::IdentityToken(Secret::new("idt")))),
            ("d.example", None),
            ("e.example", None),
            ("docker.io", Some(basic("hub", "pw"))),
        ] {
            assert_eq!(found(config, host).unwrap(), expected, "{host}");
        }
    }

    #[test]
    fn no_file_is_no_credentials_and_a_broken_one_is_an_error_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(docker_credentials(directory.path(), "a.example").unwrap(), None);
        let error = found(r#"{"auths": {"a.example": "s3cret"}}"#, "a.example").unwrap_err();
        assert!(matches!(error, CredentialError::Malformed { line: 1, .. }));
        assert!(!format!("{error} {error:?}").contains("s3cret"));
        let error = found(r#"{"auths": {"a.example": {"auth": "s3cret!"}}}"#, "a.example").unwrap_err();
        assert!(matches!(&error, CredentialError::Garbled { host, .. } if host == "a.example"));
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }

    #[test]
    fn helpers_come_before_the_store() {
        let config: DockerConfig = serde_json::from_str(
            r#"{"auths": {"a.example": {}}, "credsStore": "store", "credHelpers": {"b.example": "own"}}"#,
        )
        .unwrap();
        assert_eq!(config.helper("a.example"), Some("store"));
        assert_eq!(config.helper("b.example"), Some("own"));
        assert_eq!(DockerConfig::default().helper("a.example"), None);
        let error = found(r#"{"credsStore": "../../bin/sh"}"#, "a.example").unwrap_err();
        assert!(matches!(error, CredentialError::Helper { .. }), "{error}");
        let error = found(r#"{"credsStore": "there-is-no-such-helper"}"#, "a.example").unwrap_err();
        assert!(matches!(error, CredentialError::NoHelper { .. }), "{error}");
    }

    /// Asks a helper that is the shell script `body`.
    #[cfg(unix)]
    fn asked(body: &str, time: Duration) -> Result<Option<Credentials>, CredentialError> {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("docker-credential-test");
        std::fs::write(&script, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        ask_helper(script.to_str().unwrap(), "a.example", time)
    }

    #[cfg(unix)]
    #[test]
    fn a_helper_is_told_the_host_and_believed() {
        let script = r#"read host; [ "$1" = get ] || exit 9
            printf '{"ServerURL":"%s","Username":"user of %s","Secret":"pw"}' "$host" "$host""#;
        assert_eq!(asked(script, HELPER_TIME).unwrap(), Some(basic("user of a.example", "pw")));
        let token = r#"printf '{"Username":"<token>","Secret":"idt"}'"#;
        assert_eq!(asked(token, HELPER_TIME).unwrap(), Some(Credentials::IdentityToken(Secret::new("idt"))));
    }

    #[cfg(unix)]
    #[test]
    fn a_helper_without_credentials_is_no_error_but_a_failing_or_slow_one_is() {
        let nothing = "echo 'credentials not found in native keychain'; exit 1";
        assert_eq!(asked(nothing, HELPER_TIME).unwrap(), None);
        for failing in ["echo s3cret; exit 1", "echo s3cret"] {
            let error = asked(failing, HELPER_TIME).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
        let start = Instant::now();
        let error = asked("exec sleep 20", Duration::from_millis(100)).unwrap_err();
        assert!(matches!(&error, CredentialError::Helper { reason, .. } if reason.contains("in time")));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    proptest! {
        #[test]
        fn any_password_comes_back(user in "[^:\0]{0,10}", password in "[^\0]{0,20}") {
            let auth = STANDARD.encode(format!("{user}:{password}"));
            prop_assert_eq!(decode(&auth), Some(basic(&user, &password)));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,40}") {
            decode(&text);
            read_answer(&text);
            host_of(&text);
            key(&text);
        }
    }
}
