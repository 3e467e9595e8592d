//! Runs that are disturbed: killed, raced, refused in part. Whatever happens, nothing that somebody needs is lost, nothing that
//! should go is forgotten, and no failure is called a success.

#[expect(dead_code, reason = "not every test needs all of it")]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clean_registry::cli::verb;
use clean_registry::collect::Collector;
use clean_registry::collect::native::Native;
use clean_registry::config::Config;
use clean_registry::context::{Choices, Context};
use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::server::{Behaviour, Effect, Generation, Rule, Server};
use clean_registry::demo::store::Store;
use clean_registry::failure::{Exit, Failure};
use clean_registry::job::{self, CollectWhen, Work};
use clean_registry::report::{Collection, Report};
use clean_registry::state::State;
use clean_registry::storage::Local;
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, RepoName, Tag};
use reqwest::Method;
use serde_json::json;
use support::push::Client;
use tempfile::TempDir;
use tokio::sync::Notify;

const OLD: &str = "2020-01-01T00:00:00Z";

/// A registry, somebody who pushes to it, and the directory of the cleaner's configuration and state.
struct Scene {
    directory: TempDir,
    server: Server,
    client: Client,
}

impl Scene {
    fn new(generation: Generation) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(&directory.path().join("storage"), Behaviour::of(generation)).unwrap();
        let client = Client::new(&server.url());
        Self { directory, server, client }
    }

    async fn context(&self) -> Context {
        let path = self.directory.path().join("config.json");
        let text = json!({
            "registry": { "url": self.server.url() },
            "cleanup": { "days_to_keep": 30, "protected_tags": ["latest"] },
            "state_dir": self.directory.path().join("state"),
        });
        std::fs::write(&path, text.to_string()).unwrap();
        let config = Config::load(&path, &BTreeMap::new()).unwrap();
        Context::new(&Choices::default(), config, BTreeMap::new()).await.unwrap()
    }

    async fn run(&self) -> Result<Report, Failure> {
        let ctx = self.context().await;
        job::run(&ctx, Work::begin(&ctx, CollectWhen::Never).await?).await
    }

    async fn run_and_collect(&self) -> Result<Report, Failure> {
        let ctx = self.context().await;
        let work = Work::begin(&ctx, CollectWhen::Deleted).await?;
        let storage = Arc::new(Local::open(self.store().root()).unwrap());
        let native = Native::undisturbed(storage, ctx.interrupt.clone()).await?;
        job::run(&ctx, work.with_collector(Collector::Native(Box::new(native)))).await
    }

    /// A run that ends without a word at the first request that `method` and `path` say.
    async fn run_killed_at(&self, method: Method, path: &str) {
        self.killed_after(0, method, path, self.run()).await.unwrap_err();
    }

    /// Work that ends without a word at the first such request after `skipped` others; what it came to if there are not so
    /// many.
    async fn killed_after<T>(
        &self,
        skipped: usize,
        method: Method,
        path: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, Killed> {
        let reached = Arc::new(Notify::new());
        let notify = Arc::clone(&reached);
        let hang = Effect::BeforeAnswering(Arc::new(move || {
            notify.notify_one();
            std::thread::sleep(Duration::from_millis(100));
        }));
        self.server.faults().add(Rule::on(method, path, hang).after(skipped).times(1));
        let ended = tokio::select! {
            ended = work => Ok(ended),
            () = reached.notified() => Err(Killed),
        };
        // What was under way then ends, one way or the other.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.server.faults().clear();
        ended
    }

    async fn undo(&self, run: &str) -> Result<Exit, Failure> {
        verb::undo::run(&self.context().await, Some(run)).await
    }

    fn store(&self) -> Store {
        Store::open(&self.server.root()).unwrap()
    }

    /// Lets `happen` change the storage just before the first request that `method` and `path` say is answered.
    fn before(&self, method: Method, path: &str, happen: impl Fn(&Store) + Send + Sync + 'static) {
        let store = self.store();
        let effect = Effect::BeforeAnswering(Arc::new(move || happen(&store)));
        self.server.faults().add(Rule::on(method, path, effect).times(1));
    }

    fn fail(&self, method: Method, path: &str, status: u16) {
        self.server.faults().add(Rule::on(method, path, Effect::Status(status, None)));
    }

    async fn has(&self, repo: &str, digest: Digest) -> bool {
        self.client.get(&format!("/v2/{repo}/manifests/{digest}")).await.status().is_success()
    }
}

