use serde_json::{Value, json};

use super::*;
use crate::plan::Action;
use crate::sample::{digest, now, tag};

fn step(action: Action, name: &str, tags: &[&str]) -> Step {
    let (repository, digest) = ("app".parse().unwrap(), digest(name));
    let tags = tags.iter().map(|text| tag(text)).collect();
    Step { action, repository, digest, tags, cause: Cause::Unfinished }
}

fn began() -> Record {
    Record::Began {
        format: FORMAT,
        run: "run-1".to_owned(),
        registry: "registry.example".to_owned(),
        origin: Origin::Policy,
        policy: digest("policy"),
        steps: 2,
    }
}

fn intent(position: usize, step: &Step) -> Record {
    Record::Intent { position, step: step.clone() }
}

fn outcome(position: usize, outcome: Outcome) -> Record {
    Record::Outcome { position, outcome }
}

fn stopping() -> Record {
    Record::Stopping { container: "registry".to_owned() }
}

fn started() -> Record {
    Record::Started { container: "registry".to_owned() }
}

fn ended() -> Record {
    Record::Ended { how: Ending::Complete }
}

fn written(records: &[Record]) -> String {
    let mut chain = Chain::default();
    records.iter().map(|record| chain.line(now(), record)).collect()
}

/// A journal that began and then went on with `records`.
fn journal(records: &[Record]) -> Journal {
    let all: Vec<Record> = [began()].iter().chain(records).cloned().collect();
    Journal::read(&written(&all)).unwrap()
}

/// One of each kind, with text that is not ASCII.
fn one_of_each() -> Vec<Record> {
    let delete = step(Action::Delete, "A", &["v1", "v2"]);
    vec![
        began(),
        intent(0, &delete),
        outcome(0, Outcome::Done),
        outcome(1, Outcome::Already),
        outcome(2, Outcome::Stale { why: "moved → B".to_owned() }),
        outcome(3, Outcome::Failed { why: "500\n\"quoted\"".to_owned() }),
        outcome(4, Outcome::Reverted { why: "größer".to_owned() }),
        stopping(),
        started(),
        Record::Collected,
        ended(),
    ]
}

// Writing and reading.

#[test]
fn a_journal_is_read_as_it_was_written_and_goes_on_where_it_ended() {
    let records = one_of_each();
    let mut text = written(&records);
    let mut journal = Journal::read(&text).unwrap();
    let read: Vec<_> = journal.records.iter().map(|(at, record)| (*at, record.clone())).collect();
    assert_eq!(read, records.into_iter().map(|record| (now(), record)).collect::<Vec<_>>());
    assert_eq!(journal.whole, text.len());

    text.push_str(&journal.chain.line(now(), &ended()));
    let longer = Journal::read(&text).unwrap();
    assert_eq!(longer.records.len(), journal.records.len() + 1);
    assert_eq!(longer.chain, journal.chain);
}

#[test]
fn the_lines_of_a_journal_are_exactly_these() {
    let text = written(&[began(), outcome(0, Outcome::Already)]);
    let (first, second) = text.split_once('\n').unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(first).unwrap(),
        json!({
            "number": 0, "previous": null, "at": "2026-06-01T12:00:00Z", "record": "began", "format": 1,
            "run": "run-1", "registry": "registry.example", "origin": "policy",
            "policy": digest("policy").to_string(), "steps": 2,
        })
    );
    assert_eq!(
        serde_json::from_str::<Value>(second).unwrap(),
        json!({
            "number": 1, "previous": Digest::of(first.as_bytes()).to_string(), "at": "2026-06-01T12:00:00Z",
            "record": "outcome", "position": 0, "outcome": {"outcome": "already"},
        })
    );
}

#[test]
fn a_last_line_torn_at_any_byte_is_dropped() {
    let records = one_of_each();
    for count in 2..=records.len() {
        let before = written(&records[..count - 1]);
        let text = written(&records[..count]);
        for length in before.len()..text.len() {
            // A character may be torn as well: it is in the torn line.
            let torn = String::from_utf8_lossy(&text.as_bytes()[..length]);
            let journal = Journal::read(&torn).unwrap();
            assert_eq!((journal.records.len(), journal.whole), (count - 1, before.len()), "{length}");
        }
        assert_eq!(Journal::read(&text).unwrap().whole, text.len());
    }
}

#[test]
fn a_journal_torn_in_its_first_line_has_not_begun() {
    let first = written(&[began()]);
    for length in 0..first.len() {
        assert_eq!(Journal::read(&first[..length]), Err(JournalError::NoBeginning), "{length}");
    }
}

