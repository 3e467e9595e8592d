use super::*;
use crate::audit::audit;
use crate::manifest::{Content, Source};
use crate::name::MediaType;
use crate::plan::draw;
use crate::sample::{Sample, about, days_old, digest, now, policy, promises, repo, seconds_old, tag, world};

const BOTH: [Powers; 2] = [Powers::DeleteOnly, Powers::DeleteAndUntag];

/// Judges by the sample policy: 30 days, `latest`, and whatever contains `release`.
#[track_caller]
fn judged<const N: usize>(powers: Powers, sample: Sample, expected: [&str; N]) {
    let fates = world(powers, [sample]).fates(&policy());
    assert_eq!(fates, expected, "{powers:?}");
}

/// The same whatever deleting can do.
#[track_caller]
fn judged_alike<const N: usize>(sample: Sample, expected: [&str; N]) {
    for powers in BOTH {
        judged(powers, sample.clone(), expected);
    }
}

// Ages and names.

#[test]
fn an_old_image_goes_and_a_young_one_stays() {
    judged_alike(
        repo("app").image("old", &days_old(31)).image("new", &days_old(29)).tag("v1", "old").tag("v2", "new"),
        [":v1 goes: older 31", ":v2 stays: young 29", "@new stays: tagged :v2", "@old goes: older 31"],
    );
}

#[test]
fn an_image_exactly_as_old_as_the_limit_stays_and_a_second_later_goes() {
    let limit = 30 * 24 * 60 * 60;
    for (age, fate) in [
        (limit - 1, ":v1 stays: young 29"),
        (limit, ":v1 stays: young 30"),
        (limit + 1, ":v1 goes: older 30"),
    ] {
        let sample = repo("app").image("A", &seconds_old(age)).tag("v1", "A");
        assert_eq!(world(Powers::DeleteOnly, [sample]).fates(&policy())[0], fate);
    }
}

