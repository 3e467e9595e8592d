//! How many requests a survey sends. Time depends on the machine, this does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clean_registry::demo::builder::{Builder, Built};
use clean_registry::demo::server::{Behaviour, Generation, Server};
use clean_registry::progress::Progress;
use clean_registry::registry::{Options, Reader, connect};
use clean_registry::state::Facts;
use clean_registry::survey::{Scope, Survey};
use clean_registry_core::inventory::Inventory;
use clean_registry_core::name::RepoName;
use jiff::Timestamp;
use reqwest::Method;

/// A registry, its address, and a file for what is known of it from one survey to the next.
struct World {
    directory: tempfile::TempDir,
    server: Server,
}

/// What was asked for, by kind.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    pings: usize,
    listings: usize,
    manifests: usize,
    heads: usize,
    configs: usize,
    /// Whether there is a referrers API is asked once, and there is none.
    referrers: usize,
    all: usize,
}

impl World {
    fn new(generation: Generation) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(&directory.path().join("storage"), Behaviour::of(generation)).unwrap();
        Self { directory, server }
    }

    fn tag(&self, repo: &str, tag: &str, built: &Built) {
        let repo: RepoName = repo.parse().unwrap();
        let digest = built.write(self.server.store(), &repo).unwrap();
        self.server.store().write_tag(&repo, &tag.parse().unwrap(), &digest).unwrap();
    }

    /// Surveys as a process of its own would: with a new connection, and what the one before wrote down.
    async fn survey(&self) -> (Inventory, Counts) {
        self.server.clear_log();
        let reader = connect(Options::new(self.server.url())).unwrap();
        let inventory = take(&reader, &self.directory.path().join("facts")).await;
        assert_eq!(inventory.gap_lines().collect::<Vec<_>>(), [] as [String; 0]);
        let count = |method, path| self.server.count(&method, path);
        let counts = Counts {
            pings: self.server.log().iter().filter(|request| request.path == "/v2/").count(),
            listings: count(Method::GET, "/v2/_catalog") + count(Method::GET, "/tags/list"),
            manifests: count(Method::GET, "/manifests/"),
            heads: count(Method::HEAD, "/manifests/"),
            configs: count(Method::GET, "/blobs/"),
            referrers: count(Method::GET, "/referrers/"),
            all: self.server.log().len(),
        };
        assert_eq!(reader.requests(), counts.all as u64, "the reader counts what it sends");
        (inventory, counts)
    }
}

async fn take(reader: &Reader, facts_file: &Path) -> Inventory {
    let facts = Facts::load(facts_file, BTreeSet::new());
    let (scope, also, progress) = (Scope::All, BTreeMap::new(), Progress::new());
    let survey = Survey { reader, facts: &facts, scope: &scope, also: &also, progress: &progress };
    let inventory = survey.take(Timestamp::now()).await.unwrap();
    let tags = inventory.repos.iter().map(|(name, repo)| (name, repo.tags.keys().cloned().collect()));
    facts.save(facts_file, &tags.collect::<BTreeMap<_, BTreeSet<_>>>()).unwrap();
    inventory
}

fn image(name: &str) -> Built {
    Builder::image(name).created_text("2026-01-01T00:00:00Z").layer(b"base".to_vec()).build()
}

#[tokio::test]
async fn a_tag_costs_a_request_and_a_configuration_another_and_later_a_head() {
    const REPOSITORIES: usize = 12;
    const TAGS: usize = 25;
    for generation in [Generation::V2, Generation::V3] {
        let world = World::new(generation);
        for repository in 0..REPOSITORIES {
            for tag in 0..TAGS {
                world.tag(
                    &format!("team/app-{repository}"),
                    &format!("v{tag}"),
                    &image(&format!("{repository} {tag}")),
                );
            }
        }
        let (tags, listings) = (REPOSITORIES * TAGS, 1 + REPOSITORIES);

        let (inventory, cold) = world.survey().await;
        assert_eq!(inventory.repos.values().map(|repo| repo.tags.len()).sum::<usize>(), tags);
        let all = 2 + listings + tags + tags;
        assert_eq!(
            cold,
            Counts { pings: 1, listings, manifests: tags, heads: 0, configs: tags, referrers: 1, all }
        );

        let (again, warm) = world.survey().await;
        assert_eq!(again.repos.values().map(|repo| repo.manifests.len()).sum::<usize>(), tags);
        let all = 2 + listings + tags;
        assert_eq!(
            warm,
            Counts { pings: 1, listings, manifests: 0, heads: tags, configs: 0, referrers: 1, all }
        );
    }
}

#[tokio::test]
async fn what_is_shared_is_read_once_and_what_is_new_alone() {
    let world = World::new(Generation::V3);
    let (amd64, arm64) = (image("amd64").on("linux", "amd64"), image("arm64").on("linux", "arm64"));
    let attestation = Builder::attestation(&amd64);
    let index = Built::index([amd64.clone(), arm64, attestation]);
    for repo in ["a", "b"] {
        world.tag(repo, "multi", &index);
        world.tag(repo, "multi-too", &index);
        world.tag(repo, "amd64", &amd64);
    }
    let relabelled =
        Builder::image("amd64").created_text("2026-01-01T00:00:00Z").layer(b"other".to_vec()).build();
    world.tag("b", "same-config", &relabelled);

    // Seven tags, and the two children that no tag names; attestations have no date to be read.
    let (_, cold) = world.survey().await;
    assert_eq!(
        cold,
        Counts {
            pings: 1,
            listings: 3,
            manifests: 7 + 2,
            heads: 0,
            configs: 2,
            referrers: 1,
            all: 1 + 3 + 9 + 2 + 1
        }
    );

    world.tag("a", "new", &image("new"));
    world.tag("b", "multi", &image("moved"));
    let (_, warm) = world.survey().await;
    let all = 1 + 3 + 2 + 7 + 2 + 1;
    assert_eq!(warm, Counts { pings: 1, listings: 3, manifests: 2, heads: 7, configs: 2, referrers: 1, all });

    let (_, idle) = world.survey().await;
    assert_eq!(
        idle,
        Counts { pings: 1, listings: 3, manifests: 0, heads: 8, configs: 0, referrers: 1, all: 13 }
    );
}
