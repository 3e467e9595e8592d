use serde_json::json;

use super::*;

fn spec(driver: &str, parameters: Value) -> Result<Spec, SpecError> {
    Spec::of(driver, parameters.as_object().unwrap())
}

fn s3(parameters: Value) -> S3 {
    match spec("s3", parameters) {
        Ok(Spec::S3(s3)) => *s3,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_section_of_the_s3_driver_is_read() {
    let parameters = json!({"accesskey": "AK", "secretkey": "hush", "sessiontoken": "token", "region": "eu-west-1",
        "bucket": "b", "rootdirectory": "/a/b/", "secure": "false", "skipverify": true, "encrypt": true, "keyid": "k",
        "regionendpoint": "minio:9000", "chunksize": 5_242_880});
    let read = s3(parameters);
    assert_eq!((read.bucket.as_str(), read.root.as_str(), read.region.as_str()), ("b", "a/b", "eu-west-1"));
    assert_eq!(read.key, Some(("AK".into(), Secret::new("hush"))));
    assert_eq!((read.plain_http, read.skip_verify, read.style), (true, true, Style::Path));
    assert_eq!(read.encryption, Encryption::KeyService(Some("k".into())));
    let shown = format!("{read:?}");
    assert!(!shown.contains("hush") && !shown.contains("\"token\""), "{shown}");
}

#[test]
fn the_bucket_is_named_as_the_registry_names_it() {
    let style = |mut parameters: Value| {
        parameters["bucket"] = parameters.get("bucket").cloned().unwrap_or_else(|| "b".into());
        parameters["region"] = "r".into();
        s3(parameters).style
    };
    assert_eq!(style(json!({})), Style::VirtualHost);
    assert_eq!(style(json!({"bucket": "b.example"})), Style::Path);
    assert_eq!(style(json!({"forcepathstyle": true})), Style::Path);
    assert_eq!(style(json!({"regionendpoint": "http://x"})), Style::Path);
    assert_eq!(style(json!({"regionendpoint": "http://x", "forcepathstyle": false})), Style::VirtualHost);
}

#[test]
fn sections_of_the_other_drivers_are_read() {
    let local = spec("filesystem", json!({})).unwrap();
    assert_eq!(local, Spec::Local { directory: "/var/lib/registry".into() });
    let Spec::Gcs(gcs) = spec("gcs", json!({"bucket": "b", "credentials": {"type": "t"}})).unwrap() else {
        panic!("no gcs")
    };
    assert_eq!(gcs.login, GcsLogin::Key(Secret::new(r#"{"type":"t"}"#)));
    let Spec::Azure(azure) =
        spec("azure", json!({"accountname": "a", "accountkey": "k", "container": "c", "realm": "r.cn"}))
            .unwrap()
    else {
        panic!("no azure")
    };
    assert_eq!(
        (azure.endpoint.as_str(), azure.login),
        ("https://a.blob.r.cn", AzureLogin::Key(Secret::new("k")))
    );
    let client = json!({"type": "client_secret", "tenantid": "t", "clientid": "i", "secret": "s"});
    let Spec::Azure(azure) =
        spec("azure", json!({"accountname": "a", "container": "c", "credentials": client})).unwrap()
    else {
        panic!("no azure")
    };
    let expected = AzureLogin::Client { tenant: "t".into(), id: "i".into(), secret: Secret::new("s") };
    assert_eq!(azure.login, expected);
}

#[test]
fn what_cannot_work_is_refused() {
    let said = |driver: &str, parameters: Value| spec(driver, parameters).unwrap_err().to_string();
    assert_eq!(said("s3", json!({"region": "r"})), "the storage driver s3 has no bucket");
    assert_eq!(said("s3aws", json!({"bucket": "b"})), "the storage driver s3aws has no region");
    assert_eq!(said("swift", json!({})), "storage driver swift is not supported");
    assert!(said("inmemory", json!({})).contains("inmemory"));
    let wrong = said("s3", json!({"bucket": "b", "region": "r", "secure": "perhaps"}));
    assert_eq!(wrong, "secure of the storage driver s3 is not true or false");
    for root in ["/a//b", "a/./b", "/..", "/ a", "a /b"] {
        let refused = said("s3", json!({"bucket": "b", "region": "r", "rootdirectory": root}));
        assert!(refused.contains("is not supported"), "{root}: {refused}");
    }
    assert!(said("s3", json!({"bucket": "b", "region": "r", "v4auth": false})).contains("version 2"));
    assert!(said("gcs", json!({"bucket": "b", "credentials": "x"})).contains("not a section"));
}
