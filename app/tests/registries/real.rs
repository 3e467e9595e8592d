//! Two registries that somebody else wrote, as they are (scripts/test-registry), with their referrers APIs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use clean_registry::demo::builder::{Builder, Built};
use jiff::{SignedDuration, Timestamp};

use super::program::Program;
use super::push::Client;

/// No test takes longer; a registry whose test was killed ends with its standard input, or by itself.
const SECONDS: &str = "240";

/// A running registry. Dropping it ends it.
struct Running {
    url: String,
    child: Child,
    _input: Option<ChildStdin>,
}

impl Running {
    fn start(name: &str) -> Self {
        let program = std::env::var("CLEAN_REGISTRY_TEST_REGISTRIES")
            .unwrap_or_else(|_| panic!("CLEAN_REGISTRY_TEST_REGISTRIES is not set: run scripts/test"));
        let mut child = Command::new("timeout")
            .args(["--kill-after=5", SECONDS, &program, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("http://127.0.0.1:"), "{name} did not start: {url:?}");
        let input = child.stdin.take();
        Self { url: url.trim().to_owned(), child, _input: input }
    }

    fn client(&self) -> Client {
        Client::new(&self.url)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self._input.take());
        let _ = self.child.wait();
    }
}

pub fn days_old(name: &str, days: i64) -> Built {
    let created = Timestamp::now() - SignedDuration::from_hours(24 * days);
    Builder::image(name).created(created).layer(name.as_bytes().to_vec()).build()
}

/// Old images with and without something about them, and young ones.
struct Scene {
    gone: Built,
    about_gone: Built,
    shared: Built,
    about_shared: Built,
    young: Built,
    about_young: Built,
}

impl Scene {
    async fn push(client: &Client) -> Self {
        let [gone, shared, young] = [days_old("gone", 400), days_old("shared", 300), days_old("young", 1)];
        let about = |image: &Built| Builder::referrer(image, "application/vnd.example.sbom");
        let scene = Self {
            about_gone: about(&gone),
            about_shared: about(&shared),
            about_young: about(&young),
            gone,
            shared,
            young,
        };
        for (tag, image) in
            [("v1", &scene.gone), ("v2", &scene.shared), ("release-2", &scene.shared), ("v3", &scene.young)]
        {
            client.push_as("shop/api", tag, image).await;
        }
        for about in [&scene.about_gone, &scene.about_shared, &scene.about_young] {
            client.push("shop/api", about).await;
        }
        scene
    }

    /// Whether each of `manifests` is there.
    async fn holds(client: &Client, manifests: &[&Built]) -> Vec<bool> {
        let mut there = Vec::new();
        for manifest in manifests {
            let path = format!("/v2/shop/api/manifests/{}", manifest.digest());
            there.push(client.get(&path).await.status().is_success());
        }
        there
    }
}

async fn what_goes_takes_what_is_about_it_along(name: &str) {
    let running = Running::start(name);
    let client = running.client();
    let scene = Scene::push(&client).await;
    let program = Program::new(&running.url, None);

    program.run(&[]).with_code(0);
    assert_eq!(client.tags("shop/api").await, ["release-2", "v3"], "{name}");
    assert_eq!(Scene::holds(&client, &[&scene.gone, &scene.about_gone]).await, [false, false], "{name}");
    let kept = [&scene.shared, &scene.about_shared, &scene.young, &scene.about_young];
    assert_eq!(Scene::holds(&client, &kept).await, [true; 4], "{name}");
    for tag in ["release-2", "v3"] {
        client.pull_whole("shop/api", tag).await.unwrap();
    }

    let again = program.run(&[]).with_code(0);
    assert_eq!(again.steps(), [], "{name}: there is nothing to do");
}

async fn undo_brings_back_what_was_about_it_too(name: &str) {
    let running = Running::start(name);
    let client = running.client();
    let scene = Scene::push(&client).await;
    let program = Program::new(&running.url, None);
    let run = program.run(&[]).with_code(0).run().to_owned();

    program.run(&["undo", &run]).with_code(0);
    assert_eq!(client.tags("shop/api").await, ["release-2", "v1", "v2", "v3"], "{name}");
    assert_eq!(Scene::holds(&client, &[&scene.gone, &scene.about_gone]).await, [true, true], "{name}");
    client.pull_whole("shop/api", "v1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs go-containerregistry's registry: run scripts/test"]
async fn go_containerregistry_loses_an_image_with_what_is_about_it_and_no_other() {
    what_goes_takes_what_is_about_it_along("go-containerregistry").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cuelabs' ociregistry: run scripts/test"]
async fn ociregistry_loses_an_image_with_what_is_about_it_and_no_other() {
    what_goes_takes_what_is_about_it_along("ociregistry").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs go-containerregistry's registry: run scripts/test"]
async fn go_containerregistry_gets_everything_back() {
    undo_brings_back_what_was_about_it_too("go-containerregistry").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cuelabs' ociregistry: run scripts/test"]
async fn ociregistry_gets_everything_back() {
    undo_brings_back_what_was_about_it_too("ociregistry").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs cuelabs' ociregistry: run scripts/test"]
async fn where_tags_are_immutable_nothing_goes_and_the_report_says_so() {
    let running = Running::start("immutable");
    let client = running.client();
    let scene = Scene::push(&client).await;
    let ended = Program::new(&running.url, None).run(&[]).with_code(4);
    let whole = [&scene.gone, &scene.about_gone, &scene.shared, &scene.about_shared, &scene.young];
    assert_eq!(Scene::holds(&client, &whole).await, [true; 5], "{ended:#?}");
    assert_eq!(client.tags("shop/api").await, ["release-2", "v1", "v2", "v3"], "{ended:#?}");
    assert!(ended.stdout.contains("deletion of tagged manifest not permitted"), "{}", ended.stdout);
}