#[derive(Debug)]
struct Killed;

fn old(name: &str) -> Built {
    Builder::image(name).created_text(OLD).layer(noise(name, 200)).build().on("linux", "amd64")
}

fn young(name: &str) -> Built {
    let now = jiff::Timestamp::now();
    Builder::image(name).created(now).layer(noise(name, 200)).build().on("linux", "amd64")
}

fn repo() -> RepoName {
    "app".parse().unwrap()
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

#[tokio::test]
async fn what_a_killed_run_left_alone_stays_whole() {
    let scene = Scene::new(Generation::V3);
    let (moved, other) = (Built::index([old("arm64"), old("amd64")]), old("other"));
    scene.client.push_as("app", "moved", &moved).await;
    scene.client.push_as("app", "other", &other).await;
    let young = young("new");
    scene.client.push("app", &young).await;
    let digest = young.digest();
    // Somebody moves the tag while the run is at work; who pulled the index by its digest still needs it.
    scene.before(Method::OPTIONS, "/v2/app/", move |store| {
        store.write_tag(&repo(), &tag("moved"), &digest).unwrap();
    });
    scene.run_killed_at(Method::DELETE, &other.digest().to_string()).await;
    let next = scene.run().await.unwrap();
    assert_eq!(next.exit, Exit::Done);
    assert!(!scene.has("app", other.digest()).await);
    let pulled = scene.client.pull_whole("app", &moved.digest().to_string()).await;
    assert_eq!(pulled, Ok(7), "{next:#?}");
}

#[tokio::test]
async fn a_child_that_could_not_be_deleted_goes_with_the_next_run() {
    let scene = Scene::new(Generation::V3);
    let child = old("child");
    scene.client.push_as("app", "v1", &Built::index([child.clone()])).await;
    scene.fail(Method::DELETE, &child.digest().to_string(), 500);
    let report = scene.run().await.unwrap();
    assert_eq!(report.exit, Exit::InPart);
    assert!(scene.client.tags("app").await.is_empty() && scene.has("app", child.digest()).await);
    scene.server.faults().clear();
    assert_eq!(scene.run().await.unwrap().exit, Exit::Done);
    assert!(!scene.has("app", child.digest()).await, "no tag leads to it: nobody else would find it");
    assert!(scene.run().await.unwrap().steps.is_empty());
}

#[tokio::test]
async fn what_could_not_be_seen_is_not_forgotten() {
    let scene = Scene::new(Generation::V3);
    let child = old("child");
    scene.client.push_as("app", "v1", &Built::index([child.clone()])).await;
    scene.run_killed_at(Method::DELETE, &child.digest().to_string()).await;
    scene.client.push("app", &child).await;
    assert!(scene.client.tags("app").await.is_empty());
    scene.fail(Method::GET, "/v2/app/tags/list", 500);
    assert_eq!(scene.run().await.unwrap().exit, Exit::InPart);
    scene.server.faults().clear();
    scene.run().await.unwrap();
    assert!(!scene.has("app", child.digest()).await);
}

#[tokio::test]
async fn what_was_to_go_and_stayed_keeps_what_it_needs() {
    let scene = Scene::new(Generation::V3);
    let layer = noise("layer", 100);
    let config = json!({ "created": OLD }).to_string().into_bytes();
    // A layer by its sha512, which only a link could name by its sha256.
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config).to_string(), "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha512:{}", "a".repeat(128)), "size": layer.len(),
        }],
    });
    let store = scene.store();
    scene.client.push_as("app", "goes", &old("goes")).await;
    scene.client.blob("app", &config).await;
    let digest = store.write_blob(manifest.to_string().as_bytes()).unwrap();
    store.write_link(&Place::RevisionLink { repo: repo(), digest }, &digest).unwrap();
    store.write_tag(&repo(), &tag("stays"), &digest).unwrap();
    scene.fail(Method::DELETE, &digest.to_string(), 500);
    let report = scene.run_and_collect().await.unwrap();
    assert!(scene.has("app", digest).await);
    assert!(matches!(report.collection, Collection::Done { .. }), "{report:#?}");
    assert_eq!(report.exit, Exit::InPart);
    assert!(store.size(&Place::BlobData(Digest::of(&config))).unwrap().is_some());
}

