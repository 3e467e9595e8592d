use super::*;
use jiff::SignedDuration;

use crate::decision::Cause;
use crate::inventory::{Concern, Powers};
use crate::sample::{Sample, World, about, days_old, digest, policy, promises, repo, tag, world};

const BOTH: [Powers; 2] = [Powers::DeleteOnly, Powers::DeleteAndUntag];

/// Draws the plan for `before` and audits it against `after`: the steps that remain, and those that are stale with what
/// has changed.
#[track_caller]
fn drifts<const N: usize, const M: usize>(
    powers: Powers,
    [before, after]: [Sample; 2],
    remain: [&str; N],
    stale: [&str; M],
) {
    let planned = world(powers, [before]);
    let now = world(powers, [after]);
    let audited = now.audit(planned.plan(&policy())).unwrap();
    // What is new has a name only in `now`, what is gone only in `planned`.
    let line = |step: &Step| planned.readable(&planned.steps([step])[0]);
    let stale_lines: Vec<String> = audited
        .stale
        .iter()
        .map(|stale| format!("{}: {}", line(&stale.step), now.readable(&planned.readable(&stale.why))))
        .collect();
    let remaining: Vec<String> = audited.sound.plan().steps.iter().map(line).collect();
    assert_eq!(remaining, remain, "{powers:?}");
    assert_eq!(stale_lines, stale, "{powers:?}");
}

#[track_caller]
fn drifts_alike<const N: usize, const M: usize>(change: [Sample; 2], remain: [&str; N], stale: [&str; M]) {
    for powers in BOTH {
        drifts(powers, change.clone(), remain, stale);
    }
}

/// A, old and tagged v1, beside B, old and tagged v2.
fn two() -> Sample {
    repo("app").image("A", &days_old(40)).image("B", &days_old(40)).tag("v1", "A").tag("v2", "B")
}

const DELETE_B: [&str; 1] = ["delete @B :v2"];

// What has moved on since the plan was drawn.

#[test]
fn a_registry_that_has_not_moved_leaves_nothing_stale() {
    drifts_alike([two(), two()], ["delete @A :v1", "delete @B :v2"], []);
}

#[test]
fn a_tag_that_moved_saves_its_old_manifest() {
    let moved = two().image("C", &days_old(0)).tag("v1", "C");
    drifts_alike([two(), moved], DELETE_B, ["delete @A :v1: tag v1 now points at sha256:C"]);
}

#[test]
fn a_tag_that_is_gone_is_left_alone() {
    drifts_alike([two(), two().untagged("v1")], DELETE_B, ["delete @A :v1: tag v1 is gone"]);
}

#[test]
fn a_tag_of_unknown_target_is_left_alone() {
    let dangling = two().untagged("v1").dangling_tag("v1");
    drifts_alike([two(), dangling], DELETE_B, ["delete @A :v1: what tag v1 points at is not known"]);
}

#[test]
fn a_manifest_that_is_gone_is_left_alone() {
    drifts_alike([two(), two().without("A")], DELETE_B, ["delete @A :v1: there is no such manifest"]);
}

#[test]
fn a_new_tag_on_the_digest_saves_it() {
    drifts_alike([two(), two().tag("prod", "A")], DELETE_B, ["delete @A :v1: tag prod points at it too"]);
}

#[test]
fn a_new_index_that_lists_it_saves_it() {
    drifts_alike(
        [two(), two().index("I", &["A"])],
        DELETE_B,
        ["delete @A :v1: sha256:I, which stays, points at it"],
    );
}

#[test]
fn a_new_referrer_saves_what_it_is_about() {
    drifts_alike(
        [two(), two().artifact("sbom").subject("sbom", "A")],
        DELETE_B,
        ["delete @A :v1: sha256:sbom, which stays, points at it"],
    );
}

#[test]
fn a_new_signature_by_tag_saves_what_it_is_about() {
    let signed = two().artifact("sig").tag(&about("A", ".sig"), "sig");
    drifts_alike([two(), signed], DELETE_B, ["delete @A :v1: tag sha256-A.sig, which stays, is about it"]);
    let odd = two().dangling_tag(&about("A", ""));
    drifts_alike([two(), odd], DELETE_B, ["delete @A :v1: tag sha256-A, which stays, is about it"]);
}

