//! What the papers say is so: their commands exist, their configurations load, their links lead somewhere, and their tables are whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{CommandFactory as _, Parser as _};
use clean_registry::cli::arguments::Arguments;
use clean_registry::config::Config;
use clean_registry::failure::EXIT_CODES;
use serde_json::Value;

const PAPERS: [&str; 13] = [
    "README.md",
    "README.ru.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/safety.md",
    "docs/configuration.md",
    "docs/limits.md",
    "docs/several-registries.md",
    "docs/policy.md",
    "docs/garbage-collection.md",
    "docs/registries.md",
    "docs/in-use.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(paper: &str) -> String {
    std::fs::read_to_string(root().join(paper)).unwrap_or_else(|error| panic!("{paper}: {error}"))
}

/// The fenced blocks of a paper: what they say they hold, and their lines.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((language.to_owned(), body.join("\n")));
        }
    }
    blocks
}

/// The spans between single backticks outside of blocks.
fn spans(text: &str) -> Vec<String> {
    let prose = text.split("\n```").step_by(2);
    prose.flat_map(|prose| prose.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}

/// The arguments of each call of the program in a line of a shell or a crontab.
fn calls(line: &str) -> Vec<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default();
    let commands = line.split(['|', ';', '>']).flat_map(|part| part.split("&&"));
    commands.filter_map(|command| arguments(&words(command))).collect()
}

/// The words of a command. What stands between single quotes is one word, or a part of one.
fn words(command: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let is_gap = |c: char| {
        is_quoted ^= c == '\'';
        c.is_whitespace() && !is_quoted
    };
    command.split(is_gap).filter(|word| !word.is_empty()).collect()
}

fn arguments(words: &[&str]) -> Option<Vec<String>> {
    let after = if words.starts_with(&["cargo", "run"]) {
        words.iter().position(|word| *word == "--")?
    } else {
        let is_program = |word: &&str| *word == "clean-registry" || word.ends_with("bin/clean-registry");
        words.iter().position(is_program)?
    };
    Some(words[after + 1..].iter().map(|word| word.trim_matches('\'').to_owned()).collect())
}