#[test]
fn writing_goes_on_after_the_torn_line_is_cut_off() {
    let text = written(&[began(), ended()]);
    let mut torn = Journal::read(&text[..text.len() - 1]).unwrap();
    let healed = text[..torn.whole].to_owned() + &torn.chain.line(now(), &ended());
    assert_eq!(healed, text);
}

#[test]
fn a_line_altered_in_the_middle_is_noticed_by_the_next() {
    let text = written(&one_of_each());
    for (from, to) in [("\"v1\"", "\"v9\""), ("\"done\"", "\"already\""), ("run-1", "run-2")] {
        assert!(text.contains(from));
        let error = Journal::read(&text.replacen(from, to, 1)).unwrap_err();
        assert!(matches!(error, JournalError::Broken(_)), "{from}: {error}");
    }
}

#[test]
fn no_line_can_be_missing_doubled_turned_or_unreadable() {
    let text = written(&one_of_each());
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for position in 0..lines.len() - 1 {
        let mut missing = lines.clone();
        missing.remove(position);
        let expected = JournalError::Broken(position + 1);
        assert_eq!(Journal::read(&missing.concat()), Err(expected.clone()), "without {position}");

        let mut doubled = lines.clone();
        doubled.insert(position, lines[position]);
        assert_eq!(Journal::read(&doubled.concat()), Err(JournalError::Broken(position + 2)));

        let mut turned = lines.clone();
        turned.swap(position, position + 1);
        assert_eq!(Journal::read(&turned.concat()), Err(expected));

        let mut unreadable = lines.clone();
        unreadable[position] = "{\"number\":\n";
        assert_eq!(Journal::read(&unreadable.concat()), Err(JournalError::Unreadable(position + 1)));
    }
}

#[test]
fn a_journal_begins_with_the_start_of_a_run_in_this_format() {
    assert_eq!(Journal::read(""), Err(JournalError::NoBeginning));
    assert_eq!(Journal::read(&written(&[ended()])), Err(JournalError::NoBeginning));
    let later = written(&[began()]).replace("\"format\":1", "\"format\":2");
    assert_eq!(Journal::read(&later), Err(JournalError::Format(2)));
}

// What it tells.

#[test]
fn only_a_last_line_that_ends_it_ends_a_run() {
    assert_eq!(journal(&[]).ending(), None);
    for how in [Ending::Complete, Ending::InPart, Ending::Resumed] {
        assert_eq!(journal(&[Record::Ended { how }]).ending(), Some(how));
        assert_eq!(journal(&[Record::Ended { how }, started()]).ending(), None);
    }
}

#[test]
fn steps_are_taken_with_what_came_of_them() {
    let (first, second) = (step(Action::Delete, "A", &[]), step(Action::Delete, "B", &[]));
    let journal = journal(&[intent(0, &first), outcome(0, Outcome::Done), intent(1, &second)]);
    assert_eq!(journal.taken(), [(&first, Some(&Outcome::Done)), (&second, None)]);
}

#[test]
fn a_container_is_stopped_until_it_is_known_to_run_again() {
    for (records, stopped) in [
        (vec![], None),
        (vec![stopping()], Some("registry")),
        (vec![stopping(), Record::Collected, ended()], Some("registry")),
        (vec![stopping(), started()], None),
        (vec![stopping(), started(), stopping()], Some("registry")),
    ] {
        assert_eq!(journal(&records).stopped_container(), stopped, "{records:?}");
    }
}

#[test]
fn a_collection_is_owed_from_the_first_deletion_until_it_is_done() {
    let delete = || intent(0, &step(Action::Delete, "A", &[]));
    let others = [Action::Untag, Action::Tag, Action::Restore];
    for (records, owes, collected) in [
        (vec![], false, false),
        (others.map(|action| intent(0, &step(action, "A", &["v1"]))).to_vec(), false, false),
        (vec![delete()], true, false),
        (vec![delete(), outcome(0, Outcome::Done), ended()], true, false),
        (vec![delete(), Record::Collected], false, true),
        (vec![Record::Collected], false, true),
        (vec![delete(), Record::Collected, delete()], true, true),
    ] {
        let journal = journal(&records);
        assert_eq!((journal.owes_collection(), journal.collected()), (owes, collected), "{records:?}");
    }
}

// Inversion.

