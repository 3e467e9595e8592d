//! What is in use in a cluster, asked of a real API server over a real etcd. There are no nodes and no controllers: what those would
//! write is written here, as they do it.

#[path = "../support/kubernetes.rs"]
mod kubernetes;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clean_registry::config::Config;
use clean_registry::in_use::{self, InUseError};
use clean_registry_core::in_use::InUse;
use clean_registry_core::name::{Digest, RepoName};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use kubernetes::{ADMIN, Cluster, READER};

/// Asks the cluster of a kubeconfig, with these settings beside.
async fn read_with(kubeconfig: &Path, more: Value) -> Result<InUse, InUseError> {
    let mut source = json!({ "kubernetes": { "kubeconfig": kubeconfig } });
    let kubernetes = source["kubernetes"].as_object_mut().unwrap();
    kubernetes.extend(more.as_object().unwrap().clone());
    let config = json!({ "registry": { "url": "https://registry.example" }, "in_use": [source] });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    let config = Config::load(&path, &BTreeMap::new()).unwrap();
    let environment = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    in_use::read(&config, &environment, "registry.example").await
}

async fn read(kubeconfig: &Path) -> Result<InUse, InUseError> {
    read_with(kubeconfig, json!({})).await
}

fn image(name: &str) -> String {
    format!("registry.example/{name}:v1")
}

fn pod_spec(name: &str) -> Value {
    json!({ "restartPolicy": "Always", "containers": [{ "name": "main", "image": image(name) }] })
}

fn template(name: &str) -> Value {
    json!({ "metadata": { "labels": { "app": name } }, "spec": pod_spec(name) })
}

fn owner(kind: &str, object: &Value) -> Value {
    let (name, uid) = (&object["metadata"]["name"], &object["metadata"]["uid"]);
    json!([{ "apiVersion": object["apiVersion"], "kind": kind, "name": name, "uid": uid, "controller": true }])
}

/// Who uses `name:v1`, of which nobody else may be known.
fn users(in_use: &InUse, name: &str) -> Vec<String> {
    let name: RepoName = name.parse().unwrap();
    in_use.of_tag(&name, &"v1".parse().unwrap()).into_iter().collect()
}

async fn namespace(cluster: &Cluster, name: &str) {
    cluster.make("/api/v1/namespaces", json!({ "metadata": { "name": name } })).await;
}

/// A workload of each kind that makes pods, in the namespace `shop`.
async fn make_workloads(cluster: &Cluster) {
    namespace(cluster, "shop").await;
    let apps = |plural: &str| format!("/apis/apps/v1/namespaces/shop/{plural}");
    let batch = |plural: &str| format!("/apis/batch/v1/namespaces/shop/{plural}");
    let of = |name: &str| json!({ "replicas": 0, "selector": { "matchLabels": { "app": name } }, "template": template(name) });
    let named = |name: &str, spec: Value| json!({ "metadata": { "name": name }, "spec": spec });
    let deployment = cluster.make(&apps("deployments"), named("deployment", of("deployment"))).await;
    let mut old = named("deployment-5d4f", of("replicaset"));
    old["metadata"]["ownerReferences"] = owner("Deployment", &deployment);
    cluster.make(&apps("replicasets"), old).await;
    let mut daemon = of("daemonset");
    daemon.as_object_mut().unwrap().remove("replicas");
    let daemon = cluster.make(&apps("daemonsets"), named("daemonset", daemon)).await;
    let mut stateful = of("statefulset");
    stateful["serviceName"] = "statefulset".into();
    cluster.make(&apps("statefulsets"), named("statefulset", stateful)).await;
    // As the controller of daemon sets keeps what one can be rolled back to.
    let revision = json!({
        "metadata": { "name": "daemonset-1", "ownerReferences": owner("DaemonSet", &daemon) },
        "data": { "spec": { "template": { "$patch": "replace", "spec": pod_spec("revision") } } },
        "revision": 1,
    });
    cluster.make(&apps("controllerrevisions"), revision).await;
    let job = |name: &str| {
        let mut template = template(name);
        template["spec"]["restartPolicy"] = "Never".into();
        json!({ "template": template })
    };
    cluster.make(&batch("jobs"), named("job", job("job"))).await;
    let cron = json!({ "schedule": "0 3 * * *", "suspend": true, "jobTemplate": { "spec": job("cronjob") } });
    cluster.make(&batch("cronjobs"), named("cronjob", cron)).await;
}

