use proptest::prelude::*;

use super::*;

/// JSON as it is written: keys in any case, and repeated.
#[derive(Debug, Clone)]
enum Json {
    Map(Vec<(String, Json)>),
    List(Vec<Json>),
    Text(String),
    Scalar(&'static str),
}

impl Json {
    fn write(&self) -> String {
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        match self {
            Self::Map(fields) => {
                let fields = fields.iter().map(|(name, value)| format!("{}:{}", quoted(name), value.write()));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }
            Self::List(items) => format!("[{}]", items.iter().map(Self::write).collect::<Vec<_>>().join(",")),
            Self::Text(text) => quoted(text),
            Self::Scalar(text) => (*text).to_owned(),
        }
    }

    fn fields(&self) -> Vec<(String, &Self)> {
        let Self::Map(fields) = self else { return Vec::new() };
        fields.iter().map(|(name, value)| (name.to_lowercase(), value)).collect()
    }

    fn texts(&self, names: &[&str]) -> Vec<String> {
        let named = self.fields().into_iter().filter(|(name, _)| names.contains(&name.as_str()));
        named
            .filter_map(|(_, value)| if let Self::Text(text) = value { Some(text.clone()) } else { None })
            .collect()
    }

    fn list(&self, place: Where, listed: &mut Vec<Listed>) {
        let media_type = self.texts(&["mediatype"]).pop();
        let certainty = place.certainty(media_type.as_deref());
        listed.extend(
            self.texts(&["digest", "blobsum"]).into_iter().map(|digest| Listed { digest, certainty }),
        );
        self.fields().iter().for_each(|(_, value)| value.list(place, listed));
        if let Self::List(items) = self {
            items.iter().for_each(|item| item.list(place, listed));
        }
    }

    fn references(&self) -> Option<References> {
        let fields = self.fields();
        let is_field = |name: &str| ["config", "layers", "manifests", "blobs", "fslayers"].contains(&name);
        fields.iter().any(|(name, _)| is_field(name)).then_some(())?;
        let mut references = References::default();
        for (name, value) in fields {
            match name.as_str() {
                "subject" => {
                    references.subject = value.texts(&["digest"]).iter().find_map(|text| text.parse().ok());
                }
                "manifests" => value.list(Where::Child, &mut references.listed),
                _ => value.list(Where::Elsewhere, &mut references.listed),
            }
        }
        Some(references)
    }
}

fn json() -> impl Strategy<Value = Json> {
    let digest = (0..9_u8).prop_map(|number| Json::Text(format!("sha256:{}", Digest::of(&[number]).hex())));
    let text = prop::sample::select(vec![
        "sha512:ab",
        "",
        MediaType::OCI_MANIFEST,
        MediaType::OCI_INDEX,
        "application/vnd.oci.image.layer.v1.tar+gzip",
    ]);
    let leaf = prop_oneof![
        4 => digest,
        3 => text.prop_map(|text| Json::Text(text.to_owned())),
        1 => prop::sample::select(vec!["null", "true", "1", "-1", "0.5", "{}", "[]"]).prop_map(Json::Scalar),
    ];
    let name = prop::sample::select(vec![
        "digest",
        "Digest",
        "blobSum",
        "mediaType",
        "MEDIATYPE",
        "manifests",
        "Manifests",
        "subject",
        "config",
        "layers",
        "fsLayers",
        "blobs",
        "data",
        "",
    ]);
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            3 => prop::collection::vec((name.clone().prop_map(str::to_owned), inner.clone()), 0..6).prop_map(Json::Map),
            1 => prop::collection::vec(inner, 0..4).prop_map(Json::List),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_digest_of_any_document_is_listed(document in json()) {
        prop_assert_eq!(References::read(document.write().as_bytes()).ok(), document.references());
    }
}

#[test]
fn letters_that_go_takes_for_others_are_those_others() {
    let digest = Digest::of(b"layer");
    let layers = format!("{{\"layer\u{17f}\":[{{\"dige\u{17f}t\":\"{digest}\"}}]}}");
    let listed = Listed { digest: digest.to_string(), certainty: None };
    assert_eq!(References::read(layers.as_bytes()).unwrap().listed, [listed]);
}

#[test]
fn what_follows_a_document_makes_it_none() {
    assert!(References::read(b"{\"layers\":[]} ").is_ok());
    for text in ["{\"layers\":[]}}", "{\"layers\":[]", "[{\"layers\":[]}]", "null", ""] {
        assert!(References::read(text.as_bytes()).is_err(), "{text}");
    }
}
