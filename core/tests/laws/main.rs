//! Laws of deciding, planning, auditing, undoing and collecting, held against random registries and storages.
//!
//! What happens to a registry is told by [`simulator`]; what ought to happen is told again by [`reference`], in as few
//! words as possible and without the code that it is held against.

mod collector;
mod naive;
mod parsers;
mod random;
mod reference;
mod rules;
mod simulator;
mod storage;

use clean_registry_core::audit::{Promises, audit};
use clean_registry_core::decision::Decision;
use clean_registry_core::inventory::Inventory;
use clean_registry_core::journal::{Chain, FORMAT, Journal, Outcome, Record};
use clean_registry_core::name::RepoName;
use clean_registry_core::pattern::Patterns;
use clean_registry_core::plan::{Action, Origin, Plan, Step, draw};
use clean_registry_core::policy::rule::Orphans;
use clean_registry_core::policy::{Policy, judge};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

use random::{NOW, now};
use simulator::Registry;

fn plan(inventory: &Inventory, policy: &Policy) -> Plan {
    draw(inventory, &judge(inventory, policy, now()), policy, now())
}

fn promises(policy: &Policy) -> Promises {
    let rules = policy.rules.iter();
    Promises {
        protected_tags: policy.protected_tags.clone(),
        protected_patterns: policy.protected_patterns.clone(),
        untagged: policy.untagged,
        untagged_of_rules: rules
            .clone()
            .filter_map(|rule| Some((rule.repos.clone(), rule.untagged?.after())))
            .collect(),
        orphans: rules
            .filter_map(|rule| Some((rule.repos.clone(), rule.orphans? == Orphans::Delete)))
            .chain([(Patterns::default(), policy.orphans == Orphans::Delete)])
            .collect(),
        protect: protected(policy),
    }
}

/// Audits `plan` against `inventory`, where every step of it must be sound.
fn sound_steps(plan: Plan, inventory: &Inventory, policy: &Policy) -> Vec<Step> {
    let steps = plan.steps.clone();
    let audited = audit(plan, inventory, &promises(policy)).expect("the plan is sound");
    assert_eq!(audited.stale, [], "nothing is stale");
    assert_eq!(audited.sound.plan().steps, steps);
    steps
}

fn protected(policy: &Policy) -> Vec<(Patterns, Patterns)> {
    let by_rules = policy.rules.iter().map(|rule| (rule.repos.clone(), rule.protect.clone()));
    by_rules.chain([(Patterns::default(), policy.protect.clone())]).collect()
}

/// What a policy removes: tags and manifests, told apart by their text.
fn removed(inventory: &Inventory, policy: &Policy) -> BTreeSet<(RepoName, String)> {
    let mut removed = BTreeSet::new();
    for (name, judged) in judge(inventory, policy, now()).repos {
        let tags = judged.tags.into_iter().map(|(tag, decision)| (tag.to_string(), decision));
        let manifests = judged.manifests.into_iter().map(|(digest, decision)| (digest.to_string(), decision));
        for (what, decision) in tags.chain(manifests) {
            if matches!(decision, Decision::Remove(_)) {
                removed.insert((name.clone(), what));
            }
        }
    }
    removed
}

fn outcome_of(registry: &Registry, step: &Step) -> Outcome {
    // Undoing may find that what it wants is so already.
    let there = registry.holds(step);
    match step.action {
        Action::Restore | Action::Tag if there => Outcome::Already,
        _ => Outcome::Done,
    }
}

/// Applies `steps` and returns the journal of it, read back from its text.
fn run(registry: &mut Registry, steps: &[Step]) -> Journal {
    let mut chain = Chain::default();
    let began = Record::Began {
        format: FORMAT,
        run: "run".to_owned(),
        registry: "registry".to_owned(),
        origin: Origin::Policy,
        policy: clean_registry_core::name::Digest::of(b"policy"),
        steps: steps.len(),
    };
    let mut text = chain.line(now(), &began);
    for (position, step) in steps.iter().enumerate() {
        text += &chain.line(now(), &Record::Intent { position, step: step.clone() });
        let outcome = outcome_of(registry, step);
        registry.apply(step);
        text += &chain.line(now(), &Record::Outcome { position, outcome });
    }
    Journal::read(&text).expect("a journal reads what it wrote")
}

/// The journal of a run that died between writing its last intent and its outcome.
fn with_open_intent(journal: &Journal, position: usize, step: &Step) -> Journal {
    let mut journal = journal.clone();
    journal.records.push((now(), Record::Intent { position, step: step.clone() }));
    journal
}

