//! `registries`: several in one file. What stands beside it holds for each of them, unless it says otherwise.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::replaced::{Replaced, replaced};
use super::{Cleanup, Config, ConfigError, StorageSection};

/// Sections that a registry may say in part: what it leaves out is as said for all. Every other section is taken whole from the
/// registry, or whole from above: half a policy is none.
const IN_PARTS: [&str; 3] = ["registry", "paths", "garbage_collection"];
/// What there is once in a file.
const ONCE: [&str; 4] = ["registries", "policies", "log", "state_dir"];

/// `config` with every registry as if it had a file of its own, and every `use` replaced by the policy it names.
pub(super) fn expand(path: &Path, text: &str, mut config: Config) -> Result<Config, ConfigError> {
    let policies = std::mem::take(&mut config.policies);
    if config.registries.is_empty() {
        take_policy(path, "use", &policies, &mut config)?;
        return Ok(config);
    }
    refuse_shared(path, &config)?;
    let Value::Object(mut shared) = super::parse::<Value>(path, text)? else { return Ok(config) };
    let sections = match shared.remove("registries") {
        Some(Value::Object(sections)) => sections,
        _ => Map::new(),
    };
    shared.remove("policies");
    for (name, section) in &mut config.registries {
        let key = format!("registries.{name}");
        let wrong = |why: String| ConfigError::Several { path: path.to_owned(), key: key.clone(), why };
        check_name(name).map_err(|why| wrong(why.to_owned()))?;
        let own = sections.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(once) = ONCE.iter().find(|once| own.contains_key(**once)) {
            return Err(wrong(format!("has {once}, which there is once in a file, beside registries")));
        }
        let replaced = all_replaced(&shared, &own);
        let merged = serde_json::from_value(Value::Object(merge(&shared, own)));
        *section = merged.map_err(|error| {
            wrong(format!("{error}; a text that looks like a number, or like yes or no, needs quotes"))
        })?;
        section.replaced = replaced;
        take_policy(path, &format!("{key}.use"), &policies, section)?;
    }
    Ok(config)
}

/// The name of a registry begins its lines in the log and names the file of its plan.
fn check_name(name: &str) -> Result<(), &'static str> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(is_fine) {
        return Err("a name is made of letters, digits, -, _ and ., and does not begin with a dot");
    }
    Ok(())
}

/// Where one registry is cannot hold for all of them.
fn refuse_shared(path: &Path, config: &Config) -> Result<(), ConfigError> {
    let of_one = [
        ("registry.url", !config.registry.url.is_empty()),
        ("registry.container", !config.registry.container.is_empty()),
        ("paths.host_storage", config.paths.host_storage.is_some()),
        ("storage", config.storage != StorageSection::default()),
        // What a log does not tell of would be taken for never pulled.
        ("pulls.logs", !config.pulls.logs.is_empty()),
    ];
    match of_one.iter().find(|(_, is_said)| *is_said) {
        Some((key, _)) => Err(ConfigError::Several {
            path: path.to_owned(),
            key: (*key).to_owned(),
            why: "belongs to one registry: say it below registries".to_owned(),
        }),
        None => Ok(()),
    }
}

/// The sections that are taken whole from a registry, and leave out something that stands above.
fn all_replaced(shared: &Map<String, Value>, own: &Map<String, Value>) -> Vec<Replaced> {
    let whole = own.iter().filter(|(key, _)| !IN_PARTS.contains(&key.as_str()));
    whole.filter_map(|(key, own)| replaced(key, shared.get(key)?, own)).collect()
}

fn merge(shared: &Map<String, Value>, own: Map<String, Value>) -> Map<String, Value> {
    let mut merged = shared.clone();
    // A registry has a policy of its own in one of two ways.
    if own.contains_key("cleanup") || own.contains_key("use") {
        merged.remove("cleanup");
        merged.remove("use");
    }
    for (key, value) in own {
        match (merged.get_mut(&key), value) {
            (Some(Value::Object(above)), Value::Object(value)) if IN_PARTS.contains(&key.as_str()) => {
                above.extend(value);
            }
            (_, value) => {
                merged.insert(key, value);
            }
        }
    }
    merged
}

