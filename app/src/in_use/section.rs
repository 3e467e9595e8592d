//! The section `in_use` of the configuration: what says which images are in use.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_json_path::JsonPath;

use crate::age::AgeText;

/// A source that says which images are in use: exactly one of `kubernetes`, `docker`, `file`, `command` and `url`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSection {
    /// What it is called in messages; by default what it is.
    pub name: Option<String>,
    /// Whether a run goes on without it when it cannot be read. It is warned of.
    #[serde(default)]
    pub optional: bool,
    /// Whether it may list nothing. Else a source that suddenly lists nothing stops the run.
    #[serde(default)]
    pub allow_empty: bool,
    /// How long one answer may take; by default `60s`.
    pub timeout: Option<AgeText>,
    /// Clusters: what their pods and the templates of their workloads name.
    pub kubernetes: Option<KubernetesSection>,
    /// A Docker Engine, or Podman speaking its API: containers, running or stopped, and Swarm services.
    pub docker: Option<DockerSection>,
    /// A file of references, between blanks or line ends or as a JSON array.
    pub file: Option<PathBuf>,
    /// A line for `sh` that prints references, between blanks or line ends or as a JSON array.
    pub command: Option<String>,
    /// Where references are served, between blanks or line ends or as a JSON array. `${NAME}` is taken from the environment.
    pub url: Option<String>,
}

/// Which clusters, and what of them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesSection {
    /// The file with the clusters' addresses and credentials; by default as `kubectl` finds it, else the service account of the pod
    /// that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// Its contexts, each a cluster to be read; by default the current one.
    #[serde(default)]
    pub contexts: Vec<String>,
    /// Only these namespaces; by default all.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Custom resources that name images.
    #[serde(default)]
    pub resources: Vec<ResourceSection>,
}

/// A kind of resource that names images.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceSection {
    /// Its API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Its version.
    pub version: String,
    /// Its name in the API, in the plural.
    pub plural: String,
    /// Where it names images: `$.spec.image`, or `{.spec.image}` as `kubectl` writes it.
    pub jsonpath: ImagePath,
}

/// Which engine.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DockerSection {
    /// Its address, as in `DOCKER_HOST`; by default as Docker's own client finds it.
    pub host: Option<String>,
    /// A context of Docker's own client.
    pub context: Option<String>,
    /// For `tcp://` over TLS, the directory of `ca.pem`, `cert.pem` and `key.pem`.
    pub certificates: Option<PathBuf>,
}

/// What kind of source one is.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// Clusters.
    Kubernetes(&'a KubernetesSection),
    /// An engine.
    Docker(&'a DockerSection),
    /// A file.
    File(&'a PathBuf),
    /// A command.
    Command(&'a str),
    /// A URL.
    Url(&'a str),
}

impl SourceSection {
    /// What kind it is; `None` unless it is exactly one.
    #[must_use]
    pub fn kind(&self) -> Option<Kind<'_>> {
        let kinds = [
            self.kubernetes.as_ref().map(Kind::Kubernetes),
            self.docker.as_ref().map(Kind::Docker),
            self.file.as_ref().map(Kind::File),
            self.command.as_deref().map(Kind::Command),
            self.url.as_deref().map(Kind::Url),
        ];
        let mut kinds = kinds.into_iter().flatten();
        kinds.next().filter(|_| kinds.next().is_none())
    }
}

/// Where a resource names images.
///
/// RFC 9535 <https://www.rfc-editor.org/rfc/rfc9535>, or what `kubectl` writes as long as it is the same but for the braces and the
/// dollar: <https://kubernetes.io/docs/reference/kubectl/jsonpath/>.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(with = "String")]
pub struct ImagePath {
    /// As it was written.
    pub text: String,
    /// What it means.
    pub path: JsonPath,
}

impl ImagePath {
    /// Reads a path of either form.
    ///
    /// # Errors
    /// When it is neither: with what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bare = text.trim();
        let bare = bare.strip_prefix('{').and_then(|bare| bare.strip_suffix('}')).unwrap_or(bare).trim();
        if bare.contains(['{', '}', '\\']) {
            return Err(format!(
                "{text:?} is more than one path: write a resource for each, and ['a.b'] for a key with a dot"
            ));
        }
        let full = match bare.as_bytes().first() {
            Some(b'$') => bare.to_owned(),
            Some(b'.' | b'[') => format!("${bare}"),
            _ => return Err(format!("{text:?} does not begin with $ or with a dot")),
        };
        let path = JsonPath::parse(&full).map_err(|error| format!("{text:?} is no JSONPath: {error}"))?;
        Ok(Self { text: text.to_owned(), path })
    }
}

impl<'de> Deserialize<'de> for ImagePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str) -> Vec<String> {
        let value = json!({
            "metadata": { "annotations": { "a.b/image": "annotated" } },
            "spec": { "image": "one", "parts": [
                { "image": "two", "kind": "a" }, { "image": "three", "kind": "b" }
            ] }
        });
        let path = ImagePath::parse(path).unwrap();
        path.path.query(&value).all().iter().map(|found| found.as_str().unwrap_or("?").to_owned()).collect()
    }

    #[test]
    fn paths_are_read_as_the_standard_and_as_kubectl_write_them() {
        for one in ["$.spec.image", ".spec.image", "{.spec.image}", "{ $.spec.image }", "['spec'].image"] {
            assert_eq!(found(one), ["one"], "{one}");
        }
        for two in ["$.spec.parts[*].image", "{.spec.parts[*].image}"] {
            assert_eq!(found(two), ["two", "three"], "{two}");
        }
        assert_eq!(found("{.spec.parts[?(@.kind==\"b\")].image}"), ["three"]);
        assert_eq!(found("$.metadata.annotations['a.b/image']"), ["annotated"]);
        assert_eq!(found("{..image}").len(), 3);
    }

    #[test]
    fn what_is_no_path_is_refused_and_not_taken_for_one_that_finds_nothing() {
        for bad in ["", "spec.image", "{range .items[*]}{.image}{end}", "{.a\\.b}", "$.spec[", "$..", "{}"] {
            assert!(ImagePath::parse(bad).is_err(), "{bad}");
        }
    }
}
