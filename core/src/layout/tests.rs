use super::*;
use proptest::prelude::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn digest() -> Digest {
    Digest::from_hex(HEX).unwrap()
}

#[test]
fn every_kind_of_file_has_its_place() {
    let repo: RepoName = "team/app".parse().unwrap();
    let tag: Tag = "v1.2".parse().unwrap();
    let alias: Alias = format!("sha512:{HEX}{HEX}").parse().unwrap();
    let id: UploadId = "01930b1e-7f3a-7cc1-8d3e-0123456789ab".parse().unwrap();
    let upload = |file| Place::Upload { repo: repo.clone(), id: id.clone(), file };
    let (digest, signature) = (digest(), Digest::of(b"signature"));
    let revision = format!("repositories/team/app/_manifests/revisions/sha256/{HEX}");
    for (key, place) in [
        (format!("blobs/sha256/01/{HEX}/data"), Place::BlobData(digest)),
        (
            format!("repositories/team/app/_layers/sha256/{HEX}/link"),
            Place::LayerLink { repo: repo.clone(), digest },
        ),
        (
            format!("repositories/team/app/_layers/sha512/{HEX}{HEX}/link"),
            Place::LayerAlias { repo: repo.clone(), alias },
        ),
        (format!("{revision}/link"), Place::RevisionLink { repo: repo.clone(), digest }),
        (
            format!("{revision}/signatures/sha256/{}/link", signature.hex()),
            Place::Signature { repo: repo.clone(), digest, signature },
        ),
        (
            "repositories/team/app/_manifests/tags/v1.2/current/link".to_owned(),
            Place::TagCurrent { repo: repo.clone(), tag: tag.clone() },
        ),
        (
            format!("repositories/team/app/_manifests/tags/v1.2/index/sha256/{HEX}/link"),
            Place::TagHistory { repo: repo.clone(), tag, digest },
        ),
        (format!("repositories/team/app/_uploads/{id}/startedat"), upload(UploadFile::StartedAt)),
        (format!("repositories/team/app/_uploads/{id}/data"), upload(UploadFile::Data)),
        (
            format!("repositories/team/app/_uploads/{id}/hashstates/sha256/4096"),
            upload(UploadFile::HashState { offset: 4096 }),
        ),
    ] {
        assert_eq!(place.key(), key);
        assert_eq!(Place::parse(&key), Some(place), "{key}");
    }
}

#[test]
fn what_is_no_part_of_the_layout_has_no_place() {
    for stranger in [
        String::new(),
        "blobs".to_owned(),
        format!("blobs/sha256/02/{HEX}/data"),
        format!("blobs/sha256/012/{HEX}/data"),
        format!("blobs/sha256/01/{HEX}/data.0b1e.tmp"),
        format!("blobs/sha256/01/{HEX}/"),
        format!("blobs/sha512/01/{HEX}/data"),
        format!("repositories/a/_referrers/sha256/{HEX}/link"),
        format!("repositories/A/_manifests/revisions/sha256/{HEX}/link"),
        format!("repositories//_layers/sha256/{HEX}/link"),
        format!("repositories/../_layers/sha256/{HEX}/link"),
        format!("repositories/a/_layers/sha256/{HEX}/link.tmp"),
        format!("repositories/a/_layers/md5/{}/link", &HEX[..32]),
        format!("repositories/a/_manifests/revisions/sha256/{HEX}/"),
        "repositories/a/_manifests/tags/../current/link".to_owned(),
        "repositories/a/_manifests/tags/v1/current/".to_owned(),
        "repositories/a/_uploads/../startedat".to_owned(),
        "repositories/a/_uploads/01930b1e-7f3a-7cc1-8d3e-0123456789ab/hashstates/sha256/007".to_owned(),
        "repositories/a/_uploads/01930b1e-7f3a-7cc1-8d3e-0123456789ab/hashstates/sha256/+7".to_owned(),
    ] {
        assert_eq!(Place::parse(&stranger), None, "{stranger}");
    }
}

#[test]
fn a_colon_is_no_slash() {
    assert_eq!(Place::parse(&format!("repositories/a/_layers/sha512:{HEX}{HEX}/link")), None);
}