#[tokio::test]
async fn not_to_know_whether_the_tags_still_lead_somewhere_is_no_success() {
    let scene = Scene::new(Generation::V2);
    scene.client.push_as("app", "v1", &old("one")).await;
    // Around, before, after the deletion; the fifth of them is the survey's.
    let fault = Rule::on(Method::GET, "/v2/app/tags/list", Effect::Status(500, None));
    for allowed in 1..20 {
        scene.server.faults().clear();
        scene.client.push_as("app", "v1", &old("one")).await;
        scene.server.faults().add(fault.clone().after(allowed));
        let report = scene.run().await.unwrap();
        let asked = scene
            .server
            .log()
            .iter()
            .rev()
            .take_while(|r| r.path != "/v2/")
            .filter(|r| r.path.ends_with("/tags/list"))
            .count();
        if asked <= allowed {
            assert!(allowed > 2, "the last look is one of several");
            return;
        }
        assert_eq!(report.exit, Exit::InPart, "after {allowed} listings: {report:#?}");
    }
    panic!("it never ended");
}

#[tokio::test]
async fn a_repository_that_may_not_be_touched_does_not_keep_the_others() {
    let scene = Scene::new(Generation::V3);
    for repo in ["a", "b"] {
        scene.client.push_as(repo, "v1", &old(repo)).await;
    }
    scene.fail(Method::DELETE, "/v2/a/", 403);
    let report = scene.run().await.unwrap();
    assert_eq!(report.exit, Exit::InPart);
    assert_eq!(scene.client.tags("a").await, ["v1"]);
    assert!(scene.client.tags("b").await.is_empty());
    scene.fail(Method::DELETE, "/v2/b/", 403);
    scene.client.push_as("b", "v1", &old("b")).await;
    assert_eq!(scene.run().await.unwrap_err().exit, Exit::Unsafe, "nowhere may anything be deleted");
}

#[tokio::test]
async fn what_is_put_back_is_put_back_with_its_tags() {
    let scene = Scene::new(Generation::V3);
    let (first, second) = (old("first"), old("second"));
    scene.client.push_as("app", "v1", &first).await;
    scene.client.push_as("app", "v2", &second).await;
    let mut order = [first, second];
    order.sort_by_key(Built::digest);
    // The plan takes one of them first; an index that lists it comes while the other is deleted.
    let (gone, later) = (order[1].clone(), order[0].clone());
    let index = Built::index([gone.clone()]);
    scene.before(Method::DELETE, &later.digest().to_string(), move |store| {
        let digest = store.write_blob(&index.bytes).unwrap();
        store.write_link(&Place::RevisionLink { repo: repo(), digest }, &digest).unwrap();
        store.write_tag(&repo(), &tag("new"), &digest).unwrap();
    });
    let before = scene.client.tags("app").await;
    let report = scene.run().await.unwrap();
    assert!(scene.client.pull_whole("app", "new").await.is_ok(), "{report:#?}");
    scene.undo(&report.run.unwrap()).await.unwrap();
    let after = scene.client.tags("app").await;
    assert!(before.iter().all(|tag| after.contains(tag)), "{after:?}");
}

#[tokio::test]
async fn a_tag_that_is_moved_while_its_new_target_is_deleted_comes_back() {
    for generation in [Generation::V2, Generation::V3] {
        let scene = Scene::new(generation);
        let (gone, other) = (old("gone"), young("other"));
        scene.client.push_as("app", "v1", &gone).await;
        scene.client.push_as("app", "stable", &other).await;
        let digest = gone.digest();
        scene.before(Method::DELETE, &digest.to_string(), move |store| {
            store.write_tag(&repo(), &tag("stable"), &digest).unwrap();
        });
        let report = scene.run().await.unwrap();
        assert_eq!(scene.client.tags("app").await, ["stable", "v1"], "{generation:?} {report:#?}");
        assert!(scene.client.pull_whole("app", "stable").await.is_ok());
    }
}