fn called(paper: &str) -> Vec<Vec<String>> {
    let text = read(paper);
    let shells = blocks(&text).into_iter().filter(|(language, _)| language == "sh");
    let lines: Vec<String> =
        shells.flat_map(|(_, body)| body.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let spans = spans(&text)
        .into_iter()
        .filter(|span| span.starts_with("clean-registry") || span.starts_with("cargo run"));
    lines.into_iter().chain(spans).flat_map(|line| calls(&line)).collect()
}

#[test]
fn every_command_is_one_the_program_knows() {
    let mut verbs = Vec::new();
    for paper in PAPERS {
        for call in called(paper) {
            let parsed = Arguments::try_parse_from(["clean-registry".to_owned()].iter().chain(&call));
            assert!(parsed.is_ok(), "{paper}: clean-registry {}: {}", call.join(" "), parsed.unwrap_err());
            verbs.extend((paper == "README.md").then(|| call.first().cloned()).flatten());
        }
    }
    for verb in Arguments::command().get_subcommands().map(|verb| verb.get_name().to_owned()) {
        assert!(verbs.contains(&verb), "README.md does not show `clean-registry {verb}`");
    }
}

#[test]
fn every_configuration_loads() {
    let environment = BTreeMap::from([("REGISTRY_PASSWORD".to_owned(), "secret".to_owned())]);
    let directory = tempfile::tempdir().unwrap();
    let mut loaded = Vec::new();
    for paper in PAPERS {
        for (language, body) in
            blocks(&read(paper)).iter().filter(|(language, _)| language == "json" || language == "yaml")
        {
            let path = directory.path().join("config").with_extension(language);
            std::fs::write(&path, body).unwrap();
            if let Err(error) = Config::load(&path, &environment) {
                panic!("{paper}: {error}\n{body}");
            }
            loaded.push(paper);
        }
    }
    for paper in ["README.md", "README.ru.md", "docs/configuration.md"] {
        assert!(loaded.contains(&paper), "{paper} shows no configuration");
    }
}

#[test]
fn the_schema_is_the_programs_own() {
    let program =
        Command::new(env!("CARGO_BIN_EXE_clean-registry")).args(["config", "schema"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&program.stdout),
        read("docs/config.schema.json"),
        "write it anew: cargo run -- config schema > docs/config.schema.json"
    );
}

/// The keys of a configuration, section by section, as the papers write them.
fn keys() -> Vec<String> {
    let schema: Value = serde_json::from_str(&read("docs/config.schema.json")).unwrap();
    let names = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut keys = Vec::new();
    for section in names(&schema["properties"]) {
        let property = &schema["properties"][&section];
        // A section that may be missing is one of two things.
        match property["$ref"].as_str().or(property["anyOf"][0]["$ref"].as_str()) {
            Some(reference) => {
                let properties =
                    schema.pointer(&format!("{}/properties", reference.trim_start_matches('#'))).unwrap();
                keys.extend(names(properties).into_iter().map(|key| format!("{section}.{key}")));
            }
            None => keys.push(section),
        }
    }
    keys
}

#[test]
fn every_key_and_every_exit_code_has_its_row() {
    assert!(keys().len() > 20);
    let text = read("docs/configuration.md");
    let rows: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for key in keys() {
        assert!(rows.contains(&&*key), "docs/configuration.md has no row for {key}");
    }
    let is_key = |row: &&&str| {
        row.split_once('.').is_some_and(|(section, _)| keys().iter().any(|key| key.starts_with(section)))
    };
    for row in rows.iter().filter(is_key) {
        assert!(keys().iter().any(|key| key == row), "docs/configuration.md tells of {row}, which is no key");
    }
    let readme = read("README.md");
    let (_, sections) = readme.split_once("\n## Configuration\n").unwrap();
    let (sections, _) = sections.split_once("\n## ").unwrap();
    for key in keys() {
        let section = format!("`{}`", key.split('.').next().unwrap());
        assert!(sections.contains(&section), "README.md does not name the section {section}");
    }
    for line in EXIT_CODES.lines().skip(1) {
        let (code, meaning) = line.trim().split_once(' ').unwrap();
        let row = format!("| {code} | {} |", meaning.trim());
        assert!(read("README.md").contains(&row), "README.md has no row {row}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut followed = 0;
    for paper in PAPERS {
        let text = read(paper);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("https://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = root().join(paper).parent().unwrap().join(path);
            let target = if path.is_empty() { root().join(paper) } else { target };
            assert!(target.exists(), "{paper}: {link}");
            let headings = std::fs::read_to_string(&target).unwrap_or_default();
            let is_there =
                headings.lines().filter(|line| line.starts_with('#')).any(|line| slug(line) == anchor);
            assert!(anchor.is_empty() || is_there, "{paper}: {link}: no such heading");
            followed += 1;
        }
    }
    assert!(followed > 5);
}

/// How a heading is linked to.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|c| c.is_alphanumeric() || *c == '-').collect()
}

#[test]
fn the_architecture_lists_every_module_and_no_other() {
    let text = read("ARCHITECTURE.md");
    let files = blocks(&text).into_iter().filter(|(language, _)| language == "files");
    let lines: Vec<String> =
        files.flat_map(|(_, body)| body.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let listed: Vec<&str> = lines.iter().filter_map(|line| line.split_whitespace().next()).collect();
    for path in &listed {
        assert!(root().join(path).exists(), "ARCHITECTURE.md lists {path}, which is not there");
    }
    for directory in ["core/src", "app/src"] {
        for entry in std::fs::read_dir(root().join(directory)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = format!("{directory}/{name}");
            let has_file = root().join(format!("{path}.rs")).exists();
            let listing = if entry.path().is_dir() && !has_file { format!("{path}/") } else { path };
            let is_inner = entry.path().is_dir() && has_file;
            assert!(is_inner || listed.contains(&&*listing), "ARCHITECTURE.md does not list {listing}");
        }
    }
}

/// The sources below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let inside = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    inside.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Every scenario of FACTS section 8 has its row in the table of the tests, and every test and file that a row names is there.
#[test]
fn every_scenario_has_its_tests() {
    let folders = ["app/tests", "app/src", "core/src"].map(|folder| root().join(folder));
    let files: Vec<PathBuf> = folders.iter().flat_map(|folder| sources(folder)).collect();
    let texts: Vec<String> = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let table = read("app/tests/scenarios/main.rs");
    let mut numbers = Vec::new();
    for row in table.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let (first, rest) = row.split_once(" | ").unwrap();
        let mut told = first.split(", ").map(str::parse::<u32>).peekable();
        if told.peek().is_none_or(Result::is_err) {
            continue;
        }
        numbers.extend(told.map(Result::unwrap));
        let (tests, _) = rest.split_once(" | ").unwrap();
        assert!(tests.matches('`').count() > 1, "no test is named for {first}");
        for name in rest.split('`').skip(1).step_by(2) {
            let name = name.trim_start_matches("::");
            let is_there = match name.strip_suffix(".rs") {
                Some(_) => files.iter().any(|path| path.ends_with(name)),
                None => texts.iter().any(|text| {
                    text.contains(&format!("fn {name}(")) || text.contains(&format!("mod {name};"))
                }),
            };
            assert!(is_there || name == "HidesTags", "scenario {first}: {name} is not there");
        }
    }
    let scenarios = read("docs/FACTS.md");
    let (_, scenarios) = scenarios.split_once("\n## 8.").unwrap();
    let (scenarios, _) = scenarios.split_once("\n## ").unwrap();
    let expected: Vec<u32> =
        scenarios.lines().filter_map(|line| line.split_once(". ")?.0.parse().ok()).collect();
    assert_eq!(expected.len(), 47);
    numbers.sort_unstable();
    assert_eq!(numbers, expected);
}
