//! How an API server is asked. Its answers are written by hand after its documentation; what a real one says is in
//! `app/tests/kubernetes`.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::in_use::section::{ImagePath, ResourceSection};

/// A server that gives each path its answers one after another, the last of them for ever; what it does not know is an empty list.
struct Server {
    directory: TempDir,
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

type Answers = BTreeMap<&'static str, VecDeque<(u16, Value)>>;

fn respond(answers: &mut Answers, request: &str) -> (u16, Value) {
    let target = request.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let Some(queue) = answers.get_mut(path) else { return (200, json!({ "items": [] })) };
    if queue.len() > 1 { queue.pop_front().unwrap() } else { queue[0].clone() }
}

impl Server {
    fn start(answers: &[(&'static str, &[(u16, Value)])]) -> Self {
        let mut answers: Answers =
            answers.iter().map(|(path, list)| (*path, list.iter().cloned().collect())).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let (status, body) = respond(&mut answers, &request);
                log.lock().unwrap().push(request);
                let body = body.to_string();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nRetry-After: 0\r\nConnection: close"
                );
                let _ = write!(stream, "{head}\r\n\r\n{body}");
            }
        });
        Self { directory: TempDir::new().unwrap(), url, asked }
    }

    fn section(&self, user: Value) -> KubernetesSection {
        let path = self.directory.path().join("kubeconfig");
        let file = json!({
            "current-context": "prod",
            "clusters": [{ "name": "c", "cluster": { "server": self.url } }],
            "contexts": [{ "name": "prod", "context": { "cluster": "c", "user": "u" } }],
            "users": [{ "name": "u", "user": user }],
        });
        std::fs::write(&path, file.to_string()).unwrap();
        KubernetesSection { kubeconfig: Some(path), ..KubernetesSection::default() }
    }

    async fn list_as(&self, user: Value) -> Result<Vec<String>, String> {
        self.list_of(&self.section(user)).await
    }

    async fn list_of(&self, section: &KubernetesSection) -> Result<Vec<String>, String> {
        let environment = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        let listed = list(section, None, "prod", (&environment, Duration::from_secs(60))).await;
        let listed = listed.map_err(|error| error.to_string())?;
        Ok(listed.into_iter().map(|used| format!("{} {}", used.by, used.reference)).collect())
    }

    async fn list(&self) -> Result<Vec<String>, String> {
        self.list_as(json!({ "token": "secret" })).await
    }

    /// What was asked of a path, each the query.
    fn queries(&self, path: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let targets = asked.iter().filter_map(|request| request.split(' ').nth(1)?.strip_prefix(path));
        targets.map(str::to_owned).collect()
    }
}

const PODS: &str = "/api/v1/pods";

fn pod(name: &str) -> Value {
    json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": { "containers": [{ "image": name }] } })
}

fn page(next: &str, pods: &[&str]) -> (u16, Value) {
    let pods: Vec<Value> = pods.iter().map(|name| pod(name)).collect();
    (200, json!({ "metadata": { "continue": next }, "items": pods }))
}

fn status(code: u16, message: &str) -> (u16, Value) {
    (code, json!({ "kind": "Status", "code": code, "message": message }))
}

#[tokio::test]
async fn a_list_is_read_to_its_last_page() {
    let server =
        Server::start(&[(PODS, &[page("a/b=", &["one"]), page("c", &["two"]), page("", &["three"])])]);
    let used = server.list().await.unwrap();
    assert_eq!(used, ["Pod shop/one, prod one", "Pod shop/three, prod three", "Pod shop/two, prod two"]);
    assert_eq!(server.queries(PODS), ["?limit=500", "?limit=500&continue=a%2Fb%3D", "?limit=500&continue=c"]);
}

