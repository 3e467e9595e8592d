//! Where the objects of a cluster name images.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>

use std::collections::BTreeMap;

use serde_json::Value;

use super::KubernetesError;
use crate::in_use::section::ResourceSection;

/// As many owners as one pod may have above it, one above the other.
const DEEPEST: usize = 8;

/// The images that an object of a known kind names or runs.
pub(super) fn images(kind: &str, object: &Value) -> Vec<String> {
    let mut images = Vec::new();
    let spec = match kind {
        "Pod" => {
            of_status(&object["status"], &mut images);
            &object["spec"]
        }
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        // What a StatefulSet or a DaemonSet can be rolled back to: a patch of it.
        "ControllerRevision" => &object["data"]["spec"]["template"]["spec"],
        _ => &object["spec"]["template"]["spec"],
    };
    of_pod_spec(spec, &mut images);
    images.retain(|image| !image.is_empty());
    images
}

fn of_pod_spec(spec: &Value, images: &mut Vec<String>) {
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        images.extend(items(&spec[containers]).filter_map(|container| text(&container["image"])));
    }
    images.extend(items(&spec["volumes"]).filter_map(|volume| text(&volume["image"]["reference"])));
}

/// What the node has pulled: by digest, or the ID of an image that came without one.
fn of_status(status: &Value, images: &mut Vec<String>) {
    for statuses in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        for status in items(&status[statuses]) {
            images.extend(text(&status["image"]));
            images.extend(text(&status["imageID"]));
        }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// `namespace/name`, or the name of what has no namespace.
pub(super) fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// The images of a custom resource.
///
/// # Errors
/// When what its path finds is no text.
pub(super) fn at_path(object: &Value, resource: &ResourceSection) -> Result<Vec<String>, KubernetesError> {
    let mut images = Vec::new();
    for found in resource.jsonpath.path.query(object).all() {
        match found {
            Value::String(image) if image.is_empty() => {}
            Value::String(image) => images.push(image.clone()),
            Value::Null => {}
            _ => {
                return Err(wrong(resource, format!("what is no text in {}, one of the", name(object))));
            }
        }
    }
    Ok(images)
}

/// A path that is misspelt finds nothing, and so does one of another version of the resource.
pub(super) fn nothing_found(resource: &ResourceSection, objects: usize) -> KubernetesError {
    wrong(resource, format!("nothing in any of {objects}"))
}

fn wrong(resource: &ResourceSection, found: String) -> KubernetesError {
    let (jsonpath, plural) = (resource.jsonpath.text.clone(), resource.plural.clone());
    KubernetesError::Path { jsonpath, found, plural }
}

/// Who made whom: a pod is told of by the workload that made it.
pub(super) struct Owners<'a>(BTreeMap<&'a str, (&'a str, &'a Value)>);

impl<'a> Owners<'a> {
    pub(super) fn of(objects: &'a [(&'a str, Value)]) -> Self {
        let with_uid = objects
            .iter()
            .filter_map(|(kind, object)| Some((object["metadata"]["uid"].as_str()?, (*kind, object))));
        Self(with_uid.collect())
    }

    /// The workload at the top: `Deployment shop/api`.
    pub(super) fn top(&self, kind: &str, object: &Value) -> String {
        let (mut kind, mut object) = (kind.to_owned(), object);
        for _ in 0..DEEPEST {
            let Some(owner) = controller(object) else { break };
            match owner["uid"].as_str().and_then(|uid| self.0.get(uid)) {
                Some((above, owner)) => (kind, object) = ((*above).to_owned(), owner),
                None => return unseen(owner, object),
            }
        }
        format!("{kind} {}", name(object))
    }
}

fn controller(object: &Value) -> Option<&Value> {
    items(&object["metadata"]["ownerReferences"]).find(|owner| owner["controller"] == Value::Bool(true))
}

/// An owner of a kind that was not listed. It is in the namespace of what it owns, or in none.
fn unseen(owner: &Value, owned: &Value) -> String {
    let (kind, name) = (owner["kind"].as_str().unwrap_or("?"), owner["name"].as_str().unwrap_or("?"));
    match owned["metadata"]["namespace"].as_str().filter(|_| kind != "Node") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}
