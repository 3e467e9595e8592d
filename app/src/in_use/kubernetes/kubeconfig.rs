//! Where a cluster is and as whom it is asked: a kubeconfig, or the service account of the pod that this runs in.
//!
//! <https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

use super::KubernetesError;

/// Where a pod finds the credentials of its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How a cluster is reached. Nothing has been sent yet.
#[derive(Debug)]
pub(super) struct Access {
    /// Its address.
    pub server: String,
    /// The authorities it is trusted by; `None`: the system's.
    pub authorities: Option<Vec<u8>>,
    /// Whether its certificate is looked at.
    pub trust: Trust,
    /// The way to it.
    pub proxy: Option<String>,
    /// As whom.
    pub user: User,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Its certificate must be good.
    Verified,
    /// Anybody is taken for it, since its owner says so.
    Anybody,
}

/// As whom a cluster is asked.
#[derive(Debug, Default)]
pub(super) struct User {
    /// A bearer token.
    pub token: Option<String>,
    /// A client certificate and its key, PEM.
    pub identity: Option<Vec<u8>>,
    /// User name and password.
    pub basic: Option<(String, String)>,
    /// A program that gives credentials.
    pub exec: Option<Exec>,
}

/// A credential plugin.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Exec {
    pub api_version: String,
    pub command: String,
    #[serde(default)]
    pub args: Option<Vec<String>>,
    #[serde(default)]
    pub env: Option<Vec<Variable>>,
    #[serde(default)]
    pub provide_cluster_info: bool,
    #[serde(skip)]
    pub directory: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Variable {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    current_context: Option<String>,
    clusters: Option<Vec<Named<Cluster>>>,
    contexts: Option<Vec<Named<Context>>>,
    users: Option<Vec<Named<Credentials>>>,
}

#[derive(Debug, Deserialize)]
struct Named<T> {
    name: String,
    #[serde(alias = "cluster", alias = "context", alias = "user")]
    value: Option<T>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

#[derive(Default, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Credentials {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Option<String>,
    exec: Option<Exec>,
    auth_provider: Option<serde::de::IgnoredAny>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// Where paths in a file are relative to.
struct Place<'a>(&'a Path);

impl Access {
    /// Finds the cluster of `context`, or the current one: in the file that is named, in those of `KUBECONFIG`, in `~/.kube/config`, or
    /// where this program itself runs.
    pub(super) fn find(
        named: Option<&Path>,
        context: Option<&str>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, KubernetesError> {
        let files = files(named, environment);
        if files.is_empty() {
            return in_cluster(environment, Path::new(SERVICE_ACCOUNT));
        }
        let read: Vec<(PathBuf, File)> =
            files.into_iter().map(|path| Ok((path.clone(), read(&path)?))).collect::<Result<_, _>>()?;
        of_files(&read, context)
    }
}

/// The files that are there, as `kubectl` looks for them.
fn files(named: Option<&Path>, environment: &BTreeMap<String, String>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![named.to_owned()];
    }
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let paths: Vec<PathBuf> = match variable("KUBECONFIG") {
        Some(paths) => std::env::split_paths(paths).collect(),
        None => variable("HOME").map(|home| Path::new(home).join(".kube/config")).into_iter().collect(),
    };
    paths.into_iter().filter(|path| path.is_file()).collect()
}