#[tokio::test]
async fn a_list_whose_pages_have_expired_is_begun_anew() {
    let gone = status(410, "The provided continue parameter is too old");
    let answers = [page("a", &["one"]), gone.clone(), page("b", &["one"]), page("", &["two"])];
    let server = Server::start(&[(PODS, &answers)]);
    assert_eq!(server.list().await.unwrap(), ["Pod shop/one, prod one", "Pod shop/two, prod two"]);
    assert_eq!(server.queries(PODS).len(), 4);
    let never = Server::start(&[(PODS, &[gone])]);
    assert!(never.list().await.unwrap_err().contains(": 410: "));
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_not_for_ever() {
    for busy in [status(429, "too many"), status(503, "starting")] {
        let server = Server::start(&[(PODS, &[busy.clone(), busy.clone(), page("", &["one"])])]);
        assert_eq!(server.list().await.unwrap(), ["Pod shop/one, prod one"]);
        let stuck = Server::start(&[(PODS, &[busy])]);
        assert!(stuck.list().await.is_err());
        assert_eq!(stuck.queries(PODS).len(), 4);
    }
}

#[tokio::test]
async fn one_list_that_is_refused_or_is_none_makes_all_unreadable() {
    let jobs = "/apis/batch/v1/jobs";
    for (answer, why) in [
        (status(403, "jobs is forbidden"), "GET /apis/batch/v1/jobs: 403: jobs is forbidden"),
        (status(401, "Unauthorized"), "GET /apis/batch/v1/jobs: 401: Unauthorized"),
        ((404, json!("no status")), "GET /apis/batch/v1/jobs: 404: it does not say why"),
        ((302, json!({})), "GET /apis/batch/v1/jobs: 302: it does not say why"),
        ((200, json!({ "metadata": {} })), "it is no list: it has no items"),
        ((200, json!({ "items": null })), "it is no list: it has no items"),
        ((200, json!([])), "it is no list: "),
        ((200, json!("<html>")), "it is no list: "),
    ] {
        let server = Server::start(&[(PODS, &[page("", &["one"])]), (jobs, &[answer])]);
        let error = server.list().await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn credentials_are_sent_as_the_file_has_them() {
    let server = Server::start(&[(PODS, &[page("", &["one"])])]);
    for (user, header) in [
        (json!({ "token": "secret" }), "Bearer secret"),
        (json!({ "username": "me", "password": "p" }), "Basic bWU6cA=="),
    ] {
        server.asked.lock().unwrap().clear();
        server.list_as(user).await.unwrap();
        let asked = server.asked.lock().unwrap();
        let sent = format!("authorization: {header}").to_lowercase();
        assert!(asked.iter().all(|request| request.to_lowercase().contains(&sent)), "{asked:?}");
    }
}

/// A credential plugin that runs this script.
fn plugin(server: &Server, script: &str) -> Value {
    let path = server.directory.path().join("plugin");
    // Written beside its place: whoever starts it never finds it open for writing.
    let written = server.directory.path().join("written");
    std::fs::write(&written, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&written, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(written, path).unwrap();
    json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "sh",
        "args": [server.directory.path().join("plugin")],
        "env": [{ "name": "MINE", "value": "given" }],
        "provideClusterInfo": true,
    } })
}

#[tokio::test]
async fn a_plugin_gives_the_token_and_is_told_of_the_cluster() {
    let server = Server::start(&[(PODS, &[page("", &["one"])])]);
    let told = server.directory.path().join("told");
    let script = format!(
        "echo $KUBERNETES_EXEC_INFO > {}; printf '{{\"status\":{{\"token\":\"%s\"}}}}' $MINE",
        told.display()
    );
    server.list_as(plugin(&server, &script)).await.unwrap();
    assert!(server.asked.lock().unwrap()[0].contains("Bearer given"));
    let told: Value = serde_json::from_str(&std::fs::read_to_string(told).unwrap()).unwrap();
    assert_eq!(told["apiVersion"], "client.authentication.k8s.io/v1beta1");
    assert_eq!(
        (&told["spec"]["interactive"], &told["spec"]["cluster"]["server"]),
        (&json!(false), &json!(server.url))
    );
}

#[tokio::test]
async fn a_plugin_that_gives_nothing_makes_the_cluster_unreadable() {
    let server = Server::start(&[]);
    for (script, why) in [
        ("echo login first >&2; exit 1", "the credential plugin sh: exit status: 1: login first"),
        ("echo no json", "it prints no ExecCredential"),
        ("echo '{}'", "it gives no status"),
        ("echo '{\"status\":{\"token\":\"\"}}'", "it gives neither a token nor a certificate"),
    ] {
        let error = server.list_as(plugin(&server, script)).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let mut old = plugin(&server, "true");
    old["exec"]["apiVersion"] = "client.authentication.k8s.io/v1alpha1".into();
    assert!(server.list_as(old).await.unwrap_err().contains("which is not one of"));
    assert!(server.asked.lock().unwrap().is_empty(), "nothing was asked without credentials");
}

#[tokio::test]
async fn a_pod_is_told_of_by_whoever_made_it_at_the_top() {
    let owned = |uid: &str, kind: &str, name: &str, owner: &str| {
        json!({ "metadata": {
        "name": name, "namespace": "shop", "uid": uid,
        "ownerReferences": [{ "kind": kind, "name": owner, "uid": format!("of {owner}"), "controller": true }],
    }, "spec": { "containers": [{ "image": name }] } })
    };
    let object = |name: &str, owner: Option<&str>| {
        let mut object =
            json!({ "metadata": { "name": name, "namespace": "shop", "uid": format!("of {name}") } });
        if let Some(owner) = owner {
            object["metadata"]["ownerReferences"] =
                json!([{ "kind": "X", "name": owner, "uid": format!("of {owner}"), "controller": true }]);
        }
        object
    };
    let items = |items: Vec<Value>| vec![(200, json!({ "items": items }))];
    let pods = items(vec![
        owned("1", "ReplicaSet", "deployed", "set"),
        owned("2", "Rollout", "rolled", "rollout"),
        owned("3", "Node", "static", "node-1"),
        owned("4", "Job", "circle", "a"),
    ]);
    let sets = items(vec![object("set", Some("deployment")), object("a", Some("b")), object("b", Some("a"))]);
    let deployments = items(vec![object("deployment", None)]);
    let server = Server::start(&[
        (PODS, &pods),
        ("/apis/apps/v1/replicasets", &sets),
        ("/apis/apps/v1/deployments", &deployments),
    ]);
    let used = server.list().await.unwrap();
    for line in [
        "Deployment shop/deployment, prod deployed",
        "Rollout shop/rollout, prod rolled",
        "Node node-1, prod static",
    ] {
        assert!(used.contains(&line.to_owned()), "{used:?}");
    }
    assert!(used.iter().any(|line| line.ends_with("circle")), "{used:?}");
}

#[tokio::test]
async fn every_container_every_volume_and_every_state_of_a_pod_counts() {
    let pod = json!({ "metadata": { "name": "p", "namespace": "shop" },
        "spec": {
            "containers": [{ "image": "a" }, {}],
            "initContainers": [{ "image": "b" }],
            "ephemeralContainers": [{ "image": "c" }],
            "volumes": [{ "image": { "reference": "d" } }, { "emptyDir": {} }],
        },
        "status": {
            "containerStatuses": [{ "image": "e", "imageID": "f" }, { "image": "", "imageID": "" }],
            "initContainerStatuses": [{ "imageID": "g" }],
            "ephemeralContainerStatuses": [{ "imageID": "h" }],
        },
    });
    let server = Server::start(&[(PODS, &[(200, json!({ "items": [pod] }))])]);
    let used = server.list().await.unwrap();
    let images: Vec<&str> = used.iter().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(images, ["a", "b", "c", "d", "e", "f", "g", "h"]);
}

#[tokio::test]
async fn a_resource_of_the_core_group_and_its_namespaces_have_their_own_paths() {
    let items = |items: Value| vec![(200, json!({ "items": items }))];
    let maps = items(json!([{ "metadata": { "name": "m" }, "data": { "image": "x", "other": "" } }]));
    let server = Server::start(&[("/api/v1/namespaces/shop/configmaps", &maps)]);
    let resource = |jsonpath: &str| ResourceSection {
        group: String::new(),
        version: "v1".to_owned(),
        plural: "configmaps".to_owned(),
        jsonpath: ImagePath::parse(jsonpath).unwrap(),
    };
    let mut section = server.section(json!({ "token": "t" }));
    section.namespaces = vec!["shop".to_owned()];
    section.resources = vec![resource("$.data.image")];
    assert_eq!(server.list_of(&section).await.unwrap(), ["configmaps m, prod x"]);
    assert_eq!(server.queries("/api/v1/namespaces/shop/pods"), ["?limit=500"]);
    section.resources = vec![resource("$.data.other")];
    assert!(server.list_of(&section).await.unwrap_err().contains("finds nothing in any of 1 configmaps"));
}
