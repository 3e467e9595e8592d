//! How the in-process registry behaves: which of the real ones it takes after, and what goes wrong.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Method;

/// Which registry is played.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// The version of Distribution.
    pub generation: Generation,
    /// Who may come in.
    pub auth: Auth,
    /// Whether anything may be deleted.
    pub delete: Delete,
    /// What goes wrong; a shared handle, so that it can change while the server runs.
    pub faults: Faults,
}

impl Behaviour {
    /// An open registry of this version where everything may be deleted and nothing goes wrong.
    #[must_use]
    pub fn of(generation: Generation) -> Self {
        Self { generation, ..Self::default() }
    }
}

/// The version of Distribution whose answers are given (FACTS sections 2 and 7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Generation {
    /// 2.8: deletes by digest alone, and every tag on the digest goes.
    V2,
    /// 3.x: a tag can be deleted by itself.
    #[default]
    V3,
}

/// `storage.delete.enabled` and `storage.maintenance.readonly`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delete {
    /// Deleting works.
    #[default]
    Enabled,
    /// 405 with an error document.
    Disabled,
    /// 405 in plain text for all that writes.
    ReadOnly,
}

/// Who may come in.
#[derive(Debug, Clone, Default)]
pub enum Auth {
    /// Everybody.
    #[default]
    None,
    /// Name and password with every request.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token from `/token`, given for name and password.
    Bearer {
        /// The name.
        user: String,
        /// The password.
        password: String,
        /// How long a token is good.
        lifetime: Duration,
        /// What the user may do at all, such as `pull`, `push`, `delete`; `*` is for the catalog.
        actions: Vec<String>,
    },
}

/// What goes wrong, changed at any time from any thread.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Rule>>>);

impl Faults {
    /// Adds a rule; among the rules that are due for a request the first one acts.
    pub fn add(&self, rule: Rule) {
        self.rules().push(rule);
    }

    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        self.rules().clear();
    }

    /// The effect due for this request; every rule that matches counts it.
    pub(super) fn due(&self, method: &Method, path: &str) -> Option<Effect> {
        let mut rules = self.rules();
        rules
            .iter_mut()
            .filter(|rule| rule.matches(method, path))
            .filter_map(Rule::count)
            .reduce(|first, _| first)
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which requests meet which effect.
#[derive(Debug, Clone)]
pub struct Rule {
    method: Option<Method>,
    path: String,
    skip: usize,
    times: usize,
    effect: Effect,
}

impl Rule {
    /// Every request whose path (with its query) contains `path` meets `effect`.
    #[must_use]
    pub fn any(path: &str, effect: Effect) -> Self {
        Self { method: None, path: path.to_owned(), skip: 0, times: usize::MAX, effect }
    }

    /// The same for one method alone.
    #[must_use]
    pub fn on(method: Method, path: &str, effect: Effect) -> Self {
        Self { method: Some(method), ..Self::any(path, effect) }
    }

    /// Lets the first `count` of the matching requests pass.
    #[must_use]
    pub fn after(self, count: usize) -> Self {
        Self { skip: count, ..self }
    }

    /// Acts on `count` requests and then no more.
    #[must_use]
    pub fn times(self, count: usize) -> Self {
        Self { times: count, ..self }
    }

    fn matches(&self, method: &Method, path: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted == method) && path.contains(&self.path)
    }

    fn count(&mut self) -> Option<Effect> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times = self.times.checked_sub(1)?;
        Some(self.effect.clone())
    }
}

/// What happens instead of, or on top of, the right answer.
#[derive(Clone)]
pub enum Effect {
    /// This status and an error document, and nothing is done; with `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// The request is carried out and answered with this status all the same: a 500 that did its work.
    DoneBut(u16),
    /// The right headers and half the body.
    CutBody,
    /// The right answer, later.
    Slow(Duration),
    /// The connection closes without an answer, and nothing is done.
    DropConnection,
    /// The page of a proxy that knows of no such thing.
    Html404,
    /// Calls this, then carries on: the world changes between two requests.
    BeforeAnswering(Arc<dyn Fn() + Send + Sync>),
    /// The right length, the wrong bytes.
    WrongBytes,
    /// A manifest goes and its tags stay, as with 2.8 over S3 (FACTS section 2).
    LeaveTags,
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status, retry_after) => write!(f, "Status({status}, {retry_after:?})"),
            Self::DoneBut(status) => write!(f, "DoneBut({status})"),
            Self::CutBody => f.write_str("CutBody"),
            Self::Slow(delay) => write!(f, "Slow({delay:?})"),
            Self::DropConnection => f.write_str("DropConnection"),
            Self::Html404 => f.write_str("Html404"),
            Self::BeforeAnswering(_) => f.write_str("BeforeAnswering(..)"),
            Self::WrongBytes => f.write_str("WrongBytes"),
            Self::LeaveTags => f.write_str("LeaveTags"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_skips_acts_and_ends() {
        let faults = Faults::default();
        faults.add(Rule::on(Method::GET, "/tags/", Effect::CutBody).after(1).times(2));
        faults.add(Rule::any("/tags/", Effect::Html404).after(4));
        let seen: Vec<String> =
            (0..5).map(|_| format!("{:?}", faults.due(&Method::GET, "/v2/a/tags/list"))).collect();
        assert_eq!(seen, ["None", "Some(CutBody)", "Some(CutBody)", "None", "Some(Html404)"]);
        assert!(faults.due(&Method::GET, "/v2/_catalog").is_none());
        faults.clear();
        assert!(faults.due(&Method::GET, "/v2/a/tags/list").is_none());
    }
}