/// Takes back what `journal` tells, through the audit.
fn undo(registry: &mut Registry, journal: &Journal, policy: &Policy) -> Journal {
    let steps = journal.invert("run");
    let undo = Plan { origin: Origin::Undo("run".to_owned()), steps, ..plan(registry.inventory(), policy) };
    let steps = sound_steps(undo, registry.inventory(), policy);
    run(registry, &steps)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drawn_plan_passes_its_audit_with_nothing_stale(
        inventory in random::inventory(), policy in rules::policy()
    ) {
        sound_steps(plan(&inventory, &policy), &inventory, &policy);
    }

    #[test]
    fn the_registry_is_whole_after_every_prefix_of_a_plan(
        inventory in random::inventory(), policy in rules::policy()
    ) {
        let mut registry = Registry::of(&inventory);
        for step in plan(&inventory, &policy).steps {
            registry.apply(&step);
            registry.check_whole_since(&inventory);
        }
    }

    #[test]
    fn kept_tags_lead_where_they_led_with_all_they_need(
        inventory in random::inventory(), policy in rules::policy()
    ) {
        let verdicts = judge(&inventory, &policy, now());
        let mut registry = Registry::of(&inventory);
        plan(&inventory, &policy).steps.iter().for_each(|step| registry.apply(step));
        for (name, repo) in &inventory.repos {
            let after = &registry.inventory().repos[name];
            for (tag, target) in &repo.tags {
                let decision = &verdicts.repos[name].tags[tag];
                prop_assert_eq!(after.tags.get(tag), decision.is_keep().then_some(target), "{}", tag);
                let Some(digest) = target.filter(|_| decision.is_keep()) else { continue };
                let needs = reference::needs(repo, [digest]);
                for needed in needs.manifests.intersection(&repo.manifests.keys().copied().collect()) {
                    prop_assert!(after.manifests.contains_key(needed), "{tag} needs {needed}");
                }
                for needed in needs.tags {
                    prop_assert_eq!(after.tags.get(&needed), repo.tags.get(&needed), "{} needs {}", tag, needed);
                }
            }
        }
    }

    #[test]
    fn undoing_any_prefix_of_a_plan_restores_exactly_what_was(
        inventory in random::inventory(), policy in rules::policy(), cut in any::<prop::sample::Index>()
    ) {
        let steps = plan(&inventory, &policy).steps;
        let mut registry = Registry::of(&inventory);
        let journal = run(&mut registry, &steps[..cut.index(steps.len() + 1)]);
        undo(&mut registry, &journal, &policy);
        prop_assert_eq!(&registry, &Registry::of(&inventory));
    }

    #[test]
    fn undoing_the_undoing_of_a_plan_leaves_what_the_plan_left(
        inventory in random::inventory(), policy in rules::policy()
    ) {
        let mut registry = Registry::of(&inventory);
        let journal = run(&mut registry, &plan(&inventory, &policy).steps);
        let left = registry.clone();
        let undone = undo(&mut registry, &journal, &policy);
        undo(&mut registry, &undone, &policy);
        prop_assert_eq!(&registry, &left);
    }

    #[test]
    fn undoing_a_run_that_died_in_a_step_restores_what_was_whether_the_step_happened_or_not(
        inventory in random::inventory(), policy in rules::policy(), cut in any::<prop::sample::Index>()
    ) {
        let steps = plan(&inventory, &policy).steps;
        if steps.is_empty() {
            return Ok(());
        }
        let cut = cut.index(steps.len());
        let mut before = Registry::of(&inventory);
        let journal = with_open_intent(&run(&mut before, &steps[..cut]), cut, &steps[cut]);
        let mut after = before.clone();
        after.apply(&steps[cut]);
        for mut registry in [before, after] {
            undo(&mut registry, &journal, &policy);
            prop_assert_eq!(&registry, &Registry::of(&inventory));
        }
    }

    #[test]
    fn one_more_ground_never_removes_more(
        inventory in random::inventory(),
        policy in rules::policy(),
        more in random::ground(),
    ) {
        let (mut richer, mut milder) = (inventory.clone(), policy.clone());
        more.add(&mut richer, &mut milder);
        let (before, after) = (removed(&inventory, &policy), removed(&richer, &milder));
        let new: Vec<_> = after.difference(&before).collect();
        prop_assert!(new.is_empty(), "{more:?} removes {new:?}");
    }

    #[test]
    fn a_rule_that_keeps_more_never_removes_more(inventory in random::inventory(), policy in rules::policy()) {
        let (before, after) = (removed(&inventory, &policy), removed(&inventory, &rules::milder(policy)));
        let new: Vec<_> = after.difference(&before).collect();
        prop_assert!(new.is_empty(), "{new:?}");
    }

    #[test]
    fn what_the_owner_protects_stays_whatever_the_rules_say(
        inventory in random::inventory(), policy in rules::policy()
    ) {
        for (name, what) in removed(&inventory, &policy) {
            let broken = protected(&policy).iter().any(|(repos, tags)| {
                !tags.is_empty() && repos.mean(name.as_str()) && tags.mean(&what)
            });
            prop_assert!(!broken, "{name}:{what}");
        }
    }

    #[test]
    fn a_second_run_has_nothing_to_do(inventory in random::inventory(), policy in rules::policy()) {
        let mut registry = Registry::of(&inventory);
        plan(&inventory, &policy).steps.iter().for_each(|step| registry.apply(step));
        prop_assert_eq!(plan(registry.inventory(), &policy).steps, []);
    }

    #[test]
    fn a_run_after_an_interrupted_one_leaves_what_one_run_leaves(
        inventory in random::inventory(), policy in rules::policy(), cut in any::<prop::sample::Index>()
    ) {
        // Tags that by their names are about each other have no order in which none outlives the other.
        if inventory.repos.values().any(reference::has_knotted_names) {
            return Ok(());
        }
        let steps = plan(&inventory, &policy).steps;
        let mut through = Registry::of(&inventory);
        steps.iter().for_each(|step| through.apply(step));

        let mut resumed = Registry::of(&inventory);
        let (done, left) = steps.split_at(cut.index(steps.len() + 1));
        done.iter().for_each(|step| resumed.apply(step));
        left.iter().filter(|step| step.action == Action::Delete).for_each(|step| resumed.mark_unfinished(step));
        plan(resumed.inventory(), &policy).steps.iter().for_each(|step| resumed.apply(step));
        prop_assert_eq!(&resumed, &through);
    }

    #[test]
    fn nothing_protected_undated_or_young_is_ever_removed(
        inventory in random::inventory(), policy in random::policy()
    ) {
        let verdicts = judge(&inventory, &policy, now());
        for (name, repo) in &inventory.repos {
            let uses = reference::Uses::of(&inventory, name);
            for (tag, target) in &repo.tags {
                if reference::stays_by_itself(repo, tag, (&policy, &uses), NOW) {
                    prop_assert!(verdicts.repos[name].tags[tag].is_keep(), "{name}:{tag}");
                    let manifest = target.and_then(|digest| verdicts.repos[name].manifests.get(&digest));
                    prop_assert!(manifest.is_none_or(Decision::is_keep), "{name}:{tag} by digest");
                }
            }
        }
    }

    #[test]
    fn nothing_that_a_workload_uses_is_ever_removed(
        inventory in random::inventory(), policy in random::policy(), more in vec(random::used(), 1..4)
    ) {
        let mut inventory = inventory;
        more.iter().for_each(|used| used.add(&mut inventory));
        let verdicts = judge(&inventory, &policy, now());
        let mut registry = Registry::of(&inventory);
        plan(&inventory, &policy).steps.iter().for_each(|step| registry.apply(step));
        for (name, before) in &inventory.repos {
            let (uses, after) = (reference::Uses::of(&inventory, name), &registry.inventory().repos[name]);
            for tag in &uses.tags {
                prop_assert!(verdicts.repos[name].tags[tag].is_keep(), "{name}:{tag}");
                prop_assert_eq!(after.tags.get(tag), before.tags.get(tag), "{}:{}", name, tag);
            }
            for digest in &uses.manifests {
                prop_assert!(verdicts.repos[name].manifests[digest].is_keep(), "{name}@{digest}");
                prop_assert!(after.manifests.contains_key(digest), "{name}@{digest}");
                prop_assert!(before.tags_on(*digest).all(|tag| after.tags.contains_key(tag)), "{name}@{digest}");
            }
        }
    }

    #[test]
    fn a_plan_drawn_before_a_workload_came_is_stale_exactly_where_it_would_touch_it(
        inventory in random::inventory(), policy in random::policy(), more in vec(random::used(), 1..4)
    ) {
        let drawn = plan(&inventory, &policy);
        let mut later = inventory.clone();
        more.iter().for_each(|used| used.add(&mut later));
        let audited = audit(drawn.clone(), &later, &promises(&policy)).expect("no promise is broken");
        for step in &audited.sound.plan().steps {
            let uses = reference::Uses::of(&later, &step.repository);
            prop_assert!(!uses.manifests.contains(&step.digest), "{step}");
            prop_assert!(step.tags.iter().all(|tag| !uses.tags.contains(tag)), "{step}");
        }
        let mut registry = Registry::of(&later);
        for step in &audited.sound.plan().steps {
            registry.apply(step);
            registry.check_whole_since(&later);
        }
        if later.in_use == inventory.in_use {
            prop_assert_eq!(audited.stale, []);
        }
    }

    #[test]
    fn exactly_what_has_expired_and_nothing_needs_goes(
        inventory in random::inventory(), policy in random::policy()
    ) {
        let verdicts = judge(&inventory, &policy, now());
        let expected = reference::all_that_go(&inventory, &policy, NOW);
        for name in inventory.repos.keys() {
            let judged = &verdicts.repos[name].manifests;
            let gone: BTreeSet<_> =
                judged.iter().filter(|(_, decision)| !decision.is_keep()).map(|(digest, _)| *digest).collect();
            prop_assert_eq!(&gone, &expected[name]);
        }
    }

    #[test]
    fn deciding_and_planning_the_same_twice_is_the_same(
        inventory in random::inventory(), policy in rules::policy()
    ) {
        prop_assert_eq!(judge(&inventory, &policy, now()), judge(&inventory, &policy, now()));
        prop_assert_eq!(plan(&inventory, &policy), plan(&inventory, &policy));
    }

    #[test]
    fn a_plan_is_the_same_after_writing_and_reading(
        inventory in random::inventory(), policy in rules::policy()
    ) {
        let plan = plan(&inventory, &policy);
        let text = serde_json::to_string(&plan).expect("a plan always serialises");
        prop_assert_eq!(serde_json::from_str::<Plan>(&text).expect("and reads"), plan);
    }
}
