//! A scene: what a registry holds, what becomes of each part of it, and the proof.

use std::collections::BTreeMap;

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::sample::Fate;
use clean_registry::demo::server::Generation;
use clean_registry_core::name::{Digest, RepoName, Tag};
use jiff::{SignedDuration, Timestamp};
use reqwest::StatusCode;
use serde_json::json;

use crate::program::{Ended, Program};
use crate::registry::{Door, Kind, Registry};

/// A registry with expectations.
pub struct Scene {
    pub registry: Registry,
    pub program: Program,
    expected: Vec<Expected>,
}

struct Expected {
    repo: String,
    /// A tag, or the digest of what no tag points at.
    reference: String,
    digest: Digest,
    fate: Fate,
}

/// Every tag of some repositories with its digest.
pub type Tags = BTreeMap<(String, String), String>;

/// Created so many days ago.
pub fn ago(days: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(24 * days)
}

/// An OCI image of this age with a layer of its own.
pub fn image(name: &str, days: i64) -> Built {
    Builder::image(name).created(ago(days)).layer(noise(name, 2000)).build().on("linux", "amd64")
}

/// An image whose time has come.
pub fn old(name: &str) -> Built {
    image(name, 100)
}

/// An image that has time left.
pub fn young(name: &str) -> Built {
    image(name, 2)
}

impl Scene {
    /// An empty registry.
    pub fn on(kind: Kind, door: Door) -> Self {
        Self::of(Registry::start(kind, door))
    }

    /// An empty registry whose storage the program can read.
    pub fn stored(kind: Kind, door: Door) -> Self {
        Self::on(kind, door).with_storage()
    }

    /// With the storage in reach of the program.
    pub fn with_storage(mut self) -> Self {
        let root = self.registry.store.root().to_owned();
        self.program = self.program.configure(|config| config["storage"] = json!({ "directory": root }));
        self
    }

    /// What `registry` holds so far is nobody's concern.
    pub fn of(registry: Registry) -> Self {
        let program = Program::new(&registry.url, registry.login);
        Self { registry, program, expected: Vec::new() }
    }

    /// Whether a tag can be deleted by itself there.
    pub fn can_untag(&self) -> bool {
        self.registry.generation() == Generation::V3
    }

    /// Pushes to a tag.
    pub async fn push(&mut self, repo: &str, tag: &str, built: &Built, fate: Fate) {
        self.registry.client.push_as(repo, tag, built).await;
        self.expect(repo, tag, built.digest(), fate);
    }

    /// Pushes by digest alone.
    pub async fn push_untagged(&mut self, repo: &str, built: &Built, fate: Fate) {
        let digest = self.registry.client.push(repo, built).await;
        self.expect(repo, &digest.to_string(), digest, fate);
    }

    /// Writes to a tag in the storage what the registry would not take.
    pub fn place(&mut self, repo: &str, tag: &str, built: &Built, fate: Fate) {
        let (name, link): (RepoName, Tag) = (repo.parse().unwrap(), tag.parse().unwrap());
        let digest = built.write(&self.registry.store, &name).unwrap();
        self.registry.store.write_tag(&name, &link, &digest).unwrap();
        self.expect(repo, tag, digest, fate);
    }

    /// Expects something of what is there already: of a tag, or of a digest that no tag points at.
    pub fn expect(&mut self, repo: &str, reference: &str, digest: Digest, fate: Fate) {
        let (repo, reference) = (repo.to_owned(), reference.to_owned());
        self.expected.push(Expected { repo, reference, digest, fate });
    }

    /// Expects something of a manifest that an index lists.
    pub fn expect_child(&mut self, repo: &str, child: &Built, fate: Fate) {
        self.expect(repo, &child.digest().to_string(), child.digest(), fate);
    }

    /// Cleans, proves that everything came out as expected, and that a second run has nothing to do.
    pub async fn play(&self) -> Ended {
        self.play_to(0).await
    }

    /// The same for a run that ends with this code.
    pub async fn play_to(&self, code: i32) -> Ended {
        let ended = self.program.run(&["run"]).with_code(code);
        self.prove().await;
        self.prove_idle(code);
        ended
    }

    /// Proves that everything is as expected.
    pub async fn prove(&self) {
        for expected in &self.expected {
            let outcome = if self.stays(expected) {
                self.is_whole(expected).await
            } else {
                self.is_gone(expected).await
            };
            let Expected { repo, reference, fate, .. } = expected;
            assert_eq!(outcome, Ok(()), "{repo}:{reference} {fate:?}");
        }
    }

    /// Runs again and proves that nothing was done.
    pub fn prove_idle(&self, code: i32) {
        let before = self.registry.files();
        let again = self.program.run(&["run"]).with_code(code);
        assert!(again.json["run"].is_null() && again.steps().is_empty(), "{again:#?}");
        assert_eq!(self.registry.files(), before, "a second run changed the storage");
    }

    fn stays(&self, expected: &Expected) -> bool {
        match expected.fate {
            Fate::Stays => true,
            Fate::Goes => false,
            Fate::Untagged => !self.can_untag(),
        }
    }

    async fn is_whole(&self, expected: &Expected) -> Result<(), String> {
        let Expected { repo, reference, digest, .. } = expected;
        let client = &self.registry.client;
        let answer = client.get(&format!("/v2/{repo}/manifests/{reference}")).await;
        let served =
            answer.headers().get("docker-content-digest").map(|text| text.to_str().unwrap().to_owned());
        if served != Some(digest.to_string()) {
            return Err(format!("{}, {served:?} was served", answer.status()));
        }
        client.pull_whole(repo, reference).await.map(drop)
    }

    async fn is_gone(&self, expected: &Expected) -> Result<(), String> {
        let Expected { repo, reference, digest, fate } = expected;
        let client = &self.registry.client;
        if client.tags(repo).await.contains(reference) {
            return Err("still listed".to_owned());
        }
        let status = |reference: String| async move {
            client.get(&format!("/v2/{repo}/manifests/{reference}")).await.status()
        };
        let by_reference = status(reference.clone()).await;
        let by_digest = status(digest.to_string()).await;
        let wanted = if *fate == Fate::Untagged { StatusCode::OK } else { StatusCode::NOT_FOUND };
        if (by_reference, by_digest) == (StatusCode::NOT_FOUND, wanted) {
            Ok(())
        } else {
            Err(format!("served with {by_reference}, by its digest with {by_digest}"))
        }
    }

    /// Every tag of the repositories that anything is expected of, with the digest that is served for it.
    pub async fn tags(&self) -> Tags {
        let client = &self.registry.client;
        let mut tags = Tags::new();
        let repos: std::collections::BTreeSet<&String> =
            self.expected.iter().map(|expected| &expected.repo).collect();
        for repo in repos {
            for tag in client.tags(repo).await {
                let answer = client.get(&format!("/v2/{repo}/manifests/{tag}")).await;
                let digest = answer.headers().get("docker-content-digest");
                let digest = digest.map_or("", |text| text.to_str().unwrap()).to_owned();
                tags.insert((repo.clone(), tag), digest);
            }
        }
        tags
    }

    /// The manifests that anything is expected of and that are served by their digests.
    pub async fn manifests(&self) -> Vec<Digest> {
        let mut served = Vec::new();
        for Expected { repo, digest, .. } in &self.expected {
            let answer = self.registry.client.get(&format!("/v2/{repo}/manifests/{digest}")).await;
            if answer.status() == StatusCode::OK {
                served.push(*digest);
            }
        }
        served
    }
}
