//! How each vendor deletes, untags and protects, played back from what it documents (docs/registries.md has the sources).

use clean_registry::demo::builder::{Builder, Built};
use serde_json::json;

use super::played::{Answer, Asked, Holdings, Played, unknown};
use super::program::{Ended, Program};
use super::real::days_old;

/// Two old images, one of them shared with a protected tag, and a young one.
struct Scene {
    played: Played,
    gone: Built,
    shared: Built,
}

impl Scene {
    fn new(own: impl Fn(&Asked, &mut Holdings) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let scene =
            Self { played: Played::start(own), gone: days_old("gone", 400), shared: days_old("shared", 300) };
        let mut holdings = scene.played.holdings();
        for (tag, image) in [
            ("v1", &scene.gone),
            ("v1-again", &scene.gone),
            ("v2", &scene.shared),
            ("release-2", &scene.shared),
            ("v3", &days_old("young", 1)),
        ] {
            holdings.push_as(tag, image);
        }
        drop(holdings);
        scene
    }

    /// The whole job, by somebody with a password, on a registry of this kind; empty: as it is found to be.
    fn run(&self, kind: &str) -> Ended {
        self.run_as(kind, &[])
    }

    fn run_as(&self, kind: &str, arguments: &[&str]) -> Ended {
        let program = Program::new(&self.played.url, Some(("alice", "secret")));
        let program = program.configure(|config| {
            if !kind.is_empty() {
                config["registry"]["kind"] = json!(kind);
            }
            config["registry"]["repositories"] = json!(["shop/api"]);
            config["registry"]["api_url"] = json!(self.played.url);
        });
        program.run(arguments)
    }

    /// What it was asked to delete beyond the probes, in order.
    fn deleted(&self) -> Vec<String> {
        let shown = |target: &String| {
            target
                .replace(&self.gone.digest().to_string(), "GONE")
                .replace(&self.shared.digest().to_string(), "SHARED")
                .replace("/v2/shop/api/manifests/", "")
        };
        let deleted: Vec<String> = self.played.asked("DELETE").iter().map(shown).collect();
        let is_probe =
            |target: &String| target.starts_with("sha256:") || target.contains("clean-registry-probe");
        deleted.into_iter().filter(|target| !is_probe(target)).collect()
    }
}

/// The end of the path of a manifest, if the request is to delete one.
fn deletes(asked: &Asked) -> Option<&str> {
    (asked.method == "DELETE").then(|| asked.target.strip_prefix("/v2/shop/api/manifests/")).flatten()
}

/// Answers `GET /v2/` with a challenge, and gives a token to whoever asks for one.
fn with_tokens(realm: &'static str, service: &'static str) -> impl Fn(&Asked) -> Option<Answer> {
    move |asked| {
        if asked.target.starts_with(realm) {
            return Some(Answer::json(200, &json!({ "token": "t0ken", "expires_in": 300 })));
        }
        let is_let_in = asked.header("authorization") == "Bearer t0ken";
        if asked.target.starts_with("/v2/") && !is_let_in {
            let challenge = format!("Bearer realm=\"{realm}\",service=\"{service}\"");
            return Some(Answer::status(401).header("WWW-Authenticate", &challenge));
        }
        None
    }
}

#[test]
fn artifact_registry_is_rid_of_the_tags_before_the_manifest() {
    let scene = Scene::new(|asked, holdings| {
        let digest = holdings
            .find(deletes(asked)?)
            .filter(|digest| Some(digest.to_string().as_str()) == deletes(asked));
        let tags = digest.map(|digest| holdings.tags_on(digest)).unwrap_or_default();
        let first = tags.first()?;
        let message = format!("Manifest is still referenced by tag: {first}");
        Some(Answer::error(400, "GOOGLE_MANIFEST_DANGLING_TAG", &message))
    });
    scene.run("artifact-registry").with_code(0);
    assert_eq!(scene.played.tags(), ["release-2", "v3"]);
    assert!(!scene.played.holds(&scene.gone) && scene.played.holds(&scene.shared));
    let mut deleted = scene.deleted();
    deleted.sort();
    assert_eq!(deleted, ["GONE", "v1", "v1-again", "v2"]);
}

#[test]
fn what_artifact_registry_does_not_delete_has_its_tags_again() {
    let scene = Scene::new(|asked, holdings| {
        let reference = deletes(asked)?;
        let digest = holdings.find(reference).filter(|digest| digest.to_string() == reference)?;
        let is_tagged = !holdings.tags_on(digest).is_empty();
        let (code, status) = if is_tagged { ("GOOGLE_MANIFEST_DANGLING_TAG", 400) } else { ("DENIED", 403) };
        Some(Answer::error(status, code, "Permission denied"))
    });
    scene.run("artifact-registry").with_code(4);
    assert_eq!(scene.played.tags(), ["release-2", "v1", "v1-again", "v3"]);
    assert!(scene.played.holds(&scene.gone));
}

