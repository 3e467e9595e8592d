//! The in-process registry answers as the real ones do: FACTS sections 1, 2 and 7, seen there against 2.8.2 and 3.1.1.

#[path = "../support/mod.rs"]
mod support;
mod sweeping;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clean_registry::demo::builder::{Builder, Built, noise};
use clean_registry::demo::server::{Auth, Behaviour, Delete, Effect, Generation, Rule, Server};
use clean_registry::demo::store::Store;
use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, MediaType};
use reqwest::header::{ACCEPT, ALLOW, CONTENT_TYPE, LINK, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::push::Client;
use tempfile::TempDir;

const BOTH: [Generation; 2] = [Generation::V2, Generation::V3];

fn start(behaviour: Behaviour) -> (TempDir, Server, Client) {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), behaviour).unwrap();
    let client = Client::new(&server.url());
    (root, server, client)
}

fn image(name: &str) -> Built {
    Builder::image(name)
        .created_text("2026-01-01T00:00:00Z")
        .layer(noise(name, 4096))
        .build()
        .on("linux", "amd64")
}

fn docker_image(name: &str) -> Built {
    Builder::docker_image(name).layer(noise(name, 4096)).build().on("linux", "amd64")
}

async fn code(answer: reqwest::Response) -> String {
    let document: Value = answer.json().await.unwrap();
    document["errors"][0]["code"].as_str().unwrap().to_owned()
}

fn exists(root: &Path, key: &str) -> bool {
    root.join("docker/registry/v2").join(key).exists()
}

#[tokio::test]
async fn whatever_is_pushed_pulls_whole() {
    for generation in BOTH {
        let (_root, _server, client) = start(Behaviour::of(generation));
        let plain = image("plain");
        let nested = Built::index([Built::index([image("deep")]), image("shallow")]);
        let attested = Built::index([plain.clone(), Builder::attestation(&plain)]);
        let all = [
            ("plain", plain.clone(), 3),
            ("docker", docker_image("docker"), 3),
            ("nested", nested, 8),
            ("attested", attested, 7),
            ("list", Built::docker_list([docker_image("listed")]), 4),
            ("empty", Built::index([]), 1),
            ("chart", Builder::chart("shop", "1.0").layer(noise("chart", 100)).build(), 3),
            ("untyped", Builder::image("untyped").untyped().build(), 2),
            ("signature", Builder::signature(&plain), 3),
            ("referrer", Builder::referrer(&plain, "application/spdx+json"), 3),
        ];
        for (tag, built, objects) in &all {
            client.push_as("team/app", tag, built).await;
            assert_eq!(client.pull_whole("team/app", tag).await, Ok(*objects), "{generation:?} {tag}");
        }
        assert_eq!(client.tags("team/app").await.len(), all.len());
    }
}

#[tokio::test]
async fn a_build_cache_is_an_index_to_2_and_refused_by_3() {
    let cache = Built::build_cache([noise("cached", 1000)]);
    for (generation, status) in
        [(Generation::V2, StatusCode::CREATED), (Generation::V3, StatusCode::BAD_REQUEST)]
    {
        let (_root, _server, client) = start(Behaviour::of(generation));
        for blob in &cache.blobs {
            client.blob("a", blob).await;
        }
        let answer = client.manifest("a", "cache", MediaType::OCI_INDEX, &cache.bytes).await;
        assert_eq!(answer.status(), status, "{generation:?}");
        if status == StatusCode::CREATED {
            assert_eq!(client.pull_whole("a", "cache").await, Ok(3));
        }
    }
}

