//! What a verb does on one registry, be it the only one or one of several.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clean_registry_core::policy::Policy;

use super::arguments::{Arguments, Verb};
use super::verb::check::{Depths, Repairs};
use super::{log, verb};
use crate::config::Config;
use crate::consent::Consent;
use crate::context::{Choices, Context};
use crate::failure::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::job::CollectWhen;
use crate::looking::Looking;
use crate::progress::Progress;

/// What the turn of a registry has beside the command line.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Who listens for signals, if somebody does already.
    pub interrupt: Option<Interrupt>,
    /// Where progress is shown, if there is a place of its own for it.
    pub progress: Option<Progress>,
    /// The registry's own plan, to be written or applied, in place of the one on the command line.
    pub file: Option<PathBuf>,
    /// The registries on which a plan may be over the limits.
    pub over_limits: Vec<String>,
}

impl Turn {
    /// Does what the command line says.
    ///
    /// # Errors
    /// As the verb.
    pub async fn take(
        self,
        arguments: &Arguments,
        config: Config,
        environment: BTreeMap<String, String>,
    ) -> Result<Exit, Failure> {
        let done = match arguments.verb() {
            Verb::Gc(gc) => {
                verb::gc::run(arguments, gc, gc.config(config), environment, self.interrupt).await
            }
            verb if verb.storage().is_some() => self.look(arguments, config, environment).await,
            _ => self.on_context(arguments, config, environment).await,
        };
        if let (Err(failure), true) = (&done, arguments.verb().changes()) {
            // Cron keeps the log, not the terminal.
            tracing::error!(target: log::FAILURE, "{}", failure.message);
        }
        done
    }

    /// The verbs that read the storage, and need no registry.
    async fn look(
        self,
        arguments: &Arguments,
        config: Config,
        environment: BTreeMap<String, String>,
    ) -> Result<Exit, Failure> {
        let mut looking = Looking::open(config, environment, arguments.state_dir.as_deref()).await?;
        looking.progress = self.progress.unwrap_or(looking.progress);
        match arguments.verb() {
            Verb::Usage { by, .. } => verb::usage::run(&looking, *by, arguments.output).await,
            Verb::Check { verify_content, repair, .. } => {
                let depths = if *verify_content { Depths::Content } else { Depths::Metadata };
                let repairs = if *repair { Repairs::Do } else { Repairs::Show };
                verb::check::run(&looking, depths, repairs, arguments.two_forms()).await
            }
            _ => verb::verify::run(&looking, arguments.two_forms()).await,
        }
    }

    /// The verbs that talk to a registry.
    async fn on_context(
        self,
        arguments: &Arguments,
        config: Config,
        environment: BTreeMap<String, String>,
    ) -> Result<Exit, Failure> {
        let other = match arguments.verb() {
            Verb::Plan { compare: Some(file), .. } => Some(verb::compare::policy_of(file, &environment)?),
            _ => None,
        };
        let choices = Choices {
            state_dir: arguments.state_dir.as_deref(),
            repo: arguments.repo.as_deref(),
            output: arguments.two_forms(),
            over_limits: &self.over_limits,
            consent: if arguments.yes { Consent::Given } else { Consent::Ask },
            interrupt: self.interrupt.as_ref(),
            labels: other.iter().flat_map(Policy::labels).map(str::to_owned).collect(),
        };
        let mut ctx = Context::new(&choices, config, environment).await?;
        ctx.progress = self.progress.unwrap_or(ctx.progress);
        let collect_when = if arguments.always_collect { CollectWhen::Always } else { CollectWhen::Deleted };
        match arguments.verb() {
            Verb::Config { .. } => verb::config::check_online(&ctx).await,
            Verb::Plan { compare: Some(_), .. } => verb::compare::run(&ctx, &other.unwrap_or_default()).await,
            Verb::Plan { out, all, .. } => {
                verb::plan::run(&ctx, self.file.as_deref().or(out.as_deref()), (*all).into()).await
            }
            Verb::Apply { file } => {
                verb::apply::run(&ctx, self.file.as_deref().unwrap_or(file), collect_when).await
            }
            Verb::Explain { reference } => verb::explain::run(&ctx, reference).await,
            Verb::Undo { run } => verb::undo::run(&ctx, run.as_deref()).await,
            Verb::Runs => verb::runs::run(&ctx),
            _ => verb::run::run(&ctx, collect_when).await,
        }
    }
}