/// Makes the policy that `use` names the registry's own.
fn take_policy(
    path: &Path,
    key: &str,
    policies: &BTreeMap<String, Cleanup>,
    config: &mut Config,
) -> Result<(), ConfigError> {
    let Some(name) = config.use_policy.take() else { return Ok(()) };
    let wrong = |why| Err(ConfigError::Several { path: path.to_owned(), key: key.to_owned(), why });
    if config.cleanup.is_some() {
        return wrong("stands beside cleanup: one of them says what to keep".to_owned());
    }
    match policies.get(&name) {
        Some(policy) => config.cleanup = Some(policy.clone()),
        None => {
            let known: Vec<&str> = policies.keys().map(String::as_str).collect();
            return wrong(format!("names {name:?}, and policies has {}", known.join(", ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let path = Path::new("config.yml");
        let parsed = super::super::parse::<Config>(path, text).map_err(|error| error.to_string())?;
        expand(path, text, parsed).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn of(config: &Config, name: &str) -> Config {
        config.registries.get(name).unwrap_or_else(|| panic!("{name}: {config:?}")).clone()
    }

    const TWO: &str = "
registry: { user: cleaner, password: '123', concurrency: 4 }
cleanup: { days_to_keep: 30, protected_tags: [latest] }
limits: { max_delete: 100, min_tags_left: 1 }
garbage_collection: { grace: 48h, uploads: 7d }
state_dir: /state
registries:
  one:
    registry: { url: 'https://one.example' }
  two:
    registry: { url: 'https://two.example', concurrency: 2 }
    cleanup: { days_to_keep: 7 }
    limits: { max_delete: 5 }
    garbage_collection: { uploads: 1d }
    storage: { directory: /two }
";

    #[test]
    fn what_stands_above_holds_for_each_unless_it_says_otherwise() {
        let config = read(TWO).unwrap();
        let (one, two) = (of(&config, "one"), of(&config, "two"));
        assert_eq!(
            (one.registry.url.as_str(), two.registry.url.as_str()),
            ("https://one.example", "https://two.example")
        );
        assert_eq!((one.registry.concurrency, two.registry.concurrency), (4, 2));
        assert_eq!(
            (two.registry.user.as_str(), two.registry.password.expose()),
            ("cleaner", "123"),
            "in parts"
        );
        let grace = |config: &Config| config.garbage_collection.grace.unwrap().to_string();
        let uploads = |config: &Config| config.garbage_collection.uploads.unwrap().to_string();
        assert_eq!(
            (grace(&two), uploads(&one), uploads(&two)),
            ("2d".to_owned(), "7d".to_owned(), "1d".to_owned()),
            "in parts"
        );
        let tags = |config: &Config| config.cleanup.as_ref().unwrap().protected_tags.len();
        assert_eq!((tags(&one), tags(&two)), (1, 0), "a policy is taken whole");
        assert_eq!(
            (one.limits.min_tags_left, two.limits.min_tags_left),
            (Some(1), None),
            "and so are limits"
        );
        assert_eq!(two.state_dir.as_deref(), Some(Path::new("/state")));
    }

    fn dropped(config: &Config, name: &str) -> Vec<String> {
        let whole = |replaced: &Replaced| {
            let told = replaced.to_string();
            let (section, rest) =
                told.split_once(" replaces the one beside registries whole: what that says of ").unwrap();
            format!("{section}: {}", rest.split_once(" does not hold").unwrap().0)
        };
        of(config, name).replaced.iter().map(whole).collect()
    }

    #[test]
    fn what_a_section_that_is_taken_whole_drops_is_known() {
        let config = read(TWO).unwrap();
        assert_eq!(dropped(&config, "one"), [""; 0]);
        assert_eq!(dropped(&config, "two"), ["cleanup: protected_tags", "limits: min_tags_left"]);
    }

    #[test]
    fn sources_of_what_is_in_use_are_dropped_by_their_names() {
        let text = "
in_use: [{ kubernetes: { contexts: [a, b] } }, { file: used.txt }, { name: edge, command: list }]
registries:
  same: { in_use: [{ file: used.txt }, { name: edge, command: list }, { kubernetes: { contexts: [a, b] } }] }
  fewer: { in_use: [{ file: used.txt }] }
  none: { in_use: [] }
";
        let config = read(text).unwrap();
        assert_eq!(dropped(&config, "same"), [""; 0]);
        assert_eq!(dropped(&config, "fewer"), ["in_use: context a, context b, edge"]);
        assert_eq!(dropped(&config, "none"), [""; 0], "said plainly");
    }

    #[test]
    fn what_is_repeated_emptied_or_chosen_by_name_is_not_dropped() {
        let text = "
limits: &limits { max_percent: 30, min_tags_left: 2 }
cleanup: { days_to_keep: 30, protected_tags: [latest] }
policies: { weekly: { days_to_keep: 7 } }
registries:
  repeated: { limits: { <<: *limits, min_tags_left: 5 } }
  emptied: { limits: {} }
  chosen: { use: weekly }
";
        let config = read(text).unwrap();
        for name in ["repeated", "emptied", "chosen"] {
            assert_eq!(dropped(&config, name), [""; 0], "{name}");
        }
    }

    #[test]
    fn a_policy_is_shared_by_its_name() {
        let text = "
policies:
  weekly: { days_to_keep: 7 }
  monthly: { days_to_keep: 30 }
use: monthly
registries:
  a: { registry: { url: a.example } }
  b: { registry: { url: b.example }, use: weekly }
  c: { registry: { url: c.example }, cleanup: { days_to_keep: 1 } }
";
        let config = read(text).unwrap();
        let days = |name| of(&config, name).policy().days_to_keep;
        assert_eq!((days("a"), days("b"), days("c")), (Some(30), Some(7), Some(1)));
        let single =
            read("registry: { url: a.example }\npolicies: { p: { days_to_keep: 9 } }\nuse: p\n").unwrap();
        assert_eq!(single.policy().days_to_keep, Some(9));
    }

    #[test]
    fn anchors_and_merge_keys_share_as_well() {
        let text = "
registries:
  a: { registry: &how { url: a.example, user: u, password: p }, cleanup: &policy { days_to_keep: 7 } }
  b: { registry: { <<: *how, url: b.example }, cleanup: *policy }
";
        let config = read(text).unwrap();
        let b = of(&config, "b");
        assert_eq!(
            (b.registry.url.as_str(), b.registry.user.as_str(), b.policy().days_to_keep),
            ("b.example", "u", Some(7))
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_key() {
        for (text, expected) in [
            ("registry: {url: a.example}\nregistries: {a: {}}", "registry.url belongs to one registry"),
            ("registry: {container: r}\nregistries: {a: {}}", "registry.container belongs to one registry"),
            ("storage: {directory: /a}\nregistries: {a: {}}", "storage belongs to one registry"),
            ("pulls: {logs: [a.log]}\nregistries: {a: {}}", "pulls.logs belongs to one registry"),
            ("paths: {host_storage: /a}\nregistries: {a: {}}", "paths.host_storage belongs to one registry"),
            ("registries: {a b: {}}", "registries.a b a name is made of"),
            ("registries: {..: {}}", "registries... a name is made of"),
            ("registries: {a: {log: {file: x}}}", "registries.a has log, which there is once"),
            ("registries: {a: {registries: {}}}", "registries.a has registries, which"),
            (
                "registries: {a: {use: x}}\npolicies: {y: {days_to_keep: 1}}",
                r#"registries.a.use names "x", and policies has y"#,
            ),
            (
                "registries: {a: {use: m, cleanup: {days_to_keep: 2}}}\npolicies: {m: {days_to_keep: 1}}",
                "registries.a.use stands beside cleanup",
            ),
            (
                "use: m\ncleanup: {days_to_keep: 2}\npolicies: {m: {days_to_keep: 1}}",
                "use stands beside cleanup",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_unknown_key_of_a_registry_is_told_with_its_line() {
        let error = read("registries:\n  a:\n    registri: {}\n").unwrap_err();
        assert!(error.contains("line 3") && error.contains("registri"), "{error}");
        let error = read("registries:\n  a:\n    registry: { password: 12345 }\n").unwrap_err();
        assert!(!error.contains("12345"), "{error}");
    }
}