#[tokio::test]
async fn deleting_a_digest_takes_every_tag_on_it_and_nothing_else() {
    for generation in BOTH {
        let (root, _server, client) = start(Behaviour::of(generation));
        let (old, new) = (image("old"), image("new"));
        client.push_as("a", "v1", &old).await;
        client.push_as("a", "latest", &old).await;
        client.push_as("a", "latest", &new).await;
        let (digest, hex) = (old.digest().to_string(), old.digest().hex());
        assert_eq!(client.delete("a", &digest).await, StatusCode::ACCEPTED);
        assert_eq!(client.tags("a").await, ["latest"]);
        assert_eq!(client.get(&format!("/v2/a/manifests/{digest}")).await.status(), StatusCode::NOT_FOUND);
        assert!(
            exists(root.path(), &format!("repositories/a/_manifests/revisions/sha256/{hex}")),
            "an empty folder"
        );
        assert!(exists(
            root.path(),
            &format!("repositories/a/_manifests/tags/latest/index/sha256/{hex}/link")
        ));
        assert!(!exists(root.path(), "repositories/a/_manifests/tags/v1"));
        assert!(exists(root.path(), &Place::BlobData(old.digest()).key()), "blobs are the collector's");
        assert_eq!(client.delete("a", &digest).await, StatusCode::NOT_FOUND);

        assert_eq!(client.delete("a", &new.digest().to_string()).await, StatusCode::ACCEPTED);
        let listing: Value = client.get("/v2/a/tags/list").await.json().await.unwrap();
        assert_eq!(listing, json!({ "name": "a", "tags": null }));
        let catalog: Value = client.get("/v2/_catalog").await.json().await.unwrap();
        assert_eq!(catalog, json!({ "repositories": ["a"] }), "an emptied repository stays in the catalog");
    }
}

#[tokio::test]
async fn only_3_untags() {
    for (generation, present, absent, left) in [
        (Generation::V2, StatusCode::BAD_REQUEST, StatusCode::BAD_REQUEST, 2),
        (Generation::V3, StatusCode::ACCEPTED, StatusCode::NOT_FOUND, 1),
    ] {
        let (_root, _server, client) = start(Behaviour::of(generation));
        client.push_as("a", "v1", &image("one")).await;
        client.push_as("a", "latest", &image("one")).await;
        assert_eq!(client.delete("a", "v1").await, present);
        assert_eq!(client.delete("a", "absent").await, absent);
        assert_eq!(client.tags("a").await.len(), left);
        assert_eq!(client.pull_whole("a", "latest").await, Ok(3));
    }
}

#[tokio::test]
async fn a_closed_door_says_which_kind_it_is() {
    for generation in BOTH {
        for (delete, content_type, allow) in [
            (Delete::Disabled, "application/json", "DELETE, GET, HEAD, PUT"),
            (Delete::ReadOnly, "text/plain", "GET, HEAD"),
        ] {
            let (_root, _server, client) = start(Behaviour { delete, ..Behaviour::of(generation) });
            let path = format!("/v2/x/manifests/{}", Digest::of(b"absent"));
            let answer = client.request(Method::DELETE, &path).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert!(answer.headers()[CONTENT_TYPE].to_str().unwrap().starts_with(content_type), "{delete:?}");
            let options = client.request(Method::OPTIONS, "/v2/x/manifests/y").send().await.unwrap();
            assert_eq!(options.headers()[ALLOW], allow);
        }
    }
}

