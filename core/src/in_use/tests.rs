use super::*;
use crate::sample::{blob, digest};

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn names(names: &[&str]) -> RegistryNames {
    RegistryNames::new(names.iter().copied()).unwrap()
}

/// What `text` holds in the registry of these names, a line each.
fn held(registry: &[&str], text: &str) -> (Matched, Vec<String>) {
    let mut in_use = InUse::default();
    let matched = in_use.hold(&names(registry), &text.replace("HEX", HEX), "somebody");
    let mut lines = Vec::new();
    for (repository, held) in &in_use.repos {
        lines.extend(held.tags.keys().map(|tag| format!("{repository}:{tag}")));
        lines.extend(held.digests.keys().map(|digest| format!("{repository}@{}", digest.short())));
    }
    lines.extend(in_use.anywhere.keys().map(|digest| format!("*@{}", digest.short())));
    lines.extend(in_use.unread.iter().map(|line| format!("unread {}", line.contains("somebody: "))));
    (matched, lines)
}

#[test]
fn a_reference_is_held_under_every_name_of_the_registry_as_engines_read_it() {
    use Matched::{Anywhere, Elsewhere, Here, Unreadable};
    const OWN: &[&str] = &["registry.example:5000", "mirror.example/proxy/", "10.0.0.7:443"];
    let table: &[(&str, Matched, &[&str])] = &[
        ("registry.example:5000/app:v1", Here, &["app:v1"]),
        ("registry.example:5000/team/app", Here, &["team/app:latest"]),
        ("registry.example:5000/team/app@sha256:HEX", Here, &["team/app@sha256:0123456789ab"]),
        ("registry.example:5000/app:v1@sha256:HEX", Here, &["app:v1", "app@sha256:0123456789ab"]),
        ("docker-pullable://registry.example:5000/app@sha256:HEX", Here, &["app@sha256:0123456789ab"]),
        ("oci://registry.example:5000/charts/app:1.0.0", Here, &["charts/app:1.0.0"]),
        ("Registry.Example:5000/app:v1", Here, &["app:v1"]),
        ("registry.example.:5000/app:v1", Here, &["app:v1"]),
        ("  registry.example:5000/app:v1\n", Here, &["app:v1"]),
        ("registry.example/app:v1", Elsewhere, &[]),
        ("registry.example:5001/app:v1", Elsewhere, &[]),
        ("other.example/registry.example:5000/app:v1", Unreadable, &["unread true"]),
        // By an alias with a prefix, and not without it.
        ("mirror.example/proxy/app:v1", Here, &["app:v1"]),
        ("mirror.example:443/proxy/app:v1", Here, &["app:v1"]),
        ("mirror.example/app:v1", Elsewhere, &[]),
        ("mirror.example/proxyapp:v1", Elsewhere, &[]),
        ("mirror.example/proxy:v1", Elsewhere, &[]),
        // Whether a port is the usual one depends on what is spoken there.
        ("10.0.0.7/app:v1", Here, &["app:v1"]),
        ("10.0.0.7:80/app:v1", Here, &["app:v1"]),
        ("10.0.0.7:8443/app:v1", Elsewhere, &[]),
        // No host is Docker Hub.
        ("app:v1", Elsewhere, &[]),
        ("team/app:v1", Elsewhere, &[]),
        ("localhost:5000", Elsewhere, &[]),
        // Digests alone.
        ("sha256:HEX", Anywhere, &["*@sha256:0123456789ab"]),
        ("docker://sha256:HEX", Anywhere, &["*@sha256:0123456789ab"]),
        ("HEX", Anywhere, &["*@sha256:0123456789ab"]),
        // What cannot be read, with the digest where that can.
        ("", Unreadable, &["unread true"]),
        ("UPPER", Unreadable, &["unread true"]),
        ("registry.example:5000/App:v1", Unreadable, &["unread true"]),
        ("registry.example:5000/app:", Unreadable, &["unread true"]),
        ("registry.example:5000/app:-v", Unreadable, &["unread true"]),
        ("registry.example:5000/", Unreadable, &["unread true"]),
        ("registry.example:5000/app@sha256:12", Unreadable, &["unread true"]),
        ("registry.example:5000/app@sha512:HEXHEX", Unreadable, &["unread true"]),
        ("registry.example:5000/app:v1 # comment", Unreadable, &["unread true"]),
        ("{{ .Values.image }}", Unreadable, &["unread true"]),
        ("registry.example:5000/App@sha256:HEX", Unreadable, &["*@sha256:0123456789ab", "unread true"]),
    ];
    for (text, matched, lines) in table {
        assert_eq!(
            held(OWN, text),
            (*matched, lines.iter().map(|line| (*line).to_owned()).collect()),
            "{text:?}"
        );
    }
}