fn read(path: &Path) -> Result<File, KubernetesError> {
    let wrong = |reason: String| KubernetesError::Kubeconfig { path: path.display().to_string(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    // What follows the first line shows the file around the error, tokens and all.
    let first_line = |error: String| error.lines().next().unwrap_or_default().to_owned();
    serde_saphyr::from_str(&text).map_err(|error| wrong(first_line(error.to_string())))
}

/// The first file that knows a name has the say, as with `kubectl`.
fn of_files(files: &[(PathBuf, File)], context: Option<&str>) -> Result<Access, KubernetesError> {
    let first = &files[0].0;
    let current =
        files.iter().find_map(|(_, file)| file.current_context.as_deref().filter(|name| !name.is_empty()));
    let name = context.or(current).unwrap_or_default();
    let missing = |what, name: &str| KubernetesError::Missing {
        path: first.display().to_string(),
        what,
        name: name.to_owned(),
    };
    let (_, context) = look(files, |file| &file.contexts, name).ok_or_else(|| missing("context", name))?;
    let cluster = look(files, |file| &file.clusters, &context.cluster);
    let (at, cluster) = cluster.ok_or_else(|| missing("cluster", &context.cluster))?;
    let unsupported = |path: &Path, what: &str| KubernetesError::Unsupported {
        path: path.display().to_string(),
        what: what.to_owned(),
    };
    if cluster.tls_server_name.as_deref().is_some_and(|name| !name.is_empty()) {
        return Err(unsupported(at, "tls-server-name"));
    }
    let place = Place::of(at);
    let trust = if cluster.insecure_skip_tls_verify { Trust::Anybody } else { Trust::Verified };
    let authorities = place.content(
        &cluster.certificate_authority_data,
        &cluster.certificate_authority,
        "certificate-authority",
    )?;
    let user = match context.user.as_str() {
        "" => User::default(),
        name => {
            let (at, user) = look(files, |file| &file.users, name).ok_or_else(|| missing("user", name))?;
            if user.auth_provider.is_some() {
                return Err(unsupported(at, "auth-provider"));
            }
            if user.impersonate.is_some() {
                return Err(unsupported(at, "impersonation with `as`"));
            }
            Place::of(at).user(user)?
        }
    };
    let proxy = cluster.proxy_url.clone().filter(|proxy| !proxy.is_empty());
    Ok(Access { server: cluster.server.trim_end_matches('/').to_owned(), authorities, trust, proxy, user })
}

fn look<'a, T>(
    files: &'a [(PathBuf, File)],
    list: impl Fn(&'a File) -> &'a Option<Vec<Named<T>>>,
    name: &str,
) -> Option<(&'a Path, &'a T)> {
    files.iter().find_map(|(path, file)| {
        let found = list(file).iter().flatten().find(|named| named.name == name)?;
        Some((path.as_path(), found.value.as_ref()?))
    })
}

impl<'a> Place<'a> {
    fn of(file: &'a Path) -> Self {
        Self(file.parent().unwrap_or_else(|| Path::new("")))
    }

    /// What stands in the file itself, in base64, or else in another one.
    fn content(
        &self,
        data: &Option<String>,
        path: &Option<PathBuf>,
        what: &str,
    ) -> Result<Option<Vec<u8>>, KubernetesError> {
        let wrong = |reason: String| KubernetesError::Certificate { what: what.to_owned(), reason };
        if let Some(data) = data.as_deref().filter(|data| !data.is_empty()) {
            let decoded = base64::engine::general_purpose::STANDARD.decode(data.trim());
            return decoded.map(Some).map_err(|error| wrong(error.to_string()));
        }
        let Some(path) = path.as_ref().filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
        let path = self.0.join(path);
        std::fs::read(&path).map(Some).map_err(|error| wrong(format!("{}: {error}", path.display())))
    }

    fn user(&self, user: &Credentials) -> Result<User, KubernetesError> {
        let mut identity =
            self.content(&user.client_certificate_data, &user.client_certificate, "client-certificate")?;
        if let (Some(identity), Some(key)) =
            (&mut identity, self.content(&user.client_key_data, &user.client_key, "client-key")?)
        {
            identity.push(b'\n');
            identity.extend(key);
        }
        // A file wins over what stands here, as with `kubectl`: it may be renewed.
        let token = match self.content(&None, &user.token_file, "tokenFile")? {
            Some(token) => Some(String::from_utf8_lossy(&token).trim().to_owned()),
            None => user.token.clone().filter(|token| !token.is_empty()),
        };
        let basic = user.username.clone().filter(|user| !user.is_empty());
        let basic = basic.map(|name| (name, user.password.clone().unwrap_or_default()));
        let exec = user.exec.clone().map(|exec| Exec { directory: self.0.to_owned(), ..exec });
        Ok(User { token, identity, basic, exec })
    }
}

/// The service account of the pod that this program runs in.
///
/// <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>
fn in_cluster(environment: &BTreeMap<String, String>, account: &Path) -> Result<Access, KubernetesError> {
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"))
    else {
        return Err(KubernetesError::NoKubeconfig);
    };
    let read = |name: &str| {
        let path = account.join(name);
        std::fs::read(&path).map_err(|error| KubernetesError::Kubeconfig {
            path: path.display().to_string(),
            reason: error.to_string(),
        })
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let token = String::from_utf8_lossy(&read("token")?).trim().to_owned();
    Ok(Access {
        server: format!("https://{host}:{port}"),
        authorities: Some(read("ca.crt")?),
        trust: Trust::Verified,
        proxy: None,
        user: User { token: Some(token), ..User::default() },
    })
}

#[cfg(test)]
mod tests;
