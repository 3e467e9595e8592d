//! The configuration read back in words, and what in it comes to nothing.

use serde_json::{Value, json};

use crate::stage::{Stage, shown};

const NOWHERE: &str = "http://127.0.0.1:9";

#[test]
fn the_configuration_in_words_names_what_is_in_use_what_was_pulled_and_the_limits() {
    let stage = Stage::new(NOWHERE).configure(|config| {
        config["in_use"] = json!([
            { "kubernetes": { "contexts": ["prod", "staging"] } },
            { "name": "the edge", "command": "ssh edge crictl images -q" },
            { "url": "https://reader:secret@inventory.example/images?token=secret" },
        ]);
        config["pulls"] = json!({ "logs": ["access.log", "access.log.1"], "since": "2026-06-01T00:00:00Z" });
        config["limits"] = json!({
            "max_percent": 30,
            "repositories": [{ "repos": "prod/**", "max_delete": 20, "min_tags_left": 5 }],
        });
    });
    shown!(stage.run("config explain"), @r"
    exit code 0
    -- stdout
    Remove images created more than 30 days ago.
    Never those tagged latest.
    Never those whose tag contains release.
    Images of unknown age stay, and so does everything that a remaining image needs.
    Never those in use, as told by context prod, context staging, the edge, url https://inventory.example/images.
    What was pulled since [moment] is read from access.log, access.log.1.
    A run is refused whole that removes more than 30 % of the tags or of the manifests.
    Of each of repositories prod/** alone, one that removes more than 20 tags or manifests, or leaves a repository it takes tags from with fewer than 5.
    Then collect no garbage.
    ");
}

/// A policy that asks what only logs and the storage tell, beside these sections.
fn asking(sections: Value) -> Stage {
    Stage::new(NOWHERE).configure(|config| {
        config["cleanup"] = json!({
            "protect": "latest",
            "untagged": "7d",
            "rules": [
                { "name": "mirrors", "repos": "mirror/**", "keep": { "pulled_within": "30d" } },
                { "name": "caches", "repos": "cache/**", "clock": ["pushed"], "keep": { "within": "7d" } },
            ],
        });
        config.as_object_mut().unwrap().extend(sections.as_object().unwrap().clone());
    })
}

#[test]
fn what_a_policy_asks_for_and_nothing_can_tell_is_warned_of() {
    shown!(asking(json!({})).run("config check"), @r#"
    exit code 0
    -- stdout
    warning: rule "mirrors": pulled_within keeps all that it claims: nothing tells what was pulled; name the logs in pulls.logs
    warning: rule "caches": clock: [pushed] keeps all that it judges: nothing tells when that was pushed; name the registry's storage
    warning: untagged removes nothing: only the storage shows untagged manifests; name it in storage
    config.json is fine
    "#);
}

#[test]
fn what_the_configuration_leads_to_is_not_warned_of() {
    for (sections, is_mentioned) in [
        (json!({ "pulls": { "logs": ["access.log"] } }), ("pulled", false)),
        (json!({ "storage": { "directory": "." } }), ("storage", false)),
        (json!({ "paths": { "host_storage": "." } }), ("storage", false)),
        (json!({ "registry": { "url": NOWHERE, "container": "registry" } }), ("storage", false)),
        (json!({ "storage": { "directory": "." } }), ("pulled", true)),
    ] {
        let told = asking(sections.clone()).run("config check").stdout;
        assert_eq!(told.contains(is_mentioned.0), is_mentioned.1, "{sections}: {told}");
        assert!(told.contains("warning:"), "{sections}: {told}");
    }
}