#[test]
fn a_directory_shared_by_two_registries_mixes_no_runs() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["r.example/a_b", "r.example/a/b"].map(|name| State::new(directory.path(), name));
    let plan = json!({
        "format": 1, "registry": "r.example/a_b", "as_of": OLD, "origin": "policy",
        "policy": { "hash": Digest::of(b"").to_string(), "sentence": "" }, "estimate": 0, "steps": [],
    });
    let plan = serde_json::from_value(plan).unwrap();
    one.begin(&plan, jiff::Timestamp::now()).unwrap();
    assert_eq!((one.runs().unwrap().len(), two.runs().unwrap().len()), (1, 0));
}

#[test]
fn a_stray_file_among_the_runs_is_no_run() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::new(directory.path(), "r.example");
    std::fs::create_dir_all(directory.path().join("r.example/runs")).unwrap();
    std::fs::write(directory.path().join("r.example/runs/notes.txt"), "mine").unwrap();
    assert_eq!(state.runs().unwrap().len(), 0);
}

#[tokio::test]
async fn a_registry_that_deletes_an_image_with_one_of_its_tags_keeps_the_others() {
    let scene = Scene::new(Generation::V3);
    let shared = old("shared");
    for name in ["latest", "v1"] {
        scene.client.push_as("app", name, &shared).await;
    }
    let digest = shared.digest();
    scene.before(Method::DELETE, "/v2/app/manifests/v1", move |store| {
        store.remove(&Place::RevisionLink { repo: repo(), digest }).unwrap();
        store.remove_tag(&repo(), &tag("latest")).unwrap();
    });
    let report = scene.run().await.unwrap();
    assert_eq!(report.exit, Exit::InPart);
    assert_eq!(scene.client.tags("app").await, ["latest", "v1"], "{report:#?}");
    assert!(scene.client.pull_whole("app", "latest").await.is_ok());
}

#[tokio::test]
async fn an_unreadable_neighbour_does_not_keep_a_run_from_being_undone() {
    let scene = Scene::new(Generation::V3);
    scene.client.push_as("app", "v1", &Built::index([old("child")])).await;
    let run = scene.run().await.unwrap().run.unwrap();
    let neighbour = young("neighbour");
    scene.client.push_as("app", "neighbour", &neighbour).await;
    scene.server.store().write(&Place::BlobData(neighbour.digest()), b"{").unwrap();
    scene.undo(&run).await.unwrap();
    assert_eq!(scene.client.pull_whole("app", "v1").await, Ok(4));
}

/// An index with a child of its own and one that an index which stays needs; both children signed; an image with two tags.
async fn crowd(scene: &Scene) -> (Vec<Digest>, Vec<String>) {
    let (own, shared, plain) = (old("own"), old("shared"), old("plain"));
    let index = Built::index([own.clone(), shared.clone()]);
    let signatures = [&own, &shared, &plain].map(Builder::signature);
    scene.client.push_as("app", "v1", &index).await;
    scene.client.push_as("app", "new", &Built::index([shared.clone(), young("new")])).await;
    for name in ["v2", "v3"] {
        scene.client.push_as("app", name, &plain).await;
    }
    for (image, signature) in [&own, &shared, &plain].iter().zip(&signatures) {
        scene.client.push_as("app", image.tag_about(".sig").as_str(), signature).await;
    }
    let goes = [&index, &own, &plain, &signatures[0], &signatures[2]];
    (goes.map(Built::digest).to_vec(), scene.client.tags("app").await)
}

