//! Which mode is safe in the setting at hand.

use std::fmt;

use super::GcError;
use super::closing::{Closing, ClosingError, Seen};
use crate::runtime::config::Cache;

/// How a storage is collected while people may push (FACTS section 4.4).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Deserialize,
    serde::Serialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The registry is stopped or read-only throughout
    Offline,
    /// The registry is closed for the seconds of the sweep
    Barrier,
    /// Garbage is hidden, looked at again, then purged or brought back
    Quarantine,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offline => "offline",
            Self::Barrier => "barrier",
            Self::Quarantine => "quarantine",
        })
    }
}

impl Mode {
    pub(super) const fn alternative(self) -> &'static str {
        match self {
            Self::Offline => "stop the registry or make it read-only, or let it be closed: --mode barrier",
            Self::Barrier => {
                "name its container (registry.container), or give --close-command and --open-command, or stop it: --mode offline"
            }
            Self::Quarantine => {
                "name its container (registry.container) so that it can be restarted, or its configuration (--registry-config) if it has \
                 no cache in memory; or use --mode barrier"
            }
        }
    }

    /// The mode to work in: the one that was asked for if it is safe, else the safest that is possible.
    ///
    /// `seen` is whether the registry takes writes, `closing` what could close it, `cache` the registry's cache of blob
    /// descriptors, if its configuration is known.
    ///
    /// # Errors
    /// When the one that was asked for is not safe, or none is.
    pub fn choose(
        wanted: Option<Self>,
        seen: &Seen,
        closing: &Closing,
        cache: Option<Cache>,
    ) -> Result<(Self, String), GcError> {
        let refuse = |mode, why: &str| Err(GcError::Unsafe { mode, why: why.to_owned() });
        match (wanted, seen) {
            (Some(Self::Offline) | None, Seen::Closed(sign)) => Ok((Self::Offline, sign.clone())),
            (Some(Self::Offline), Seen::Unknown) => Ok((
                Self::Offline,
                "you say that the registry is stopped; nothing here contradicts".to_owned(),
            )),
            (Some(Self::Offline), Seen::Hidden(sign)) => Err(ClosingError::Hidden(sign.clone()).into()),
            (Some(Self::Offline), Seen::Open(sign)) => refuse(Self::Offline, sign),
            (Some(Self::Barrier), _) if closing.is_able() => {
                Ok((Self::Barrier, "it is closed for the sweep and opened again".to_owned()))
            }
            (Some(Self::Barrier), Seen::Closed(sign)) => Ok((Self::Offline, sign.clone())),
            (Some(Self::Barrier), _) => refuse(Self::Barrier, "nothing is known that closes the registry"),
            (Some(Self::Quarantine), _) => match (closing, cache) {
                (Closing::Container(_) | Closing::Commands { .. }, _) => {
                    Ok((Self::Quarantine, "it is restarted before anything is purged".to_owned()))
                }
                (_, Some(Cache::None | Cache::Redis)) => Ok((
                    Self::Quarantine,
                    "it keeps no cache in memory; no request is taken to be under way for longer than --wait"
                        .to_owned(),
                )),
                (_, Some(Cache::InMemory)) => refuse(
                    Self::Quarantine,
                    "the registry keeps a cache in memory, and nothing is known that restarts it",
                ),
                (_, None) => refuse(
                    Self::Quarantine,
                    "the registry's configuration is not known, so it may keep a cache in memory",
                ),
            },
            (None, _)
                if matches!(closing, Closing::Container(_) | Closing::Commands { .. } | Closing::Ask) =>
            {
                Ok((Self::Barrier, "it is closed for the sweep and opened again".to_owned()))
            }
            (None, Seen::Open(sign)) => Err(ClosingError::Open(sign.clone()).into()),
            (None, Seen::Hidden(sign)) => Err(ClosingError::Hidden(sign.clone()).into()),
            (None, Seen::Unknown) => Err(ClosingError::Unknown("this storage".to_owned()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(wanted: Option<Mode>, seen: &Seen, closing: &Closing, cache: Option<Cache>) -> Option<Mode> {
        Mode::choose(wanted, seen, closing, cache).ok().map(|(mode, _)| mode)
    }

    #[test]
    fn only_what_is_safe_is_chosen() {
        let (open, closed) = (Seen::Open("x".into()), Seen::Closed("x".into()));
        let hidden = Seen::Hidden("x".into());
        let commands = Closing::Commands { close: "true".into(), open: "true".into() };
        let (offline, barrier, quarantine) =
            (Some(Mode::Offline), Some(Mode::Barrier), Some(Mode::Quarantine));
        for (wanted, seen, closing, cache, expected) in [
            (None, &closed, &Closing::Nothing, None, offline),
            (None, &open, &Closing::Nothing, None, None),
            (None, &Seen::Unknown, &Closing::Nothing, None, None),
            (None, &hidden, &Closing::Nothing, None, None),
            (None, &hidden, &commands, None, barrier),
            (offline, &hidden, &commands, None, None),
            (None, &open, &commands, None, barrier),
            (None, &Seen::Unknown, &commands, None, barrier),
            (offline, &open, &commands, None, None),
            (offline, &Seen::Unknown, &Closing::Nothing, None, offline),
            (barrier, &open, &Closing::Nothing, None, None),
            (barrier, &closed, &Closing::Nothing, None, offline),
            (quarantine, &open, &Closing::Nothing, None, None),
            (quarantine, &open, &Closing::Nothing, Some(Cache::InMemory), None),
            (quarantine, &open, &Closing::Nothing, Some(Cache::None), quarantine),
            (quarantine, &open, &Closing::Nothing, Some(Cache::Redis), quarantine),
            (quarantine, &open, &commands, Some(Cache::InMemory), quarantine),
        ] {
            assert_eq!(
                chosen(wanted, seen, closing, cache),
                expected,
                "{wanted:?} {seen:?} {closing:?} {cache:?}"
            );
        }
    }
}
