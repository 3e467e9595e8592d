use serde_json::{Value, json};

use super::*;
use crate::decision::Ground;
use crate::inventory::{Concern, Powers};
use crate::policy::judge;
use crate::sample::{Sample, World, about, days_old, digest, now, policy, repo, tag, world};

#[track_caller]
fn planned<const N: usize>(world: &World, expected: [&str; N]) {
    assert_eq!(world.steps(&world.plan(&policy()).steps), expected);
}

fn deletes_only(sample: Sample) -> World {
    world(Powers::DeleteOnly, [sample])
}

// Order.

#[test]
fn indexes_are_deleted_before_their_children_at_any_depth() {
    let sample = repo("app").image("A", &days_old(40)).index("inner", &["A"]).index("outer", &["inner", "A"]);
    planned(
        &deletes_only(sample.tag("v1", "outer").tag("v2", "outer").tag("v3", "A")),
        ["delete @outer :v1 :v2", "delete @inner", "delete @A :v3"],
    );
}

#[test]
fn referrers_are_deleted_before_what_they_are_about() {
    let sample = repo("app").image("A", &days_old(40)).artifact("sbom").artifact("sig");
    planned(
        &deletes_only(sample.subject("sbom", "A").subject("sig", "sbom").tag("v1", "A")),
        ["delete @sig", "delete @sbom", "delete @A :v1"],
    );
}

#[test]
fn a_fallback_index_is_deleted_before_its_referrers_and_they_before_their_subject() {
    let sample = repo("app").image("A", &days_old(40)).artifact("R").subject("R", "A").index("list", &["R"]);
    planned(
        &deletes_only(sample.tag("v1", "A").tag(&about("A", ""), "list")),
        ["delete @list :sha256-A", "delete @R", "delete @A :v1"],
    );
}

#[test]
fn what_is_about_an_image_by_its_tag_alone_is_deleted_before_it() {
    for suffix in ["", ".sig", ".att", ".sbom"] {
        for name in ["A", "B", "C", "D"] {
            let sample = repo("app").image(name, &days_old(40)).artifact("bound").tag("v1", name);
            planned(
                &deletes_only(sample.tag(&about(name, suffix), "bound")),
                [&*format!("delete @bound :sha256-{name}{suffix}"), &*format!("delete @{name} :v1")],
            );
        }
    }
}

#[test]
fn what_names_tie_into_a_knot_is_still_deleted_index_first() {
    // The child is by its tag about the index that lists it: the index, which would break, goes first.
    for child in ["A", "B", "C", "D"] {
        let sample = repo("app").image(child, &days_old(40)).index("I", &[child]).tag("v1", "I");
        planned(
            &deletes_only(sample.tag(&about("I", ".sig"), child)),
            ["delete @I :v1", &*format!("delete @{child} :sha256-I.sig")],
        );
    }
}

#[test]
fn what_lies_under_a_cycle_is_deleted_after_it() {
    for below in ["1", "2", "3", "4", "5", "6", "7", "8"] {
        let sample = repo("app")
            .image(below, &days_old(40))
            .index("R", &[below])
            .artifact("S")
            .subject("R", "S")
            .subject("S", "R");
        let world = deletes_only(sample.unfinished("R"));
        let steps = world.steps(&world.plan(&policy()).steps);
        assert_eq!(steps.len(), 3, "{steps:?}");
        assert_eq!(steps[2], format!("delete @{below}"));
    }
}

#[test]
fn tags_that_leave_a_manifest_behind_are_deleted_first_and_alone() {
    let sample = repo("app")
        .image("A", &days_old(40))
        .image("B", &days_old(40))
        .tag("v1", "A")
        .tag("v2", "A")
        .tag("latest", "A")
        .tag("v3", "B");
    planned(
        &world(Powers::DeleteAndUntag, [sample.clone()]),
        ["untag @A :v1", "untag @A :v2", "delete @B :v3"],
    );
    planned(&deletes_only(sample), ["delete @B :v3"]);
}

