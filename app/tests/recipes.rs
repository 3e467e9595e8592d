//! Every policy in `examples/policies` is meant as it is written, and does what its cases say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clean_registry::cases::{Cases, Expected};
use clean_registry::config::Config;
use clean_registry_core::lint::lint;
use jiff::Timestamp;

const RECIPES: [&str; 10] = [
    "branches",
    "build-caches",
    "helm",
    "mirrors",
    "nightly",
    "promoted",
    "pull-requests",
    "releases",
    "signed",
    "time-to-live",
];

const PEERS: [&str; 7] = ["acr-purge", "ecr", "gcr-cleaner", "gitlab", "harbor", "regbot", "zot"];

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// The names of the files in a directory that end in `.yml`, and do or do not end in `.cases.yml`.
fn names(directory: &Path, are_cases: fn(&str) -> bool) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let files = entries.map(|name| name.into_string().unwrap()).filter(|name| are_cases(name));
    let mut names: Vec<String> = files
        .filter_map(|name| Some(name.strip_suffix(".yml")?.trim_end_matches(".cases").to_owned()))
        .collect();
    names.sort();
    names
}

fn is_cases(name: &str) -> bool {
    name.ends_with(".cases.yml")
}

fn load(path: &Path) -> Config {
    Config::load(path, &BTreeMap::new()).unwrap_or_else(|error| panic!("{error}"))
}

/// What is wrong with a policy and its cases.
fn faults(policy: &Path, cases: &Path) -> Vec<String> {
    let config = load(policy);
    let cases = Cases::load(cases).unwrap_or_else(|error| panic!("{error}"));
    let mut faults: Vec<String> = lint(&config.policy()).iter().map(ToString::to_string).collect();
    let tried = cases.try_on(&config.policy(), Timestamp::now());
    faults.extend(tried.iter().filter(|tried| !tried.passed).map(ToString::to_string));
    for (expected, verb) in [(Expected::Keep, "stays"), (Expected::Remove, "goes")] {
        if !tried.iter().any(|tried| tried.expected == expected) {
            faults.push(format!("no case {verb}"));
        }
    }
    faults
}

#[test]
fn every_policy_passes_its_cases_and_the_check() {
    for (folder, known) in [("policies", RECIPES.as_slice()), ("policies/peers", &PEERS)] {
        let folder = directory(folder);
        assert_eq!(names(&folder, |name| !is_cases(name)), known, "the policies in {}", folder.display());
        assert_eq!(names(&folder, is_cases), known, "the cases in {}", folder.display());
        for name in known {
            let (policy, cases) =
                (folder.join(format!("{name}.yml")), folder.join(format!("{name}.cases.yml")));
            assert_eq!(faults(&policy, &cases), [""; 0], "{}", policy.display());
        }
    }
}

#[test]
fn a_policy_that_does_something_else_is_noticed() {
    let folder = directory("policies");
    let of = |policy: &str, cases: &str| faults(&folder.join(policy), &folder.join(cases)).join("\n");
    assert!(of("releases.yml", "branches.cases.yml").contains("main-8 stays"));
    assert!(of("helm.yml", "signed.cases.yml").contains("FAILED"));
}

/// An editor finds the schema by the first line, which leads from the file to it.
#[test]
fn every_policy_names_the_schema() {
    for (folder, known) in [("policies", RECIPES.as_slice()), ("policies/peers", &PEERS)] {
        for name in known {
            let path = directory(folder).join(format!("{name}.yml"));
            let text = std::fs::read_to_string(&path).unwrap();
            let line = text.lines().next().unwrap();
            let schema = line.strip_prefix("# yaml-language-server: $schema=").unwrap();
            let found = path.parent().unwrap().join(schema).canonicalize().unwrap();
            let ours = directory("../docs/config.schema.json").canonicalize().unwrap();
            assert_eq!(found, ours, "{}", path.display());
        }
    }
}
