use super::*;

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn descriptor(name: &str, media_type: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":7}}"#, digest(name))
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn image(head: &str, config_type: &str) -> String {
    format!(
        r#"{{"schemaVersion":2,{head}"config":{},"layers":[{}]}}"#,
        descriptor("config", config_type),
        descriptor("layer", LAYER)
    )
}

#[test]
fn an_image_is_known_by_its_word_its_header_or_its_shape() {
    let stated =
        image(&format!(r#""mediaType":"{}","#, MediaType::DOCKER_MANIFEST), MediaType::DOCKER_CONFIG);
    let bare = image("", MediaType::OCI_CONFIG);
    for (bytes, served_as, expected) in [
        (&stated, None, MediaType::DOCKER_MANIFEST),
        (&stated, Some("application/json"), MediaType::DOCKER_MANIFEST),
        (&bare, Some(MediaType::OCI_MANIFEST), MediaType::OCI_MANIFEST),
        (&bare, Some("text/plain; charset=utf-8"), MediaType::OCI_MANIFEST),
        (&bare, None, MediaType::OCI_MANIFEST),
    ] {
        let manifest = Manifest::parse(bytes.as_bytes(), served_as).unwrap();
        assert_eq!(manifest.media_type.as_str(), expected);
        assert_eq!(manifest.dating_config().unwrap().digest, digest("config"));
        assert_eq!(manifest.blobs().map(|blob| blob.size.0).sum::<u64>(), 14);
    }
}

#[test]
fn a_foreign_configuration_makes_an_artifact_dated_by_annotation_only() {
    let bytes = image(
        r#""annotations":{"org.opencontainers.image.created":"2024-02-03T04:05:06Z"},"#,
        "application/vnd.cncf.helm.config.v1+json",
    );
    let chart = Manifest::parse(bytes.as_bytes(), None).unwrap();
    assert!(matches!(&chart.content, Content::Artifact { blobs } if blobs.len() == 2));
    assert_eq!(chart.dating_config(), None);
    assert_eq!(chart.created.unwrap().source, Source::Annotation);
}

#[test]
fn an_index_tells_images_attestations_and_blobs_apart() {
    let child = |name: &str, extra: &str| {
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":7{extra}}}"#,
            MediaType::OCI_MANIFEST,
            digest(name)
        )
    };
    let bytes = format!(
        r#"{{"schemaVersion":2,"manifests":[{},{},{},{},{{"digest":"{}"}}]}}"#,
        child("amd64", r#","platform":{"os":"linux","architecture":"arm","variant":"v7"}"#),
        child("attestation", r#","platform":{"os":"unknown","architecture":"unknown"}"#),
        child("annotated", r#","annotations":{"vnd.docker.reference.type":"attestation-manifest"}"#),
        descriptor("cache", LAYER),
        digest("untyped"),
    );
    let index = Manifest::parse(bytes.as_bytes(), None).unwrap();
    let roles: Vec<_> =
        index.children().iter().map(|child| (child.platform.as_deref(), child.role)).collect();
    assert_eq!(
        roles,
        [
            (Some("linux/arm/v7"), Role::Image),
            (Some("unknown/unknown"), Role::Attestation),
            (None, Role::Attestation),
            (None, Role::Image),
        ]
    );
    assert_eq!(index.blobs().map(|blob| blob.digest).collect::<Vec<_>>(), [digest("cache")]);
}

#[test]
fn an_empty_index_is_an_index() {
    for bytes in [r#"{"schemaVersion":2,"manifests":[]}"#, r#"{"schemaVersion":2,"manifests":null}"#] {
        let manifest = Manifest::parse(bytes.as_bytes(), Some(MediaType::OCI_INDEX)).unwrap();
        assert!(manifest.media_type.is_index() && manifest.children().is_empty());
    }
}

#[test]
fn schema_1_lists_layers_and_is_dated_by_its_newest_history() {
    let bytes = format!(
        r#"{{"schemaVersion":1,"fsLayers":[{{"blobSum":"{}"}}],
            "history":[{{"v1Compatibility":"{{\"created\":\"2015-01-01T00:00:00Z\"}}"}},{{"v1Compatibility":"{{}}"}}]}}"#,
        digest("layer")
    );
    let manifest = Manifest::parse(bytes.as_bytes(), None).unwrap();
    assert_eq!(manifest.content, Content::Schema1 { layers: vec![digest("layer")] });
    let created = manifest.created.unwrap();
    assert_eq!((created.text.as_str(), created.source), ("2015-01-01T00:00:00Z", Source::History));
}

#[test]
fn signed_schema_1_is_known_by_the_digest_of_its_payload() {
    // `{"a":1` + `}` with a signature block between; the header is {"formatLength":6,"formatTail":"fQ"}.
    let signed =
        br#"{"a":1,"signatures":[{"protected":"eyJmb3JtYXRMZW5ndGgiOjYsImZvcm1hdFRhaWwiOiJmUSJ9"}]}"#;
    let media_type = MediaType::new(MediaType::SCHEMA1_SIGNED);
    assert_eq!(content_digest(&media_type, signed), Digest::of(br#"{"a":1}"#));
    assert_eq!(content_digest(&MediaType::new(MediaType::OCI_MANIFEST), signed), Digest::of(signed));
}

#[test]
fn other_digest_algorithms_are_noted_and_garbage_is_an_error() {
    let sha512 = format!("sha512:{}", "ab".repeat(64));
    let bytes = format!(
        r#"{{"config":{},"layers":[{{"digest":"{sha512}","size":1}}]}}"#,
        descriptor("config", MediaType::OCI_CONFIG)
    );
    let manifest = Manifest::parse(bytes.as_bytes(), None).unwrap();
    assert_eq!(manifest.foreign_digests, [sha512]);
    assert_eq!(manifest.blobs().count(), 1);

    for garbage in [
        "",
        "[]",
        "{}",
        "null",
        "\"x\"",
        "{\"config\":{}}",
        "{\"layers\":[{\"digest\":\"nonsense\"}]}",
        "{\"layers\":[], \"mediaType\":\"application/vnd.example+json\"}",
        "{\"manifests\":[{\"digest\":7}]}",
    ] {
        assert!(Manifest::parse(garbage.as_bytes(), None).is_err(), "{garbage}");
    }
}

#[test]
fn the_configuration_dates_the_image_and_the_annotation_stands_in() {
    let annotated = image(
        r#""annotations":{"org.opencontainers.image.created":"2024-02-03T04:05:06Z"},"#,
        MediaType::OCI_CONFIG,
    );
    let dated = |config: &str| {
        let mut manifest = Manifest::parse(annotated.as_bytes(), None).unwrap();
        ImageConfig::parse(config.as_bytes()).map(|config| {
            manifest.take_config(&config);
            manifest.created.unwrap()
        })
    };
    assert_eq!(dated(r#"{"created":"1970-01-01T00:00:00Z"}"#).unwrap().source, Source::Config);
    assert_eq!(dated("{}").unwrap().source, Source::Annotation);
    assert_eq!(dated(r#"{"created":null}"#).unwrap().source, Source::Annotation);
    assert!(dated("nonsense").is_err());
    assert!(dated(r#"{"created":12}"#).is_err());
}

#[test]
fn labels_come_from_annotations_and_from_the_configuration_and_the_former_win() {
    let annotated = image(r#""annotations":{"team":"a","number":7,"expires":"2w"},"#, MediaType::OCI_CONFIG);
    let mut manifest = Manifest::parse(annotated.as_bytes(), None).unwrap();
    let config = r#"{"config":{"Labels":{"team":"b","stage":"prod","odd":null}}}"#;
    manifest.take_config(&ImageConfig::parse(config.as_bytes()).unwrap());
    let labels: Vec<(&str, &str)> = manifest.labels.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(labels, [("expires", "2w"), ("stage", "prod"), ("team", "a")]);
    for none in ["{}", r#"{"config":null}"#, r#"{"config":{"Labels":null}}"#, r#"{"config":{"Labels":[1]}}"#]
    {
        assert_eq!(ImageConfig::parse(none.as_bytes()).unwrap().labels, BTreeMap::new(), "{none}");
    }
}