#[tokio::test]
#[ignore = "needs a Kubernetes API server: run scripts/test"]
async fn what_every_kind_of_workload_names_is_in_use_and_its_history_too() {
    let cluster = Cluster::start().await;
    make_workloads(&cluster).await;
    let in_use = read(&cluster.kubeconfig(json!({ "token": ADMIN }))).await.unwrap();
    for (name, user) in [
        ("deployment", "Deployment shop/deployment"),
        ("replicaset", "Deployment shop/deployment"),
        ("statefulset", "StatefulSet shop/statefulset"),
        ("daemonset", "DaemonSet shop/daemonset"),
        ("revision", "DaemonSet shop/daemonset"),
        ("job", "Job shop/job"),
        ("cronjob", "CronJob shop/cronjob"),
    ] {
        assert_eq!(users(&in_use, name), [format!("{user}, the current cluster")], "{name}");
    }
    assert!(in_use.unread.is_empty(), "{:?}", in_use.unread);
    of_named_contexts_and_namespaces(&cluster).await;
    credentials_of_every_kind(&cluster).await;
}

/// Each context that is named is asked, and no namespace but those that are.
async fn of_named_contexts_and_namespaces(cluster: &Cluster) {
    namespace(cluster, "empty").await;
    let file = cluster.kubeconfig(json!({ "token": ADMIN }));
    let in_use =
        read_with(&file, json!({ "contexts": ["prod"], "namespaces": ["empty", "shop"] })).await.unwrap();
    assert_eq!(users(&in_use, "job"), ["Job shop/job, context prod"]);
    let empty = read_with(&file, json!({ "namespaces": ["empty"] })).await.unwrap_err();
    assert!(matches!(&empty, InUseError::Empty(_)), "{empty}");
    let refused = read_with(&file, json!({ "contexts": ["prod", "nobody"] })).await.unwrap_err();
    assert_eq!(refused.to_string(), "in_use, context nobody: GET /api/v1/pods: 401: Unauthorized");
    let missing = read_with(&file, json!({ "contexts": ["none"] })).await.unwrap_err();
    assert!(missing.to_string().contains("has no context \"none\""), "{missing}");
}

async fn credentials_of_every_kind(cluster: &Cluster) {
    let forbidden = read(&cluster.kubeconfig(json!({ "token": READER }))).await.unwrap_err();
    assert!(forbidden.to_string().contains("GET /api/v1/pods: 403: pods is forbidden"), "{forbidden}");
    assert!(forbidden.hint().contains("ClusterRole"), "{}", forbidden.hint());
    // The role that the documentation has is enough for all of it.
    let role =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kubernetes-reader.yml"))
            .unwrap();
    for (text, path) in role.split("---\n").zip([
        "/api/v1/namespaces",
        "/api/v1/namespaces/clean-registry/serviceaccounts",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    ]) {
        let mut object: Value = serde_saphyr::from_str(text).unwrap();
        if let Some(subjects) = object.get_mut("subjects") {
            let user =
                |name: &str| json!({ "kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io" });
            *subjects = json!([user("reader"), user("certified")]);
        }
        cluster.make(path, object).await;
    }
    fs::write(cluster.path("token"), format!("{READER}\n")).unwrap();
    let plugin = "#!/bin/sh\necho '{\"kind\":\"ExecCredential\",\"status\":{\"token\":\"'$TOKEN'\"}}'\n";
    fs::write(cluster.path("plugin"), plugin).unwrap();
    fs::set_permissions(cluster.path("plugin"), fs::Permissions::from_mode(0o755)).unwrap();
    for user in [
        json!({ "token": READER }),
        json!({ "tokenFile": "token", "token": "old" }),
        json!({ "client-certificate": "user.crt", "client-key": "user.key" }),
        json!({ "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./plugin",
            "env": [{ "name": "TOKEN", "value": READER }],
            "interactiveMode": "Never",
        } }),
    ] {
        let in_use = read(&cluster.kubeconfig(user.clone())).await;
        let in_use = in_use.unwrap_or_else(|error| panic!("{user}: {error}"));
        assert_eq!(users(&in_use, "job").len(), 1, "{user}");
    }
}

