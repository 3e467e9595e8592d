//! The registry's own collector, beside it and in its place.

use std::fs;
use std::io;

use clean_registry::runtime::collector::{self, Collected, Event, Mode};
use clean_registry::runtime::docker::{Container, Error};
use tempfile::TempDir;

use crate::registry::{CONFIG, Filled, Registry, docker, images};

/// Collects, and returns besides the outcome the events other than lines, and the lines.
async fn collect(
    container: &Container,
    mode: Mode,
) -> (Result<Collected, collector::Error>, Vec<String>, Vec<String>) {
    let (mut events, mut lines) = (Vec::new(), Vec::new());
    let outcome = collector::collect(container, mode, CONFIG, &mut |event| {
        match event {
            Event::Line(line) => lines.push(line.text().to_owned()),
            other => events.push(format!("{other:?}")),
        }
        Ok(())
    })
    .await;
    (outcome, events, lines)
}

fn assert_collected(registry: &Registry, filled: &Filled, collected: Collected) {
    assert!(!registry.holds(&filled.garbage));
    assert!(filled.in_use.iter().all(|blob| registry.holds(blob)));
    assert_eq!(registry.get("/v2/team/app/manifests/v1"), 200);
    // Only 3.x knows of links to layers.
    let layer_links = u64::from(registry.inspect(".Config.Image").ends_with(":3"));
    assert_eq!((collected.blobs, collected.layer_links, collected.manifests), (1, layer_links, 0));
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn the_collector_runs_beside_the_registry() {
    for image in images() {
        let registry = Registry::run(&image, &[]);
        let filled = registry.fill();
        let container = registry.container().await;
        let (collected, events, lines) = collect(&container, Mode::Exec).await;
        let collected = collected.unwrap();
        assert_collected(&registry, &filled, collected.clone());
        assert_eq!(u64::try_from(lines.len()).unwrap(), collected.lines);
        assert!(events.is_empty() && lines.iter().any(|line| line.contains("marking manifest")), "{lines:?}");

        registry.break_collector();
        let failed = collect(&container, Mode::Exec).await.0.unwrap_err();
        let collector::Error::Failed { code: 1, last_lines } = failed else { panic!("{failed:?}") };
        assert!(last_lines.last().unwrap().contains("failed to garbage collect"), "{last_lines:?}");
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn the_collector_runs_in_the_place_of_the_registry() {
    for image in images() {
        let registry = Registry::run(&image, &[]);
        let filled = registry.fill();
        let container = registry.container().await;
        let started_at = registry.inspect(".State.StartedAt");
        let (collected, events, _) = collect(&container, Mode::Offline).await;
        assert_collected(&registry, &filled, collected.unwrap());
        assert_eq!(events, ["Stopping", "Started"]);
        assert_ne!(registry.inspect(".State.StartedAt"), started_at, "it was never stopped");
        assert_eq!(registry.one_offs(), "");

        // Started again also when the collector fails.
        registry.break_collector();
        let (failed, events, _) = collect(&container, Mode::Offline).await;
        assert!(matches!(failed, Err(collector::Error::Failed { code: 1, .. })), "{failed:?}");
        assert_eq!(events, ["Stopping", "Started"]);
        assert_eq!(registry.get("/v2/"), 200);
        assert_eq!(registry.one_offs(), "");
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn where_nothing_was_pushed_nothing_is_collected() {
    for image in images() {
        let registry = Registry::run(&image, &[]);
        let container = registry.container().await;
        let (collected, _, lines) = collect(&container, Mode::Exec).await;
        assert_eq!(collected.unwrap().blobs, 0, "{lines:?}");
        fs::create_dir_all(registry.storage.path().join("docker/registry/v2/repositories")).unwrap();
        let (collected, _, lines) = collect(&container, Mode::Exec).await;
        assert_eq!(collected.unwrap().blobs, 0, "{lines:?}");
    }
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_registry_that_was_stopped_is_collected_and_stays_stopped() {
    let registry = Registry::run(&images()[1], &[]);
    let filled = registry.fill();
    let container = registry.container().await;
    container.stop().await.unwrap();
    let (collected, events, _) = collect(&container, Mode::Offline).await;
    assert_eq!((collected.unwrap().blobs, events.len()), (1, 0));
    assert!(!container.is_running().await.unwrap() && !registry.holds(&filled.garbage));
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn nothing_is_stopped_that_cannot_be_collected() {
    let registry = Registry::run(&images()[1], &[]);
    let filled = registry.fill();
    let container = registry.container().await;
    let started_at = registry.inspect(".State.StartedAt");

    let mut full = |event: Event<'_>| match event {
        Event::Stopping => Err(io::Error::other("disk full")),
        _ => Ok(()),
    };
    let unrecorded = collector::collect(&container, Mode::Offline, CONFIG, &mut full).await.unwrap_err();
    assert!(matches!(unrecorded, collector::Error::Unrecorded { .. }), "{unrecorded}");

    let missing = collector::collect(&container, Mode::Offline, "/none.yml", &mut |_| Ok(())).await;
    assert!(matches!(missing, Err(collector::Error::NoConfig { .. })), "{missing:?}");

    docker(&["exec", &registry.name, "sh", "-c", &format!("echo '# mine' >> {CONFIG}")]);
    let (other, events, _) = collect(&container, Mode::Offline).await;
    assert!(matches!(other, Err(collector::Error::OtherConfig { .. })), "{other:?}");

    assert!(events.is_empty() && registry.holds(&filled.garbage));
    assert_eq!(registry.inspect(".State.StartedAt"), started_at);
    assert_eq!(registry.one_offs(), "");
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_registry_that_somebody_starts_meanwhile_is_reported() {
    let registry = Registry::run(&images()[1], &[]);
    registry.fill();
    let mut start = |event: Event<'_>| {
        if matches!(event, Event::Line(_)) {
            docker(&["start", &registry.name]);
        }
        Ok(())
    };
    let container = registry.container().await;
    let outcome = collector::collect(&container, Mode::Offline, CONFIG, &mut start).await;
    assert!(matches!(outcome, Err(collector::Error::StartedMeanwhile(_))), "{outcome:?}");
    assert_eq!(registry.get("/v2/"), 200);
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn what_a_killed_run_left_is_put_right() {
    let image = &*images()[0];
    let registry = Registry::run(image, &[]);
    registry.leave_one_off(image);
    docker(&["stop", &registry.name]);
    collector::recover(&registry.container().await).await.unwrap();
    assert_eq!((registry.one_offs(), registry.get("/v2/")), (String::new(), 200));
    let started_at = registry.inspect(".State.StartedAt");
    collector::recover(&registry.container().await).await.unwrap();
    assert_eq!(registry.inspect(".State.StartedAt"), started_at);
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_registry_that_stopping_would_remove_is_left_alone() {
    let registry = Registry::run(&images()[1], &["--rm"]);
    let (outcome, _, _) = collect(&registry.container().await, Mode::Offline).await;
    assert!(matches!(outcome, Err(collector::Error::Docker(Error::RemovedOnStop(_)))), "{outcome:?}");
    assert_eq!(registry.inspect(".State.Running"), "true");
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_registry_that_does_not_come_back_is_reported() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("config.yml");
    let good =
        "version: 0.1\nstorage: {filesystem: {rootdirectory: /var/lib/registry}}\nhttp: {addr: ':0'}\n";
    fs::write(&config, good).unwrap();
    let volume = format!("{}:{CONFIG}", config.display());
    let registry = Registry::run(&images()[1], &["--volume", &volume]);
    assert_eq!(registry.get("/v2/"), 200);
    fs::write(&config, "storage: [").unwrap();
    let (outcome, events, _) = collect(&registry.container().await, Mode::Offline).await;
    let failed = outcome.unwrap_err();
    let collector::Error::NotStartedAgain {
        source: Error::DoesNotStayUp { .. }, after: Some(before), ..
    } = failed
    else {
        panic!("{failed:?}")
    };
    assert!(before.to_string().contains("configuration error"), "{before}");
    assert_eq!(events, ["Stopping"]);
    assert_eq!(registry.one_offs(), "");
}

#[tokio::test]
#[ignore = "needs a Docker engine and the registry images: run scripts/test"]
async fn a_container_without_the_program_is_no_registry() {
    for mode in [Mode::Exec, Mode::Offline] {
        // PATH leads nowhere; what the container itself runs is named by its path.
        let options = ["--env", "PATH=/none", "--entrypoint", "/bin/registry"];
        let registry = Registry::run_with(&images()[1], &options, &["serve", CONFIG]);
        let (outcome, _, _) = collect(&registry.container().await, mode).await;
        assert!(matches!(outcome, Err(collector::Error::NoCollector(_))), "{mode:?} {outcome:?}");
        assert_eq!(registry.get("/v2/"), 200);
    }
}
