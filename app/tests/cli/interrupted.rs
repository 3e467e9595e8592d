//! Ctrl-C, and whoever does not read to the end.

use std::process::Child;
use std::time::{Duration, Instant};

use clean_registry::demo::server::{Behaviour, Effect, Rule};
use clean_registry::demo::store::Store;
use clean_registry_core::layout::Place;
use hyper::Method;
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Ended, Shop, Stage, old, shown};

const SLOW: Duration = Duration::from_secs(2);

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

#[test]
fn an_interrupted_run_ends_its_step_and_the_next_takes_over() {
    let shop = Shop::empty(Behaviour::default());
    let digests = ["1", "2", "3"].map(|tag| shop.push("app", tag, &old(tag, "2020-01-01T00:00:00Z")));
    for digest in digests {
        shop.server.faults().add(Rule::on(Method::DELETE, &digest.to_string(), Effect::Slow(SLOW)));
    }
    let stage = shop.stage();
    let child = stage.start("run");
    let deletes = || digests.iter().map(|digest| shop.server.count(&Method::DELETE, &digest.to_string()));
    let started = Instant::now();
    while deletes().sum::<usize>() == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing was deleted");
        std::thread::sleep(Duration::from_millis(20));
    }
    interrupt(&child);
    shown!(Ended::wait(child), @r"
    exit code 130
    -- stdout
    [time] [INFO] cleaning [host]: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs
    [time] [INFO] surveyed 1 repository with 3 tags in [n] requests
    [time] [INFO] no policy has removed anything from [host] before
    [time] [INFO] remove app:2: [age] days old (created 2020-01-01T00:00:00Z), older than 30 days
    [time] [INFO] remove app:3: [age] days old (created 2020-01-01T00:00:00Z), older than 30 days
    [time] [INFO] remove app:1: [age] days old (created 2020-01-01T00:00:00Z), older than 30 days
    [time] [WARNING] interrupted: stopping after the step at hand; once more stops at once
    [time] [ERROR] interrupted; run [run] can be undone
    -- stderr
    error: interrupted; run [run] can be undone
    hint: the next run takes over what is left
    ");
    assert_eq!(deletes().sum::<usize>(), 1);
    shop.server.faults().clear();
    shown!(stage.run("runs"), @r"
    exit code 0
    -- stdout
    [run]  removed 1 manifest and 1 tag  (interrupted)
    ");
    shown!(stage.run("run"), @r"
    exit code 0
    -- stdout
    [time] [INFO] cleaning [host]: remove images created more than 30 days ago; never those tagged latest; never those whose tag contains release; images of unknown age stay, and so does everything that a remaining image needs
    [time] [WARNING] run [run] was interrupted; what it left is taken over
    [time] [INFO] surveyed 1 repository with 2 tags in [n] requests
    [time] [INFO] remove app:3: [age] days old (created 2020-01-01T00:00:00Z), older than 30 days
    [time] [INFO] remove app:1: [age] days old (created 2020-01-01T00:00:00Z), older than 30 days
     REPOSITORY  TAGS  KEPT  REMOVED  ESTIMATE
     app            2     0        2   9.0 KiB
     total          2     0        2   9.0 KiB
    Steps: 2 done
    Garbage collection: none (neither the registry's storage nor its container is known: no space is freed)
    hint: name paths.host_storage, storage or registry.container; or set garbage_collection.mode to none
    Storage: not measured (unavailable: neither a host directory nor a container is configured)
    To take it back: clean-registry undo [run]
    ");
    shown!(stage.run("runs"), @r"
    exit code 0
    -- stdout
    [run]  removed 1 manifest and 1 tag  (interrupted, taken over by a later run)
    [run]  removed 2 manifests and 2 tags  (complete)
    ");
}

#[test]
fn whoever_closes_the_pipe_has_read_enough() {
    let shop = Shop::open();
    let stage = shop.stage();
    for line in ["plan --all", "run"] {
        let mut child = stage.start(line);
        drop(child.stdout.take());
        let ended = Ended::wait(child);
        assert_eq!((ended.code, ended.stderr.contains("panicked")), (0, false), "{line}: {ended:#?}");
    }
    assert!(stage.run("plan").stdout.contains("Nothing to remove"));
}

#[test]
fn who_is_interrupted_while_it_waits_brings_back_what_it_has_hidden() {
    let stage = Stage::bare();
    let store = Store::open(&stage.path("registry")).unwrap();
    let (kept, gone) = (old("kept", "2020-01-01T00:00:00Z"), old("gone", "2020-01-01T00:00:00Z"));
    kept.write(&store, &"app".parse().unwrap()).unwrap();
    gone.write(&store, &"app".parse().unwrap()).unwrap();
    store.remove(&Place::RevisionLink { repo: "app".parse().unwrap(), digest: gone.digest() }).unwrap();
    let root = stage.path("registry");
    stage.write(
        "registry.yml",
        &format!("version: 0.1\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n", root.display()),
    );
    let before = store.files().unwrap();
    let child = stage
        .start("gc --registry-config registry.yml --mode quarantine --wait 100s --grace 0s --output json");
    let started = Instant::now();
    while !std::fs::read_to_string(stage.path("log")).is_ok_and(|log| log.contains("waiting 100 s")) {
        assert!(started.elapsed() < Duration::from_secs(60), "nothing was hidden");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_ne!(store.files().unwrap(), before, "hidden");
    interrupt(&child);
    let ended = Ended::wait(child);
    assert_eq!(ended.code, 130, "{ended:#?}");
    assert!(ended.stderr.contains("error: interrupted; nothing was removed"), "{ended:#?}");
    assert_eq!(store.files().unwrap(), before, "back");
}
