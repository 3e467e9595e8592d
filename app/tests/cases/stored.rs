//! What the storage shows and the API does not: untagged manifests, pushes, exact sizes; and whose storage it is.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clean_registry::apply::Apply;
use clean_registry::config::Config;
use clean_registry::context::{Choices, Context};
use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::sample::Fate::{Goes, Stays, Untagged};
use clean_registry::demo::server::{Effect, Generation, Rule};
use clean_registry::job::decide;
use clean_registry::registry::{Deleted, Reader, Reference, Writer};
use clean_registry::storage::Local;
use clean_registry::survey::Scope;
use clean_registry_core::audit::audit;
use clean_registry_core::inventory::Inventory;
use clean_registry_core::journal::Outcome;
use clean_registry_core::layout::{PREFIX, Place};
use clean_registry_core::name::{Digest, MediaType, RepoName, Tag};
use clean_registry_core::plan::{Origin, Plan};
use reqwest::Method;
use serde_json::{Value, json};

use crate::program::Program;
use crate::registry::{Door, Kind};
use crate::scene::{Scene, image, old, young};

/// Makes of each case one test per registry.
macro_rules! cases {
    ($($case:ident),+ $(,)?) => { $(
        mod $case {
            use clean_registry::demo::server::Generation::{V2, V3};

            use crate::registry::Door::Open;
            use crate::registry::Kind::{Distribution, InProcess};
            use crate::scene::Scene;

            #[tokio::test(flavor = "multi_thread")]
            async fn in_process_2() {
                super::$case(&mut Scene::stored(InProcess(V2), Open)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn in_process_3() {
                super::$case(&mut Scene::stored(InProcess(V3), Open)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs docker-registry 2.8: run scripts/test"]
            async fn registry_2() {
                super::$case(&mut Scene::stored(Distribution(V2), Open)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs Distribution 3.1: run scripts/test"]
            async fn registry_3() {
                super::$case(&mut Scene::stored(Distribution(V3), Open)).await;
            }
        }
    )+ };
}

cases! {
    untagged_manifests_that_nothing_needs_go_where_that_is_asked_for,
    what_was_pushed_a_moment_ago_is_not_unneeded_yet,
    a_referrer_without_a_tag_goes_with_its_subject,
    a_push_counts_where_the_clock_says_so,
    the_storage_of_another_registry_is_refused,
    a_copy_of_the_storage_is_refused_before_anything_is_changed,
    a_registry_of_which_only_folders_are_left_is_nothing_to_do,
    an_index_that_lacks_a_child_stays_whatever_dates_it,
    an_estimate_is_what_only_the_removed_images_hold,
    a_repository_without_layers_or_without_manifests_is_one,
    without_an_address_the_storage_is_looked_at_and_not_changed,
    what_is_changed_in_the_storage_is_changed_for_the_registry,
    an_undone_run_is_as_it_was,
    a_plan_is_carried_out_in_the_storage_of_a_closed_registry,
}

impl Scene {
    fn configured(&mut self, change: impl FnOnce(&mut Value)) {
        let program = std::mem::replace(&mut self.program, Program::new("http://localhost", None));
        self.program = program.configure(change);
    }

    /// Lets untagged manifests go at once.
    fn without_untagged(&mut self) {
        self.configured(|config| config["cleanup"]["untagged"] = json!("0s"));
    }
}

/// Pushes are told in whole seconds, and so is the registry's time.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(2100)).await;
}

async fn untagged_manifests_that_nothing_needs_go_where_that_is_asked_for(scene: &mut Scene) {
    // Digests alone, an index whose child has a tag of its own, and what something that stays needs.
    scene.push_untagged("bare", &young("bare"), Goes).await;
    let (tagged, other) = (young("tagged"), young("other").on("linux", "arm64"));
    scene.push_untagged("app", &Built::index([tagged.clone(), other.clone()]), Goes).await;
    scene.expect_child("app", &other, Goes);
    scene.push("app", "v1", &tagged, Stays).await;
    let child = young("child");
    scene.push("app", "multi", &Built::index([child.clone()]), Stays).await;
    scene.expect_child("app", &child, Stays);
    scene.push("app", "old", &old("old"), Goes).await;
    a_moment().await;
    let before = scene.manifests().await;
    let plan = scene.program.run(&["plan"]).with_code(0);
    assert_eq!(plan.json["steps"].as_array().unwrap().len(), 1, "not asked for: {plan:#?}");
    scene.without_untagged();
    let plan = scene.program.run(&["plan"]).with_code(0).json;
    let causes: Vec<&str> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["cause"]["kind"].as_str().unwrap())
        .collect();
    assert_eq!(causes.iter().filter(|cause| **cause == "untagged").count(), 2, "{plan:#}");
    assert_eq!(scene.manifests().await, before, "a plan changes nothing");
    scene.play().await;
    let uploads = scene.registry.files().into_keys().filter(|key| key.contains("/_uploads/"));
    assert_eq!(uploads.collect::<Vec<_>>(), [] as [String; 0], "what was begun to prove the storage is gone");
}

async fn what_was_pushed_a_moment_ago_is_not_unneeded_yet(scene: &mut Scene) {
    scene.configured(|config| config["cleanup"]["untagged"] = json!("1h"));
    scene.push_untagged("bare", &old("bare"), Stays).await;
    scene.play().await;
}

async fn a_referrer_without_a_tag_goes_with_its_subject(scene: &mut Scene) {
    scene.without_untagged();
    for (repo, days, fate) in [("old", 100, Goes), ("young", 2, Stays)] {
        let subject = image("subject", days);
        scene.push(repo, "v1", &subject, fate).await;
        let referrer = Builder::referrer(&subject, "application/spdx+json");
        scene.push_untagged(repo, &referrer, fate).await;
        let about_it = Builder::referrer(&referrer, "application/vnd.example.note");
        scene.push_untagged(repo, &about_it, fate).await;
    }
    a_moment().await;
    scene.play().await;
}

async fn a_push_counts_where_the_clock_says_so(scene: &mut Scene) {
    let undated = Builder::image("undated").layer(noise("undated", 100)).build();
    for (tag, built) in [("old", old("old")), ("young", young("young")), ("undated", undated)] {
        scene.push("app", tag, &built, if tag == "old" { Goes } else { Stays }).await;
    }
    for clock in [json!(["pushed"]), json!(["created", "pushed"])] {
        scene.configured(|config| config["cleanup"]["clock"] = clock.clone());
        let plan = scene.program.run(&["plan", "--all"]).with_code(0).json;
        assert_eq!(plan["steps"], json!([]), "all was pushed just now: {plan:#}");
        let kept = plan["kept"].as_array().unwrap();
        assert!(kept.iter().any(|kept| kept["grounds"][0]["source"] == "push"), "{plan:#}");
    }
    let explained = scene.program.run(&["explain", "app:undated"]).with_code(0).json;
    assert!(explained[0]["pushed"].is_string(), "{explained:#}");
    // Nobody has pushed for a while, as far as zero days go.
    scene.configured(|config| {
        config["cleanup"]["days_to_keep"] = json!(0);
        config["cleanup"]["protected_tags"] = json!(["young"]);
    });
    a_moment().await;
    let plan = scene.program.run(&["plan"]).with_code(0).json;
    let mut goes: Vec<&str> =
        plan["steps"].as_array().unwrap().iter().map(|step| step["tags"][0].as_str().unwrap()).collect();
    goes.sort_unstable();
    assert_eq!(goes, ["old", "undated"], "its push dates what has no date");
    // Without the storage nothing tells of pushes, and what is to go by them stays.
    scene.configured(|config| drop(config.as_object_mut().unwrap().remove("storage")));
    let plan = scene.program.run(&["plan"]).with_code(0).json;
    assert_eq!(plan["steps"], json!([]), "{plan:#}");
    scene.configured(|config| {
        config["cleanup"]["clock"] = json!(["created"]);
        config["cleanup"]["days_to_keep"] = json!(30);
    });
    scene.play().await;
}

async fn a_registry_of_which_only_folders_are_left_is_nothing_to_do(scene: &mut Scene) {
    scene.push("app", "v1", &old("v1"), Goes).await;
    scene.play().await;
    let base = scene.registry.store.root().join(PREFIX);
    for (key, _) in scene.registry.files() {
        fs::remove_file(base.join(key)).unwrap();
    }
    scene.prove_idle(0);
}

async fn an_index_that_lacks_a_child_stays_whatever_dates_it(scene: &mut Scene) {
    scene.configured(|config| {
        config["cleanup"]["clock"] = json!(["pushed"]);
        config["cleanup"]["days_to_keep"] = json!(0);
    });
    let (lost, left) = (old("lost"), old("left").on("linux", "arm64"));
    let index = Built::index([lost.clone(), left]);
    scene.push("app", "torn", &index, Stays).await;
    scene.push("app", "whole", &Built::index([old("other")]), Goes).await;
    let revision = Place::RevisionLink { repo: "app".parse().unwrap(), digest: lost.digest() };
    fs::remove_dir_all(scene.registry.store.path(&revision).parent().unwrap()).unwrap();
    a_moment().await;
    let plan = scene.program.run(&["plan"]).with_code(0).json;
    let tags: Vec<&Value> = plan["steps"].as_array().unwrap().iter().map(|step| &step["tags"]).collect();
    assert_eq!(tags, [&json!(["whole"]), &json!([])], "no undo could put the other back: {plan:#}");
}

/// Runs what would change something and must not.
fn refused(scene: &Scene, verbs: &[&[&str]], [one, other]: [&str; 2]) {
    // Of an upload that is cancelled both generations leave the state of a hash.
    let files = || {
        let mut files = scene.registry.files();
        files.retain(|key, _| !key.contains("/hashstates/"));
        files
    };
    let before = files();
    for verb in verbs {
        let ended = scene.program.run(verb).with_code(6);
        assert!(ended.stderr.contains("not the same registry"), "{ended:#?}");
        assert!(ended.stderr.contains(one) && ended.stderr.contains(other), "it names both: {ended:#?}");
    }
    assert_eq!(files(), before, "nothing was changed");
}

async fn the_storage_of_another_registry_is_refused(scene: &mut Scene) {
    let mut other = Scene::on(scene.registry.kind, Door::Open);
    other.push("app", "v1", &young("another v1"), Stays).await;
    scene.push("app", "v1", &old("v1"), Stays).await;
    let (mine, others) = (scene.registry.store.root().to_owned(), other.registry.store.root().to_owned());
    let empty = scene.program.path("empty");
    fs::create_dir(&empty).unwrap();
    for storage in [others, empty] {
        scene.configured(|config| config["storage"]["directory"] = json!(storage));
        let host = scene.registry.url.trim_start_matches("http://").to_owned();
        let storage = storage.canonicalize().unwrap();
        refused(scene, &[&["plan"], &["run"], &["explain", "app:v1"]], [&host, storage.to_str().unwrap()]);
    }
    scene.configured(|config| config["storage"]["directory"] = json!(mine));
    let ended = scene.program.run(&["run"]).with_code(0);
    assert_eq!(ended.steps().len(), 1, "{ended:#?}");
}

async fn a_copy_of_the_storage_is_refused_before_anything_is_changed(scene: &mut Scene) {
    scene.push("app", "v1", &old("v1"), Stays).await;
    let copy = scene.program.path("copy");
    let copied = Command::new("cp").arg("-a").arg(scene.registry.store.root()).arg(&copy).status().unwrap();
    assert!(copied.success());
    scene.configured(|config| config["storage"]["directory"] = json!(copy));
    scene.program.run(&["plan"]).with_code(0);
    let host = scene.registry.url.trim_start_matches("http://").to_owned();
    refused(scene, &[&["run"]], [&host, copy.canonicalize().unwrap().to_str().unwrap()]);
    scene.prove().await;
}

async fn an_estimate_is_what_only_the_removed_images_hold(scene: &mut Scene) {
    let shared = noise("shared", 5000);
    let of = |name: &str, days: i64| {
        let image = Builder::image(name).created(crate::scene::ago(days)).layer(shared.clone());
        image.layer(noise(name, 3000)).build()
    };
    let (gone, also_gone, kept) = (of("gone", 100), of("also gone", 100), of("kept", 1));
    scene.push("app", "gone", &gone, Goes).await;
    scene.push("other", "gone", &also_gone, Goes).await;
    scene.push("other", "gone-too", &gone, Goes).await;
    scene.push("app", "kept", &kept, Stays).await;
    // Garbage of before, and what only an untagged manifest holds: neither is freed by this plan.
    scene.registry.client.blob("app", &noise("orphan", 7000)).await;
    scene.push_untagged("app", &old("untagged"), Stays).await;
    let own = |built: &Built| -> u64 {
        let blobs = built.blobs.iter().filter(|blob| **blob != shared);
        blobs.map(|blob| blob.len() as u64).sum::<u64>() + built.bytes.len() as u64
    };
    let plan = scene.program.run(&["plan"]).with_code(0).json;
    assert_eq!(plan["estimate"], json!({ "bytes": own(&gone) + own(&also_gone), "exact": true }));
    let report = scene.program.run(&["run", "--repo", "other"]).with_code(0).json;
    let total = &report["summary"]["total"]["bytes"];
    assert_eq!(*total, json!(own(&also_gone)), "the other image is still in app: {report:#}");
    scene.play().await;
}

async fn a_repository_without_layers_or_without_manifests_is_one(scene: &mut Scene) {
    scene.without_untagged();
    let empty = Builder::artifact("application/vnd.example", json!({})).build();
    scene.push("no-layers", "v1", &empty, Stays).await;
    let root = scene.registry.store.root().join(PREFIX).join("repositories");
    fs::remove_dir_all(root.join("no-layers/_layers")).unwrap();
    scene.registry.client.blob("no-manifests", &noise("lonely", 100)).await;
    a_moment().await;
    let plan = scene.program.run(&["plan", "--all"]).with_code(0).json;
    assert_eq!((&plan["steps"], &plan["gaps"]), (&json!([]), &json!([])), "{plan:#}");
    assert_eq!(plan["kept"][0]["repository"], "no-layers", "{plan:#}");
}

async fn without_an_address_the_storage_is_looked_at_and_not_changed(scene: &mut Scene) {
    scene.push("app", "v1", &old("v1"), Stays).await;
    scene.push("app", "v2", &young("v2"), Stays).await;
    let with_address = scene.program.run(&["plan"]).with_code(0).json;
    scene.configured(|config| config["registry"] = json!({}));
    let before = scene.registry.files();
    let plan = scene.program.run(&["plan"]).with_code(0).json;
    // Only the registry's own time tells a day from the next, and over its storage nobody asks for it.
    assert_eq!(plan["steps"][0]["digest"], with_address["steps"][0]["digest"]);
    assert_eq!(plan["steps"].as_array().unwrap().len(), with_address["steps"].as_array().unwrap().len());
    assert_eq!(plan["registry"], json!(scene.registry.store.root()));
    let explained = scene.program.run(&["explain", "app:v2"]).with_code(0).json;
    assert!(explained[0]["decision"]["keep"].is_array(), "{explained:#}");
    // A registry that is a process of this host is seen to be at work; one inside the test's own process is not.
    if matches!(scene.registry.kind, Kind::Distribution(_)) {
        let ended = scene.program.run(&["run"]).with_code(6);
        assert!(ended.stderr.contains("open to pushes"), "{ended:#?}");
        assert_eq!(scene.registry.files(), before);
        scene.prove().await;
    }
}

async fn what_is_changed_in_the_storage_is_changed_for_the_registry(scene: &mut Scene) {
    let (one, two) = (young("one"), young("two"));
    let client = scene.registry.client.clone();
    for (tag, built) in [("v1", &one), ("v1-also", &one), ("v2", &two), ("moved", &one), ("moved", &two)] {
        client.push_as("app", tag, built).await;
    }
    let storage = Arc::new(Local::open(scene.registry.store.root()).unwrap());
    let writer = Writer::new(Reader::over_storage(storage));
    let (repo, tag) = ("app".parse::<RepoName>().unwrap(), |name: &str| name.parse::<Tag>().unwrap());

    assert_eq!(writer.delete_tag(&repo, &tag("v1-also")).await.unwrap(), Deleted::Now);
    assert_eq!(writer.delete_tag(&repo, &tag("v1-also")).await.unwrap(), Deleted::Already);
    assert_eq!(sorted(client.tags("app").await), ["moved", "v1", "v2"]);
    client.pull_whole("app", "v1").await.unwrap();

    assert_eq!(writer.delete_manifest(&repo, &one.digest()).await.unwrap(), Deleted::Now);
    assert_eq!(sorted(client.tags("app").await), ["moved", "v2"]);
    assert!(client.pull_whole("app", &one.digest().to_string()).await.is_err());
    client.pull_whole("app", "moved").await.unwrap();
    let hex = one.digest().hex();
    let left: Vec<String> = scene
        .registry
        .files()
        .into_keys()
        .filter(|key| key.contains("_manifests") && key.contains(&hex))
        .collect();
    assert_eq!(left, [] as [String; 0], "nor is it in the history of a tag");
    assert_eq!(writer.delete_manifest(&repo, &one.digest()).await.unwrap(), Deleted::Already);

    let put = |reference: Reference, built: &Built| {
        let bytes = built.bytes.clone().into();
        let (writer, repo, media_type) =
            (writer.clone(), repo.clone(), MediaType::new(built.media_type.as_str()));
        async move { writer.put_manifest(&repo, &reference, &media_type, bytes).await }
    };
    put(Reference::Tag(tag("again")), &one).await.unwrap();
    client.pull_whole("app", "again").await.unwrap();
    assert_eq!(sorted(client.tags("app").await), ["again", "moved", "v2"]);
    let index = Built::index([young("absent")]);
    assert!(put(Reference::Digest(index.digest()), &index).await.is_err(), "as a registry refuses it");
}

/// As a run does it once the registry is known to be closed; the registry here looks on and does nothing.
async fn a_plan_is_carried_out_in_the_storage_of_a_closed_registry(scene: &mut Scene) {
    let shared = old("shared");
    scene.push("app", "v1", &shared, Goes).await;
    scene.push("app", "latest", &shared, Stays).await;
    let (child, kept) = (old("child"), young("kept"));
    scene.push("app", "v2", &Built::index([child.clone()]), Goes).await;
    scene.expect_child("app", &child, Goes);
    scene.push("app", "v3", &kept, Stays).await;
    scene.push_untagged("bare", &young("bare"), Goes).await;
    a_moment().await;
    let (tags, manifests) = (scene.tags().await, scene.manifests().await);
    let text = json!({
        "cleanup": { "days_to_keep": 30, "protected_tags": ["latest"], "untagged": "0s" },
        "storage": { "directory": scene.registry.store.root() },
        "state_dir": scene.program.path("closed"),
    });
    let path = scene.program.path("closed.json");
    fs::write(&path, text.to_string()).unwrap();
    let config = Config::load(&path, &BTreeMap::new()).unwrap();
    let ctx = Context::new(&Choices::default(), config, BTreeMap::new()).await.unwrap();
    let carry_out = async |plan: Plan, inventory: Inventory| {
        let audited = audit(plan, &inventory, &ctx.config.promises()).unwrap();
        assert_eq!(audited.stale, []);
        let log = ctx.state.begin(audited.sound.plan(), ctx.now).unwrap();
        let (writer, vault) = (Writer::new(ctx.reader.clone()), ctx.state.vault());
        let apply = Apply {
            writer: &writer,
            storage: None,
            inventory: &inventory,
            vault: &vault,
            log: &log,
            progress: &ctx.progress,
            interrupt: &ctx.interrupt,
        };
        let applied = apply.run(&audited.sound).await.unwrap();
        assert_eq!(applied.count(|outcome| *outcome != Outcome::Done), 0, "{applied:#?}");
    };
    let survey = async || ctx.survey(&Scope::All, &BTreeMap::new()).await.unwrap();

    let drawn = decide(&ctx, survey().await).await;
    assert_eq!(drawn.plan.steps.len(), 4, "{:#?}", drawn.plan.steps);
    carry_out(drawn.plan.clone(), drawn.inventory).await;
    let left: Vec<String> =
        scene.tags().await.into_keys().map(|(repo, tag)| format!("{repo}:{tag}")).collect();
    assert_eq!(left, ["app:latest", "app:v3"]);
    for tag in ["latest", "v3"] {
        scene.registry.client.pull_whole("app", tag).await.unwrap();
    }
    assert_eq!(scene.manifests().await.len(), 3, "of shared twice and of kept");
    assert_eq!(decide(&ctx, survey().await).await.plan.steps, [], "a second run has nothing to do");

    let run = ctx.state.runs().unwrap().remove(0);
    let undo = Plan { steps: run.journal.invert(&run.name), origin: Origin::Undo(run.name), ..drawn.plan };
    carry_out(undo, survey().await).await;
    assert_eq!((scene.tags().await, scene.manifests().await), (tags, manifests));
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

async fn an_undone_run_is_as_it_was(scene: &mut Scene) {
    scene.without_untagged();
    let shared = old("shared");
    scene.push("app", "v1", &shared, Untagged).await;
    scene.push("app", "latest", &shared, Stays).await;
    scene.push("app", "v2", &Built::index([old("child")]), Goes).await;
    scene.push_untagged("app", &old("untagged"), Goes).await;
    a_moment().await;
    let (tags, manifests) = (scene.tags().await, scene.manifests().await);
    let ended = scene.program.run(&["run"]).with_code(0);
    scene.prove().await;
    scene.program.run(&["undo", ended.run()]).with_code(0);
    assert_eq!((scene.tags().await, scene.manifests().await), (tags, manifests));
}

#[tokio::test]
async fn a_tag_that_the_registry_leaves_behind_is_removed_in_the_storage_and_no_other() {
    // 2.8 over S3 leaves the tag where another one extends its name: FACTS section 2.
    let mut scene = Scene::stored(Kind::InProcess(Generation::V2), Door::Open);
    scene.push("app", "v1", &old("v1"), Goes).await;
    scene.push("app", "v1-foo", &young("v1-foo"), Stays).await;
    let rule = Rule::on(Method::DELETE, "/v2/app/manifests/sha256", Effect::LeaveTags);
    scene.registry.server().faults().add(rule);
    let ended = scene.play().await;
    assert!(ended.stderr.contains("app:v1 was left by the registry"), "{ended:#?}");
}

#[tokio::test]
async fn an_error_after_the_deed_is_seen_through() {
    for generation in [Generation::V2, Generation::V3] {
        let mut scene = Scene::stored(Kind::InProcess(generation), Door::Open);
        scene.push("app", "v1", &old("v1"), Goes).await;
        scene.push("app", "v2", &young("v2"), Stays).await;
        let rule = Rule::on(Method::DELETE, "/v2/app/manifests/sha256", Effect::DoneBut(500));
        scene.registry.server().faults().add(rule.after(1));
        scene.play().await;
    }
}

#[tokio::test]
async fn a_survey_of_the_storage_asks_the_registry_for_next_to_nothing() {
    let mut scene = Scene::stored(Kind::InProcess(Generation::V3), Door::Open);
    for repo in 0..9 {
        for tag in 0..9 {
            scene
                .push(&format!("app-{repo}"), &format!("v{tag}"), &young(&format!("{repo} {tag}")), Stays)
                .await;
        }
    }
    scene.registry.server().clear_log();
    scene.program.run(&["plan"]).with_code(0);
    let log = scene.registry.server().log();
    assert_eq!(log.len(), 1 + 3 * 2, "a ping, and of three repositories the tags and one digest: {log:#?}");
    assert!(scene.registry.server().mutations().is_empty());
}

#[tokio::test]
async fn what_is_broken_is_told_with_its_path() {
    let mut scene = Scene::stored(Kind::InProcess(Generation::V3), Door::Open);
    scene.push("torn", "v1", &old("v1"), Stays).await;
    scene.push("torn", "v2", &old("v2"), Stays).await;
    scene.push("lost", "v1", &old("lost"), Goes).await;
    let (torn, lost): (RepoName, RepoName) = ("torn".parse().unwrap(), "lost".parse().unwrap());
    let current = Place::TagCurrent { repo: torn, tag: "v1".parse().unwrap() };
    scene.registry.store.write(&current, b"").unwrap();
    let digest = Digest::of(b"never stored");
    let revision = Place::RevisionLink { repo: lost, digest };
    scene.registry.store.write_link(&revision, &digest).unwrap();
    let ended = scene.program.run(&["plan"]).with_code(0);
    let gaps = ended.json["gaps"].to_string();
    assert!(gaps.contains(&current.key()) && gaps.contains(&revision.key()), "{gaps}");
    let steps: Vec<String> =
        ended.json["steps"].as_array().unwrap().iter().map(|step| step["repository"].to_string()).collect();
    assert_eq!(steps, ["\"lost\""], "its siblings are cleaned, and the other repository is kept whole");
}
