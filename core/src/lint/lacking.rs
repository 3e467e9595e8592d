//! What a policy asks for and cannot be known, since nothing names where to read it.

use std::collections::BTreeSet;

use super::{Finding, Lacking};
use crate::policy::Policy;
use crate::policy::clock::Clock;
use crate::policy::rule::{Orphans, Rule, Then, UntaggedRule};

const PULLED: &str =
    "pulled_within keeps all that it claims: nothing tells what was pulled; name the logs in pulls.logs";
const PUSHED: &str = "clock: [pushed] keeps all that it judges: nothing tells when that was pushed; name the registry's storage";
const UNTAGGED: &str =
    "untagged removes nothing: only the storage shows untagged manifests; name it in storage";
const ORPHANED: &str =
    "referrers.orphans removes nothing: only the storage shows that a subject is gone; name it in storage";

/// What in a policy comes to nothing where this is `lacking`: what it asks for is not known, and what is not known keeps.
#[must_use]
pub fn lint_without(policy: &Policy, lacking: &[Lacking]) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in &policy.rules {
        let of_rule = |message: &str| Finding { rule: Some(rule.name.clone()), message: message.to_owned() };
        if lacking.contains(&Lacking::Pulls) && goes_by_pulls(rule) {
            found.push(of_rule(PULLED));
        }
        if lacking.contains(&Lacking::Storage) {
            found.extend(unseen(rule.clock.as_ref(), rule.untagged, rule.orphans).map(of_rule));
        }
    }
    if lacking.contains(&Lacking::Storage) {
        let untagged = policy.untagged.map(UntaggedRule::After);
        let general = |message: &str| Finding { rule: None, message: message.to_owned() };
        found.extend(unseen(Some(&policy.clock), untagged, Some(policy.orphans)).map(general));
    }
    found
}

fn goes_by_pulls(rule: &Rule) -> bool {
    matches!(&rule.then, Then::Keep(keep) if keep.pulled_within.is_some())
}

/// What of these only the storage can tell.
fn unseen(
    clock: Option<&BTreeSet<Clock>>,
    untagged: Option<UntaggedRule>,
    orphans: Option<Orphans>,
) -> impl Iterator<Item = &'static str> {
    let is_asked = [
        (clock.is_some_and(|clock| clock.contains(&Clock::Pushed)), PUSHED),
        (matches!(untagged, Some(UntaggedRule::After(_))), UNTAGGED),
        (orphans == Some(Orphans::Delete), ORPHANED),
    ];
    is_asked.into_iter().filter(|(is_asked, _)| *is_asked).map(|(_, message)| message)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::policy::rule::Keep;

    const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

    fn asking() -> Policy {
        let keep = Keep { pulled_within: Some(WEEK), ..Keep::default() };
        let rule = Rule {
            then: Then::Keep(Box::new(keep)),
            clock: Some(BTreeSet::from([Clock::Created, Clock::Pushed])),
            untagged: Some(UntaggedRule::After(WEEK)),
            orphans: Some(Orphans::Delete),
            ..Rule::named("r")
        };
        let clock = BTreeSet::from([Clock::Pushed]);
        let untagged = Some(WEEK);
        Policy { rules: vec![rule], clock, untagged, orphans: Orphans::Delete, ..Policy::default() }
    }

    fn found(policy: &Policy, lacking: &[Lacking]) -> Vec<(bool, &'static str)> {
        let known = [PULLED, PUSHED, UNTAGGED, ORPHANED];
        let found = lint_without(policy, lacking);
        let which = |message: &str| known.into_iter().find(|known| *known == message).unwrap();
        found.iter().map(|finding| (finding.rule.is_some(), which(&finding.message))).collect()
    }

    #[test]
    fn what_only_the_storage_or_the_logs_tell_is_asked_of_them_in_each_place_where_it_is_said() {
        assert_eq!(found(&asking(), &[]), []);
        assert_eq!(found(&asking(), &[Lacking::Pulls]), [(true, PULLED)]);
        let of_storage = [PUSHED, UNTAGGED, ORPHANED];
        let twice: Vec<_> = [true, false]
            .into_iter()
            .flat_map(|of_rule| of_storage.map(|message| (of_rule, message)))
            .collect();
        assert_eq!(found(&asking(), &[Lacking::Storage]), twice);
    }

    #[test]
    fn a_policy_that_asks_for_neither_lacks_nothing() {
        let keep = Keep { last: Some(1), ..Keep::default() };
        let rule = Rule {
            then: Then::Keep(Box::new(keep)),
            clock: Some(BTreeSet::from([Clock::Created])),
            untagged: Some(UntaggedRule::Keep),
            orphans: Some(Orphans::Keep),
            ..Rule::named("r")
        };
        let policy = Policy { rules: vec![rule], ..Policy::simple(30, BTreeSet::new(), Vec::new()) };
        assert_eq!(found(&policy, &[Lacking::Storage, Lacking::Pulls]), []);
    }
}
