//! Credential plugins: programs that give the credentials for a cluster.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins>

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::KubernetesError;
use super::kubeconfig::{Access, Exec, Trust};
use crate::in_use::listed::{Failed, run};

/// The versions of the exchange that are known. They say the same to one who asks once.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

#[derive(Deserialize)]
struct Credential {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

/// The token, or the certificate with its key, that a plugin gives.
pub(super) struct Given {
    pub token: Option<String>,
    pub identity: Option<Vec<u8>>,
}

/// Asks the plugin, which gets no terminal, once.
pub(super) async fn ask(
    exec: &Exec,
    access: &Access,
    (environment, timeout): (&BTreeMap<String, String>, Duration),
) -> Result<Given, KubernetesError> {
    let wrong = |reason: String| KubernetesError::Plugin { command: exec.command.clone(), reason };
    if !VERSIONS.contains(&exec.api_version.as_str()) {
        return Err(wrong(format!(
            "it speaks {}, which is not one of {}",
            exec.api_version,
            VERSIONS.join(", ")
        )));
    }
    let mut environment = environment.clone();
    let own = exec.env.iter().flatten().map(|variable| (variable.name.clone(), variable.value.clone()));
    environment.extend(own);
    environment.insert("KUBERNETES_EXEC_INFO".to_owned(), info(exec, access).to_string());
    // A path with a directory in it is relative to the file; a bare name is looked for as a shell does.
    let command = match exec.command.contains('/') {
        true => exec.directory.join(&exec.command).to_string_lossy().into_owned(),
        false => exec.command.clone(),
    };
    let printed = run(&command, exec.args.as_deref().unwrap_or_default(), (&environment, timeout)).await;
    let printed = printed.map_err(|failed| match failed {
        Failed::Endless(time) => wrong(format!("it did not end within {} seconds", time.as_secs())),
        Failed::TooLong => wrong("it prints without end".to_owned()),
        Failed::Other(why) => wrong(why),
    })?;
    let credential: Credential = serde_json::from_slice(&printed)
        .map_err(|error| wrong(format!("it prints no ExecCredential: {error}")))?;
    let status = credential.status.ok_or_else(|| wrong("it gives no status".to_owned()))?;
    let identity = match (status.client_certificate_data, status.client_key_data) {
        (Some(certificate), Some(key)) => Some(format!("{certificate}\n{key}").into_bytes()),
        _ => None,
    };
    let token = status.token.filter(|token| !token.is_empty());
    if token.is_none() && identity.is_none() {
        return Err(wrong("it gives neither a token nor a certificate with its key".to_owned()));
    }
    Ok(Given { token, identity })
}

fn info(exec: &Exec, access: &Access) -> Value {
    let mut spec = json!({ "interactive": false });
    if exec.provide_cluster_info {
        use base64::Engine as _;
        let authorities = access.authorities.as_ref();
        spec["cluster"] = json!({
            "server": access.server,
            "insecure-skip-tls-verify": access.trust == Trust::Anybody,
            "certificate-authority-data":
                authorities.map(|pem| base64::engine::general_purpose::STANDARD.encode(pem)),
        });
    }
    json!({ "apiVersion": exec.api_version, "kind": "ExecCredential", "spec": spec })
}