#[tokio::test]
#[ignore = "needs a Kubernetes API server: run scripts/test"]
async fn what_pods_name_and_run_is_in_use_page_after_page() {
    let cluster = Cluster::start().await;
    namespace(&cluster, "shop").await;
    let path = "/api/v1/namespaces/shop/pods";
    let digest = |name: &str| Digest::of(name.as_bytes());
    let pod = json!({
        "metadata": { "name": "web" },
        "spec": {
            "containers": [{ "name": "main", "image": image("main") }],
            "initContainers": [{ "name": "init", "image": image("init") }],
        },
    });
    let pod = cluster.make(path, pod).await;
    let state = |name: &str, id: String| {
        json!({
            "name": name, "image": image("shown"), "imageID": id, "ready": true, "restartCount": 0,
        })
    };
    let status = json!({
        "phase": "Running",
        "containerStatuses": [state("main", format!("registry.example/main@{}", digest("by containerd")))],
        "initContainerStatuses": [state("init", format!("docker-pullable://registry.example/init@{}", digest("by docker")))],
    });
    cluster.set_status(path, pod, status).await;
    let of_cri_o = json!({ "metadata": { "name": "cri-o" }, "spec": pod_spec("cri-o") });
    let of_cri_o = cluster.make(path, of_cri_o).await;
    let status = json!({ "phase": "Failed", "containerStatuses": [state("main", digest("by cri-o").hex())] });
    cluster.set_status(path, of_cri_o, status).await;
    let odd = json!({ "metadata": { "name": "odd" }, "spec": { "containers": [{ "name": "main", "image": "Registry/App" }] } });
    cluster.make(path, odd).await;
    // More than two pages, and no image twice.
    let many = (0..1100).map(|number| {
        let pod = json!({ "metadata": { "name": format!("pod-{number}") }, "spec": pod_spec(&format!("many-{number}")) });
        cluster.make(path, pod)
    });
    stream::iter(many).buffer_unordered(32).for_each(|_| async {}).await;

    let in_use = read(&cluster.kubeconfig(json!({ "token": ADMIN }))).await.unwrap();
    for name in ["main", "init", "shown"] {
        assert!(users(&in_use, name).contains(&"Pod shop/web, the current cluster".to_owned()), "{name}");
    }
    let of_digest = |name: &str, seed: &str| in_use.of_digest(&name.parse().unwrap(), digest(seed));
    assert_eq!(of_digest("main", "by containerd").len(), 1);
    assert_eq!(of_digest("init", "by docker").len(), 1);
    assert_eq!(of_digest("main", "by docker").len(), 0);
    assert_eq!(of_digest("any/repository", "by cri-o").len(), 1);
    let lost: Vec<i32> =
        (0..1100).filter(|number| users(&in_use, &format!("many-{number}")).is_empty()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let unread: Vec<&String> = in_use.unread.iter().collect();
    assert!(
        unread.len() == 1 && unread[0].starts_with("Pod shop/odd, the current cluster: \"Registry/App\""),
        "{unread:?}"
    );
}

#[tokio::test]
#[ignore = "needs a Kubernetes API server: run scripts/test"]
async fn custom_resources_name_images_where_a_path_says() {
    let cluster = Cluster::start().await;
    namespace(&cluster, "shop").await;
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let definition = json!({
        "metadata": { "name": "engines.db.example" },
        "spec": {
            "group": "db.example", "scope": "Namespaced",
            "names": { "plural": "engines", "singular": "engine", "kind": "Engine" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }],
        },
    });
    cluster.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await;
    let path = "/apis/db.example/v1/namespaces/shop/engines";
    cluster.wait_for(path).await;
    let engine = json!({
        "apiVersion": "db.example/v1", "kind": "Engine", "metadata": { "name": "main" },
        "spec": { "image": image("engine"), "sidecars": [{ "image": image("one") }, { "image": image("two") }], "replicas": 3 },
    });
    cluster.make(path, engine).await;
    let file = cluster.kubeconfig(json!({ "token": ADMIN }));
    let of = |version: &str, jsonpath: &str| {
        let resource =
            json!({ "group": "db.example", "version": version, "plural": "engines", "jsonpath": jsonpath });
        json!({ "resources": [resource] })
    };
    for (jsonpath, names) in [
        ("{.spec.image}", vec!["engine"]),
        ("$.spec.sidecars[*].image", vec!["one", "two"]),
        ("$.spec..image", vec!["engine", "one", "two"]),
    ] {
        let in_use = read_with(&file, of("v1", jsonpath)).await.unwrap();
        for name in ["engine", "one", "two"] {
            let expected =
                if names.contains(&name) { vec!["engines shop/main, the current cluster"] } else { vec![] };
            assert_eq!(users(&in_use, name), expected, "{jsonpath}");
        }
    }
    for (version, jsonpath, why) in [
        ("v1", "$.spec.imag", "$.spec.imag finds nothing in any of 1 engines"),
        ("v1", "$.spec.replicas", "finds what is no text in shop/main, one of the engines"),
        ("v2", "$.spec.image", "GET /apis/db.example/v2/engines: 404: "),
    ] {
        let error = read_with(&file, of(version, jsonpath)).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}
