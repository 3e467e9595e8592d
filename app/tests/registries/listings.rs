//! Where each vendor lists repositories, played back from what it documents (docs/registries.md has the sources).

use serde_json::json;

use super::played::{Answer, Asked, Played};
use super::program::{Ended, Program};
use super::real::days_old;

/// A registry without a catalog, whose vendor lists `shop/api` in its own way.
fn played(own: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Played {
    let played = Played::start(move |asked, _| {
        let no_catalog = || Answer::error(404, "UNSUPPORTED", "The operation is unsupported.");
        own(asked).or_else(|| asked.target.starts_with("/v2/_catalog").then(no_catalog))
    });
    played.holdings().push_as("v1", &days_old("gone", 400));
    played
}

fn plan(played: &Played, kind: &str, namespaces: &[&str]) -> Ended {
    plan_as("alice", played, kind, namespaces)
}

fn plan_as(user: &str, played: &Played, kind: &str, namespaces: &[&str]) -> Ended {
    let program = Program::new(&played.url, Some((user, "s3cret"))).configure(|config| {
        config["registry"]["kind"] = json!(kind);
        config["registry"]["namespaces"] = json!(namespaces);
        config["registry"]["api_url"] = json!(played.url);
    });
    program.run(&["plan"])
}

#[track_caller]
fn finds_the_image(ended: Ended) {
    let ended = ended.with_code(0);
    assert!(ended.stdout.contains("\"v1\""), "{}", ended.stdout);
}

#[test]
fn harbor_lists_all_repositories_page_by_page() {
    let played = played(|asked| {
        let page = |page: &str, names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
            (asked.target == format!("/api/v2.0/repositories?page={page}&page_size=100"))
                .then(|| Answer::json(200, &json!(names)))
        };
        let next = "</api/v2.0/repositories?page=2&page_size=100>; rel=\"next\"";
        page("1", &["library/other"])
            .map(|answer| answer.header("Link", next))
            .or_else(|| page("2", &["shop/api"]))
    });
    finds_the_image(plan(&played, "harbor", &[]));
    assert!(played.log().iter().any(|asked| asked.header("authorization") == "Basic YWxpY2U6czNjcmV0"));
}

#[test]
fn gitlab_lists_by_project_and_then_by_group() {
    let played = played(|asked| {
        if asked.target.starts_with("/api/v4/") && asked.header("private-token") != "s3cret" {
            return Some(Answer::status(401));
        }
        match asked.target.as_str() {
            "/api/v4/projects/shop%2Fteam/registry/repositories?per_page=100" => {
                Some(Answer::json(404, &json!({ "message": "404 Project Not Found" })))
            }
            "/api/v4/groups/shop%2Fteam/registry/repositories?per_page=100" => {
                Some(Answer::json(200, &json!([{ "id": 1, "name": "api", "path": "shop/api" }])))
            }
            _ => None,
        }
    });
    finds_the_image(plan(&played, "gitlab", &["shop/team"]));
}

#[test]
fn quay_lists_by_namespace_and_hands_out_a_token_for_the_next_page() {
    let played = played(|asked| match asked.target.as_str() {
        "/api/v1/repository?namespace=shop&public=true" => Some(Answer::json(
            200,
            &json!({ "repositories": [{ "namespace": "shop", "name": "other" }], "next_page": "gAAA=" }),
        )),
        "/api/v1/repository?namespace=shop&public=true&next_page=gAAA%3D" => {
            Some(Answer::json(200, &json!({ "repositories": [{ "namespace": "shop", "name": "api" }] })))
        }
        _ => None,
    });
    finds_the_image(plan_as("$oauthtoken", &played, "quay", &["shop"]));
    let asked = |played: &Played| {
        played.log().into_iter().find(|asked| asked.target.starts_with("/api/v1/")).unwrap()
    };
    assert_eq!(asked(&played).header("authorization"), "Bearer s3cret");
    finds_the_image(plan(&played, "quay", &["shop"]));
    let last = played.log().into_iter().rfind(|asked| asked.target.starts_with("/api/v1/")).unwrap();
    assert_eq!(last.header("authorization"), "", "a robot's password is no token");
}

#[test]
fn github_lists_the_packages_of_an_organization_or_a_user() {
    let played = played(|asked| match asked.target.as_str() {
        "/orgs/Shop/packages?package_type=container&per_page=100" => {
            Some(Answer::json(404, &json!({ "message": "Not Found" })))
        }
        "/users/Shop/packages?package_type=container&per_page=100" => {
            assert_eq!(asked.header("authorization"), "Bearer s3cret");
            Some(Answer::json(200, &json!([{ "id": 1, "name": "api", "owner": { "login": "Shop" } }])))
        }
        _ => None,
    });
    finds_the_image(plan(&played, "ghcr", &["Shop"]));
}

#[test]
fn docker_hub_lists_a_namespace_for_a_token() {
    let played = played(|asked| match asked.line().as_str() {
        "POST /v2/auth/token" => {
            assert_eq!(asked.body, br#"{"identifier":"alice","secret":"s3cret"}"#);
            Some(Answer::json(200, &json!({ "access_token": "jwt" })))
        }
        "GET /v2/namespaces/shop/repositories?page_size=100" => {
            assert_eq!(asked.header("authorization"), "Bearer jwt");
            Some(Answer::json(
                200,
                &json!({ "count": 1, "next": null, "previous": null, "results": [{ "namespace": "shop", "name": "api" }] }),
            ))
        }
        _ => None,
    });
    finds_the_image(plan(&played, "docker-hub", &["shop"]));
}

#[test]
fn google_names_children_beside_tags() {
    let played = played(|asked| match asked.target.as_str() {
        "/v2/shop/tags/list" => {
            Some(Answer::json(200, &json!({ "name": "shop", "child": ["api"], "manifest": {}, "tags": [] })))
        }
        _ => None,
    });
    finds_the_image(plan(&played, "artifact-registry", &["shop"]));
}

#[test]
fn without_a_namespace_nothing_is_listed_and_the_hint_says_what_to_name() {
    let played = played(|_| None);
    let ended = plan(&played, "ghcr", &[]);
    assert_eq!(ended.code, 2, "{ended:#?}");
    assert!(ended.stderr.contains("lists repositories only by namespace"), "{ended:#?}");
    assert!(ended.stderr.contains("registry.namespaces"), "{ended:#?}");
}

#[test]
fn without_a_catalog_the_hint_says_to_name_the_repositories() {
    let played = played(|_| None);
    let ended = plan(&played, "other", &[]);
    assert_ne!(ended.code, 0);
    assert!(ended.stderr.contains("registry.repositories"), "{ended:#?}");
}

#[test]
fn repositories_that_are_named_are_not_listed() {
    let played = played(|_| None);
    let program = Program::new(&played.url, None);
    let program = program.configure(|config| config["registry"]["repositories"] = json!(["shop/api"]));
    finds_the_image(program.run(&["plan"]));
    assert!(!played.log().iter().any(|asked| asked.target.contains("_catalog")));

    let wrong = program.configure(|config| config["registry"]["repositories"] = json!(["Shop//api"]));
    assert!(wrong.run(&["plan"]).with_code(2).stderr.contains("is no repository name"));
}