#[test]
fn a_gap_that_appeared_saves_what_it_concerns() {
    let torn = two().gap(Concern::Manifest(digest("A")), "torn");
    drifts_alike([two(), torn], DELETE_B, ["delete @A :v1: it can no longer be read whole: torn"]);
    let blind = two().gap(Concern::Repository, "broke off");
    drifts_alike(
        [two(), blind],
        [],
        [
            "delete @A :v1: the repository can no longer be read whole: broke off",
            "delete @B :v2: the repository can no longer be read whole: broke off",
        ],
    );
}

#[test]
fn a_repository_that_is_gone_leaves_its_steps_stale() {
    drifts_alike(
        [two(), repo("other")],
        [],
        ["delete @A :v1: the repository is gone", "delete @B :v2: the repository is gone"],
    );
}

#[test]
fn untagging_follows_the_same_rules() {
    let before = || repo("app").image("A", &days_old(40)).tag("v1", "A").tag("latest", "A");
    let untag = Powers::DeleteAndUntag;
    drifts(untag, [before(), before()], ["untag @A :v1"], []);
    drifts(untag, [before(), before().untagged("v1")], [], ["untag @A :v1: tag v1 is gone"]);
    let moved = before().image("B", &days_old(1)).tag("v1", "B");
    drifts(untag, [before(), moved], [], ["untag @A :v1: tag v1 now points at sha256:B"]);
    // It takes nothing but the tag.
    drifts(untag, [before(), before().untagged("latest")], ["untag @A :v1"], []);
}

// One stale step takes others along.

#[test]
fn a_step_that_was_safe_only_because_of_a_stale_one_is_stale_too() {
    let before = || {
        repo("app")
            .image("A", &days_old(40))
            .index("I", &["A"])
            .artifact("sig")
            .artifact("sbom")
            .subject("sbom", "A")
            .tag("v1", "I")
            .tag(&about("A", ".sig"), "sig")
            .image("B", &days_old(40))
            .tag("v2", "B")
    };
    drifts_alike(
        [before(), before().tag("prod", "I")],
        DELETE_B,
        [
            "delete @sbom: it is about sha256:A, which stays",
            "delete @sig :sha256-A.sig: it is about sha256:A, which stays",
            "delete @I :v1: tag prod points at it too",
            "delete @A: sha256:I, which stays, points at it",
        ],
    );
}

#[test]
fn a_signature_is_not_untagged_when_its_image_turns_out_to_stay() {
    // Two images share one signature manifest; the old image was tagged anew since.
    let before = || {
        repo("app")
            .image("old", &days_old(40))
            .image("new", &days_old(1))
            .artifact("sig")
            .tag("v1", "old")
            .tag("v2", "new")
            .tag(&about("old", ".sig"), "sig")
            .tag(&about("new", ".sig"), "sig")
    };
    drifts(
        Powers::DeleteAndUntag,
        [before(), before()],
        ["untag @sig :sha256-old.sig", "delete @old :v1"],
        [],
    );
    drifts(
        Powers::DeleteAndUntag,
        [before(), before().tag("prod", "old")],
        [],
        [
            "untag @sig :sha256-old.sig: it is about sha256:old, which stays",
            "delete @old :v1: tag prod points at it too",
        ],
    );
}

#[test]
fn a_tag_about_what_goes_may_stay_where_its_manifest_must() {
    let shared = || {
        repo("app")
            .image("old", &days_old(40))
            .image("new", &days_old(1))
            .index("empty", &[])
            .tag("v1", "old")
            .tag("v2", "new")
            .tag(&about("old", ""), "empty")
            .tag(&about("new", ""), "empty")
    };
    drifts(Powers::DeleteOnly, [shared(), shared()], ["delete @old :v1"], []);
    let listed = || {
        repo("app")
            .image("old", &days_old(40))
            .image("new", &days_old(1))
            .attested_index("I", &["new"], &["sig"])
            .artifact("sig")
            .tag("v1", "old")
            .tag("v2", "I")
            .tag(&about("old", ".sig"), "sig")
    };
    drifts(Powers::DeleteOnly, [listed(), listed()], ["delete @old :v1"], []);
}