#[test]
fn a_mirror_of_docker_hub_is_known_by_references_without_a_host() {
    for (text, lines) in [
        ("nginx", vec!["library/nginx:latest", "nginx:latest"]),
        ("nginx:1.27", vec!["library/nginx:1.27", "nginx:1.27"]),
        ("docker.io/library/nginx:1.27", vec!["library/nginx:1.27", "nginx:1.27"]),
        ("index.docker.io/team/app:v1", vec!["team/app:v1"]),
        ("team/app:v1", vec!["team/app:v1"]),
        ("localhost/app:v1", vec![]),
    ] {
        let mut found = held(&["registry-1.docker.io"], text).1;
        found.sort();
        assert_eq!(found, lines, "{text}");
    }
}

#[test]
fn addresses_of_ip_version_6_are_hosts() {
    assert_eq!(held(&["[::1]:5000"], "[::1]:5000/app:v1"), (Matched::Here, vec!["app:v1".to_owned()]));
    assert_eq!(held(&["[::1]"], "[::1]:443/app:v1"), (Matched::Here, vec!["app:v1".to_owned()]));
}

#[test]
fn the_name_of_a_registry_is_a_host_with_or_without_port_and_prefix() {
    for good in ["registry.example", "https://registry.example:5000/", "a_b.example/pre/fix", "localhost"] {
        assert!(RegistryNames::new([good]).is_ok(), "{good}");
    }
    for bad in
        ["", "/", "/var/lib/registry", "registry.example/Upper", "registry.example/a//b", "a b", "ftp://a"]
    {
        assert_eq!(RegistryNames::new([bad]), Err(NotAName(bad.to_owned())));
    }
}

#[test]
fn a_manifest_is_held_by_its_digest_and_by_its_id_in_its_repository_or_in_all() {
    let (app, other): (RepoName, RepoName) = ("app".parse().unwrap(), "other".parse().unwrap());
    let image = Content::Image { config: blob("config", 1), layers: vec![blob("layer", 1)] };
    let artifact = Content::Artifact { blobs: vec![blob("config", 1)] };
    let uses = |text: String| {
        let mut in_use = InUse::default();
        in_use.hold(&names(&["registry.example"]), &text, "a pod");
        let holds = |name: &RepoName, content: &Content| {
            let manifest = crate::sample::manifest_of(content.clone());
            !in_use.of_manifest(name, digest("manifest"), &manifest).is_empty()
        };
        [holds(&app, &image), holds(&other, &image), holds(&app, &artifact)]
    };
    assert_eq!(uses(format!("registry.example/app@{}", digest("manifest"))), [true, false, true]);
    assert_eq!(uses(format!("registry.example/app@{}", digest("config"))), [true, false, true]);
    assert_eq!(uses(digest("manifest").to_string()), [true, true, true]);
    assert_eq!(uses(digest("config").to_string()), [true, true, true]);
    assert_eq!(uses(digest("layer").to_string()), [false, false, false]);
    assert_eq!(uses("registry.example/app:v1".to_owned()), [false, false, false]);
}

#[test]
fn what_two_sources_tell_is_held_together() {
    let own = names(&["registry.example"]);
    let (mut one, mut other) = (InUse::default(), InUse::default());
    one.hold(&own, "registry.example/app:v1", "a pod");
    other.hold(&own, "registry.example/app:v1", "a container");
    other.hold(&own, "Rubbish", "a file");
    one.extend(other);
    let holders = one.of_tag(&"app".parse().unwrap(), &"v1".parse().unwrap());
    assert_eq!(Vec::from_iter(holders), ["a container", "a pod"]);
    assert_eq!(
        Vec::from_iter(one.unread),
        ["a file: \"Rubbish\" cannot be read as an image: \"library/Rubbish\" is not a repository name"]
    );
}

#[test]
fn a_sentence_names_three_holders_and_counts_the_others() {
    let of = |names: &[&str]| named(&names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(of(&["a"]), "a");
    assert_eq!(of(&["a", "b", "c"]), "a, b, c");
    assert_eq!(of(&["a", "b", "c", "d"]), "a, b, c and 1 other");
    assert_eq!(of(&["a", "b", "c", "d", "e"]), "a, b, c and 2 others");
}