#[test]
fn a_plan_keeps_each_repository_apart_and_says_what_was_not_learned() {
    let plain = |name| repo(name).image("A", &days_old(40)).tag("v1", "A");
    let blind = plain("blind").gap(Concern::Repository, "the listing broke off");
    let mut world = world(Powers::DeleteOnly, [plain("b"), plain("a"), blind]);
    world.inventory.gaps.push("the catalog broke off".to_owned());
    let plan = world.plan(&policy());
    let places: Vec<_> = plan.steps.iter().map(|step| step.to_string()).collect();
    let short = digest("A").short();
    assert_eq!(places, [format!("delete a:v1 ({short})"), format!("delete b:v1 ({short})")]);
    assert_eq!(plan.gaps, ["the catalog broke off", "blind: the listing broke off"]);
}

#[test]
fn an_empty_registry_makes_an_empty_plan() {
    let plan = world(Powers::DeleteAndUntag, [repo("app")]).plan(&policy());
    assert_eq!((plan.steps, plan.estimate, plan.gaps), (vec![], Estimate::default(), vec![]));
}

// The estimate. An image of the samples has 111 bytes of its own; a further layer has 1000.

#[track_caller]
fn estimated(world: &World, bytes: u64) {
    assert_eq!(world.plan(&policy()).estimate, Estimate { bytes: Bytes(bytes), exact: false });
}

#[test]
fn the_estimate_counts_a_shared_blob_once() {
    let sample = repo("app")
        .image("A", &days_old(40))
        .image("B", &days_old(50))
        .layer("A", "base")
        .layer("B", "base")
        .tag("v1", "A")
        .tag("v2", "B");
    estimated(&deletes_only(sample), 1000 + 2 * 111);
}

#[test]
fn the_estimate_counts_nothing_that_a_kept_manifest_holds_in_whatever_repository() {
    let old = |name| repo(name).image("A", &days_old(40)).layer("A", "base").layer("A", "own").tag("v1", "A");
    let holds_base = |name| repo(name).image("B", &days_old(1)).layer("B", "base").tag("v1", "B");
    estimated(&world(Powers::DeleteOnly, [old("app")]), 2111);
    estimated(&world(Powers::DeleteOnly, [old("app"), holds_base("other")]), 1111);
    estimated(&world(Powers::DeleteOnly, [holds_base("an-earlier"), old("app")]), 1111);
    let same_repo = old("app").image("B", &days_old(1)).layer("B", "base").tag("v2", "B");
    estimated(&world(Powers::DeleteOnly, [same_repo]), 1111);
}

#[test]
fn the_estimate_counts_the_same_manifest_in_two_repositories_once_and_only_if_both_go() {
    let app = |name| repo(name).image("A", &days_old(40)).tag("v1", "A");
    estimated(&world(Powers::DeleteOnly, [app("a"), app("b")]), 111);
    estimated(&world(Powers::DeleteOnly, [app("a"), app("b").tag("latest", "A")]), 0);
}

#[test]
fn untagging_frees_nothing() {
    let sample = repo("app").image("A", &days_old(40)).tag("v1", "A").tag("latest", "A");
    estimated(&world(Powers::DeleteAndUntag, [sample]), 0);
}

// Text.

fn small_plan() -> Plan {
    let sample = repo("team/app")
        .image("A", &days_old(40))
        .image("B", &days_old(41))
        .artifact("sig")
        .tag("v1", "A")
        .tag("latest", "A")
        .tag("v2", "B")
        .tag(&about("B", ".sig"), "sig")
        .dangling_tag("v3");
    let world = world(Powers::DeleteAndUntag, [sample]);
    let mut plan = world.plan(&policy());
    let verdicts = judge(&world.inventory, &policy(), now());
    plan.kept = Some(kept(&world.inventory, &verdicts));
    plan
}