#[test]
fn what_cannot_be_a_date_leaves_an_image_undated() {
    for (created, why) in [
        ("yesterday", r#"unparsable "yesterday""#),
        ("", r#"unparsable """#),
        ("2024-01-01", r#"unparsable "2024-01-01""#),
        ("0001-01-01T00:00:00Z", "implausible"),
        ("1970-01-01T00:00:00Z", "implausible"),
        ("1980-01-01T00:00:00Z", "implausible"),
        ("2012-12-31T23:59:59.999Z", "implausible"),
        (&seconds_old(-1), "future"),
        ("9999-01-01T00:00:00Z", "future"),
    ] {
        judged_alike(
            repo("app").image("A", created).tag("v1", "A"),
            [&format!(":v1 stays: undated {why}"), "@A stays: tagged :v1"],
        );
    }
    judged_alike(
        repo("app").undated_image("A").tag("v1", "A"),
        [":v1 stays: undated absent", "@A stays: tagged :v1"],
    );
}

#[test]
fn the_first_second_of_2013_and_this_very_second_are_dates() {
    let days_since_2013 = 4899;
    for (created, fate) in [
        ("2013-01-01T00:00:00Z", format!(":v1 goes: older {days_since_2013}")),
        (&seconds_old(0), ":v1 stays: young 0".to_owned()),
    ] {
        let sample = repo("app").image("A", created).tag("v1", "A");
        assert_eq!(world(Powers::DeleteOnly, [sample]).fates(&policy())[0], fate);
    }
}

#[test]
fn an_offset_is_part_of_the_date() {
    let sample = repo("app").image("A", "2026-05-02T14:00:00+02:00").tag("v1", "A");
    assert_eq!(world(Powers::DeleteOnly, [sample]).fates(&policy())[0], ":v1 stays: young 30");
}

#[test]
fn days_of_the_largest_number_and_of_none_are_days() {
    let sample = || repo("app").image("A", &days_old(3000)).image("B", &seconds_old(0)).tag("a", "A");
    for (days_to_keep, fate) in [(u32::MAX, ":a stays: young 3000"), (0, ":a goes: older 3000")] {
        let policy = Policy { days_to_keep: Some(days_to_keep), ..policy() };
        assert_eq!(world(Powers::DeleteOnly, [sample()]).fates(&policy)[0], fate);
    }
}

#[test]
fn a_protected_tag_is_exact_and_a_pattern_is_a_part_in_any_case() {
    let sample = repo("app").image("A", &days_old(40)).image("B", &days_old(40));
    judged(
        Powers::DeleteAndUntag,
        sample
            .tag("latest", "A")
            .tag("LATEST", "B")
            .tag("latest-1", "B")
            .tag("my-Release-1", "A")
            .tag("releas", "B"),
        [
            ":LATEST goes: older 40",
            ":latest stays: protected tag latest",
            ":latest-1 goes: older 40",
            ":my-Release-1 stays: pattern release",
            ":releas goes: older 40",
            "@A stays: tagged :latest, tagged :my-Release-1",
            "@B goes: older 40",
        ],
    );
}

#[test]
fn a_pattern_in_capitals_protects_as_well() {
    let policy = Policy { protected_patterns: vec!["MAIN".to_owned()], ..policy() };
    let sample = repo("app").image("A", &days_old(40)).tag("domain-1", "A");
    assert_eq!(world(Powers::DeleteOnly, [sample]).fates(&policy)[0], ":domain-1 stays: pattern MAIN");
}

#[test]
fn every_ground_is_told_the_strongest_first() {
    let sample = repo("app").image("A", &days_old(1)).tag("latest", "A").tag("v1", "A");
    let sample = sample.gap(Concern::Tag(tag("latest")), "odd").gap(Concern::Manifest(digest("A")), "torn");
    judged_alike(
        sample,
        [
            ":latest stays: protected tag latest, gap odd, gap torn, young 1",
            ":v1 stays: gap torn, young 1",
            "@A stays: gap torn, tagged :latest, tagged :v1",
        ],
    );
}

// Several tags on one manifest: scenario 7 of FACTS section 8.

#[test]
fn an_expired_tag_beside_a_protected_one_goes_alone_where_tags_can_be_deleted() {
    let sample = repo("app").image("A", &days_old(40)).tag("v1", "A").tag("latest", "A");
    judged(
        Powers::DeleteAndUntag,
        sample.clone(),
        [":latest stays: protected tag latest", ":v1 goes: older 40", "@A stays: tagged :latest"],
    );
    judged(
        Powers::DeleteOnly,
        sample,
        [
            ":latest stays: protected tag latest",
            ":v1 stays: cannot untag A (tagged :latest)",
            "@A stays: tagged :latest",
        ],
    );
}

#[test]
fn protection_is_inherited_through_the_digest_down_to_the_children() {
    judged(
        Powers::DeleteOnly,
        repo("app")
            .image("A", &days_old(40))
            .index("I", &["A"])
            .tag("v1", "A")
            .tag("v2", "I")
            .tag("release-2", "I"),
        [
            ":release-2 stays: pattern release",
            ":v1 stays: cannot untag A (needed by I)",
            ":v2 stays: cannot untag I (tagged :release-2)",
            "@A stays: needed by I",
            "@I stays: tagged :release-2",
        ],
    );
}

#[test]
fn all_tags_on_an_expired_image_go_with_it() {
    judged_alike(
        repo("app").image("A", &days_old(40)).tag("v1", "A").tag("v2", "A"),
        [":v1 goes: older 40", ":v2 goes: older 40", "@A goes: older 40"],
    );
}

// Indexes: scenarios 1, 2, 5, 6, 12, 13, 14, 18.

#[test]
fn a_young_index_keeps_its_untagged_children_at_any_depth() {
    judged_alike(
        repo("app")
            .image("A", &days_old(40))
            .image("B", &days_old(1))
            .index("inner", &["A", "B"])
            .index("middle", &["inner"])
            .index("outer", &["middle"])
            .tag("v1", "outer"),
        [
            ":v1 stays: young 1",
            "@A stays: needed by inner",
            "@B stays: needed by inner",
            "@inner stays: needed by middle",
            "@middle stays: needed by outer",
            "@outer stays: tagged :v1",
        ],
    );
}

#[test]
fn an_index_is_as_old_as_its_newest_image_and_takes_its_children_along() {
    judged_alike(
        repo("app")
            .image("A", &days_old(90))
            .image("B", &days_old(40))
            .index("inner", &["A", "B"])
            .index("outer", &["inner"])
            .tag("v1", "outer"),
        [
            ":v1 goes: older 40",
            "@A goes: parent inner",
            "@B goes: parent inner",
            "@inner goes: parent outer",
            "@outer goes: older 40",
        ],
    );
}

#[test]
fn attestations_in_an_index_have_no_say_in_its_age_and_go_with_it() {
    judged_alike(
        repo("app")
            .image("A", &days_old(40))
            .artifact("undated")
            .image("dated", &days_old(1))
            .attested_index("I", &["A"], &["undated", "dated", "unread"])
            .tag("v1", "I"),
        [
            ":v1 goes: older 40",
            "@A goes: parent I",
            "@I goes: older 40",
            "@dated goes: parent I",
            "@undated goes: parent I",
        ],
    );
}

#[test]
fn an_undated_child_leaves_every_index_above_it_undated() {
    judged_alike(
        repo("app")
            .image("A", &days_old(40))
            .undated_image("B")
            .index("inner", &["A", "B"])
            .index("outer", &["inner"])
            .tag("v1", "inner")
            .tag("v2", "outer"),
        [
            ":v1 stays: undated child B",
            ":v2 stays: undated child inner",
            "@A stays: needed by inner",
            "@B stays: needed by inner",
            "@inner stays: tagged :v1, needed by outer",
            "@outer stays: tagged :v2",
        ],
    );
}

#[test]
fn a_child_that_is_missing_leaves_the_index_undated() {
    judged_alike(
        repo("app").image("A", &days_old(40)).index("I", &["A", "lost"]).subject("A", "lost").tag("v1", "I"),
        [":v1 stays: undated child lost", "@A stays: needed by I, about lost", "@I stays: tagged :v1"],
    );
}

#[test]
fn a_child_of_two_indexes_stays_with_the_one_that_stays() {
    judged_alike(
        repo("app")
            .image("shared", &days_old(40))
            .image("new", &days_old(1))
            .index("I", &["shared"])
            .index("J", &["shared", "new"])
            .tag("v1", "I")
            .tag("v2", "J"),
        [
            ":v1 goes: older 40",
            ":v2 stays: young 1",
            "@I goes: older 40",
            "@J stays: tagged :v2",
            "@new stays: needed by J",
            "@shared stays: needed by J",
        ],
    );
}

#[test]
fn a_child_of_two_indexes_goes_with_both() {
    judged_alike(
        repo("app")
            .image("shared", &days_old(40))
            .index("I", &["shared"])
            .index("J", &["shared", "shared"])
            .tag("v1", "I")
            .tag("v2", "J"),
        [
            ":v1 goes: older 40",
            ":v2 goes: older 40",
            "@I goes: older 40",
            "@J goes: older 40",
            "@shared goes: parent I",
        ],
    );
}

#[test]
fn a_child_with_a_young_tag_of_its_own_outlives_its_index() {
    // The index is old by its only image that counts.
    judged_alike(
        repo("app")
            .image("A", &days_old(40))
            .image("B", &days_old(1))
            .attested_index("I", &["A"], &["B"])
            .tag("v1", "I")
            .tag("v2", "B"),
        [
            ":v1 goes: older 40",
            ":v2 stays: young 1",
            "@A goes: parent I",
            "@B stays: tagged :v2",
            "@I goes: older 40",
        ],
    );
}

#[test]
fn an_expired_tag_of_its_own_tells_more_than_an_index_that_goes() {
    judged_alike(
        repo("app").image("A", &days_old(40)).index("I", &["A"]).tag("a", "A").tag("z", "I"),
        [":a goes: older 40", ":z goes: older 40", "@A goes: older 40", "@I goes: older 40"],
    );
}

#[test]
fn an_untagged_index_stays_unclaimed_and_keeps_its_children() {
    let sample = repo("app").image("A", &days_old(40)).index("I", &["A"]).tag("v1", "A");
    judged(
        Powers::DeleteAndUntag,
        sample.clone(),
        [":v1 goes: older 40", "@A stays: needed by I", "@I stays: unclaimed"],
    );
    judged(
        Powers::DeleteOnly,
        sample,
        [":v1 stays: cannot untag A (needed by I)", "@A stays: needed by I", "@I stays: unclaimed"],
    );
}

#[test]
fn an_index_without_images_is_undated_unless_annotated() {
    let empty = || repo("app").attested_index("I", &[], &["X"]).artifact("X").tag("v1", "I");
    judged_alike(empty(), [":v1 stays: undated no images", "@I stays: tagged :v1", "@X stays: needed by I"]);
    judged_alike(
        empty().annotated("I", &days_old(40)),
        [":v1 goes: older 40", "@I goes: older 40", "@X goes: parent I"],
    );
    judged_alike(
        empty().annotated("I", "once"),
        [r#":v1 stays: undated unparsable "once""#, "@I stays: tagged :v1", "@X stays: needed by I"],
    );
}

#[test]
fn the_images_of_an_index_tell_its_age_and_not_its_annotation() {
    judged_alike(
        repo("app").image("A", &days_old(1)).index("I", &["A"]).annotated("I", &days_old(40)).tag("v1", "I"),
        [":v1 stays: young 1", "@A stays: needed by I", "@I stays: tagged :v1"],
    );
}

#[test]
fn a_build_cache_is_an_index_of_blobs_and_names_no_manifest() {
    let cache = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":9}}]}}"#,
        digest("A")
    );
    judged_alike(
        repo("app").parsed("cache", &cache).image("A", &days_old(40)).tag("cache", "cache").tag("v1", "A"),
        [
            ":cache stays: undated no images",
            ":v1 goes: older 40",
            "@A goes: older 40",
            "@cache stays: tagged :cache",
        ],
    );
}

#[test]
fn manifests_without_a_media_type_are_judged_by_their_content() {
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":9}}]}}"#, digest("A"));
    judged_alike(
        repo("app").parsed("I", &index).image("A", &days_old(40)).tag("v1", "I"),
        [":v1 goes: older 40", "@A goes: parent I", "@I goes: older 40"],
    );
}

#[test]
fn indexes_nested_deeper_than_anyone_nests_are_undated_and_end() {
    let mut sample = repo("app").image("0", &days_old(40));
    for level in 1..=70 {
        sample = sample.index(&level.to_string(), &[&(level - 1).to_string()]);
    }
    let fates = world(Powers::DeleteOnly, [sample.tag("v1", "70").tag("v2", "20")]).fates(&policy());
    assert_eq!(fates[..2], [":v1 stays: undated child 69", ":v2 stays: cannot untag 20 (needed by 21)"]);
}

// Other kinds: scenario 11, Helm.

#[test]
fn a_chart_is_dated_by_its_annotation_only() {
    let chart = || repo("charts").artifact("chart").tag("1.0", "chart");
    judged_alike(chart(), [":1.0 stays: undated absent", "@chart stays: tagged :1.0"]);
    judged_alike(chart().annotated("chart", &days_old(40)), [":1.0 goes: older 40", "@chart goes: older 40"]);
}

#[test]
fn schema_1_is_dated_by_its_history() {
    for (created, fate) in [(40, ":v1 goes: older 40"), (3, ":v1 stays: young 3")] {
        let content = Content::Schema1 { layers: vec![digest("layer")] };
        let created = days_old(created);
        let sample = repo("app").manifest("S", content, Some((&created, Source::History))).tag("v1", "S");
        assert_eq!(world(Powers::DeleteOnly, [sample]).fates(&policy())[0], fate);
    }
    let bytes =
        format!(r#"{{"schemaVersion":1,"fsLayers":[],"history":[],"mediaType":"{}"}}"#, MediaType::SCHEMA1);
    judged_alike(
        repo("app").parsed("S", &bytes).tag("v1", "S"),
        [":v1 stays: undated absent", "@S stays: tagged :v1"],
    );
}

// Referrers: scenarios 8 and 9.

#[test]
fn everything_about_a_surviving_image_stays_however_old() {
    judged_alike(
        repo("app")
            .image("A", &days_old(1))
            .image("R", &days_old(400))
            .subject("R", "A")
            .index("fallback", &["R"])
            .artifact("sig")
            .artifact("att")
            .image("sbom", &days_old(400))
            .tag("v1", "A")
            .tag(&about("A", ""), "fallback")
            .tag(&about("A", ".sig"), "sig")
            .tag(&about("A", ".att"), "att")
            .tag(&about("A", ".sbom"), "sbom"),
        [
            ":sha256-A stays: about A",
            ":sha256-A.att stays: about A",
            ":sha256-A.sbom stays: about A",
            ":sha256-A.sig stays: about A",
            ":v1 stays: young 1",
            "@A stays: tagged :v1, needed by R",
            "@R stays: needed by fallback, about A",
            "@att stays: tagged :sha256-A.att",
            "@fallback stays: tagged :sha256-A",
            "@sbom stays: tagged :sha256-A.sbom",
            "@sig stays: tagged :sha256-A.sig",
        ],
    );
}

#[test]
fn everything_about_an_image_goes_with_it_however_young() {
    judged_alike(
        repo("app")
            .image("A", &days_old(40))
            .image("R", &days_old(1))
            .subject("R", "A")
            .index("fallback", &["R"])
            .artifact("sig")
            .artifact("att")
            .image("sbom", &days_old(1))
            .tag("v1", "A")
            .tag(&about("A", ""), "fallback")
            .tag(&about("A", ".sig"), "sig")
            .tag(&about("A", ".att"), "att")
            .tag(&about("A", ".sbom"), "sbom"),
        [
            ":sha256-A goes: subject A",
            ":sha256-A.att goes: subject A",
            ":sha256-A.sbom goes: subject A",
            ":sha256-A.sig goes: subject A",
            ":v1 goes: older 40",
            "@A goes: older 40",
            "@R goes: subject A",
            "@att goes: subject A",
            "@fallback goes: subject A",
            "@sbom goes: subject A",
            "@sig goes: subject A",
        ],
    );
}

#[test]
fn what_is_about_a_child_stays_and_goes_with_its_index() {
    let sample = |age| {
        repo("app")
            .image("A", &days_old(age))
            .index("I", &["A"])
            .artifact("sig")
            .artifact("R")
            .subject("R", "A")
            .tag("v1", "I")
            .tag(&about("A", ".sig"), "sig")
    };
    judged_alike(
        sample(1),
        [
            ":sha256-A.sig stays: about A",
            ":v1 stays: young 1",
            "@A stays: needed by R, needed by I",
            "@I stays: tagged :v1",
            "@R stays: about A",
            "@sig stays: tagged :sha256-A.sig",
        ],
    );
    judged_alike(
        sample(40),
        [
            ":sha256-A.sig goes: subject A",
            ":v1 goes: older 40",
            "@A goes: parent I",
            "@I goes: older 40",
            "@R goes: subject A",
            "@sig goes: subject A",
        ],
    );
}

#[test]
fn a_referrer_of_a_referrer_follows_the_image() {
    let sample = |age| {
        repo("app")
            .image("A", &days_old(age))
            .artifact("sbom")
            .subject("sbom", "A")
            .artifact("sig")
            .subject("sig", "sbom")
            .tag("v1", "A")
    };
    judged_alike(
        sample(1),
        [
            ":v1 stays: young 1",
            "@A stays: tagged :v1, needed by sbom",
            "@sbom stays: needed by sig, about A",
            "@sig stays: about sbom",
        ],
    );
    judged_alike(
        sample(40),
        [":v1 goes: older 40", "@A goes: older 40", "@sbom goes: subject A", "@sig goes: subject sbom"],
    );
}

#[test]
fn referrers_about_each_other_are_judged_and_end() {
    let cycle = || {
        repo("app")
            .image("A", &days_old(40))
            .artifact("R")
            .artifact("S")
            .subject("A", "S")
            .subject("R", "A")
            .subject("S", "R")
    };
    // Nothing expires by itself there.
    judged_alike(
        cycle().tag("v1", "A"),
        [
            ":v1 stays: about S",
            "@A stays: needed by R, about S",
            "@R stays: needed by S, about A",
            "@S stays: needed by A, about R",
        ],
    );
}

#[test]
fn a_tagged_referrer_is_no_image_of_its_own() {
    let sample = |age| {
        repo("app")
            .image("A", &days_old(age))
            .image("R", &days_old(200))
            .subject("R", "A")
            .tag("v1", "A")
            .tag("sbom-of-v1", "R")
    };
    judged_alike(
        sample(1),
        [
            ":sbom-of-v1 stays: about A",
            ":v1 stays: young 1",
            "@A stays: tagged :v1, needed by R",
            "@R stays: about A",
        ],
    );
    judged_alike(
        sample(40),
        [":sbom-of-v1 goes: subject A", ":v1 goes: older 40", "@A goes: older 40", "@R goes: subject A"],
    );
}

#[test]
fn a_protected_referrer_keeps_what_it_is_about() {
    let sample = repo("app").image("A", &days_old(40)).artifact("R").subject("R", "A");
    judged(
        Powers::DeleteOnly,
        sample.tag("v1", "A").tag("release-sbom", "R"),
        [
            ":release-sbom stays: pattern release",
            ":v1 stays: cannot untag A (needed by R)",
            "@A stays: needed by R",
            "@R stays: tagged :release-sbom, about A",
        ],
    );
}

#[test]
fn a_protected_signature_tag_keeps_its_subject_and_its_children() {
    let mut protecting = policy();
    protecting.protected_patterns.push(".SIG".to_owned());
    let sample = repo("app").image("A", &days_old(40)).index("I", &["A"]).artifact("sig").tag("v1", "I");
    let signed = world(Powers::DeleteOnly, [sample.tag(&about("I", ".sig"), "sig")]);
    assert_eq!(
        signed.fates(&protecting),
        [
            ":sha256-I.sig stays: pattern .SIG",
            ":v1 stays: cannot untag I (tagged :sha256-I.sig)",
            "@A stays: needed by I",
            "@I stays: tagged :sha256-I.sig",
            "@sig stays: tagged :sha256-I.sig",
        ]
    );
}

#[test]
fn referrers_about_what_is_not_here_stay() {
    judged_alike(
        repo("app")
            .image("R", &days_old(400))
            .subject("R", "gone")
            .artifact("sig")
            .artifact("tagged")
            .subject("tagged", "gone")
            .tag(&about("gone", ".sig"), "sig")
            .tag("sbom", "tagged"),
        [
            ":sbom stays: orphan",
            ":sha256-gone.sig stays: orphan",
            "@R stays: about gone",
            "@sig stays: tagged :sha256-gone.sig",
            "@tagged stays: tagged :sbom, about gone",
        ],
    );
}

#[test]
fn orphaned_referrers_go_where_that_is_asked_for_and_the_storage_shows_that_they_are() {
    let sample = repo("app")
        .image("A", &days_old(1))
        .artifact("a sig")
        .tag("v1", "A")
        .tag(&about("A", ".sig"), "a sig")
        .artifact("sig")
        .artifact("tagged")
        .subject("tagged", "gone")
        .tag(&about("gone", ".sig"), "sig")
        .tag("sbom", "tagged")
        .tag("release-sbom", "tagged");
    let mut signed = world(Powers::DeleteAndUntag, [sample]);
    let asked = Policy { orphans: Orphans::Delete, ..policy() };
    assert_eq!(signed.fates(&asked), signed.fates(&policy()), "an API does not show what is untagged");
    signed.inventory.storage = Some(std::sync::Arc::default());
    assert_eq!(
        signed.fates(&asked),
        [
            ":release-sbom stays: pattern release, orphan",
            ":sbom goes: orphan",
            ":sha256-A.sig stays: about A",
            ":sha256-gone.sig goes: orphan",
            ":v1 stays: young 1",
            "@A stays: tagged :v1",
            "@a sig stays: tagged :sha256-A.sig",
            "@sig goes: orphan",
            "@tagged stays: tagged :release-sbom, about gone",
        ]
    );
    let verdicts = judge(&signed.inventory, &asked, now());
    let plan = draw(&signed.inventory, &verdicts, &asked, now());
    let audited = audit(plan, &signed.inventory, &promises(&asked)).unwrap();
    assert_eq!(
        (audited.stale.len(), audited.sound.plan().steps.len()),
        (0, 2),
        "the audit has nothing against it"
    );
    let elsewhere =
        Rule { repos: Patterns::new(["other"]).unwrap(), orphans: Some(Orphans::Delete), ..Rule::named("r") };
    let here = Rule { repos: Patterns::default(), orphans: Some(Orphans::Keep), ..Rule::named("s") };
    let spared = Policy { rules: vec![elsewhere, here], ..asked };
    assert_eq!(signed.fates(&spared), signed.fates(&policy()), "the first rule for a repository decides");
}

#[test]
fn two_subjects_may_have_the_same_empty_list_of_referrers() {
    let sample = repo("app")
        .image("old", &days_old(40))
        .image("new", &days_old(1))
        .index("empty", &[])
        .tag("v1", "old")
        .tag("v2", "new")
        .tag(&about("old", ""), "empty")
        .tag(&about("new", ""), "empty");
    judged(
        Powers::DeleteAndUntag,
        sample.clone(),
        [
            ":sha256-new stays: about new",
            ":sha256-old goes: subject old",
            ":v1 goes: older 40",
            ":v2 stays: young 1",
            "@empty stays: tagged :sha256-new",
            "@new stays: tagged :v2",
            "@old goes: older 40",
        ],
    );
    judged(
        Powers::DeleteOnly,
        sample,
        [
            ":sha256-new stays: about new",
            ":sha256-old stays: cannot untag empty (tagged :sha256-new)",
            ":v1 goes: older 40",
            ":v2 stays: young 1",
            "@empty stays: tagged :sha256-new",
            "@new stays: tagged :v2",
            "@old goes: older 40",
        ],
    );
}

#[test]
fn an_image_that_is_the_signature_of_another_by_tag_stays_for_its_own_tag() {
    judged(
        Powers::DeleteAndUntag,
        repo("app")
            .image("old", &days_old(40))
            .image("new", &days_old(1))
            .tag("v1", "old")
            .tag("v2", "new")
            .tag(&about("old", ".sig"), "new"),
        [
            ":sha256-old.sig goes: subject old",
            ":v1 goes: older 40",
            ":v2 stays: young 1",
            "@new stays: tagged :v2",
            "@old goes: older 40",
        ],
    );
}

// What could not be learned: scenarios 16, 18, 37.

#[test]
fn a_repository_that_could_not_be_listed_whole_stays_whole() {
    let whole = repo("other").image("B", &days_old(40)).tag("v1", "B");
    let broken = repo("app")
        .image("A", &days_old(40))
        .tag("v1", "A")
        .unfinished("A")
        .gap(Concern::Repository, "listing broke off");
    assert_eq!(
        world(Powers::DeleteOnly, [broken, whole]).fates(&policy()),
        [
            ":v1 goes: older 40",
            ":v1 stays: gap listing broke off",
            "@A stays: gap listing broke off",
            "@B goes: older 40",
        ]
    );
}

#[test]
fn a_dangling_tag_stays_and_concerns_no_other() {
    judged_alike(
        repo("app").image("A", &days_old(40)).tag("v1", "A").dangling_tag("v2"),
        [":v1 goes: older 40", ":v2 stays: gap 404, gap its manifest could not be read", "@A goes: older 40"],
    );
}

#[test]
fn a_tag_on_a_manifest_that_was_not_read_stays() {
    judged_alike(
        repo("app").tag("v1", "unread"),
        [":v1 stays: gap its manifest could not be read, undated absent"],
    );
}

#[test]
fn a_gap_in_a_child_keeps_the_child_and_in_an_index_keeps_both() {
    let sample = || repo("app").image("A", &days_old(40)).index("I", &["A"]).tag("v1", "I");
    judged_alike(
        sample().gap(Concern::Manifest(digest("A")), "torn"),
        [":v1 goes: older 40", "@A stays: gap torn", "@I goes: older 40"],
    );
    judged_alike(
        sample().gap(Concern::Manifest(digest("I")), "torn"),
        [":v1 stays: gap torn", "@A stays: needed by I", "@I stays: gap torn, tagged :v1"],
    );
}

#[test]
fn a_repository_without_tags_is_empty_and_no_error() {
    judged_alike(repo("app"), []);
    judged_alike(repo("app").image("A", &days_old(40)), ["@A stays: unclaimed"]);
}

// Interrupted runs.

#[test]
fn what_an_interrupted_run_left_behind_goes_unless_something_needs_it_again() {
    judged_alike(
        repo("app").image("A", &days_old(40)).image("B", &days_old(1)).index("I", &["A"]).unfinished("I"),
        ["@A goes: parent I", "@B stays: unclaimed", "@I goes: unfinished"],
    );
    judged_alike(
        repo("app")
            .image("A", &days_old(40))
            .image("B", &days_old(1))
            .index("J", &["A", "B"])
            .artifact("R")
            .subject("R", "B")
            .tag("v2", "J")
            .unfinished("A")
            .unfinished("R")
            .unfinished("never seen"),
        [
            ":v2 stays: young 1",
            "@A stays: needed by J",
            "@B stays: needed by J, needed by R",
            "@J stays: tagged :v2",
            "@R stays: about B",
        ],
    );
    judged_alike(
        repo("app").undated_image("A").unfinished("A").tag("v1", "A"),
        [":v1 stays: undated absent", "@A stays: tagged :v1"],
    );
}

// Untagged manifests.

/// The sample policy, with untagged manifests going a week after their last push.
fn untagged_policy() -> Policy {
    Policy { untagged: Some(SignedDuration::from_hours(24 * 7)), ..policy() }
}

#[track_caller]
fn judged_untagged<const N: usize>(sample: Sample, expected: [&str; N]) {
    for powers in BOTH {
        assert_eq!(world(powers, [sample.clone()]).fates(&untagged_policy()), expected, "{powers:?}");
    }
}

#[test]
fn an_untagged_manifest_goes_a_while_after_its_last_push_and_only_if_that_is_asked_for() {
    let sample =
        repo("app").image("A", &days_old(400)).pushed("A", 8).image("B", &days_old(400)).pushed("B", 7);
    judged_alike(sample.clone(), ["@A stays: unclaimed", "@B stays: unclaimed"]);
    judged_untagged(sample, ["@A goes: untagged 8", "@B stays: recently pushed"]);
}

#[test]
fn an_untagged_manifest_whose_push_is_not_known_stays() {
    judged_untagged(repo("app").image("A", &days_old(400)), ["@A stays: undated push unknown"]);
}

#[test]
fn an_untagged_index_goes_with_its_children_but_for_one_that_is_tagged() {
    judged_untagged(
        repo("app")
            .image("A", &days_old(400))
            .image("B", &days_old(1))
            .index("J", &["A", "B"])
            .pushed("A", 8)
            .pushed("B", 8)
            .pushed("J", 8)
            .tag("v1", "B"),
        [":v1 stays: young 1", "@A goes: parent J", "@B stays: tagged :v1", "@J goes: untagged 8"],
    );
}

#[test]
fn untagged_children_of_what_stays_stay_however_old() {
    let sample = repo("app").image("A", &days_old(400)).index("J", &["A"]).pushed("A", 800);
    judged_untagged(
        sample.clone().pushed("J", 800).tag("latest", "J"),
        [":latest stays: protected tag latest", "@A stays: needed by J", "@J stays: tagged :latest"],
    );
    judged_untagged(sample.pushed("J", 1), ["@A stays: needed by J", "@J stays: recently pushed"]);
}

#[test]
fn an_untagged_referrer_goes_and_stays_with_its_subject_and_alone_where_that_is_gone() {
    let referrer = repo("app").artifact("R").subject("R", "A").pushed("R", 8);
    judged_untagged(referrer.clone(), ["@R goes: untagged 8"]);
    judged_untagged(
        referrer.clone().image("A", &days_old(1)).tag("v1", "A"),
        [":v1 stays: young 1", "@A stays: tagged :v1, needed by R", "@R stays: about A"],
    );
    judged_untagged(
        referrer.clone().image("A", &days_old(400)).pushed("A", 8),
        ["@A goes: untagged 8", "@R goes: subject A"],
    );
    judged_untagged(
        referrer.image("A", &days_old(400)).pushed("A", 8).tag("release-sig", "R"),
        [
            ":release-sig stays: pattern release",
            "@A stays: needed by R",
            "@R stays: tagged :release-sig, about A",
        ],
    );
}

#[test]
fn an_untagged_manifest_that_an_index_of_another_repository_lists_stays_with_that_index() {
    let here = repo("a").image("A", &days_old(400)).pushed("A", 8);
    let there = repo("b").image("A", &days_old(400)).index("J", &["A"]).pushed("A", 8).pushed("J", 8);
    let fates = |there: Sample| world(Powers::DeleteOnly, [here.clone(), there]).fates(&untagged_policy());
    assert_eq!(
        fates(there.clone().tag("latest", "J"))[1..],
        ["@A stays: listed elsewhere", "@A stays: needed by J", "@J stays: tagged :latest"]
    );
    assert_eq!(fates(there), ["@A goes: parent J", "@A goes: untagged 8", "@J goes: untagged 8"]);
}

#[test]
fn what_cannot_be_seen_whole_keeps_its_untagged_manifests() {
    judged_untagged(
        repo("app").image("A", &days_old(400)).pushed("A", 8).gap(Concern::Repository, "torn"),
        ["@A stays: gap torn"],
    );
    judged_untagged(
        repo("app").image("A", &days_old(400)).pushed("A", 8).gap(Concern::Manifest(digest("A")), "torn"),
        ["@A stays: gap torn"],
    );
    judged_untagged(
        repo("app").image("A", &days_old(400)).pushed("A", 8).gap(Concern::Nothing, "a layer link is torn"),
        ["@A goes: untagged 8"],
    );
}

// Clocks.

fn by(clocks: &[Clock]) -> Policy {
    Policy { clock: clocks.iter().copied().collect(), ..policy() }
}

#[test]
fn the_clocks_that_were_chosen_date_an_image_and_the_newest_of_them_wins() {
    use Clock::{Created, Pushed};
    for (created, pushed, clocks, fate) in [
        (Some(40), Some(5), &[Created][..], "goes: older 40"),
        (Some(40), Some(5), &[Pushed], "stays: young 5"),
        (Some(40), Some(5), &[Created, Pushed], "stays: young 5"),
        (Some(5), Some(40), &[Created, Pushed], "stays: young 5"),
        (Some(5), Some(40), &[Pushed], "goes: older 40"),
        (Some(50), Some(40), &[Created, Pushed], "goes: older 40"),
        (None, Some(40), &[Created], "stays: undated absent"),
        (None, Some(40), &[Created, Pushed], "goes: older 40"),
        (None, Some(40), &[Pushed], "goes: older 40"),
        (Some(40), None, &[Created, Pushed], "stays: undated push unknown"),
        (Some(40), None, &[Pushed], "stays: undated push unknown"),
        (Some(40), Some(-1), &[Pushed], "stays: young -1"),
        (Some(40), Some(20_000), &[Created, Pushed], "stays: undated implausible"),
    ] {
        let sample = repo("app").tag("v1", "A");
        let sample = match created {
            Some(days) => sample.image("A", &days_old(days)),
            None => sample.undated_image("A"),
        };
        let sample = pushed.map_or_else(|| sample.clone(), |days| sample.clone().tag_pushed("v1", days));
        let fates = world(Powers::DeleteOnly, [sample]).fates(&by(clocks));
        assert_eq!(fates[0], format!(":v1 {fate}"), "{created:?} {pushed:?} {clocks:?}");
    }
}

#[test]
fn a_policy_says_what_it_does_with_untagged_manifests_and_by_which_clocks() {
    let policy = Policy { ..by(&[Clock::Created, Clock::Pushed]) };
    let policy = Policy { untagged: Some(SignedDuration::from_hours(36)), ..policy };
    let sentence = policy.to_string();
    let begins = "remove images created and pushed more than 30 days ago; untagged manifests that nothing needs, 36h after their \
                  last push; never";
    assert!(sentence.starts_with(begins), "{sentence}");
    assert_ne!(policy.hash(), by(&[Clock::Created, Clock::Pushed]).hash());
    assert_ne!(by(&[Clock::Pushed]).hash(), by(&[Clock::Created]).hash());
}

#[test]
fn a_policy_reads_back_as_a_sentence_and_is_known_by_its_hash() {
    assert_eq!(
        policy().to_string(),
        "remove images created more than 30 days ago; never those tagged latest; never those whose tag contains \
         release; images of unknown age stay, and so does everything that a remaining image needs"
    );
    let other = Policy { days_to_keep: Some(31), ..policy() };
    assert_eq!(policy().hash(), policy().hash());
    assert_ne!(policy().hash(), other.hash());
}

#[test]
fn what_is_about_a_manifest_that_is_there_and_cannot_be_read_is_no_orphan() {
    let sample = repo("app")
        .artifact("sig")
        .tag(&about("torn", ".sig"), "sig")
        .artifact("sbom")
        .subject("sbom", "torn")
        .tag("sbom", "sbom")
        .artifact("untagged")
        .subject("untagged", "torn")
        .pushed("untagged", 99)
        .gap(Concern::Manifest(digest("torn")), "the manifest is not stored");
    let mut world = world(Powers::DeleteAndUntag, [sample]);
    world.inventory.storage = Some(std::sync::Arc::default());
    let asked =
        Policy { orphans: Orphans::Delete, untagged: Some(SignedDuration::from_hours(24)), ..policy() };
    let going: Vec<String> = world.fates(&asked).into_iter().filter(|fate| fate.contains("goes")).collect();
    assert_eq!(going, [""; 0]);
}