// Putting back.

fn step(action: Action, name: &str, tags: &[&str]) -> Step {
    Step {
        action,
        repository: "app".parse().unwrap(),
        digest: digest(name),
        tags: tags.iter().map(|text| tag(text)).collect(),
        cause: Cause::Undo { run: "run-1".to_owned() },
    }
}

fn plan_of(world: &World, steps: impl IntoIterator<Item = Step>) -> Plan {
    Plan { steps: steps.into_iter().collect(), ..world.plan(&policy()) }
}

fn put_back(sample: Sample, steps: Vec<Step>) -> (Vec<String>, Vec<String>) {
    let world = world(Powers::DeleteOnly, [sample]);
    let audited = world.audit(plan_of(&world, steps)).unwrap();
    let stale = audited.stale.iter().map(|stale| world.readable(&stale.why)).collect();
    (world.steps(&audited.sound.plan().steps), stale)
}

#[test]
fn a_tag_is_set_on_a_manifest_that_is_there_or_restored_before() {
    let restore = || step(Action::Restore, "A", &[]);
    let set = || step(Action::Tag, "A", &["v1"]);
    let not_there = format!("{} is not there to be tagged", digest("A"));
    let there = || repo("app").image("A", &days_old(1));
    for (sample, steps, remain, stale) in [
        (repo("app"), vec![restore(), set()], vec!["restore @?", "tag @? :v1"], vec![]),
        (repo("app"), vec![set(), restore()], vec!["restore @?"], vec![not_there.clone()]),
        (repo("app"), vec![set()], vec![], vec![not_there]),
        (there(), vec![set()], vec!["tag @A :v1"], vec![]),
        (there(), vec![restore(), set()], vec!["restore @A", "tag @A :v1"], vec![]),
        (there().tag("v1", "A"), vec![set()], vec!["tag @A :v1"], vec![]),
    ] {
        let (remaining, why) = put_back(sample, steps);
        assert_eq!(remaining, remain);
        assert_eq!(why, stale);
    }
}

#[test]
fn a_tag_that_points_elsewhere_now_is_not_taken_back() {
    let set = || vec![step(Action::Restore, "A", &[]), step(Action::Tag, "A", &["v1"])];
    let taken = repo("app").image("B", &days_old(1)).tag("v1", "B");
    assert_eq!(put_back(taken, set()).1, ["tag v1 now points at sha256:B"]);
    assert_eq!(put_back(repo("app").dangling_tag("v1"), set()).1, ["what tag v1 points at is not known"]);
}

// What makes a whole plan unsound.

#[track_caller]
fn refused(powers: Powers, steps: Vec<Step>) -> Unsound {
    let world = world(powers, [two()]);
    world.audit(plan_of(&world, steps)).unwrap_err()
}

#[test]
fn another_format_is_refused() {
    let world = world(Powers::DeleteOnly, [two()]);
    for format in [0, 2] {
        let plan = Plan { format, ..world.plan(&policy()) };
        assert_eq!(world.audit(plan), Err(Unsound::Format(format)));
    }
}

#[test]
fn a_plan_for_another_registry_is_refused() {
    let world = world(Powers::DeleteOnly, [two()]);
    let plan = Plan { registry: "other.example".to_owned(), ..world.plan(&policy()) };
    let here = world.inventory.registry.clone();
    assert_eq!(world.audit(plan), Err(Unsound::OtherRegistry { plan: "other.example".to_owned(), here }));
}