#[tokio::test]
async fn a_layer_deleted_as_a_manifest_is_lost_in_2_alone() {
    for (generation, status) in
        [(Generation::V2, StatusCode::ACCEPTED), (Generation::V3, StatusCode::NOT_FOUND)]
    {
        let (_root, _server, client) = start(Behaviour::of(generation));
        let image = image("victim");
        client.push_as("a", "v1", &image).await;
        let layer = Digest::of(&image.blobs[0]).to_string();
        assert_eq!(client.delete("a", &layer).await, status);
        assert_eq!(client.pull_whole("a", "v1").await.is_ok(), status == StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn an_empty_tag_link_fails_the_delete_after_the_manifest_is_gone() {
    for generation in BOTH {
        let (_root, server, client) = start(Behaviour::of(generation));
        let image = image("one");
        client.push_as("a", "v1", &image).await;
        let broken = Place::TagCurrent { repo: "a".parse().unwrap(), tag: "broken".parse().unwrap() };
        server.store().write(&broken, b"").unwrap();
        let digest = image.digest().to_string();
        assert_eq!(client.delete("a", &digest).await, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(client.delete("a", &digest).await, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_truncated_manifest_is_a_failure_of_the_registry() {
    for generation in BOTH {
        let (_root, server, client) = start(Behaviour::of(generation));
        let image = image("one");
        client.push_as("a", "v1", &image).await;
        server.store().write(&Place::BlobData(image.digest()), &image.bytes[..20]).unwrap();
        assert_eq!(client.get("/v2/a/manifests/v1").await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}

#[tokio::test]
async fn what_a_manifest_needs_must_be_there_first() {
    for generation in BOTH {
        let (root, _server, client) = start(Behaviour::of(generation));
        let image = image("without blobs");
        let cases = [
            (MediaType::OCI_MANIFEST, &image.bytes),
            (MediaType::OCI_INDEX, &Built::index([image.clone()]).bytes),
        ];
        for (media_type, bytes) in cases {
            let answer = client.manifest("a", "v1", media_type, bytes).await;
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
            assert_eq!(code(answer).await, "MANIFEST_BLOB_UNKNOWN");
        }
        assert!(!exists(root.path(), "repositories/a"), "a refused manifest writes nothing");
        for (media_type, bytes) in
            [(MediaType::OCI_MANIFEST, "{"), ("application/x-unknown", "{}"), ("", "{}")]
        {
            let answer = client.manifest("a", "v1", media_type, bytes.as_bytes()).await;
            assert_eq!(code(answer).await, "MANIFEST_INVALID", "{media_type}");
        }
    }
}

#[tokio::test]
async fn who_does_not_accept_a_type_is_told_something_else() {
    for generation in BOTH {
        let (_root, _server, client) = start(Behaviour::of(generation));
        let child = docker_image("child");
        client.push_as("a", "image", &image("oci")).await;
        client.push_as("a", "index", &Built::index([image("oci")])).await;
        client.push_as("a", "list", &Built::docker_list([child.clone()])).await;
        let get = async |tag: &str, accept: &str| {
            let path = format!("/v2/a/manifests/{tag}");
            client.request(Method::GET, &path).header(ACCEPT, accept).send().await.unwrap()
        };
        assert_eq!(get("image", "*/*").await.status(), StatusCode::NOT_FOUND);
        let index = if generation == Generation::V2 { StatusCode::NOT_FOUND } else { StatusCode::OK };
        assert_eq!(get("index", "*/*").await.status(), index);
        let list = get("list", MediaType::DOCKER_MANIFEST).await;
        assert_eq!(list.status(), StatusCode::OK);
        assert_eq!(list.headers()["docker-content-digest"], child.digest().to_string().as_str());
    }
}

#[tokio::test]
async fn types_tell_the_generations_apart() {
    for (generation, content_type) in
        [(Generation::V2, "application/json; charset=utf-8"), (Generation::V3, "application/json")]
    {
        let (_root, _server, client) = start(Behaviour::of(generation));
        client.push_as("a", "v1", &image("one")).await;
        let answer = client.get("/v2/a/tags/list").await;
        assert_eq!(answer.headers()[CONTENT_TYPE], content_type);
        assert_eq!(answer.headers()["docker-distribution-api-version"], "registry/2.0");
        let unknown = client.get("/v2/none/tags/list").await;
        assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
        assert_eq!(code(unknown).await, "NAME_UNKNOWN");
    }
}

#[tokio::test]
async fn the_catalog_is_paged_component_by_component() {
    for generation in BOTH {
        let (_root, _server, client) = start(Behaviour::of(generation));
        for repo in ["foo-bar", "foo", "b", "foo/bar", "c/d/e"] {
            client.push_as(repo, "v1", &image("one")).await;
        }
        let (mut names, mut path) = (Vec::new(), Some("/v2/_catalog?n=2".to_owned()));
        while let Some(next) = path.take() {
            let answer = client.get(&next).await;
            path = answer.headers().get(LINK).map(|link| {
                let link = link.to_str().unwrap();
                link[1..link.find('>').unwrap()].to_owned()
            });
            let page: Value = answer.json().await.unwrap();
            names.extend(
                page["repositories"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()),
            );
        }
        assert_eq!(names, ["b", "c/d/e", "foo", "foo/bar", "foo-bar"]);
        assert_eq!(code(client.get("/v2/_catalog?n=1001").await).await, "PAGINATION_NUMBER_INVALID");
        let junk = if generation == Generation::V2 { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        assert_eq!(client.get("/v2/_catalog?n=x").await.status(), junk);
    }
}

#[tokio::test]
async fn only_3_pages_its_tags() {
    for (generation, first) in [(Generation::V2, 4), (Generation::V3, 2)] {
        let (_root, _server, client) = start(Behaviour::of(generation));
        for tag in ["d", "a", "c", "b"] {
            client.push_as("x", tag, &image("one")).await;
        }
        let page: Value = client.get("/v2/x/tags/list?n=2").await.json().await.unwrap();
        assert_eq!(page["tags"].as_array().unwrap().len(), first);
        if generation == Generation::V3 {
            assert_eq!(page["tags"], json!(["a", "b"]));
            let second = client.get("/v2/x/tags/list?n=2&last=b").await;
            assert_eq!(second.headers()[LINK], "</v2/x/tags/list?last=d&n=2>; rel=\"next\"");
            let third: Value = client.get("/v2/x/tags/list?n=2&last=d").await.json().await.unwrap();
            assert_eq!(third["tags"], Value::Null, "one empty page at the end");
        }
    }
}

#[tokio::test]
async fn blobs_come_in_pieces_whole_or_from_next_door() {
    let (root, _server, client) = start(Behaviour::default());
    let (begun, content) = (client.request(Method::POST, "/v2/a/blobs/uploads/"), noise("pieces", 1000));
    let location = begun.send().await.unwrap().headers()["location"].to_str().unwrap().to_owned();
    for (from, to) in [(0, 400), (400, 1000)] {
        let patch =
            client.request(Method::PATCH, &location).body(content[from..to].to_vec()).send().await.unwrap();
        assert_eq!(patch.headers()["range"], format!("0-{}", to - 1).as_str());
    }
    let digest = Digest::of(&content);
    let put = client.request(Method::PUT, &format!("{location}&digest={digest}")).send().await.unwrap();
    assert_eq!(put.status(), StatusCode::CREATED);
    assert_eq!(client.get(&format!("/v2/a/blobs/{digest}")).await.bytes().await.unwrap(), content);
    let part = client.request(Method::GET, &format!("/v2/a/blobs/{digest}")).header("range", "bytes=10-19");
    assert_eq!(part.send().await.unwrap().bytes().await.unwrap(), content[10..20]);

    assert_eq!(client.get(&format!("/v2/b/blobs/{digest}")).await.status(), StatusCode::NOT_FOUND);
    let mount = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    assert_eq!(client.request(Method::POST, &mount).send().await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(client.get(&format!("/v2/b/blobs/{digest}")).await.status(), StatusCode::OK);

    let begun = client.request(Method::POST, "/v2/a/blobs/uploads/").send().await.unwrap();
    let location = begun.headers()["location"].to_str().unwrap().to_owned();
    let wrong = format!("{location}&digest={}", Digest::of(b"another"));
    let answer = client.request(Method::PUT, &wrong).body("this").send().await.unwrap();
    assert_eq!(code(answer).await, "DIGEST_INVALID");
    assert_eq!(
        std::fs::read_dir(root.path().join("docker/registry/v2/repositories/a/_uploads")).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn basic_asks_for_a_name_and_a_password() {
    let auth = Auth::Basic { user: "me".into(), password: "secret".into() };
    let (_root, _server, client) = start(Behaviour { auth, ..Behaviour::default() });
    let refused = client.get("/v2/").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(refused.headers()[WWW_AUTHENTICATE].to_str().unwrap().starts_with("Basic realm="));
    assert_eq!(client.clone().login("me", "wrong").get("/v2/").await.status(), StatusCode::UNAUTHORIZED);
    let client = client.login("me", "secret");
    client.push_as("a", "v1", &image("one")).await;
    assert_eq!(client.pull_whole("a", "v1").await, Ok(3));
}

#[tokio::test]
async fn a_token_is_good_for_its_scope_and_its_time() {
    let auth = Auth::Bearer {
        user: "me".into(),
        password: "secret".into(),
        lifetime: Duration::from_millis(300),
        actions: vec!["pull".into(), "delete".into()],
    };
    let (_root, server, client) = start(Behaviour { auth, ..Behaviour::default() });
    let path = "/v2/a/manifests/v1";
    let challenge = client.get(path).await.headers()[WWW_AUTHENTICATE].to_str().unwrap().to_owned();
    let realm = format!("{}/token", server.url());
    assert_eq!(
        challenge,
        format!("Bearer realm=\"{realm}\",service=\"in-process\",scope=\"repository:a:pull\"")
    );
    let ask = format!("{realm}?service=in-process&scope=repository:a:pull,push");
    assert_eq!(client.get(&ask).await.status(), StatusCode::UNAUTHORIZED);
    let given: Value = client.clone().login("me", "secret").get(&ask).await.json().await.unwrap();
    let token = given["token"].as_str().unwrap();
    let with = async |method: Method, path: &str| {
        client.request(method, path).bearer_auth(token).send().await.unwrap()
    };
    assert_eq!(with(Method::GET, path).await.status(), StatusCode::NOT_FOUND, "let in, and nothing there");
    for (method, path) in [
        (Method::GET, "/v2/b/tags/list"),
        (Method::DELETE, path),
        (Method::PUT, path),
        (Method::GET, "/v2/_catalog"),
    ] {
        let refused = with(method, path).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
        let challenge = refused.headers()[WWW_AUTHENTICATE].to_str().unwrap();
        assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
    }
    tokio::time::sleep(Duration::from_millis(350)).await;
    let expired = with(Method::GET, path).await;
    assert!(expired.headers()[WWW_AUTHENTICATE].to_str().unwrap().contains("error=\"invalid_token\""));
}

#[tokio::test]
async fn what_shall_go_wrong_goes_wrong() {
    let (_root, server, client) = start(Behaviour::default());
    let image = image("one");
    client.push_as("a", "v1", &image).await;
    let tags = "/v2/a/tags/list";
    let once = |effect| server.faults().add(Rule::on(Method::GET, "/tags/list", effect).times(1));

    once(Effect::Status(429, Some(7)));
    let busy = client.get(tags).await;
    assert_eq!(
        (busy.status(), busy.headers()["retry-after"].to_str().unwrap()),
        (StatusCode::TOO_MANY_REQUESTS, "7")
    );
    once(Effect::CutBody);
    let cut = client.get(tags).await;
    assert_eq!(cut.status(), StatusCode::OK);
    assert!(cut.bytes().await.is_err());
    once(Effect::DropConnection);
    assert!(client.request(Method::GET, tags).send().await.is_err());
    once(Effect::Html404);
    assert_eq!(client.get(tags).await.headers()[CONTENT_TYPE], "text/html");
    once(Effect::WrongBytes);
    assert!(client.get(tags).await.json::<Value>().await.is_err());
    once(Effect::Slow(Duration::from_millis(200)));
    let before = Instant::now();
    assert_eq!(client.tags("a").await, ["v1"]);
    assert!(before.elapsed() >= Duration::from_millis(200));
    let before = Instant::now();
    assert_eq!(client.tags("a").await, ["v1"], "and once was enough");
    assert!(before.elapsed() < Duration::from_millis(200));
}

#[tokio::test]
async fn the_world_can_change_between_two_requests() {
    let (_root, server, client) = start(Behaviour::default());
    client.push_as("a", "v1", &image("before")).await;
    client.push_as("a", "other", &image("after")).await;
    let called = Arc::new(AtomicUsize::new(0));
    let (store, counter) = (Store::open(&server.root()).unwrap(), Arc::clone(&called));
    let digest = image("after").digest();
    let moves = move || {
        counter.fetch_add(1, Ordering::SeqCst);
        store.write_tag(&"a".parse().unwrap(), &"v1".parse().unwrap(), &digest).unwrap();
    };
    server.faults().add(
        Rule::on(Method::HEAD, "/manifests/v1", Effect::BeforeAnswering(Arc::new(moves))).after(1).times(1),
    );
    let mut seen = Vec::new();
    for _ in 0..2 {
        let head = client.request(Method::HEAD, "/v2/a/manifests/v1").header(ACCEPT, MediaType::OCI_MANIFEST);
        seen.push(head.send().await.unwrap().headers()["docker-content-digest"].to_str().unwrap().to_owned());
    }
    assert_eq!(seen, [image("before").digest().to_string(), image("after").digest().to_string()]);
    assert_eq!(called.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn accepted_is_not_proof() {
    let (_root, server, client) = start(Behaviour::of(Generation::V2));
    let image = image("one");
    client.push_as("a", "v1", &image).await;
    let digest = image.digest().to_string();
    server.faults().add(Rule::on(Method::DELETE, "", Effect::Status(202, None)).times(1));
    assert_eq!(client.delete("a", &digest).await, StatusCode::ACCEPTED);
    assert_eq!(client.pull_whole("a", "v1").await, Ok(3), "nothing was done");
    server.faults().add(Rule::on(Method::DELETE, "", Effect::LeaveTags).times(1));
    assert_eq!(client.delete("a", &digest).await, StatusCode::ACCEPTED);
    assert_eq!(client.tags("a").await, ["v1"], "the tag dangles");
    assert_eq!(client.get("/v2/a/manifests/v1").await.status(), StatusCode::NOT_FOUND);
    client.push_as("a", "v2", &image).await;
    server.faults().add(Rule::on(Method::DELETE, "", Effect::DoneBut(500)).times(1));
    assert_eq!(client.delete("a", &digest).await, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(client.tags("a").await, Vec::<String>::new(), "a 500 that did its work");
}

#[tokio::test]
async fn every_request_is_remembered() {
    let (_root, server, client) = start(Behaviour::default());
    client.push_as("a", "v1", &image("one")).await;
    assert_eq!(server.mutations().len(), 5, "two blobs by POST and PUT, one manifest");
    server.clear_log();
    client.tags("a").await;
    client.pull_whole("a", "v1").await.unwrap();
    client.request(Method::OPTIONS, "/v2/a/manifests/v1").send().await.unwrap();
    assert_eq!(server.log().len(), 5);
    assert_eq!(server.count(&Method::GET, "/manifests/"), 1);
    assert_eq!(server.mutations(), []);
}

#[tokio::test]
async fn a_stopped_server_is_gone() {
    let (_root, server, client) = start(Behaviour::default());
    assert_eq!(client.get("/v2/").await.status(), StatusCode::OK);
    server.stop();
    let deadline = Instant::now() + Duration::from_secs(5);
    while client.request(Method::GET, "/v2/").send().await.is_ok() {
        assert!(Instant::now() < deadline, "still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
