use clean_registry_core::policy::clock::Clock;
use jiff::SignedDuration;

use super::*;

const SCRIPT: &str = r#"{
  "registry": { "url": "http://127.0.0.1:5001", "user": "someuser", "password": "somepass", "container": "registry" },
  "cleanup":  { "days_to_keep": 30, "protected_tags": ["latest", "prod-stable", "dev-stable"],
                "protected_patterns": ["develop", "master", "main", "release"] },
  "paths":    { "config": "/etc/distribution/config.yml", "storage": "/var/lib/registry", "host_storage": "/some/path" } }"#;

fn load(name: &str, text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::load(&path, &environment)
}

#[test]
fn the_scripts_own_file_is_read_key_for_key() {
    let config = load("config.json", SCRIPT, &[]).unwrap();
    assert_eq!(config.registry.url, "http://127.0.0.1:5001");
    assert_eq!((config.registry.user.as_str(), config.registry.password.expose()), ("someuser", "somepass"));
    assert_eq!(config.policy().days_to_keep, Some(30));
    assert_eq!(config.policy().protected_tags.len(), 3);
    assert_eq!(config.paths.host_storage.as_deref(), Some(Path::new("/some/path")));
    assert_eq!(config.collector_mode(), CollectorMode::Exec);
    assert!(!format!("{config:?}").contains("somepass"));
}

#[test]
fn user_password_and_paths_may_be_absent() {
    let text = r#"{"registry":{"url":"http://localhost:5000"},"cleanup":{"days_to_keep":7}}"#;
    let config = load("config.json", text, &[]).unwrap();
    assert!(config.registry.user.is_empty() && config.registry.password.expose().is_empty());
    assert_eq!(config.collector_mode(), CollectorMode::None);
}

#[test]
fn yaml_says_the_same() {
    let text = "registry: {url: 'http://localhost:5000'}\ncleanup:\n  days_to_keep: 30\n  protected_tags: [latest]\n\
                garbage_collection: {mode: offline, restart: never}\n";
    let config = load("config.yml", text, &[]).unwrap();
    assert_eq!(config.collector_mode(), CollectorMode::Offline);
    assert_eq!(config.garbage_collection.restart, Restart::Never);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let json = SCRIPT.replace("protected_patterns", "protected_pattern");
    let yaml = "registry: {url: 'http://localhost'}\ncleanup:\n  day_to_keep: 30\n";
    for (name, text, key, line, nearest) in [
        ("config.json", json.as_str(), "protected_pattern", "line 4", "protected_patterns"),
        ("config.yml", yaml, "day_to_keep", "3", "days_to_keep"),
    ] {
        let error = load(name, text, &[]).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(key) && message.contains(line), "{message}");
        assert_eq!(error.hint().unwrap(), format!("did you mean {nearest:?}?"));
    }
}

#[test]
fn values_that_cannot_be_meant_are_refused() {
    for (from, to) in [
        ("30", "-1"),
        ("30", "\"30\""),
        ("\"days_to_keep\": 30,", "\"days_to_keep\": 30, \"untagged\": 7,"),
        ("\"days_to_keep\": 30,", "\"days_to_keep\": 30, \"untagged\": \"7\","),
        ("\"days_to_keep\": 30,", "\"days_to_keep\": 30, \"clock\": [],"),
        ("\"days_to_keep\": 30,", "\"days_to_keep\": 30, \"clock\": [\"pulled\"],"),
        ("\"url\"", "\"concurrency\": 0, \"url\""),
        ("\"days_to_keep\": 30,", ""),
        ("\"paths\"", "\"garbage_collection\": { \"close_command\": \"true\" }, \"paths\""),
    ] {
        assert!(load("config.json", &SCRIPT.replacen(from, to, 1), &[]).is_err(), "{from} -> {to}");
    }
}

#[test]
fn clocks_and_a_rule_for_untagged_manifests_become_a_policy() {
    let with = |more: &str| {
        let text = SCRIPT.replacen("\"days_to_keep\": 30,", &format!("\"days_to_keep\": 30, {more}"), 1);
        load("config.json", &text, &[]).unwrap()
    };
    let config = with(r#""untagged": "7d", "clock": ["created", "pushed"],"#);
    let week = Some(SignedDuration::from_hours(7 * 24));
    assert_eq!((config.policy().untagged, config.promises().untagged), (week, week));
    assert_eq!(config.policy().clock, [Clock::Created, Clock::Pushed].into());
    let simple = with("");
    assert_eq!((simple.policy().untagged, simple.promises().untagged), (None, None));
    assert_eq!(simple.policy().clock, [Clock::Created].into());
}

#[test]
fn no_error_shows_a_password() {
    let json = SCRIPT.replace("\"somepass\"", "98765432");
    let yaml = "registry:\n  url: http://localhost\n  password: somepass\n  usr: x\n";
    for (name, text, secret) in [
        ("config.json", json.as_str(), "98765432"),
        ("config.yml", yaml, "somepass"),
        ("config.yml", "registry:\n  url: http://localhost\n  password: 98765432\n", "98765432"),
    ] {
        let error = load(name, text, &[]).unwrap_err().to_string();
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn secrets_come_from_the_environment_or_a_file() {
    let text = SCRIPT.replace("somepass", "${REGISTRY_PASSWORD}");
    let config = load("config.json", &text, &[("REGISTRY_PASSWORD", "from-environment")]).unwrap();
    assert_eq!(config.registry.password.expose(), "from-environment");
    let error = load("config.json", &text, &[]).unwrap_err().to_string();
    assert!(error.contains("registry.password") && error.contains("REGISTRY_PASSWORD"), "{error}");

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from-file\n").unwrap();
    let text = SCRIPT.replace(r#""password": "somepass""#, &format!(r#""password_file": {:?}"#, file.path()));
    assert_eq!(load("config.json", &text, &[]).unwrap().registry.password.expose(), "from-file");
}
