//! What the workloads of a cluster use: the pods, and whatever pods are made from.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use super::Used;
use super::section::KubernetesSection;

mod client;
mod exec;
mod kubeconfig;
mod objects;

use client::Client;
use kubeconfig::Access;
use objects::Owners;

/// Why a cluster cannot be read.
#[derive(Debug, Error)]
pub enum KubernetesError {
    /// There is no file with its address.
    #[error("there is no kubeconfig, and this is no pod of a cluster")]
    NoKubeconfig,
    /// The file cannot be read or understood.
    #[error("{path}: {reason}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The file has no such context, cluster or user.
    #[error("{path} has no {what} {name:?}")]
    Missing {
        /// The file.
        path: String,
        /// `context`, `cluster` or `user`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The file asks for something that is not done here.
    #[error("{path}: {what} is not supported")]
    Unsupported {
        /// The file.
        path: String,
        /// What.
        what: String,
    },
    /// The program that is to give the credentials does not.
    #[error("the credential plugin {command}: {reason}")]
    Plugin {
        /// The program.
        command: String,
        /// What is wrong.
        reason: String,
    },
    /// Certificates or keys that are none.
    #[error("{what}: {reason}")]
    Certificate {
        /// Which.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// Nobody answers.
    #[error("{server}: {reason}")]
    Unreachable {
        /// The API server.
        server: String,
        /// The innermost cause.
        reason: String,
    },
    /// It refuses.
    #[error("GET {path}: {status}: {message}")]
    Refused {
        /// What was asked for.
        path: String,
        /// The status code.
        status: u16,
        /// What the server says.
        message: String,
    },
    /// It answers something else than a list.
    #[error("GET {path}: it is no list: {reason}")]
    NotAList {
        /// What was asked for.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Objects in which the path finds no image, or something that is none.
    #[error("{jsonpath} finds {found} {plural}")]
    Path {
        /// The path.
        jsonpath: String,
        /// What it finds.
        found: String,
        /// The kind of resource.
        plural: String,
    },
}

impl KubernetesError {
    /// What to do about it.
    pub(super) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoKubeconfig => "name it as `kubeconfig`, or in KUBECONFIG",
            Self::Missing { what: "context", .. } => "`kubectl config get-contexts` lists them",
            Self::Unsupported { .. } => {
                "give the user a token, a client certificate or a credential plugin; docs/in-use.md has a service account for it"
            }
            Self::Refused { status: 401, .. } => "the credentials are not, or no longer, valid there",
            Self::Refused { status: 403, .. } => {
                "docs/in-use.md has the ClusterRole that is needed; a run goes on without a source that is `optional: true`"
            }
            Self::Refused { status: 404, .. } => "the group, version or plural is not known to this cluster",
            Self::Path { .. } => "see `kubectl get -o json` for where images are named",
            _ => return None,
        })
    }
}

/// What pods are made from, and the pods: the path of each kind's list, before and behind a namespace, and its name.
const KINDS: [(&str, &str, &str); 8] = [
    ("/api/v1", "pods", "Pod"),
    ("/apis/apps/v1", "deployments", "Deployment"),
    ("/apis/apps/v1", "replicasets", "ReplicaSet"),
    ("/apis/apps/v1", "statefulsets", "StatefulSet"),
    ("/apis/apps/v1", "daemonsets", "DaemonSet"),
    ("/apis/apps/v1", "controllerrevisions", "ControllerRevision"),
    ("/apis/batch/v1", "jobs", "Job"),
    ("/apis/batch/v1", "cronjobs", "CronJob"),
];

/// The images that a cluster's workloads name or run.
///
/// # Errors
/// When one of the lists cannot be read.
pub(super) async fn list(
    section: &KubernetesSection,
    context: Option<&str>,
    name: &str,
    (environment, timeout): (&BTreeMap<String, String>, Duration),
) -> Result<Vec<Used>, KubernetesError> {
    let access = Access::find(section.kubeconfig.as_deref(), context, environment)?;
    let client = Client::connect(access, (environment, timeout)).await?;
    let mut objects: Vec<(&str, Value)> = Vec::new();
    for (group, plural, kind) in KINDS {
        for path in paths(section, group, plural) {
            objects.extend(client.list(&path).await?.into_iter().map(|object| (kind, object)));
        }
    }
    let owners = Owners::of(&objects);
    let mut used = Vec::new();
    for (kind, object) in &objects {
        let by = format!("{}, {name}", owners.top(kind, object));
        let images = objects::images(kind, object).into_iter();
        used.extend(images.map(|reference| Used { reference, by: by.clone() }));
    }
    used.extend(custom(section, &client, name).await?);
    used.sort();
    used.dedup();
    Ok(used)
}

async fn custom(
    section: &KubernetesSection,
    client: &Client,
    name: &str,
) -> Result<Vec<Used>, KubernetesError> {
    let mut used = Vec::new();
    for resource in &section.resources {
        let group = match resource.group.as_str() {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        let mut objects = Vec::new();
        for path in paths(section, &group, &resource.plural) {
            objects.extend(client.list(&path).await?);
        }
        let mut is_any_found = false;
        for object in &objects {
            let by = format!("{} {}, {name}", resource.plural, objects::name(object));
            let images = objects::at_path(object, resource)?;
            is_any_found |= !images.is_empty();
            used.extend(images.into_iter().map(|reference| Used { reference, by: by.clone() }));
        }
        if !objects.is_empty() && !is_any_found {
            return Err(objects::nothing_found(resource, objects.len()));
        }
    }
    Ok(used)
}

/// One list of all namespaces, or one for each that is named.
fn paths(section: &KubernetesSection, group: &str, plural: &str) -> Vec<String> {
    if section.namespaces.is_empty() {
        return vec![format!("{group}/{plural}")];
    }
    let namespaces = section.namespaces.iter();
    namespaces.map(|namespace| format!("{group}/namespaces/{namespace}/{plural}")).collect()
}

#[cfg(test)]
mod tests;