#[test]
fn a_step_that_removes_a_protected_tag_is_refused_whatever_the_policy_said() {
    for name in ["latest", "release", "PreRelease-1"] {
        for action in [Action::Delete, Action::Untag] {
            let bad = step(action, "A", &[name]);
            let expected = Unsound::Protected { step: bad.to_string(), tag: tag(name) };
            assert_eq!(refused(Powers::DeleteAndUntag, vec![bad]), expected);
        }
    }
    let among_others = step(Action::Delete, "A", &["v1", "latest"]);
    assert!(matches!(refused(Powers::DeleteOnly, vec![among_others]), Unsound::Protected { .. }));
}

#[test]
fn promises_are_kept_in_whatever_case_they_were_given() {
    let world = world(Powers::DeleteOnly, [two()]);
    let shouted = Promises { protected_patterns: vec!["V1".to_owned()], ..promises(&policy()) };
    let plan = world.plan(&policy());
    assert!(matches!(audit(plan, &world.inventory, &shouted), Err(Unsound::Protected { .. })));
}

#[test]
fn putting_a_protected_tag_back_breaks_no_promise() {
    let (remaining, _) =
        put_back(repo("app").image("A", &days_old(1)), vec![step(Action::Tag, "A", &["latest"])]);
    assert_eq!(remaining, ["tag @A :latest"]);
}

#[test]
fn a_step_of_the_wrong_form_is_refused() {
    for (action, tags, why) in [
        (Action::Untag, &[][..], "it must name one tag"),
        (Action::Untag, &["v1", "v2"], "it must name one tag"),
        (Action::Tag, &[], "it must name one tag"),
        (Action::Tag, &["v1", "v2"], "it must name one tag"),
        (Action::Restore, &["v1"], "it must name no tag"),
    ] {
        let bad = step(action, "A", tags);
        let expected = Unsound::Malformed { step: bad.to_string(), why };
        assert_eq!(refused(Powers::DeleteAndUntag, vec![bad]), expected);
    }
}

#[test]
fn the_same_step_twice_is_refused() {
    let same = |action, tags| vec![step(action, "A", tags), step(action, "A", tags)];
    for steps in [
        same(Action::Delete, &["v1"]),
        same(Action::Untag, &["v1"]),
        same(Action::Tag, &["v1"]),
        same(Action::Restore, &[]),
        vec![step(Action::Delete, "A", &["a", "b"]), step(Action::Delete, "A", &["b", "a"])],
    ] {
        let step = steps[1].to_string();
        assert_eq!(refused(Powers::DeleteAndUntag, steps), Unsound::Twice { step });
    }
    let tags_one_by_one = vec![step(Action::Untag, "A", &["v1"]), step(Action::Untag, "A", &["v2"])];
    let world = world(Powers::DeleteAndUntag, [two()]);
    assert!(world.audit(plan_of(&world, tags_one_by_one)).is_ok());
}

#[test]
fn untagging_is_stale_where_tags_cannot_be_deleted_alone() {
    let untag = vec![step(Action::Untag, "A", &["v1"])];
    for (powers, is_stale) in [(Powers::DeleteOnly, true), (Powers::DeleteAndUntag, false)] {
        let world = world(powers, [two()]);
        let audited = world.audit(plan_of(&world, untag.clone())).expect("the plan is sound");
        assert_eq!(audited.stale.len() == 1, is_stale, "{powers:?}");
    }
}

#[test]
fn a_plan_in_the_wrong_order_is_refused() {
    let sample = || {
        repo("app")
            .image("A", &days_old(40))
            .index("I", &["A"])
            .artifact("sbom")
            .subject("sbom", "I")
            .tag("v1", "I")
    };
    let world = world(Powers::DeleteOnly, [sample()]);
    let plan = world.plan(&policy());
    assert_eq!(world.steps(&plan.steps), ["delete @sbom", "delete @I :v1", "delete @A"]);
    for (first, second) in [(0, 1), (1, 2), (0, 2)] {
        let mut turned = plan.clone();
        turned.steps.swap(first, second);
        assert!(matches!(world.audit(turned), Err(Unsound::Order { .. })), "{first} and {second}");
    }
    let mut turned = plan.clone();
    turned.steps.swap(1, 2);
    let expected = Unsound::Order { step: plan.steps[2].to_string(), pointer: digest("I") };
    assert_eq!(world.audit(turned), Err(expected));
}