#[test]
fn harbor_is_known_by_its_token_server_and_untags_over_its_own_api() {
    let tokens = with_tokens("/service/token", "harbor-registry");
    let scene = Scene::new(move |asked, holdings| {
        if let Some(answer) = tokens(asked) {
            return Some(answer);
        }
        let own = "/api/v2.0/projects/shop/repositories/api/artifacts/";
        if let Some(rest) = asked.target.strip_prefix(own) {
            assert_eq!(
                (asked.method.as_str(), asked.header("authorization")),
                ("DELETE", "Basic YWxpY2U6c2VjcmV0")
            );
            let tag = rest.split_once("/tags/").unwrap().1;
            let was_there = holdings.tags.remove(tag).is_some();
            return Some(Answer::status(if was_there { 200 } else { 404 }));
        }
        let is_tag = !deletes(asked)?.starts_with("sha256:");
        is_tag.then(|| Answer::error(400, "UNSUPPORTED", "unsupported digest"))
    });
    scene.run("").with_code(0);
    assert_eq!(scene.played.tags(), ["release-2", "v3"]);
    assert!(!scene.played.holds(&scene.gone) && scene.played.holds(&scene.shared));
}

#[test]
fn what_harbor_holds_for_immutable_stays_and_is_asked_for_once() {
    let tokens = with_tokens("/service/token", "harbor-registry");
    let scene = Scene::new(move |asked, holdings| {
        if let Some(answer) = tokens(asked) {
            return Some(answer);
        }
        let reference = deletes(asked)?;
        let message = "the tag v1 is configured as immutable, cannot be deleted";
        holdings.find(reference).map(|_| Answer::error(412, "PRECONDITION", message))
    });
    let ended = scene.run("").with_code(4);
    assert!(scene.played.holds(&scene.gone));
    assert_eq!(scene.deleted().iter().filter(|target| *target == "GONE").count(), 1);
    assert!(
        ended.stdout.contains("protects it, and it stays: the tag v1 is configured as immutable"),
        "{}",
        ended.stdout
    );
}

#[test]
fn azure_untags_over_its_own_api_and_is_never_asked_to_delete_by_tag() {
    let scene = Scene::new(|asked, holdings| {
        if let Some(tag) = asked.target.strip_prefix("/acr/v1/shop/api/_tags/") {
            assert_eq!(asked.method, "DELETE");
            return Some(if holdings.tags.remove(tag).is_some() { Answer::status(202) } else { unknown() });
        }
        let reference = deletes(asked)?;
        assert!(
            reference.starts_with("sha256:"),
            "deleting by tag takes the manifest and its other tags: {reference}"
        );
        None
    });
    scene.run("acr").with_code(0);
    assert_eq!(scene.played.tags(), ["release-2", "v3"]);
    assert!(scene.played.holds(&scene.shared));
}

#[test]
fn what_is_locked_on_azure_does_not_keep_the_rest_from_going() {
    let scene = Scene::new(move |asked, holdings| {
        if let Some(tag) = asked.target.strip_prefix("/acr/v1/shop/api/_tags/") {
            return Some(if holdings.tags.remove(tag).is_some() { Answer::status(202) } else { unknown() });
        }
        let message = "The operation is disallowed on this registry, repository or image. View troubleshooting steps at \
                       https://aka.ms/acr/faq/#why-does-my-pull-or-push-request-fail-with-disallowed-operation";
        let digest = holdings.find(deletes(asked)?)?;
        let is_locked = holdings.tags_on(digest).iter().any(|tag| tag == "v1");
        is_locked.then(|| Answer::error(405, "REGISTRY_DISALLOWED_OPERATION", message))
    });
    let ended = scene.run("acr").with_code(4);
    assert!(
        ended.stdout.contains("protects it, and it stays: The operation is disallowed"),
        "{}",
        ended.stdout
    );
    assert_eq!(scene.played.tags(), ["release-2", "v1", "v1-again", "v3"]);
}

