//! Before a policy removes something for the first time, its owner hears of it, and is asked if there is somebody to ask: on a
//! registry that no policy has cleaned before, and after every change of the policy.

use std::io::{self, IsTerminal as _, Write as _};

use clean_registry_core::journal::Record;
use clean_registry_core::name::count;
use clean_registry_core::plan::{Origin, Plan, PolicyStamp};
use clean_registry_core::report::Summary;
use tokio::sync::Mutex;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::report::table;
use crate::state::{Run, State, StateError};

/// One question at a time: several registries may be at work.
static ASKING: Mutex<()> = Mutex::const_new(());

/// Whether the owner is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consent {
    /// No: it was given, or somebody else sees to it.
    #[default]
    Given,
    /// Where there is a terminal.
    Ask,
}

/// What is new about a policy on a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum News {
    /// No policy has removed anything from it before.
    First,
    /// It was another one in this run.
    Changed {
        /// The last run by a policy.
        since: String,
        /// What it said and the policy does not say any more.
        gone: Vec<String>,
        /// What it did not say.
        come: Vec<String>,
    },
}

/// Says what is new about the policy that `plan` follows, and asks whether it may be carried out.
///
/// # Errors
/// When the journals cannot be read, or the answer is not yes.
pub async fn obtain(ctx: &Context, plan: &Plan, summary: &Summary) -> Result<(), Failure> {
    if !plan.steps.iter().any(|step| step.action.removes()) {
        return Ok(());
    }
    let Some(news) = News::find(&ctx.state, &plan.policy)? else { return Ok(()) };
    for line in news.lines(&plan.registry) {
        tracing::info!("{line}");
    }
    match ctx.consent {
        Consent::Ask if io::stdin().is_terminal() && io::stderr().is_terminal() => {
            ask(ctx, &question(&plan.registry, summary)).await
        }
        Consent::Ask | Consent::Given => Ok(()),
    }
}

impl News {
    fn find(state: &State, policy: &PolicyStamp) -> Result<Option<Self>, StateError> {
        let runs = state.runs()?;
        let last = runs.iter().rev().find_map(|run| Some((run, policy_of(run)?)));
        let Some((run, hash)) = last else { return Ok(Some(Self::First)) };
        if hash == policy.hash {
            return Ok(None);
        }
        // A plan that cannot be read any more is no reason not to run.
        let old = state.plan_of(&run.name).map(|plan| plan.policy.sentence).unwrap_or_default();
        Ok(Some(Self::changed(&run.name, &old, &policy.sentence)))
    }

    fn changed(since: &str, old: &str, new: &str) -> Self {
        let (old, new) = (sentences(old), sentences(new));
        let without = |these: &[&str], those: &[&str]| -> Vec<String> {
            these.iter().filter(|one| !those.contains(one)).map(|one| (*one).to_owned()).collect()
        };
        Self::Changed { since: since.to_owned(), gone: without(&old, &new), come: without(&new, &old) }
    }

    /// For the log, a line each.
    fn lines(&self, registry: &str) -> Vec<String> {
        match self {
            Self::First => vec![format!("no policy has removed anything from {registry} before")],
            Self::Changed { since, gone, come } => {
                let mut lines = vec![format!("the policy has changed since run {since}")];
                lines.extend(gone.iter().map(|sentence| format!("  was: {sentence}")));
                lines.extend(come.iter().map(|sentence| format!("  is:  {sentence}")));
                lines
            }
        }
    }
}

/// The digest of the policy that a run followed, if it followed one and that asked for anything: nobody was asked about a policy that
/// had nothing to remove yet.
fn policy_of(run: &Run) -> Option<clean_registry_core::name::Digest> {
    match run.journal.records.first() {
        Some((_, Record::Began { origin: Origin::Policy, policy, steps: 1.., .. })) => Some(*policy),
        _ => None,
    }
}

/// The parts of a policy in words: its lines, or what semicolons part.
fn sentences(text: &str) -> Vec<&str> {
    let parts = text.lines().flat_map(|line| line.split("; "));
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn question(registry: &str, summary: &Summary) -> String {
    let total = summary.total;
    let tags = count(total.tags, "tag", "tags");
    format!("{}\nRemove {} of {tags} from {registry}? [y/N] ", table(summary), total.removed)
}

async fn ask(ctx: &Context, question: &str) -> Result<(), Failure> {
    let _turn = ASKING.lock().await;
    ctx.progress.suspend(|| {
        let _ = write!(io::stderr(), "{question}");
        let _ = io::stderr().flush();
    });
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    let answer = tokio::select! {
        answer = answer => answer,
        () = ctx.interrupt.set() => return Err(Failure::new(Exit::Interrupted, "interrupted; nothing was done")),
    };
    match answer {
        Ok(Ok(line)) if is_yes(&line) => Ok(()),
        _ => Err(Failure::new(Exit::Interrupted, "not confirmed; nothing was done")
            .hinted("--yes goes on without the question")),
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_by_what_is_said_no_more_and_what_is_said_since() {
        for (old, new, gone, come) in [
            ("a; b; c", "a; b; c", vec![], vec![]),
            (
                "older than 30 days; never latest",
                "older than 7 days; never latest",
                vec!["older than 30 days"],
                vec!["older than 7 days"],
            ),
            ("a; b", "b", vec!["a"], vec![]),
            ("a", "a\nb; c\n", vec![], vec!["b", "c"]),
            ("", "a", vec![], vec!["a"]),
        ] {
            let texts = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
            let expected = News::Changed { since: "run".to_owned(), gone: texts(gone), come: texts(come) };
            assert_eq!(News::changed("run", old, new), expected, "{old:?} to {new:?}");
        }
    }

    #[test]
    fn a_run_that_had_nothing_to_remove_has_asked_nobody() {
        use clean_registry_core::decision::Cause;
        use clean_registry_core::name::Digest;
        use clean_registry_core::plan::{Action, Estimate, FORMAT, Step};
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path(), "registry.example");
        let stamp =
            |policy: &str| PolicyStamp { hash: Digest::of(policy.as_bytes()), sentence: policy.to_owned() };
        let step = Step {
            action: Action::Delete,
            repository: "app".parse().unwrap(),
            digest: Digest::of(b"a manifest"),
            tags: Vec::new(),
            cause: Cause::Unfinished,
        };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let run = |policy: &str, steps: Vec<Step>| {
            let plan = Plan {
                format: FORMAT,
                registry: "registry.example".to_owned(),
                as_of: now,
                origin: Origin::Policy,
                policy: stamp(policy),
                estimate: Estimate::default(),
                steps,
                gaps: Vec::new(),
                warnings: Vec::new(),
                kept: None,
            };
            drop(state.begin(&plan, now).unwrap());
        };
        let news = |policy: &str| News::find(&state, &stamp(policy)).unwrap();
        run("a", Vec::new());
        assert_eq!(news("a"), Some(News::First));
        run("a", vec![step]);
        run("b", Vec::new());
        assert_eq!(news("a"), None);
        assert!(matches!(news("b"), Some(News::Changed { .. })));
    }

    #[test]
    fn only_yes_is_yes() {
        for (answer, expected) in [
            ("y\n", true),
            ("YES\n", true),
            (" yes \r\n", true),
            ("\n", false),
            ("", false),
            ("no\n", false),
            ("yess", false),
        ] {
            assert_eq!(is_yes(answer), expected, "{answer:?}");
        }
    }
}
