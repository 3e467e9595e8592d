//! The client against servers that misbehave as real ones do.

use std::time::{Duration, Instant};

use clean_registry_core::inventory::Powers;
use clean_registry_core::name::{Digest, MediaType, RepoName, Tag};
use futures_util::future::join_all;

use super::fake::{Asked, Fake, cut, error, json, reply};
use super::*;
use crate::secret::Secret;

fn options(server: &Fake) -> Options {
    Options { retries: 2, timeout: Duration::from_secs(5), ..Options::new(&server.url) }
}

fn reader(server: &Fake) -> Reader {
    connect(options(server)).unwrap()
}

fn repo() -> RepoName {
    "team/app".parse().unwrap()
}

fn tag() -> Reference {
    Reference::Tag("v1".parse().unwrap())
}

const MANIFEST: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}"#;

fn manifest() -> Vec<u8> {
    reply("200 OK", &[&format!("Content-Type: {}", MediaType::OCI_MANIFEST)], MANIFEST)
}

#[tokio::test]
async fn a_busy_registry_is_left_alone_for_as_long_as_it_asks() {
    let server = Fake::start(|_, before| match before {
        0 => reply("429 Too Many Requests", &["Retry-After: 1"], ""),
        1 => reply("503 Service Unavailable", &[], ""),
        _ => json("200 OK", r#"{"tags":["v1"]}"#),
    })
    .await;
    let (reader, start) = (reader(&server), Instant::now());
    assert_eq!(reader.tags(&repo()).await.unwrap().names, ["v1".parse::<Tag>().unwrap()]);
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(reader.requests(), 3);
}

#[tokio::test]
async fn a_registry_that_stays_busy_is_given_up() {
    let server = Fake::start(|_, _| reply("503 Service Unavailable", &[], "later")).await;
    let refused = reader(&server).tags(&repo()).await.unwrap_err();
    assert!(matches!(refused, Error::Status { status, .. } if status == 503), "{refused}");
    assert_eq!(server.log().len(), 3);
    let patient = Fake::start(|_, _| reply("503 Service Unavailable", &["Retry-After: 86400"], "")).await;
    assert!(reader(&patient).tags(&repo()).await.is_err());
    assert_eq!(patient.log().len(), 1, "a day is too long to wait");
}

#[tokio::test]
async fn a_registry_that_asks_for_longer_than_a_clock_counts_is_given_up() {
    let server = Fake::start(|_, before| match before {
        0 => reply("503 Service Unavailable", &["Retry-After: 1"], ""),
        _ => reply("503 Service Unavailable", &["Retry-After: 18446744073709551615"], ""),
    })
    .await;
    let refused = reader(&server).tags(&repo()).await.unwrap_err();
    assert!(matches!(refused, Error::Status { status, .. } if status == 503), "{refused}");
}

#[tokio::test]
async fn a_cut_body_is_read_again_and_never_taken_for_whole() {
    let whole = || json("200 OK", r#"{"tags":["v1","v2"]}"#);
    let server = Fake::start(move |_, before| if before == 0 { cut(whole(), 6) } else { whole() }).await;
    assert_eq!(reader(&server).tags(&repo()).await.unwrap().names.len(), 2);
    let broken = Fake::start(move |_, _| cut(whole(), 6)).await;
    assert!(matches!(reader(&broken).tags(&repo()).await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn a_silent_registry_is_not_waited_for_without_end() {
    // The system accepts the connection; nobody ever reads from it.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let options = Options { timeout: Duration::from_millis(100), retries: 1, ..Options::new(url) };
    let (reader, start) = (connect(options).unwrap(), Instant::now());
    assert!(matches!(reader.ping().await, Err(Error::Unreachable { .. })));
    assert_eq!(reader.requests(), 2);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn every_type_of_manifest_is_accepted() {
    let server = Fake::start(|_, _| manifest()).await;
    let found = reader(&server).manifest(&repo(), &tag()).await.unwrap().unwrap();
    assert_eq!((found.digest, &found.bytes[..]), (Digest::of(MANIFEST.as_bytes()), MANIFEST.as_bytes()));
    let accept = server.log()[0].accept.clone().unwrap();
    for media_type in [
        MediaType::OCI_MANIFEST,
        MediaType::OCI_INDEX,
        MediaType::DOCKER_MANIFEST,
        MediaType::DOCKER_LIST,
        MediaType::SCHEMA1,
        MediaType::SCHEMA1_SIGNED,
    ] {
        let mut types = accept.split(',').map(|part| part.split(';').next().unwrap().trim());
        assert!(types.any(|part| part == media_type), "{media_type}");
    }
}

#[tokio::test]
async fn bytes_that_are_not_what_was_asked_for_are_refused() {
    let server = Fake::start(|_, _| manifest()).await;
    let other = Digest::of(b"other");
    let refused = reader(&server).manifest(&repo(), &other.into()).await;
    assert!(matches!(refused, Err(Error::DigestMismatch { expected, .. }) if expected == other));
    let refused = reader(&server).blob(&repo(), &other, 1000).await;
    assert!(matches!(refused, Err(Error::DigestMismatch { expected, .. }) if expected == other));
    let lying = Fake::start(move |_, _| {
        reply("200 OK", &[&format!("Docker-Content-Digest: {}", Digest::of(b"other"))], MANIFEST)
    })
    .await;
    assert!(matches!(reader(&lying).manifest(&repo(), &tag()).await, Err(Error::DigestMismatch { .. })));
}

#[tokio::test]
async fn what_is_larger_than_allowed_is_not_read() {
    let server = Fake::start(|_, _| reply("200 OK", &[], &"x".repeat(100))).await;
    let digest = Digest::of("x".repeat(100).as_bytes());
    assert!(matches!(
        reader(&server).blob(&repo(), &digest, 99).await,
        Err(Error::TooLarge { limit: 99, .. })
    ));
    assert_eq!(reader(&server).blob(&repo(), &digest, 100).await.unwrap().unwrap().len(), 100);
    let huge = Fake::start(|_, _| reply("200 OK", &[], &"x".repeat((16 << 20) + 1))).await;
    assert!(matches!(reader(&huge).manifest(&repo(), &tag()).await, Err(Error::TooLarge { .. })));
}

/// An answer and whether it means that there is nothing.
type Meant = (fn() -> Vec<u8>, bool);

#[tokio::test]
async fn only_the_registrys_own_404_is_absence() {
    let answers: [Meant; 5] = [
        (|| error("404 Not Found", "MANIFEST_UNKNOWN"), true),
        (|| error("404 Not Found", "NAME_UNKNOWN"), true),
        (|| reply("404 Not Found", &["Content-Type: text/html"], "<html>nginx</html>"), false),
        (|| reply("404 Not Found", &[], ""), false),
        (
            || {
                let message = "OCI index found, but accept header does not support OCI indexes";
                let body = format!(r#"{{"errors":[{{"code":"MANIFEST_UNKNOWN","message":"{message}"}}]}}"#);
                json("404 Not Found", &body)
            },
            false,
        ),
    ];
    for (number, (answer, is_absence)) in answers.into_iter().enumerate() {
        let server =
            Fake::start(move |asked, _| if asked.method == "HEAD" { headless(answer()) } else { answer() })
                .await;
        let reader = reader(&server);
        assert_eq!(reader.manifest(&repo(), &tag()).await.is_ok_and(|m| m.is_none()), is_absence, "{number}");
        assert_eq!(reader.head(&repo(), &tag()).await.is_ok_and(|d| d.is_none()), is_absence, "{number}");
    }
}

/// An answer without its body, as `HEAD` gives it.
fn headless(answer: Vec<u8>) -> Vec<u8> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    answer[..end].to_vec()
}

#[tokio::test]
async fn no_tags_are_no_tags_in_every_wording() {
    let wordings: [fn() -> Vec<u8>; 3] = [
        || json("200 OK", r#"{"name":"team/app","tags":null}"#),
        || json("200 OK", r#"{"name":"team/app","tags":[]}"#),
        || error("404 Not Found", "NAME_UNKNOWN"),
    ];
    for wording in wordings {
        let server = Fake::start(move |_, _| wording()).await;
        let tags = reader(&server).tags(&repo()).await.unwrap();
        assert!(tags.names.is_empty() && tags.odd.is_empty());
    }
    let server = Fake::start(|_, _| json("200 OK", "{}")).await;
    assert!(matches!(reader(&server).tags(&repo()).await, Err(Error::Malformed { .. })));
}

#[tokio::test]
async fn tags_come_whole_from_all_pages_or_not_at_all() {
    let page = |asked: &Asked, second: Vec<u8>| match asked.target.as_str() {
        "/v2/team/app/tags/list" => reply(
            "200 OK",
            &[r#"Link: </v2/team/app/tags/list?last=v1>; rel="next""#],
            r#"{"tags":["v1","-odd-"]}"#,
        ),
        _ => second,
    };
    let server = Fake::start(move |asked, _| page(asked, json("200 OK", r#"{"tags":["v1","v2"]}"#))).await;
    let tags = reader(&server).tags(&repo()).await.unwrap();
    assert_eq!(tags.names, ["v1".parse::<Tag>().unwrap(), "v2".parse().unwrap()]);
    assert_eq!(tags.odd, ["-odd-"]);
    let failures: [fn() -> Vec<u8>; 3] = [
        || error("500 Internal Server Error", "UNKNOWN"),
        || error("404 Not Found", "NAME_UNKNOWN"),
        || reply("200 OK", &["Content-Type: text/html"], "<html>"),
    ];
    for failure in failures {
        let server = Fake::start(move |asked, _| page(asked, failure())).await;
        assert!(reader(&server).tags(&repo()).await.is_err());
    }
}

#[tokio::test]
async fn a_listing_without_end_is_stopped() {
    let link = r#"Link: </v2/_catalog?last=b>; rel="next""#;
    let server = Fake::start(move |_, _| reply("200 OK", &[link], r#"{"repositories":["a","b"]}"#)).await;
    let listing = reader(&server).catalog().await;
    assert_eq!(listing.repositories.len(), 2);
    assert!(matches!(listing.broke_off, Some(Error::NoProgress { .. })));
    let server = Fake::start(move |_, _| reply("200 OK", &[link], r#"{"tags":["a","b"]}"#)).await;
    assert!(matches!(reader(&server).tags(&repo()).await, Err(Error::NoProgress { .. })));
}

#[tokio::test]
async fn a_link_to_another_host_is_not_followed() {
    let other = Fake::start(|_, _| json("200 OK", r#"{"repositories":["c"]}"#)).await;
    let link = format!(r#"Link: <{}/v2/_catalog>; rel="next""#, other.url);
    let server = Fake::start(move |_, _| reply("200 OK", &[&link], r#"{"repositories":["a"]}"#)).await;
    let listing = reader(&server).catalog().await;
    assert_eq!(listing.repositories, ["a".parse::<RepoName>().unwrap()]);
    assert!(matches!(listing.broke_off, Some(Error::ForeignLink { .. })));
    assert!(other.log().is_empty());
}

#[tokio::test]
async fn an_absolute_link_behind_a_prefix_is_followed() {
    let server = Fake::start(|asked, _| match asked.target.as_str() {
        "/pre/v2/_catalog?n=1000" => reply(
            "200 OK",
            &[r#"Link: </pre/v2/_catalog?n=1000&last=a>; rel="next""#],
            r#"{"repositories":["a","UPPER"]}"#,
        ),
        "/pre/v2/_catalog?n=1000&last=a" => json("200 OK", r#"{"repositories":["a","b"]}"#),
        other => panic!("{other}"),
    })
    .await;
    let mut options = options(&server);
    options.url += "/pre/";
    let listing = connect(options).unwrap().catalog().await;
    assert_eq!(listing.repositories, ["a".parse().unwrap(), "b".parse::<RepoName>().unwrap()]);
    assert_eq!(listing.odd, ["UPPER"]);
    assert!(listing.broke_off.is_none());
}

/// A catalog of `names` that pages like Distribution, where `trap` is what it does at a page that ends with `foo/1st`.
fn paging(asked: &Asked, names: &[String], trap: fn(&str) -> Vec<u8>) -> Vec<u8> {
    let url = reqwest::Url::parse(&format!("http://x{}", asked.target)).unwrap();
    let query =
        |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let size: usize = query("n").map_or(100, |n| n.parse().unwrap());
    let start = query("last").map_or(0, |last| names.iter().position(|name| *name == last).unwrap() + 1);
    // Asked for what follows `foo/1st`, Distribution compares the texts and leaves `foo` out.
    let start = start + usize::from(query("last").is_some_and(|last| last == "foo/1st"));
    let end = (start + size).min(names.len());
    let body = serde_json::json!({ "repositories": names[start..end] }).to_string();
    let last = &names[end - 1];
    match () {
        () if last == "foo/1st" => trap(&body),
        () if end == names.len() => json("200 OK", &body),
        () => reply("200 OK", &[&format!(r#"Link: </v2/_catalog?last={last}&n={size}>; rel="next""#)], &body),
    }
}

fn names_with_a_trap_at(position: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..position - 1).map(|number| format!("a{number}")).collect();
    names.extend(["foo/1st", "foo", "zed"].map(str::to_owned));
    names
}

#[tokio::test]
async fn a_catalog_page_that_breaks_the_connection_is_avoided() {
    for position in [1000, 1999] {
        let names = names_with_a_trap_at(position);
        let server = Fake::start(move |asked, _| paging(asked, &names, |_| Vec::new())).await;
        let listing = connect(Options { retries: 0, ..options(&server) }).unwrap().catalog().await;
        assert!(listing.broke_off.is_none(), "{:?}", listing.broke_off);
        assert_eq!(listing.repositories.len(), position + 2);
    }
}

#[tokio::test]
async fn a_catalog_that_forgets_the_link_after_a_full_page_is_read_on() {
    let names = names_with_a_trap_at(1000);
    let server = Fake::start(move |asked, _| paging(asked, &names, |body| json("200 OK", body))).await;
    let listing = reader(&server).catalog().await;
    assert!(listing.broke_off.is_none());
    assert_eq!(listing.repositories.len(), 1002);
}

#[tokio::test]
async fn a_catalog_that_refuses_large_pages_is_read_in_its_own() {
    let names: Vec<String> = (0..250).map(|number| format!("a{number}")).collect();
    let server = Fake::start(move |asked, _| match asked.target.contains("n=1000") {
        true => error("400 Bad Request", "PAGINATION_NUMBER_INVALID"),
        false => paging(asked, &names, |_| Vec::new()),
    })
    .await;
    let listing = reader(&server).catalog().await;
    assert!(listing.broke_off.is_none());
    assert_eq!(listing.repositories.len(), 250);
}

#[tokio::test]
async fn a_registry_without_a_catalog_says_so() {
    let server = Fake::start(|_, _| error("404 Not Found", "NOT_FOUND")).await;
    let broke_off = reader(&server).catalog().await.broke_off.unwrap();
    assert!(matches!(broke_off, Error::NoCatalog { .. }));
    assert!(broke_off.hint().is_some());
}

#[tokio::test]
async fn a_web_page_is_not_a_registry() {
    let html =
        |status: &'static str| move || reply(status, &["Content-Type: text/html; charset=utf-8"], "<html>");
    let server = Fake::start(move |_, _| html("200 OK")()).await;
    assert!(matches!(reader(&server).ping().await, Err(Error::NotARegistry { .. })));
    assert!(matches!(reader(&server).tags(&repo()).await, Err(Error::NotARegistry { .. })));
    let server = Fake::start(move |_, _| html("404 Not Found")()).await;
    assert!(matches!(reader(&server).ping().await, Err(Error::NotARegistry { .. })));
}

#[tokio::test]
async fn a_redirect_takes_no_credentials_to_another_host() {
    let storage = Fake::start(|_, _| reply("200 OK", &[], "layer")).await;
    let target = format!("Location: {}/bucket/key?X-Amz-Signature=abc", storage.url);
    let server = Fake::start(move |asked, _| match &asked.authorization {
        None => reply("401 Unauthorized", &[r#"WWW-Authenticate: Basic realm="lab""#], ""),
        Some(_) => reply("307 Temporary Redirect", &[&target], ""),
    })
    .await;
    let reader = connect(alice(&server)).unwrap();
    let digest = Digest::of(b"layer");
    assert_eq!(reader.blob(&repo(), &digest, 10).await.unwrap().unwrap(), "layer");
    assert!(reader.blob_exists(&repo(), &digest).await.unwrap());
    assert!(server.log().last().unwrap().authorization.is_some());
    assert_eq!(storage.log().len(), 1);
    assert!(storage.log()[0].authorization.is_none());
    let wrong = reader.blob(&repo(), &Digest::of(b"other"), 10).await.unwrap_err();
    assert!(!wrong.to_string().contains("Signature"), "{wrong}");
    assert!(matches!(reader.tags(&repo()).await, Err(Error::Redirected { .. })));
}

#[tokio::test]
async fn redirects_end() {
    let server =
        Fake::start(|asked, _| reply("302 Found", &[&format!("Location: {}", asked.target)], "")).await;
    assert!(matches!(reader(&server).manifest(&repo(), &tag()).await, Err(Error::Redirected { .. })));
    assert_eq!(server.log().len(), 6);
}

fn alice(server: &Fake) -> Options {
    let credentials = Credentials::Basic { user: "alice".into(), password: Secret::new("s3cret") };
    Options { credentials, ..options(server) }
}

/// Base64 of `alice:s3cret`.
const ALICE: &str = "Basic YWxpY2U6czNjcmV0";

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_never_printed() {
    let server =
        Fake::start(|_, _| reply("401 Unauthorized", &[r#"WWW-Authenticate: Basic realm="lab""#], "")).await;
    let refused = connect(alice(&server)).unwrap().tags(&repo()).await.unwrap_err();
    assert!(matches!(&refused, Error::Unauthorized { reason, .. } if reason.contains("alice")), "{refused}");
    assert!(!format!("{refused:?}").contains("s3cret"));
    let sent = server.log().iter().filter(|asked| asked.authorization.as_deref() == Some(ALICE)).count();
    assert_eq!(sent, 1);
    let refused = reader(&server).tags(&repo()).await.unwrap_err();
    assert!(matches!(&refused, Error::Unauthorized { reason, .. } if reason.contains("none")), "{refused}");
}

/// A registry with a token server beside it, whose tokens are `token-<number>`. The newest token `is_good`.
async fn token_registry(expires_in: u64, is_good: fn(usize, &str) -> bool) -> (Fake, Fake) {
    let tokens = Fake::start(move |_, before| {
        json("200 OK", &format!(r#"{{"token":"token-{before}","expires_in":{expires_in}}}"#))
    })
    .await;
    let challenge = format!(
        r#"WWW-Authenticate: Bearer realm="{}/token?x=y",service="lab, here",scope="repository:team/app:pull""#,
        tokens.url
    );
    let registry = Fake::start(move |asked, before| match &asked.authorization {
        Some(value) if is_good(before, value) => json("200 OK", r#"{"tags":["v1"]}"#),
        _ => reply("401 Unauthorized", &[&challenge], ""),
    })
    .await;
    (registry, tokens)
}

#[tokio::test]
async fn many_requests_of_one_scope_fetch_one_token() {
    let (registry, tokens) = token_registry(300, |_, value| value == "Bearer token-0").await;
    let mut options = alice(&registry);
    options.concurrency = 4;
    let reader = connect(options).unwrap();
    let repository = repo();
    for outcome in join_all((0..20).map(|_| reader.tags(&repository))).await {
        outcome.unwrap();
    }
    let log = tokens.log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0].authorization.as_deref(), Some(ALICE));
    assert_eq!(
        log[0].line(),
        "GET /token?x=y&service=lab%2C+here&scope=repository%3Ateam%2Fapp%3Apull&account=alice"
    );
    assert!(registry.log().iter().all(|asked| asked.authorization.as_deref() != Some(ALICE)));
}

#[tokio::test]
async fn an_expired_token_is_replaced_before_use_and_a_revoked_one_after_a_401() {
    let (registry, tokens) = token_registry(0, |_, value| value.starts_with("Bearer token-")).await;
    let reader = connect(alice(&registry)).unwrap();
    for _ in 0..3 {
        reader.tags(&repo()).await.unwrap();
    }
    assert_eq!(tokens.log().len(), 3);
    // The third request to the registry and those after it want the second token.
    let (registry, tokens) =
        token_registry(300, |before, value| value == format!("Bearer token-{}", usize::from(before >= 2)))
            .await;
    let reader = connect(alice(&registry)).unwrap();
    for _ in 0..3 {
        reader.tags(&repo()).await.unwrap();
    }
    assert_eq!(tokens.log().len(), 2);
    assert_eq!(reader.requests(), (registry.log().len() + tokens.log().len()) as u64);
}

#[tokio::test]
async fn tokens_are_refused_without_end_in_sight_only_twice() {
    let (registry, tokens) = token_registry(300, |_, _| false).await;
    let refused = connect(options(&registry)).unwrap().tags(&repo()).await.unwrap_err();
    assert!(matches!(refused, Error::Unauthorized { .. }), "{refused}");
    assert_eq!((registry.log().len(), tokens.log().len()), (2, 1));
}

#[tokio::test]
async fn an_identity_token_is_exchanged_with_a_post() {
    let (registry, tokens) = token_registry(300, |_, value| value == "Bearer token-0").await;
    let credentials = Credentials::IdentityToken(Secret::new("id&token"));
    let reader = connect(Options { credentials, ..options(&registry) }).unwrap();
    reader.tags(&repo()).await.unwrap();
    let asked = tokens.log()[0].clone();
    assert_eq!((asked.line().as_str(), asked.authorization), ("POST /token?x=y", None));
    assert_eq!(
        asked.body,
        "service=lab%2C+here&grant_type=refresh_token&client_id=clean-registry\
         &scope=repository%3Ateam%2Fapp%3Apull&refresh_token=id%26token"
    );
}

fn writer(server: &Fake) -> Writer {
    Writer::new(reader(server))
}

#[tokio::test]
async fn a_deletion_that_broke_off_and_is_done_counts_as_done() {
    let server = Fake::start(|_, before| match before {
        0 => Vec::new(),
        _ => error("404 Not Found", "MANIFEST_UNKNOWN"),
    })
    .await;
    assert_eq!(writer(&server).delete_manifest(&repo(), &Digest::of(b"x")).await.unwrap(), Deleted::Now);
    assert_eq!(writer(&server).delete_manifest(&repo(), &Digest::of(b"x")).await.unwrap(), Deleted::Already);
}

#[tokio::test]
async fn a_tag_is_not_deleted_twice_after_a_broken_connection() {
    let server = Fake::start(|_, _| Vec::new()).await;
    let refused = writer(&server).delete_tag(&repo(), &"v1".parse().unwrap()).await;
    assert!(matches!(refused, Err(Refusal::Other(Error::Unreachable { .. }))));
    assert_eq!(server.log().len(), 1);
}

#[tokio::test]
async fn a_404_from_between_is_no_deletion() {
    let server = Fake::start(|_, _| reply("404 Not Found", &["Content-Type: text/html"], "<html>")).await;
    assert!(writer(&server).delete_manifest(&repo(), &Digest::of(b"x")).await.is_err());
}

#[tokio::test]
async fn a_manifest_is_put_back_byte_for_byte() {
    let digest = Digest::of(MANIFEST.as_bytes());
    let server =
        Fake::start(move |_, _| reply("201 Created", &[&format!("Docker-Content-Digest: {digest}")], ""))
            .await;
    let media_type = MediaType::new(MediaType::OCI_MANIFEST);
    let writer = writer(&server);
    let put = async |reference: Reference| {
        writer.put_manifest(&repo(), &reference, &media_type, MANIFEST.into()).await
    };
    assert_eq!(put(digest.into()).await.unwrap(), digest);
    assert_eq!(put(tag()).await.unwrap(), digest);
    let wrong = put(Digest::of(b"other").into()).await;
    assert!(matches!(wrong, Err(Refusal::Other(Error::DigestMismatch { .. }))));
    let lines: Vec<String> = server.log().iter().map(Asked::line).collect();
    assert_eq!(
        lines,
        [format!("PUT /v2/team/app/manifests/{digest}"), "PUT /v2/team/app/manifests/v1".into()]
    );
    assert!(server.log().iter().all(|asked| asked.body == MANIFEST));
}

/// What `probe` finds where `OPTIONS`, `DELETE` of a digest, `GET` of it and `DELETE` of a tag are answered so.
async fn probed(answers: [fn() -> Vec<u8>; 4]) -> Result<Powers, Refusal> {
    let server = Fake::start(move |asked, _| {
        let is_digest = asked.target.contains("/manifests/sha256:");
        match asked.method.as_str() {
            "OPTIONS" => answers[0](),
            "DELETE" if is_digest => answers[1](),
            "GET" => answers[2](),
            "DELETE" => answers[3](),
            other => panic!("{other} may change something"),
        }
    })
    .await;
    writer(&server).probe(&repo()).await
}

#[tokio::test]
async fn probes_tell_what_a_registry_lets_be_done() {
    let all = || reply("200 OK", &["Allow: DELETE, GET, HEAD, PUT"], "");
    let unknown = || error("404 Not Found", "MANIFEST_UNKNOWN");
    let unsupported = || error("405 Method Not Allowed", "UNSUPPORTED");
    let invalid = || error("400 Bad Request", "DIGEST_INVALID");
    let never = || panic!("nothing more is asked") as Vec<u8>;

    assert_eq!(probed([all, unknown, never, invalid]).await.unwrap(), Powers::DeleteOnly);
    assert_eq!(probed([all, unknown, never, unknown]).await.unwrap(), Powers::DeleteAndUntag);
    assert_eq!(probed([unsupported, unknown, never, unsupported]).await.unwrap(), Powers::DeleteOnly);
    let agrees = || reply("202 Accepted", &[], "");
    assert_eq!(probed([all, unknown, never, agrees]).await.unwrap(), Powers::DeleteOnly);

    let disabled = probed([all, unsupported, unknown, never]).await.unwrap_err();
    assert!(matches!(disabled, Refusal::DeleteDisabled { .. }) && disabled.hint().is_some());
    let cache = probed([all, unsupported, || error("500 Internal Server Error", "UNKNOWN"), never]).await;
    assert!(matches!(cache, Err(Refusal::PullThroughCache { .. })));
    let read_only = || reply("200 OK", &["Allow: GET, HEAD"], "");
    assert!(matches!(probed([read_only, never, never, never]).await, Err(Refusal::ReadOnly { .. })));
    let closed = || reply("405 Method Not Allowed", &["Allow: GET, HEAD"], "Method not allowed");
    assert!(matches!(probed([unsupported, closed, never, never]).await, Err(Refusal::ReadOnly { .. })));
    let forbidden = || error("403 Forbidden", "DENIED");
    assert!(matches!(probed([all, forbidden, never, never]).await, Err(Refusal::Forbidden { .. })));
    let unauthorized = || reply("401 Unauthorized", &["WWW-Authenticate: Basic realm=x"], "");
    let refused = probed([all, unauthorized, never, never]).await;
    assert!(matches!(refused, Err(Refusal::Other(Error::Unauthorized { .. }))));
}

#[tokio::test]
async fn tokens_that_allow_too_little_are_forbidden_not_wrong() {
    let challenge = r#"WWW-Authenticate: Bearer realm="/token",service="s",error="insufficient_scope""#;
    let server = Fake::start(move |asked, _| match asked.target.starts_with("/token") {
        true => json("200 OK", r#"{"access_token":"t"}"#),
        false => reply("401 Unauthorized", &[challenge], ""),
    })
    .await;
    let refused = writer(&server).delete_manifest(&repo(), &Digest::of(b"x")).await;
    assert!(matches!(refused, Err(Refusal::Forbidden { .. })), "{refused:?}");
    let token = server.log().iter().find(|asked| asked.target.starts_with("/token")).unwrap().target.clone();
    assert!(token.contains("scope=repository%3Ateam%2Fapp%3Apull%2Cpush%2Cdelete"), "{token}");
}

#[tokio::test]
async fn versions_of_distribution_are_told_by_their_listing() {
    for (content_type, hint) in [
        ("application/json; charset=utf-8", Some(Powers::DeleteOnly)),
        ("application/json", Some(Powers::DeleteAndUntag)),
        ("application/vnd.other+json", None),
    ] {
        let content_type = format!("Content-Type: {content_type}");
        let api = "Docker-Distribution-Api-Version: registry/2.0";
        let server =
            Fake::start(move |_, _| reply("200 OK", &[&content_type, api], r#"{"tags":["a"]}"#)).await;
        assert_eq!(reader(&server).tags(&repo()).await.unwrap().powers_hint, hint);
    }
    let server = Fake::start(|_, _| json("200 OK", r#"{"tags":["a"]}"#)).await;
    assert_eq!(reader(&server).tags(&repo()).await.unwrap().powers_hint, None);
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_allowed() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let server = Fake::start(|_, _| {
        let now = UNDER_WAY.fetch_add(1, Ordering::SeqCst) + 1;
        MOST.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        json("200 OK", r#"{"tags":[]}"#)
    })
    .await;
    let reader = connect(Options { concurrency: 1, ..options(&server) }).unwrap();
    let repository = repo();
    join_all((0..8).map(|_| reader.tags(&repository))).await;
    assert_eq!(MOST.load(Ordering::SeqCst), 1);
}