/// GitHub's API for the versions of the package `api`, of an organization; each manifest is one, numbered as it stands in line.
fn packages(asked: &Asked, holdings: &mut Holdings, scopes: &str) -> Option<Answer> {
    let rest = asked.target.strip_prefix("/users/shop/packages/container/api/versions");
    if asked.target.starts_with("/orgs/") {
        return Some(Answer::json(404, &json!({ "message": "Not Found" })));
    }
    assert!(rest.is_none() || asked.header("authorization") == "Bearer secret", "{asked:?}");
    let numbered: Vec<_> =
        holdings.manifests.keys().copied().enumerate().map(|(at, digest)| (at + 1, digest)).collect();
    match (asked.method.as_str(), rest?) {
        ("GET", "?per_page=100") => {
            let version = |(id, digest): &(usize, clean_registry_core::name::Digest)| {
                let tags = holdings.tags_on(*digest);
                json!({ "id": id, "name": digest.to_string(), "metadata": { "container": { "tags": tags } } })
            };
            let versions: Vec<_> = numbered.iter().map(version).collect();
            Some(Answer::json(200, &json!(versions)).header("X-OAuth-Scopes", scopes))
        }
        ("DELETE", id) => {
            let id: usize = id.trim_start_matches('/').parse().unwrap();
            let digest = numbered.iter().find(|(at, _)| *at == id)?.1;
            holdings.delete(&digest.to_string());
            Some(Answer::status(204))
        }
        _ => None,
    }
}

#[test]
fn ghcr_deletes_package_versions_over_githubs_api() {
    let scene = Scene::new(|asked, holdings| {
        let unsupported = || Answer::error(405, "UNSUPPORTED", "The operation is unsupported.");
        packages(asked, holdings, "read:packages, delete:packages")
            .or_else(|| deletes(asked).map(|_| unsupported()))
    });
    scene.run("ghcr").with_code(0);
    assert_eq!(scene.played.tags(), ["release-2", "v2", "v3"], "no tag is deleted alone there");
    assert!(!scene.played.holds(&scene.gone) && scene.played.holds(&scene.shared));
    assert!(scene.played.asked("DELETE").iter().all(|target| target.starts_with("/users/shop/packages/")));
    assert!(!scene.played.log().iter().any(|asked| asked.target.contains("/referrers/")), "it has none");
}

#[test]
fn a_github_token_that_may_not_delete_is_refused_before_anything_is_sent() {
    let scene = Scene::new(|asked, holdings| packages(asked, holdings, "read:packages, write:packages"));
    let ended = scene.run("ghcr").with_code(6);
    assert!(ended.stderr.contains("lacks the scope delete:packages"), "{ended:#?}");
    assert_eq!(scene.played.asked("DELETE"), [] as [String; 0]);
}

#[test]
fn the_last_tagged_version_on_ghcr_stays_and_the_report_says_why() {
    let scene = Scene::new(|asked, holdings| {
        let message =
            "You cannot delete the last tagged version of a package. You must delete the package instead.";
        let is_delete = asked.method == "DELETE" && asked.target.starts_with("/users/");
        let refused = is_delete.then(|| Answer::json(400, &json!({ "message": message })));
        refused.or_else(|| packages(asked, holdings, "delete:packages"))
    });
    let ended = scene.run("ghcr").with_code(4);
    assert!(ended.stdout.contains("last tagged version"), "{}", ended.stdout);
    assert!(scene.played.holds(&scene.gone));
}

#[test]
fn docker_hub_is_planned_for_and_refused_before_anything_is_sent() {
    let scene = Scene::new(|_, _| None);
    scene.run_as("docker-hub", &["plan"]).with_code(0);
    let ended = scene.run("docker-hub").with_code(6);
    assert!(ended.stderr.contains("only when no tag is on it"), "{ended:#?}");
    assert_eq!(scene.played.asked("DELETE"), [] as [String; 0]);
}