#[test]
fn a_revision_link_we_do_not_understand_is_still_seen() {
    for key in [
        format!("repositories/Upper/_manifests/revisions/sha256/{HEX}/link"),
        format!("repositories/a/_manifests/revisions/sha512/{HEX}{HEX}/link"),
    ] {
        assert_eq!(Place::parse(&key), None);
        assert!(may_be_a_root(&key), "{key}");
    }
    assert!(!may_be_a_root(&format!("repositories/a/_layers/sha256/{HEX}/link")));
    assert!(!may_be_a_root("repositories/a/_manifests/tags/v1/current/link"));
}

#[test]
fn what_a_folder_holds_is_known_by_where_it_is() {
    for (key, folder) in [
        ("", Folder::Open),
        ("blobs", Folder::Open),
        ("blobs/sha256", Folder::Open),
        ("blobs/sha256/01", Folder::Leaves("data")),
        ("blobs/sha256/0", Folder::Open),
        ("blobs/sha256/012", Folder::Open),
        ("blobs/sha256/01/0123", Folder::Open),
        ("blobs/sha512/01", Folder::Open),
        ("repositories", Folder::Open),
        ("repositories/a", Folder::Open),
        ("repositories/a/b", Folder::Open),
        ("repositories/a/_layers", Folder::Open),
        ("repositories/a/_layers/sha256", Folder::Leaves("link")),
        ("repositories/a/b/_layers/sha512", Folder::Leaves("link")),
        ("repositories/a/_layers/sha256/0123", Folder::Open),
        ("repositories/a/_manifests", Folder::Open),
        ("repositories/a/_manifests/revisions", Folder::Open),
        ("repositories/a/_manifests/revisions/sha256", Folder::Revisions),
        ("repositories/a/_manifests/revisions/sha512", Folder::Revisions),
        ("repositories/a/_manifests/revisions/sha256/0123", Folder::Open),
        ("repositories/a/_manifests/revisions/sha256/0123/signatures/sha256", Folder::Open),
        ("repositories/a/_manifests/tags", Folder::Leaves("current/link")),
        ("repositories/a/_manifests/tags/v1", Folder::Open),
        ("repositories/a/_manifests/tags/tags", Folder::Open),
        ("repositories/a/_uploads", Folder::Open),
        ("repositories/a/_uploads/sha256", Folder::Open),
        ("repositories/a/_referrers/sha256", Folder::Open),
        ("repositories/_layers/sha256", Folder::Open),
        ("repositories/layers/sha256", Folder::Open),
        ("elsewhere/a/_layers/sha256", Folder::Open),
    ] {
        assert_eq!(Folder::at(key), folder, "{key}");
    }
}

#[test]
fn the_name_of_a_repository_ends_where_a_component_begins_with_an_underscore() {
    for (key, split) in [
        ("repositories/a/_layers/sha256/ab/link", Some(("a", "_layers/sha256/ab/link"))),
        (
            "repositories/a/b/_manifests/tags/v1/current/link",
            Some(("a/b", "_manifests/tags/v1/current/link")),
        ),
        ("repositories/a_b/_uploads/x", Some(("a_b", "_uploads/x"))),
        ("repositories/a/_layers/_manifests/x", Some(("a", "_layers/_manifests/x"))),
        ("repositories/Upper/_layers", Some(("Upper", "_layers"))),
        ("repositories//_layers", Some(("", "_layers"))),
        ("repositories/_layers/sha256", None),
        ("repositories/a/b", None),
        ("repositories", None),
        ("blobs/sha256/_a", None),
        ("repositories_/a/_layers", None),
    ] {
        assert_eq!(Place::split(key), split, "{key}");
    }
}

#[test]
fn a_key_is_understood_within_its_repository_and_no_other() {
    let (here, there): (RepoName, RepoName) = ("team/app".parse().unwrap(), "other".parse().unwrap());
    let link = format!("_layers/sha256/{HEX}/link");
    let place = |repo: &RepoName| Place::LayerLink { repo: repo.clone(), digest: digest() };
    assert_eq!(Place::within(&here, &link), Some(place(&here)));
    assert_eq!(Place::within(&there, &link), Some(place(&there)));
    for rest in ["", "_layers", "_layers/", "layers/sha256", "_referrers/sha256/ab/link", "/_layers/sha256"] {
        assert_eq!(Place::within(&here, rest), None, "{rest}");
    }
}

