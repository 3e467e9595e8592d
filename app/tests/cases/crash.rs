//! Killed after every line of its journal: the registry is whole then, the next run finishes what was begun, and
//! `undo` restores the start as well.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use clean_registry::demo::builder::{Builder, Built};
use clean_registry::demo::sample::Fate::{Goes, Stays, Untagged};
use clean_registry::demo::server::Generation::{self, V2, V3};
use clean_registry::demo::server::{Effect, Rule};

use crate::registry::{Door, Kind, scratch};
use crate::scene::{Scene, old, young};

#[tokio::test]
async fn a_run_may_be_killed_anywhere_on_2() {
    kill_everywhere(V2).await;
}

#[tokio::test]
async fn a_run_may_be_killed_anywhere_on_3() {
    kill_everywhere(V3).await;
}

async fn kill_everywhere(generation: Generation) {
    let whole = scene(generation).await;
    let start = whole.registry.links().len();
    whole.play().await;
    let end = whole.registry.links().len();
    let lines = lines(&whole);
    assert!(lines > 20 && end < start, "{lines} lines");
    for after in 0..=lines {
        let scene = scene(generation).await;
        let links = scene.registry.links();
        let killed_after = kill_after(&scene, after);
        assert_every_tag_pulls(&scene, killed_after).await;

        let killed = Copy::of(&scene);
        let next = scene.program.run(&["run"]).with_code(0);
        scene.prove().await;
        assert_eq!(scene.registry.links().len(), end, "after {killed_after} lines: {next:?}");

        killed.put_back(&scene);
        let Some(run) = scene.program.runs().pop().filter(|_| killed_after > 0) else { continue };
        let run = run.file_name().unwrap().to_str().unwrap().to_owned();
        let undone = scene.program.run(&["undo", &run]).with_code(0);
        assert_eq!(scene.registry.links(), links, "undone after {killed_after} lines: {undone:?}");
    }
}

/// A bit of everything that takes more than one step to go.
async fn scene(generation: Generation) -> Scene {
    let mut scene = Scene::on(Kind::InProcess(generation), Door::Open);
    let (amd, shared) = (old("amd"), old("shared").on("linux", "arm64"));
    let attestation = Builder::attestation(&amd);
    let index = Built::index([amd.clone(), shared.clone(), attestation.clone()]);
    scene.push("app", "1.0", &index, Goes).await;
    scene.push("app", "2.0", &Built::index([young("new amd"), shared.clone()]), Stays).await;
    scene.push("app", index.tag_about(".sig").as_str(), &Builder::signature(&index), Goes).await;
    let sbom = Builder::referrer(&index, "application/spdx+json");
    scene.push("app", index.tag_about("").as_str(), &Built::index([sbom.clone()]), Goes).await;
    for (child, fate) in [(amd, Goes), (shared, Stays), (attestation, Goes), (sbom, Goes)] {
        scene.expect_child("app", &child, fate);
    }
    let (deepest, middle) = (old("deepest"), old("middle"));
    let inner = Built::index([deepest.clone()]);
    scene.push("deep/nested", "old", &Built::index([inner.clone(), middle.clone()]), Goes).await;
    for child in [deepest, inner, middle] {
        scene.expect_child("deep/nested", &child, Goes);
    }
    let both = old("both");
    scene.push("two/tags", "latest", &both, Stays).await;
    scene.push("two/tags", "v1", &both, Untagged).await;
    for tag in ["v0", "v0.0"] {
        scene.push("two/tags", tag, &old("v0"), Goes).await;
    }
    // Each line is a while before the next, so that it can be killed in between.
    scene.registry.server().faults().add(Rule::any("/manifests/", Effect::Slow(Duration::from_millis(2))));
    scene
}

/// Runs until the journal has so many lines, and kills; says how many it has then.
fn kill_after(scene: &Scene, count: usize) -> usize {
    let mut child = scene.program.start(&["run"]);
    let until = Instant::now() + Duration::from_secs(30);
    while lines(scene) < count && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "line {count} is not written");
        std::thread::sleep(Duration::from_micros(500));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The registry may still be at its last request.
    std::thread::sleep(Duration::from_millis(20));
    scene.registry.server().faults().clear();
    lines(scene)
}

/// The lines of the last journal.
fn lines(scene: &Scene) -> usize {
    let journal = scene.program.runs().pop().map(|run| fs::read(run.join("journal.jsonl")));
    let bytes = journal.and_then(Result::ok).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

async fn assert_every_tag_pulls(scene: &Scene, killed_after: usize) {
    for (repo, tag) in scene.tags().await.keys() {
        let pulled = scene.registry.client.pull_whole(repo, tag).await;
        assert!(pulled.is_ok(), "killed after {killed_after} lines: {repo}:{tag}: {pulled:?}");
    }
}

/// What a killed run left: the storage and the state, to go on from once more.
struct Copy(tempfile::TempDir);

impl Copy {
    fn of(scene: &Scene) -> Self {
        let copy = Self(scratch());
        copy_tree(scene.registry.store.root(), &copy.0.path().join("storage"));
        if scene.program.state().exists() {
            copy_tree(&scene.program.state(), &copy.0.path().join("state"));
        }
        copy
    }

    fn put_back(&self, scene: &Scene) {
        for (name, place) in
            [("storage", scene.registry.store.root().to_owned()), ("state", scene.program.state())]
        {
            fs::remove_dir_all(&place).unwrap();
            if self.0.path().join(name).exists() {
                copy_tree(&self.0.path().join(name), &place);
            }
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("--archive").args([from, to]).status().unwrap().success());
}
