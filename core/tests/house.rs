//! The rules of the house that a machine can hold: which module may use which, and who may act.
#![expect(clippy::disallowed_methods, reason = "reads this repository's own sources, and nothing else")]

use std::fs;
use std::path::{Path, PathBuf};

/// Where the packages of the workspace are.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The sources below a directory, without those that only tests use.
fn sources(directory: &str) -> Vec<PathBuf> {
    let (mut found, mut to_visit) = (Vec::new(), vec![workspace().join(directory)]);
    while let Some(path) = to_visit.pop() {
        if path.is_dir() {
            to_visit.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !["tests.rs", "sample.rs", "fake.rs"].iter().any(|name| path.ends_with(name)) {
            found.push(path);
        }
    }
    found
}

/// The code of a file: without comments, and without the tests at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Every module of its own crate that `code` names.
fn named(code: &str) -> Vec<&str> {
    let after = code.match_indices("crate::").filter(|(at, _)| !code[..*at].ends_with('_'));
    after.map(|(at, prefix)| word(&code[at + prefix.len()..])).collect()
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap()
}

/// The modules of core in the order of the list in `lib.rs`.
fn modules() -> Vec<String> {
    let code = code(&workspace().join("core/src/lib.rs"));
    code.lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

/// The module of core that a file belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(workspace().join("core/src")).unwrap();
    Path::new(inside.iter().next().unwrap()).file_stem().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_module_of_core_uses_only_those_above_it() {
    let order = modules();
    let place = |name: &str| order.iter().position(|module| module == name);
    let mut uses = 0;
    for path in sources("core/src") {
        let user = module(&path);
        if user == "lib" {
            continue;
        }
        let own = place(&user).unwrap_or_else(|| panic!("{user} is not in the list of lib.rs"));
        for used in named(&code(&path)) {
            let above = place(used).is_some_and(|place| place <= own);
            assert!(above, "{} uses {used}, which is not above {user} in lib.rs", path.display());
            uses += 1;
        }
    }
    assert!(order.len() > 10 && uses > 20, "{uses} uses among {} modules were found", order.len());
}

#[test]
fn core_depends_on_nothing_that_acts() {
    // Each of these computes. What reads a disk, a network, a process, the environment or a clock has no place here.
    const PURE: [&str; 7] = ["base64", "globset", "jiff", "serde", "serde_json", "sha2", "thiserror"];
    let depends = section("core/Cargo.toml", "[dependencies]");
    let names: Vec<&str> = depends.lines().map(|line| line.split(['.', ' ', '=']).next().unwrap()).collect();
    assert!(names.contains(&"serde"), "{names:?}");
    for name in names {
        assert!(PURE.contains(&name), "{name}: is it certain that it cannot act?");
    }
    let shared = section("Cargo.toml", "[workspace.dependencies]");
    let jiff = shared.lines().find(|line| line.starts_with("jiff")).unwrap();
    assert!(
        jiff.contains("default-features = false") && !jiff.contains("\"std\""),
        "with these features it reads the clock and the time zones of the disk: {jiff}"
    );
}

/// The lines of one section of a manifest, without blank ones.
fn section(path: &str, heading: &str) -> String {
    let text = fs::read_to_string(workspace().join(path)).unwrap();
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let own = lines.take_while(|line| !line.starts_with('[')).filter(|line| !line.is_empty());
    own.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_audit_shares_nothing_with_what_it_checks() {
    let files: Vec<PathBuf> =
        sources("core/src").into_iter().filter(|path| module(path) == "audit").collect();
    assert!(files.len() > 1, "{files:?}");
    for path in files {
        for used in named(&code(&path)) {
            let checked = ["graph", "policy", "decision"].contains(&used);
            assert!(!checked, "{} uses {used}", path.display());
        }
    }
}

/// Whoever holds one of these can change a registry.
const MUTATIONS: [&str; 6] =
    ["delete_manifest", "delete_tag", "put_manifest", "put_blob", "open_upload", "cancel_upload"];

#[test]
fn only_apply_and_collect_change_a_registry() {
    let writer = code(&workspace().join("app/src/registry/writer.rs"));
    let own: Vec<&str> =
        writer.split("pub async fn ").skip(1).map(word).filter(|name| *name != "probe").collect();
    assert_eq!(own, MUTATIONS, "what else changes a registry is named here too");
    let mut callers = 0;
    for path in sources("app/src") {
        let code = code(&path);
        if !MUTATIONS.iter().any(|name| code.contains(&format!(".{name}("))) {
            continue;
        }
        let inside = path.strip_prefix(workspace().join("app/src")).unwrap();
        let may = inside.starts_with("apply") || inside == "collect.rs" || inside.starts_with("registry");
        assert!(may, "{} changes a registry", inside.display());
        callers += 1;
    }
    assert!(callers >= 2, "{callers} callers were found");
}

#[test]
fn only_the_command_line_knows_of_the_command_line() {
    for path in sources("app/src") {
        let inside = path.strip_prefix(workspace().join("app/src")).unwrap().to_owned();
        let is_above = inside.starts_with("cli") || inside == Path::new("main.rs");
        assert!(is_above || !named(&code(&path)).contains(&"cli"), "{} uses cli", inside.display());
    }
}