#[test]
fn referrers_about_each_other_may_go_in_any_order_but_not_what_lies_under_them() {
    let sample = repo("app")
        .image("A", &days_old(40))
        .index("R", &["A"])
        .artifact("S")
        .subject("R", "S")
        .subject("S", "R");
    let world = world(Powers::DeleteOnly, [sample]);
    let delete = |name| step(Action::Delete, name, &[]);
    for (order, is_sound) in
        [(["R", "S", "A"], true), (["S", "R", "A"], true), (["S", "A", "R"], false), (["A", "R", "S"], false)]
    {
        assert_eq!(world.audit(plan_of(&world, order.map(delete))).is_ok(), is_sound, "{order:?}");
    }
}

#[test]
fn what_is_no_manifest_is_never_deleted() {
    // The digest of a layer: scenario 36 of FACTS section 8.
    let (remaining, stale) = put_back(two(), vec![step(Action::Delete, "A layer", &[])]);
    assert!(remaining.is_empty());
    assert_eq!(stale, ["there is no such manifest"]);
}

// Untagged manifests.

/// A plan that deletes A for no other cause than that nothing needs it.
fn deletes_untagged(world: &World) -> Plan {
    let pushed = crate::sample::now() - SignedDuration::from_hours(24 * 8);
    let (age, keep) = (SignedDuration::from_hours(24 * 8), SignedDuration::from_hours(24 * 7));
    let step = Step {
        action: Action::Delete,
        repository: "app".parse().unwrap(),
        digest: digest("A"),
        tags: Vec::new(),
        cause: Cause::Untagged { pushed, age, keep },
    };
    Plan { steps: vec![step], ..world.plan(&policy()) }
}

/// What the audit has against it, where untagged manifests may go after a week.
fn objection<const N: usize>(samples: [Sample; N]) -> Option<String> {
    let world = world(Powers::DeleteOnly, samples);
    let untagged = Some(SignedDuration::from_hours(24 * 7));
    let audited =
        audit(deletes_untagged(&world), &world.inventory, &Promises { untagged, ..promises(&policy()) });
    audited.unwrap().stale.first().map(|stale| world.readable(&stale.why))
}

#[test]
fn an_untagged_manifest_goes_only_where_that_was_asked_for() {
    let world = world(Powers::DeleteOnly, [repo("app").image("A", &days_old(40)).pushed("A", 8)]);
    assert!(matches!(world.audit(deletes_untagged(&world)), Err(Unsound::NotAskedFor { .. })));
}

#[test]
fn an_untagged_manifest_must_be_old_unlisted_and_seen_to_be_so() {
    let sample = || repo("app").image("A", &days_old(40));
    let lists = |name: &str| repo(name).index("J", &["A"]);
    assert_eq!(objection([sample().pushed("A", 8)]), None);
    for (samples, expected) in [
        ([sample(), repo("b")], "when it was last pushed is not known"),
        (
            [sample().pushed("A", 7), repo("b")],
            "it was pushed 2026-05-25T12:00:00Z, which is too short a time ago",
        ),
        ([sample().pushed("A", 8).tag("v1", "A"), repo("b")], "tag v1 points at it too"),
        ([sample().pushed("A", 8), lists("b")], "an index that stays lists it"),
        ([sample().pushed("A", 8).index("J", &["A"]), repo("b")], "an index that stays lists it"),
    ] {
        assert_eq!(objection(samples).as_deref(), Some(expected));
    }
}

#[test]
fn what_is_about_a_manifest_that_is_there_and_cannot_be_read_stays() {
    let sample = repo("app").artifact("A").subject("A", "torn");
    let torn = sample.clone().gap(Concern::Manifest(digest("torn")), "it is not stored");
    let objection = |sample| put_back(sample, vec![step(Action::Delete, "A", &[])]).1;
    assert_eq!(objection(sample), [""; 0]);
    assert_eq!(objection(torn), ["it is about sha256:torn, which stays"]);
}