#[test]
fn quay_is_not_asked_to_delete_what_has_no_tag() {
    let (amd64, arm64) =
        (days_old("amd64", 200).on("linux", "amd64"), days_old("arm64", 200).on("linux", "arm64"));
    let index = Built::index([amd64, arm64]);
    let tokens = with_tokens("/v2/auth", "quay.example");
    let scene = Scene::new(move |asked, holdings| {
        if let Some(answer) = tokens(asked) {
            return Some(answer);
        }
        if let Some(subject) = asked.target.strip_prefix("/v2/shop/api/referrers/") {
            let about = |(digest, (_, bytes)): (&clean_registry_core::name::Digest, &(String, Vec<u8>))| {
                let document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
                (document["subject"]["digest"] == subject).then(|| json!({ "digest": digest.to_string() }))
            };
            let manifests: Vec<_> = holdings.manifests.iter().filter_map(about).collect();
            return Some(Answer::json(200, &json!({ "schemaVersion": 2, "manifests": manifests })));
        }
        // Found is what has a tag, what a manifest with a tag lists, and what is about one.
        if let Some(digest) = asked
            .target
            .strip_prefix("/v2/shop/api/manifests/")
            .and_then(|text| text.parse::<clean_registry_core::name::Digest>().ok())
            && asked.method != "DELETE"
        {
            let lists = |on: &clean_registry_core::name::Digest| {
                let bytes = &holdings.manifests[on].1;
                String::from_utf8_lossy(bytes).contains(&digest.to_string())
            };
            let own =
                holdings.manifests.get(&digest).map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned());
            let is_about = |on: &clean_registry_core::name::Digest| {
                own.as_ref().is_some_and(|own| own.contains(&on.to_string()))
            };
            let is_found = holdings.tags.values().any(|on| *on == digest || lists(on) || is_about(on));
            return (!is_found).then(unknown);
        }
        // Deleting by digest deletes the tags on it; without any there is nothing to delete.
        let digest = deletes(asked)?.parse().ok()?;
        let tags = holdings.tags_on(digest);
        holdings.tags.retain(|_, on| *on != digest);
        Some(if tags.is_empty() { unknown() } else { Answer::status(202) })
    });
    scene.played.holdings().push_as("multi", &index);
    let about = Builder::referrer(&scene.gone, "application/vnd.example.sbom");
    scene.played.holdings().push(&about);
    let played = &scene.played;
    let ended = scene.run("").with_code(0);
    assert_eq!(played.tags(), ["release-2", "v3"], "{ended:#?}");
    let untagged: Vec<String> =
        index.children.iter().chain([&about]).map(|built| built.digest().to_string()).collect();
    assert!(
        !played.asked("DELETE").iter().any(|target| untagged.iter().any(|digest| target.contains(digest)))
    );
}

#[test]
fn gitlab_tells_what_it_is_and_a_protected_tag_stays() {
    let scene = Scene::new(|asked, holdings| {
        if asked.target == "/v2/" {
            return Some(
                Answer::json(200, &json!({})).header("Gitlab-Container-Registry-Version", "4.9.0-gitlab"),
            );
        }
        let reference = deletes(asked)?;
        let found = holdings.find(reference)?;
        let is_protected = holdings.tags_on(found).iter().any(|tag| tag.starts_with("v1"));
        is_protected.then(|| {
            Answer::error(403, "DENIED", "requested access to the resource is denied: protected tag")
        })
    });
    let ended = scene.run("").with_code(4);
    assert!(ended.stdout.contains("protects it, and it stays"), "{}", ended.stdout);
    assert_eq!(scene.played.tags(), ["release-2", "v1", "v1-again", "v3"]);
}

#[test]
fn ecr_takes_a_token_of_aws_as_a_password_and_deletes_by_digest() {
    let scene = Scene::new(|asked, _| {
        let is_let_in = asked.header("authorization").starts_with("Basic ");
        (!is_let_in).then(|| {
            let challenge = "Basic realm=\"https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/\",service=\"ecr.amazonaws.com\"";
            Answer::status(401).header("WWW-Authenticate", challenge)
        })
    });
    scene.run("ecr").with_code(0);
    assert_eq!(scene.played.tags(), ["release-2", "v3"]);
}

#[test]
fn where_there_is_no_route_that_deletes_nothing_is_tried() {
    let scene = Scene::new(|asked, _| deletes(asked).map(|_| Answer::status(404).text("404 page not found")));
    let ended = scene.run("ecr-public").with_code(6);
    assert!(ended.stderr.contains("does not delete over its interface"), "{ended:#?}");
    assert_eq!(scene.deleted(), [] as [String; 0]);
}

#[test]
fn gitea_and_zot_delete_a_tag_by_its_name() {
    for kind in ["gitea", "zot"] {
        let scene = Scene::new(|_, _| None);
        scene.run(kind).with_code(0);
        assert_eq!(scene.played.tags(), ["release-2", "v3"], "{kind}");
        assert!(scene.played.holds(&scene.shared), "{kind}");
        assert!(scene.deleted().contains(&"v2".to_owned()), "{kind}");
    }
}

#[test]
fn a_registry_that_was_asked_too_much_is_asked_again_when_it_says_so() {
    let refusals = std::sync::atomic::AtomicUsize::new(2);
    let scene = Scene::new(move |asked, _| {
        deletes(asked)?.starts_with("sha256:").then_some(())?;
        let left = refusals.load(std::sync::atomic::Ordering::SeqCst);
        refusals.store(left.saturating_sub(1), std::sync::atomic::Ordering::SeqCst);
        let reset = jiff::Timestamp::now().as_second().to_string();
        let used_up = || Answer::error(403, "DENIED", "rate limit").header("X-RateLimit-Remaining", "0");
        (left > 0).then(|| used_up().header("X-RateLimit-Reset", &reset))
    });
    scene.run("").with_code(0);
    assert!(!scene.played.holds(&scene.gone));
}
