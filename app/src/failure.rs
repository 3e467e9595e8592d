//! Exit codes, and how every error becomes one, once, with a hint.

use std::fmt::Display;

/// The exit codes: part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// A bug.
    Bug = 1,
    /// Usage or configuration.
    Usage = 2,
    /// The registry, its storage or its engine is unreachable.
    Unreachable = 3,
    /// Done in part.
    InPart = 4,
    /// Locked by another run.
    Locked = 5,
    /// Refused as unsafe.
    Unsafe = 6,
    /// Interrupted.
    Interrupted = 130,
}

impl Exit {
    /// The worst first. What stopped everything comes before what stopped one registry, what was refused or not even tried before
    /// what was begun.
    const WORST_FIRST: [Self; 8] = [
        Self::Interrupted,
        Self::Bug,
        Self::Unsafe,
        Self::Usage,
        Self::Unreachable,
        Self::Locked,
        Self::InPart,
        Self::Done,
    ];

    /// What it means, as `--help` says it.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        let code = (self as i32).to_string();
        let lines = EXIT_CODES.lines().filter_map(|line| line.trim().split_once(' '));
        lines.into_iter().find(|(named, _)| *named == code).map_or("", |(_, meaning)| meaning.trim())
    }

    /// The exit code of work on several registries.
    #[must_use]
    pub fn worst(exits: impl IntoIterator<Item = Self> + Clone) -> Self {
        let is_any = |exit: &Self| exits.clone().into_iter().any(|one| one == *exit);
        Self::WORST_FIRST.into_iter().find(is_any).unwrap_or(Self::Done)
    }
}

/// Shown by `--help`.
pub const EXIT_CODES: &str = "Exit codes:
  0    done, or nothing to do
  1    a bug
  2    usage or configuration
  3    registry or storage unreachable
  4    done in part
  5    locked by another run
  6    refused as unsafe
  130  interrupted";

/// Why the program ends without having done its work.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened, and to what.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string(), hint: None }
    }

    /// With a hint.
    #[must_use]
    pub fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error with what first caused it: that the connection was refused, say.
fn with_root(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.last().map_or_else(|| error.to_string(), |root| format!("{error}: {root}"))
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self { exit: Exit::Usage, hint: error.hint(), message: error.to_string() }
    }
}

impl From<crate::config::NoPolicy> for Failure {
    fn from(error: crate::config::NoPolicy) -> Self {
        Self::new(Exit::Usage, error)
            .hinted("add \"cleanup\": { \"days_to_keep\": 30 }; see `clean-registry config schema`")
    }
}

impl From<crate::scan::ScanError> for Failure {
    fn from(error: crate::scan::ScanError) -> Self {
        use crate::scan::ScanError as E;
        let exit = match &error {
            E::Storage(_) => Exit::Unreachable,
            E::NotARegistry { .. } => Exit::Usage,
            E::PullThroughCache(_) => Exit::Unsafe,
        };
        Self { exit, hint: error.hint(), message: error.to_string() }
    }
}

impl From<crate::gc::closing::ClosingError> for Failure {
    fn from(error: crate::gc::closing::ClosingError) -> Self {
        crate::gc::GcError::from(error).into()
    }
}

impl From<crate::gc::GcError> for Failure {
    fn from(error: crate::gc::GcError) -> Self {
        use crate::gc::GcError as E;
        use crate::gc::closing::ClosingError as C;
        let exit = match error {
            E::Scan(error) => return error.into(),
            E::State(error) => return error.into(),
            E::Elsewhere(error) => return error.into(),
            E::Closing(C::Docker(_) | C::Command { .. } | C::StillClosed { .. }) => Exit::Unreachable,
            E::Locked(_) => Exit::Locked,
            E::Interrupted => Exit::Interrupted,
            _ => Exit::Unsafe,
        };
        Self { exit, hint: error.hint(), message: error.to_string() }
    }
}

impl From<crate::in_use::InUseError> for Failure {
    fn from(error: crate::in_use::InUseError) -> Self {
        use crate::in_use::InUseError as E;
        let exit = if matches!(error, E::NoName(_)) { Exit::Usage } else { Exit::Unsafe };
        Self::new(exit, &error).hinted(error.hint())
    }
}

impl From<crate::storage::StorageError> for Failure {
    fn from(error: crate::storage::StorageError) -> Self {
        crate::scan::ScanError::from(error).into()
    }
}