fn places() -> impl Strategy<Value = Place> {
    let digest = any::<[u8; 32]>().prop_map(Digest::from_bytes);
    let repo = "[a-z0-9]{1,8}([._-][a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,5}){0,3}"
        .prop_map(|name| name.parse::<RepoName>().unwrap());
    let tag = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}".prop_map(|tag| tag.parse::<Tag>().unwrap());
    let alias = prop_oneof!["sha512:[0-9a-f]{128}", "sha384:[0-9a-f]{96}"]
        .prop_map(|text| text.parse::<Alias>().unwrap());
    let id = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
        .prop_map(|text| text.parse::<UploadId>().unwrap());
    let file = prop_oneof![
        Just(UploadFile::StartedAt),
        Just(UploadFile::Data),
        any::<u64>().prop_map(|offset| UploadFile::HashState { offset }),
    ];
    prop_oneof![
        digest.clone().prop_map(Place::BlobData),
        (repo.clone(), digest.clone()).prop_map(|(repo, digest)| Place::LayerLink { repo, digest }),
        (repo.clone(), alias).prop_map(|(repo, alias)| Place::LayerAlias { repo, alias }),
        (repo.clone(), digest.clone()).prop_map(|(repo, digest)| Place::RevisionLink { repo, digest }),
        (repo.clone(), digest.clone(), digest.clone())
            .prop_map(|(repo, digest, signature)| Place::Signature { repo, digest, signature }),
        (repo.clone(), tag.clone()).prop_map(|(repo, tag)| Place::TagCurrent { repo, tag }),
        (repo.clone(), tag, digest).prop_map(|(repo, tag, digest)| Place::TagHistory { repo, tag, digest }),
        (repo, id, file).prop_map(|(repo, id, file)| Place::Upload { repo, id, file }),
    ]
}

proptest! {
    #[test]
    fn a_place_and_its_key_are_one(place in places()) {
        prop_assert_eq!(Place::parse(&place.key()), Some(place));
    }

    #[test]
    fn what_is_split_and_understood_within_is_what_is_parsed(place in places()) {
        let key = place.key();
        if let Some((name, rest)) = Place::split(&key) {
            let repo: RepoName = name.parse().unwrap();
            prop_assert_eq!(format!("repositories/{name}/{rest}"), &*key);
            prop_assert_eq!(Place::within(&repo, rest), Some(place));
        } else {
            prop_assert!(matches!(place, Place::BlobData(_)));
        }
    }

    #[test]
    fn every_file_a_walk_may_pass_over_unseen_is_where_its_folder_says(place in places()) {
        let key = place.key();
        let folders = key.match_indices('/').map(|(at, _)| at);
        for at in folders {
            let Folder::Leaves(name) = Folder::at(&key[..at]) else { continue };
            let (_, inside) = key[at + 1..].split_once('/').unwrap();
            let is_history = matches!(place, Place::TagHistory { .. });
            prop_assert_eq!(inside == name, !is_history, "{}", key);
        }
    }

    #[test]
    fn any_text_parses_to_nothing_or_to_its_own_place(
        key in "(blobs/sha256/|repositories/a)?[a-z0-9_/.é-]{0,40}(/link|/data)?"
    ) {
        if let Some(place) = Place::parse(&key) {
            prop_assert_eq!(place.key(), key);
        }
    }

    #[test]
    fn a_damaged_key_is_nothing_or_its_own_place(place in places(), at in 0usize..400, with in any::<char>()) {
        let mut letters: Vec<char> = place.key().chars().collect();
        let at = at % letters.len();
        letters[at] = with;
        let key: String = letters.into_iter().collect();
        if let Some(place) = Place::parse(&key) {
            prop_assert_eq!(place.key(), key);
        }
    }
}
