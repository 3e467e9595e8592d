use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A file of one context, `prod`, with this cluster and this user.
fn file(directory: &TempDir, name: &str, cluster: &Value, user: &Value) -> PathBuf {
    let path = directory.path().join(name);
    let content = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": "prod",
        "clusters": [{ "name": "c", "cluster": cluster }],
        "contexts": [{ "name": "prod", "context": { "cluster": "c", "user": "u" } }],
        "users": [{ "name": "u", "user": user }],
    });
    fs::write(&path, content.to_string()).unwrap();
    path
}

fn find(path: &Path, context: Option<&str>) -> Result<Access, String> {
    Access::find(Some(path), context, &BTreeMap::new()).map_err(|error| error.to_string())
}

fn with_user(user: &Value) -> Result<User, String> {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("token"), "of the file\n").unwrap();
    fs::write(directory.path().join("cert.pem"), "cert").unwrap();
    let path = file(&directory, "config", &json!({ "server": "https://c.example" }), user);
    find(&path, None).map(|access| access.user)
}

#[test]
fn a_cluster_is_where_the_file_says_and_trusted_as_it_says() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("ca.pem"), "of the file").unwrap();
    let access = |cluster: Value| find(&file(&directory, "config", &cluster, &json!({})), None).unwrap();
    let plain = access(json!({ "server": "https://c.example:6443/" }));
    assert_eq!(
        (plain.server.as_str(), plain.trust, plain.proxy),
        ("https://c.example:6443", Trust::Verified, None)
    );
    assert_eq!(plain.authorities, None);
    let by_file =
        access(json!({ "server": "s", "certificate-authority": "ca.pem", "proxy-url": "http://p:1" }));
    assert_eq!(by_file.authorities.as_deref(), Some(&b"of the file"[..]));
    assert_eq!(by_file.proxy.as_deref(), Some("http://p:1"));
    let by_data =
        json!({ "server": "s", "certificate-authority": "ca.pem", "certificate-authority-data": "aW5saW5l" });
    assert_eq!(access(by_data).authorities.as_deref(), Some(&b"inline"[..]));
    let by_nobody = access(json!({ "server": "s", "insecure-skip-tls-verify": true }));
    assert_eq!(by_nobody.trust, Trust::Anybody);
}

#[test]
fn a_user_is_a_token_a_certificate_a_password_or_a_program() {
    assert_eq!(with_user(&json!({ "token": "t" })).unwrap().token.as_deref(), Some("t"));
    let renewed = with_user(&json!({ "token": "t", "tokenFile": "token" })).unwrap();
    assert_eq!(renewed.token.as_deref(), Some("of the file"));
    let certified =
        with_user(&json!({ "client-certificate": "cert.pem", "client-key-data": "a2V5" })).unwrap();
    assert_eq!(certified.identity.as_deref(), Some(&b"cert\nkey"[..]));
    let basic = with_user(&json!({ "username": "n", "password": "p" })).unwrap();
    assert_eq!(basic.basic, Some(("n".to_owned(), "p".to_owned())));
    let exec = json!({ "exec": { "apiVersion": "v", "command": "c", "args": null, "env": null, "installHint": "h" } });
    assert_eq!(with_user(&exec).unwrap().exec.unwrap().command, "c");
}

#[test]
fn what_is_not_understood_is_refused_and_not_left_out() {
    for (user, what) in [
        (json!({ "auth-provider": { "name": "gcp" } }), "auth-provider is not supported"),
        (json!({ "as": "admin", "token": "t" }), "impersonation with `as` is not supported"),
        (json!({ "tokenFile": "none" }), "tokenFile: "),
        (json!({ "client-certificate-data": "%" }), "client-certificate: "),
    ] {
        let error = with_user(&user).unwrap_err();
        assert!(error.contains(what), "{user}: {error}");
    }
    let directory = TempDir::new().unwrap();
    let cluster = json!({ "server": "s", "tls-server-name": "other" });
    let error = find(&file(&directory, "config", &cluster, &json!({})), None).unwrap_err();
    assert!(error.contains("tls-server-name is not supported"), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory, "config", &json!({ "server": "s" }), &json!({}));
    assert!(find(&path, Some("none")).unwrap_err().ends_with("has no context \"none\""));
    fs::write(&path, "contexts: [{ name: a, context: { cluster: b } }]\ncurrent-context: a").unwrap();
    assert!(find(&path, None).unwrap_err().ends_with("has no cluster \"b\""));
    fs::write(&path, "users: [{ name: secret, user: { token: [secret] } }]").unwrap();
    let malformed = find(&path, None).unwrap_err();
    assert!(!malformed.contains("secret"), "{malformed}");
    assert!(find(&directory.path().join("none"), None).unwrap_err().contains("No such file"));
}

#[test]
fn of_several_files_the_first_that_knows_a_name_has_the_say() {
    let directory = TempDir::new().unwrap();
    let one =
        file(&directory, "one", &json!({ "server": "https://one.example" }), &json!({ "token": "one" }));
    let two = directory.path().join("two");
    let other = json!({
        "current-context": "other",
        "contexts": [{ "name": "other", "context": { "cluster": "o", "user": "u" } }],
        "clusters": [{ "name": "c", "cluster": { "server": "https://two.example" } },
                     { "name": "o", "cluster": { "server": "https://other.example" } }],
    });
    fs::write(&two, other.to_string()).unwrap();
    let listed = format!("{}:{}:/no/such/file", one.display(), two.display());
    let environment = BTreeMap::from([("KUBECONFIG".to_owned(), listed)]);
    let server = |context| Access::find(None, context, &environment).unwrap().server;
    assert_eq!(server(None), "https://one.example");
    assert_eq!(server(Some("other")), "https://other.example");
    let user = Access::find(None, Some("other"), &environment).unwrap().user;
    assert_eq!(user.token.as_deref(), Some("one"));
}

#[test]
fn a_pod_is_asked_as_its_service_account() {
    let account = TempDir::new().unwrap();
    fs::write(account.path().join("token"), "token\n").unwrap();
    fs::write(account.path().join("ca.crt"), "ca").unwrap();
    let of = |host: &str| {
        let variables = [("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", "443")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        in_cluster(&BTreeMap::from(variables), account.path()).unwrap()
    };
    let access = of("10.0.0.1");
    assert_eq!(
        (access.server.as_str(), access.user.token.as_deref()),
        ("https://10.0.0.1:443", Some("token"))
    );
    assert_eq!(access.authorities.as_deref(), Some(&b"ca"[..]));
    assert_eq!(of("fd00::1").server, "https://[fd00::1]:443");
    let nowhere = Access::find(None, None, &BTreeMap::new());
    assert!(matches!(nowhere, Err(KubernetesError::NoKubeconfig)));
}