impl From<crate::setting::SettingError> for Failure {
    fn from(error: crate::setting::SettingError) -> Self {
        use crate::setting::SettingError as E;
        let exit = match &error {
            E::Docker(_) | E::Open { .. } => Exit::Unreachable,
            E::PullThroughCache(_) => Exit::Unsafe,
            E::NoConfig { .. } | E::Config { .. } | E::ConfigFile { .. } => Exit::Usage,
        };
        Self { exit, hint: error.hint(), message: error.to_string() }
    }
}

impl From<crate::state::StateError> for Failure {
    fn from(error: crate::state::StateError) -> Self {
        use crate::state::StateError as E;
        let (exit, hint) = match &error {
            E::Locked { .. } => (Exit::Locked, Some("wait for it to end, or see `clean-registry runs`")),
            E::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                (Exit::Usage, Some("name a directory that can be written with --state-dir or state_dir"))
            }
            E::Io { .. } => (Exit::Unsafe, Some("without a journal nothing is deleted: is the disk full?")),
            E::Journal { .. } => {
                (Exit::Unsafe, Some("move the run's directory away if its undo is not needed any more"))
            }
            E::NoSuchRun(_) => (Exit::Usage, Some("`clean-registry runs` lists them")),
            E::NotInVault(_) => (Exit::Unsafe, None),
        };
        Self { exit, message: error.to_string(), hint: hint.map(str::to_owned) }
    }
}

impl From<crate::survey::ProofError> for Failure {
    fn from(error: crate::survey::ProofError) -> Self {
        match error {
            crate::survey::ProofError::Registry(error) => error.into(),
            error => Self { exit: Exit::Unsafe, hint: error.hint(), message: error.to_string() },
        }
    }
}

impl From<crate::apply::Unproven> for Failure {
    fn from(error: crate::apply::Unproven) -> Self {
        use crate::apply::Unproven as E;
        match error {
            E::Different(error) => error.into(),
            E::Storage(error) => error.into(),
            E::Refused(crate::registry::Refusal::Other(error)) => error.into(),
            E::Refused(refusal) => {
                let hint = refusal.hint();
                Self { exit: Exit::Unsafe, hint, message: E::Refused(refusal).to_string() }
            }
        }
    }
}

impl From<crate::registry::Error> for Failure {
    fn from(error: crate::registry::Error) -> Self {
        use crate::registry::Error as E;
        if let E::Storage(error) = error {
            return error.into();
        }
        let exit = match &error {
            E::Address { .. } | E::Certificate { .. } | E::NoNamespaces { .. } => Exit::Usage,
            _ => Exit::Unreachable,
        };
        Self { exit, hint: error.hint(), message: with_root(&error) }
    }
}

impl From<crate::registry::Refusal> for Failure {
    fn from(refusal: crate::registry::Refusal) -> Self {
        match refusal {
            crate::registry::Refusal::Other(error) => error.into(),
            refusal => Self { exit: Exit::Unsafe, hint: refusal.hint(), message: refusal.to_string() },
        }
    }
}

impl From<crate::pulls::PullsError> for Failure {
    fn from(error: crate::pulls::PullsError) -> Self {
        Self::new(Exit::Unsafe, error)
            .hinted("what was pulled would go: name readable logs, or leave pulls out")
    }
}

impl From<crate::registry::CredentialError> for Failure {
    fn from(error: crate::registry::CredentialError) -> Self {
        Self::new(Exit::Usage, with_root(&error)).hinted(
            "registry.user and registry.password in the configuration come before Docker's own credentials",
        )
    }
}

impl From<crate::collect::CollectError> for Failure {
    fn from(error: crate::collect::CollectError) -> Self {
        use crate::collect::CollectError as E;
        let error = match error {
            E::Setting(error) => return error.into(),
            E::Native(error) => return error.into(),
            error => error,
        };
        let exit = match &error {
            E::NoStorage | E::NoContainer => Exit::Usage,
            E::Docker(_) | E::NotRunning(_) => Exit::Unreachable,
            _ => Exit::Unsafe,
        };
        Self { exit, hint: error.hint(), message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_exit_codes_is_the_programs() {
        // As docs/several-registries.md has it.
        let order = [
            Exit::Interrupted,
            Exit::Bug,
            Exit::Unsafe,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Locked,
            Exit::InPart,
            Exit::Done,
        ];
        for (position, worst) in order.iter().enumerate() {
            let mut rest = order[position..].to_vec();
            rest.reverse();
            assert_eq!(Exit::worst(rest), *worst);
        }
        assert_eq!(Exit::worst([]), Exit::Done);
    }

    #[test]
    fn every_exit_code_has_a_meaning() {
        assert_eq!(Exit::Done.meaning(), "done, or nothing to do");
        assert!(Exit::WORST_FIRST.iter().all(|exit| !exit.meaning().is_empty()));
    }
}