#[tokio::test]
async fn wherever_a_run_is_killed_the_next_one_finishes_and_both_can_be_undone() {
    for generation in [Generation::V2, Generation::V3] {
        for skipped in 0.. {
            let scene = Scene::new(generation);
            let (goes, all) = crowd(&scene).await;
            if scene.killed_after(skipped, Method::DELETE, "/manifests/sha256:", scene.run()).await.is_ok() {
                assert!(skipped > goes.len(), "a probe and every manifest were deleted");
                break;
            }
            for tag in scene.client.tags("app").await {
                scene.client.pull_whole("app", &tag).await.unwrap();
            }
            assert_eq!(scene.run().await.unwrap().exit, Exit::Done, "{generation:?} {skipped}");
            assert_eq!(scene.client.tags("app").await.len(), 2, "{generation:?} {skipped}");
            for digest in goes {
                assert!(!scene.has("app", digest).await, "{generation:?} {skipped}: {digest}");
            }
            let runs = scene.context().await.state.runs().unwrap();
            for run in runs.iter().rev() {
                assert_eq!(scene.undo(&run.name).await.unwrap(), Exit::Done, "{generation:?} {skipped}");
            }
            assert_eq!(scene.client.tags("app").await, all, "{generation:?} {skipped}");
            for tag in all {
                scene.client.pull_whole("app", &tag).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn wherever_an_undo_is_killed_it_can_be_done_again() {
    for generation in [Generation::V2, Generation::V3] {
        for skipped in 0.. {
            let scene = Scene::new(generation);
            let (_, all) = crowd(&scene).await;
            let run = scene.run().await.unwrap().run.unwrap();
            let undone = scene.killed_after(skipped, Method::PUT, "/manifests/", scene.undo(&run)).await;
            if undone.is_ok() {
                assert!(skipped > 5, "every manifest and tag was put back");
                break;
            }
            for tag in scene.client.tags("app").await {
                scene.client.pull_whole("app", &tag).await.unwrap();
            }
            assert_eq!(scene.undo(&run).await.unwrap(), Exit::Done, "{generation:?} {skipped}");
            assert_eq!(scene.client.tags("app").await, all, "{generation:?} {skipped}");
            for tag in all {
                scene.client.pull_whole("app", &tag).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn whenever_a_tag_is_pushed_on_what_is_to_go_it_stays() {
    for skipped in 0.. {
        let scene = Scene::new(Generation::V2);
        let index = Built::index([old("child")]);
        let signature = index.tag_about(".sig");
        scene.client.push_as("app", "v1", &index).await;
        scene.client.push_as("app", signature.as_str(), &Builder::signature(&index)).await;
        let (store, digest) = (scene.store(), index.digest());
        let push = Effect::BeforeAnswering(Arc::new(move || {
            // What is gone cannot be tagged: a push would bring it again first.
            if store.link(&Place::RevisionLink { repo: repo(), digest }).unwrap().is_some() {
                store.write_tag(&repo(), &tag("latest"), &digest).unwrap();
            }
        }));
        scene.server.faults().add(Rule::any("/v2/", push).after(skipped).times(1));
        let before = scene.server.log().len();
        let report = scene.run().await.unwrap();
        let Some(request) = scene.server.log().get(before + skipped).cloned() else { break };
        if request.method == Method::DELETE && request.path.ends_with(&digest.to_string()) {
            // From here on only the registry itself could tell.
            assert!(skipped > 10);
            break;
        }
        assert!(scene.client.pull_whole("app", "latest").await.is_ok(), "{request:?} {report:#?}");
        assert!(scene.client.pull_whole("app", signature.as_str()).await.is_ok(), "{request:?} {report:#?}");
    }
}

#[tokio::test]
async fn whenever_an_index_is_pushed_its_children_stay() {
    for skipped in 0.. {
        let scene = Scene::new(Generation::V3);
        let child = old("child");
        let (signature, pushed) = (child.tag_about(".sig"), Built::index([child.clone(), old("child")]));
        scene.client.push_as("app", "v1", &Built::index([child.clone()])).await;
        scene.client.push_as("app", signature.as_str(), &Builder::signature(&child)).await;
        let (store, needed) = (scene.store(), child.digest());
        let push = Effect::BeforeAnswering(Arc::new(move || {
            // A registry takes no index without its children.
            if store.link(&Place::RevisionLink { repo: repo(), digest: needed }).unwrap().is_some() {
                let digest = store.write_blob(&pushed.bytes).unwrap();
                store.write_link(&Place::RevisionLink { repo: repo(), digest }, &digest).unwrap();
                store.write_tag(&repo(), &tag("latest"), &digest).unwrap();
            }
        }));
        scene.server.faults().add(Rule::any("/v2/", push).after(skipped).times(1));
        let before = scene.server.log().len();
        let report = scene.run().await.unwrap();
        let Some(request) = scene.server.log().get(before + skipped).cloned() else { break };
        if scene.client.tags("app").await.iter().any(|tag| tag == "latest") {
            let whole = scene.client.pull_whole("app", "latest").await;
            assert!(whole.is_ok(), "{request:?} {whole:?} {report:#?}");
            let signed = scene.client.pull_whole("app", signature.as_str()).await;
            assert!(signed.is_ok(), "{request:?} {report:#?}");
        }
    }
}