#[test]
fn the_json_of_a_plan_is_exactly_this() {
    let (a, b) = (digest("A").to_string(), digest("B").to_string());
    let signature = about("B", ".sig");
    let sentence = policy().to_string();
    let gap = |why: &str| json!({"ground": "gap", "why": why});
    let expected = json!({
        "format": 1,
        "registry": "registry.example:5000",
        "as_of": "2026-06-01T12:00:00Z",
        "origin": "policy",
        "policy": {"hash": policy().hash().to_string(), "sentence": sentence},
        "estimate": { "bytes": 212, "exact": false },
        "steps": [
            {"action": "untag", "repository": "team/app", "digest": a, "tags": ["v1"],
             "cause": {"kind": "older", "created": "2026-04-22T12:00:00Z", "source": "config",
                       "age_days": 40, "keep_days": 30}},
            {"action": "delete", "repository": "team/app", "digest": digest("sig").to_string(),
             "tags": [signature], "cause": {"kind": "subject-goes", "subject": b}},
            {"action": "delete", "repository": "team/app", "digest": b, "tags": ["v2"],
             "cause": {"kind": "older", "created": "2026-04-21T12:00:00Z", "source": "config",
                       "age_days": 41, "keep_days": 30}},
        ],
        "gaps": ["team/app: tag v3: 404"],
        "kept": [
            {"repository": "team/app", "tag": "latest", "digest": a,
             "grounds": [{"ground": "protected-tag", "tag": "latest"}]},
            {"repository": "team/app", "tag": "v3", "digest": null,
             "grounds": [gap("404"), gap("its manifest could not be read")]},
        ],
    });
    assert_eq!(serde_json::to_value(small_plan()).unwrap(), expected);
}

#[test]
fn a_plan_is_the_same_after_writing_and_reading() {
    let mut undo = small_plan();
    undo.origin = Origin::Undo("run-7".to_owned());
    undo.steps[0].cause = Cause::Undo { run: "run-7".to_owned() };
    for plan in [small_plan(), undo, Plan { kept: None, ..small_plan() }] {
        let text = serde_json::to_string_pretty(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}

/// A plan with something at `pointer` changed, read again.
fn reread(pointer: &str, change: impl Fn(&mut Value)) -> Result<Plan, String> {
    let mut plan = serde_json::to_value(small_plan()).unwrap();
    change(plan.pointer_mut(pointer).unwrap());
    serde_json::from_value(plan).map_err(|error| error.to_string())
}

#[test]
fn unknown_fields_are_refused_at_every_level() {
    for pointer in ["", "/policy", "/steps/0", "/kept/0"] {
        let error = reread(pointer, |object| object["surprise"] = json!(1)).unwrap_err();
        assert!(error.contains("unknown field `surprise`"), "{pointer}: {error}");
    }
}

#[test]
fn names_outside_their_grammar_are_refused() {
    for (pointer, bad) in [
        ("/steps/0/repository", "Team/../app"),
        ("/steps/0/digest", "sha256:abcd"),
        ("/steps/0/tags/0", "a/b"),
        ("/steps/0/action", "purge"),
        ("/as_of", "today"),
    ] {
        assert!(reread(pointer, |value| *value = json!(bad)).is_err(), "{pointer} = {bad}");
    }
    assert!(reread("/estimate", |value| *value = json!(-1)).is_err());
}

#[test]
fn a_tag_that_stays_must_say_why() {
    assert!(reread("/kept/0/grounds", |value| *value = json!([])).is_err());
}

#[test]
fn what_is_kept_is_told_with_all_its_grounds() {
    let kept = small_plan().kept.unwrap();
    let latest = &kept[0];
    assert_eq!((latest.tag.as_str(), latest.digest), ("latest", Some(digest("A"))));
    assert_eq!(latest.grounds.as_slice(), [Ground::ProtectedTag { tag: tag("latest") }]);
}

#[test]
fn steps_read_as_a_person_would_say_them() {
    let lines: Vec<_> = small_plan().steps.iter().map(ToString::to_string).collect();
    let short = |name| digest(name).short();
    assert_eq!(
        lines,
        [
            format!("untag team/app:v1 ({})", short("A")),
            format!("delete team/app:{} ({})", about("B", ".sig"), short("sig")),
            format!("delete team/app:v2 ({})", short("B")),
        ]
    );
    let untagged = Step { tags: vec![], ..small_plan().steps[2].clone() };
    assert_eq!(untagged.to_string(), format!("delete team/app@{}", digest("B")));
}