/// The inverse of steps that were all done, a line each.
fn inverse(steps: &[Step]) -> Vec<String> {
    let done = |(position, step)| [intent(position, step), outcome(position, Outcome::Done)];
    told(&journal(&steps.iter().enumerate().flat_map(done).collect::<Vec<_>>()).invert("run-1"))
}

fn told(steps: &[Step]) -> Vec<String> {
    let names: BTreeMap<Digest, &str> = ["A", "B", "I"].map(|name| (digest(name), name)).into();
    let tell = |step: &Step| {
        assert_eq!(step.cause, Cause::Undo { run: "run-1".to_owned() });
        let tags: String = step.tags.iter().map(|tag| format!(" :{tag}")).collect();
        format!("{} @{}{tags}", step.action, names[&step.digest])
    };
    steps.iter().map(tell).collect()
}

#[test]
fn every_action_has_its_inverse() {
    for (action, tags, expected) in [
        (Action::Untag, &["v1"][..], &["tag @A :v1"][..]),
        (Action::Tag, &["v1"], &["untag @A :v1"]),
        (Action::Restore, &[], &["delete @A"]),
        (Action::Delete, &[], &["restore @A"]),
        (Action::Delete, &["v1", "v2"], &["restore @A", "tag @A :v1", "tag @A :v2"]),
    ] {
        assert_eq!(inverse(&[step(action, "A", tags)]), expected);
    }
}

#[test]
fn what_was_done_last_is_taken_back_first() {
    let steps = [
        step(Action::Untag, "B", &["old"]),
        step(Action::Delete, "I", &["v1"]),
        step(Action::Delete, "A", &["v2"]),
    ];
    assert_eq!(inverse(&steps), ["restore @A", "tag @A :v2", "restore @I", "tag @I :v1", "tag @B :old"]);
}

#[test]
fn the_inverse_of_an_inverse_deletes_with_the_tags_it_had_set() {
    let undone = [
        step(Action::Restore, "A", &[]),
        step(Action::Tag, "A", &["v1"]),
        step(Action::Tag, "A", &["v2"]),
        step(Action::Restore, "I", &[]),
        step(Action::Tag, "I", &["v3"]),
        step(Action::Tag, "B", &["old"]),
    ];
    assert_eq!(inverse(&undone), ["untag @B :old", "delete @I :v3", "delete @A :v1 :v2"]);
}

#[test]
fn an_inverse_does_not_care_how_repositories_took_turns() {
    let at = |repository: &str, action, tags| Step {
        repository: repository.parse().unwrap(),
        ..step(action, "m", tags)
    };
    let [here, there] = ["here", "there"]
        .map(|repository| [at(repository, Action::Restore, &[]), at(repository, Action::Tag, &["v1"])]);
    let done = |steps: [&Step; 4]| {
        let record = |(position, step)| [intent(position, step), outcome(position, Outcome::Done)];
        journal(&steps.into_iter().enumerate().flat_map(record).collect::<Vec<_>>()).invert("run-1")
    };
    let one_by_one = done([&there[0], &there[1], &here[0], &here[1]]);
    assert_eq!(done([&here[0], &there[0], &here[1], &there[1]]), one_by_one);
    assert_eq!(one_by_one.len(), 2, "each tag goes with its manifest");
}

#[test]
fn tags_set_on_what_was_there_before_are_only_untagged() {
    let steps = [step(Action::Restore, "A", &[]), step(Action::Tag, "B", &["v1"])];
    assert_eq!(inverse(&steps), ["untag @B :v1", "delete @A"]);
}

#[test]
fn only_what_happened_or_may_have_happened_is_taken_back() {
    let why = || "why".to_owned();
    let delete = step(Action::Delete, "A", &["v1"]);
    for (came_of_it, taken_back) in [
        (Some(Outcome::Done), true),
        (Some(Outcome::Failed { why: why() }), true),
        (None, true),
        (Some(Outcome::Already), false),
        (Some(Outcome::Stale { why: why() }), false),
        (Some(Outcome::Reverted { why: why() }), false),
    ] {
        let mut records = vec![intent(0, &delete)];
        records.extend(came_of_it.clone().map(|came_of_it| outcome(0, came_of_it)));
        let expected: &[&str] = if taken_back { &["restore @A", "tag @A :v1"] } else { &[] };
        assert_eq!(told(&journal(&records).invert("run-1")), expected, "{came_of_it:?}");
    }
}

#[test]
fn a_run_that_took_no_step_has_nothing_to_take_back() {
    assert!(journal(&[ended()]).invert("run-1").is_empty());
}
