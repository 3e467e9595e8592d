//! No text, however odd, makes a reader panic; and what reads, reads back.

use clean_registry_core::journal::Journal;
use clean_registry_core::manifest::{ImageConfig, Manifest, content_digest};
use clean_registry_core::name::{Digest, MediaType, RepoName, Tag};
use clean_registry_core::plan::Plan;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Valid documents of every kind, to be spoilt.
fn documents() -> Vec<String> {
    let entry = |media_type: &str| format!(r#"{{"mediaType":"{media_type}","digest":"{DIGEST}","size":7}}"#);
    let layer = entry("application/vnd.oci.image.layer.v1.tar+gzip");
    vec![
        format!(
            r#"{{"schemaVersion":2,"config":{},"layers":[{layer}],"subject":{},"annotations":{{"org.opencontainers.image.created":"2024-01-01T00:00:00Z"}}}}"#,
            entry(MediaType::OCI_CONFIG),
            entry(MediaType::OCI_MANIFEST)
        ),
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"digest":"{DIGEST}","platform":{{"os":"unknown","architecture":"unknown"}}}},{layer}]}}"#,
            MediaType::OCI_INDEX
        ),
        format!(
            r#"{{"schemaVersion":1,"fsLayers":[{{"blobSum":"{DIGEST}"}}],"history":[{{"v1Compatibility":"{{\"created\":\"2015-01-01T00:00:00Z\"}}"}}],"signatures":[{{"protected":"eyJmb3JtYXRMZW5ndGgiOjYsImZvcm1hdFRhaWwiOiJmUSJ9"}}]}}"#
        ),
        r#"{"created":"2024-01-01T00:00:00Z","config":{}}"#.to_owned(),
    ]
}

/// One way to spoil a document.
#[derive(Debug, Clone)]
enum Damage {
    Cut(Index),
    Byte(Index, u8),
    Insert(Index, &'static str),
    Double(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let odd = vec![
        "null",
        "[]",
        "{}",
        "-1",
        "1e999",
        "\"\"",
        "\u{0}",
        "{\"a\":",
        "99999999999999999999",
        "sha512:00",
    ];
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (any::<Index>(), select(odd)).prop_map(|(at, odd)| Damage::Insert(at, odd)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Double(from, to)),
    ]
}

fn spoil(mut bytes: Vec<u8>, damage: &Damage) -> Vec<u8> {
    let place = |index: &Index| index.index(bytes.len() + 1);
    match damage {
        Damage::Cut(at) => bytes.truncate(place(at)),
        Damage::Byte(at, byte) => {
            let at = place(at);
            bytes.splice(at..(at + 1).min(bytes.len()), [*byte]);
        }
        Damage::Insert(at, odd) => {
            let at = place(at);
            bytes.splice(at..at, odd.bytes());
        }
        Damage::Double(from, to) => {
            let (from, to) = (place(from).min(place(to)), place(from).max(place(to)));
            let part = bytes[from..to].to_vec();
            bytes.splice(to..to, part);
        }
    }
    bytes
}

fn read_as_everything(bytes: &[u8]) {
    let media_types =
        [MediaType::OCI_MANIFEST, MediaType::DOCKER_LIST, MediaType::SCHEMA1_SIGNED, "text/html"];
    for served_as in media_types.map(Some).into_iter().chain([None]) {
        let _ = content_digest(&MediaType::new(served_as.unwrap_or_default()), bytes);
        if let Ok(mut manifest) = Manifest::parse(bytes, served_as) {
            let read_again = serde_json::to_vec(&manifest).expect("a manifest serialises");
            let again: Manifest = serde_json::from_slice(&read_again).expect("and reads back");
            assert_eq!(again, manifest);
            if let Ok(config) = ImageConfig::parse(bytes) {
                manifest.take_config(&config);
            }
        }
    }
    let _ = serde_json::from_slice::<Plan>(bytes);
    let _ = Journal::read(&String::from_utf8_lossy(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn spoilt_documents_are_read_or_refused(
        document in select(documents()), damages in vec(damage(), 0..4)
    ) {
        let spoilt = damages.iter().fold(document.into_bytes(), spoil);
        read_as_everything(&spoilt);
    }

    #[test]
    fn names_are_refused_or_read_back_as_they_were(text in "\\PC{0,150}") {
        names_read_back(&text);
    }

    #[test]
    fn names_near_their_grammar_are_refused_or_read_back_as_they_were(
        text in "(sha256[:-])?[a-z0-9A-F]{0,65}[._/-]{0,3}(sig|att|sbom|[a-z0-9]{0,130})"
    ) {
        names_read_back(&text);
    }
}

fn names_read_back(text: &str) {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(name) = text.parse::<RepoName>() {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
        if let Some(subject) = tag.subject() {
            assert!(text.starts_with(&format!("sha256-{}", subject.hex())));
        }
    }
}
