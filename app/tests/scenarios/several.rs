//! Several registries of one configuration at once: a 2.8, a 3.1 and one that is not there.

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::server::Generation::{V2, V3};
use serde_json::{Value, json};

use crate::stage::{Stage, image};

/// What is said of one registry: where it is and stores, and how it is closed.
fn section(stage: &Stage) -> Value {
    let script = |name: &str| format!("cd {} && bash {name}", stage.directory.path().display());
    json!({
        "registry": { "url": stage.url() },
        "storage": { "directory": stage.store.root() },
        "garbage_collection": { "close_command": script("stop.sh"), "open_command": script("start.sh") },
    })
}

fn old(name: &str) -> Built {
    let layer = noise(&format!("{name} of old"), 2000);
    Builder::image(name).created_text("2020-01-01T00:00:00Z").layer(layer).build()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs docker-registry 2.8 and Distribution 3.1: run scripts/test"]
async fn each_is_cleaned_and_collected_and_one_that_is_not_there_stops_none() {
    let stages = [("two", Stage::new(V2)), ("three", Stage::new(V3))];
    for (name, stage) in &stages {
        stage.client.push_as("app", "latest", &image(name)).await;
        stage.client.push_as("app", "old", &old(name)).await;
    }
    let mut config = json!({
        "cleanup": { "days_to_keep": 30, "protected_tags": ["latest"] },
        "garbage_collection": { "mode": "native", "native": "barrier" },
        "limits": { "max_percent": 50, "min_tags_left": 1 },
        "registries": { "broken": { "registry": { "url": "http://127.0.0.1:1" } , "garbage_collection": { "mode": "none" } } },
    });
    for (name, stage) in &stages {
        config["registries"][name] = section(stage);
    }
    let place = &stages[0].1;
    std::fs::write(place.path("config.json"), config.to_string()).unwrap();
    let ended = place.run(&["--log-file", "log", "run"]).with_code(3);
    for (name, stage) in &stages {
        let result = &ended.json["registries"][name]["result"];
        assert_eq!(
            (&result["exit"], &result["collection"]["collection"]),
            (&json!(0), &json!("done")),
            "{name}: {ended:#?}"
        );
        stage.has_nothing_of("app", &old(name));
        stage.pulls("app", "latest").await;
        assert!(ended.stderr.contains(&format!("[INFO] {name}: remove app:old: ")), "{ended:#?}");
    }
    assert_eq!(ended.json["registries"]["broken"]["exit"], 3);
}
