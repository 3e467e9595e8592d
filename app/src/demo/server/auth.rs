//! Who may come in: names and passwords, and tokens for them.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::{Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::answer::{Answer, Refusal, document};
use super::behaviour::{Auth, Generation};
use super::route::{Route, query};

const SERVICE: &str = "in-process";

/// The door of one server, with the tokens it gave away.
#[derive(Debug)]
pub(super) struct Gate {
    auth: Auth,
    generation: Generation,
    realm: String,
    tokens: Mutex<HashMap<String, Grant>>,
}

#[derive(Debug)]
struct Grant {
    until: Instant,
    scopes: Vec<Scope>,
}

/// Some actions on one thing, as in `repository:team/app:pull,push`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scope {
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl Scope {
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let actions = actions.split(',').map(str::to_owned).collect();
        Some(Self { kind: kind.to_owned(), name: name.to_owned(), actions })
    }

    fn covers(&self, wanted: &Self) -> bool {
        self.kind == wanted.kind
            && self.name == wanted.name
            && wanted.actions.iter().all(|action| self.actions.contains(action))
    }

    fn text(&self) -> String {
        format!("{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

impl Gate {
    pub(super) fn new(auth: Auth, generation: Generation, url: &str) -> Self {
        Self { auth, generation, realm: format!("{url}/token"), tokens: Mutex::default() }
    }

    /// Lets a request in, or says what is missing.
    pub(super) fn check(
        &self,
        method: &Method,
        uri: &Uri,
        route: &Route,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        match &self.auth {
            Auth::None => Ok(()),
            _ if *route == Route::Token => Ok(()),
            Auth::Basic { user, password } if presents(headers, user, password) => Ok(()),
            Auth::Basic { .. } => {
                let refusal = unauthorized(&wanted(method, uri, route));
                Err(refusal.challenging(format!("Basic realm=\"{SERVICE}\"")))
            }
            Auth::Bearer { .. } => self.check_token(headers, &wanted(method, uri, route)),
        }
    }

    fn check_token(&self, headers: &HeaderMap, wanted: &[Scope]) -> Result<(), Refusal> {
        let Some(token) = credentials(headers, "Bearer ") else {
            return Err(self.challenge(wanted, None));
        };
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(grant) = tokens.get(token).filter(|grant| Instant::now() < grant.until) else {
            return Err(self.challenge(wanted, Some("invalid_token")));
        };
        if wanted.iter().all(|wanted| grant.scopes.iter().any(|scope| scope.covers(wanted))) {
            Ok(())
        } else {
            Err(self.challenge(wanted, Some("insufficient_scope")))
        }
    }

    fn challenge(&self, wanted: &[Scope], error: Option<&str>) -> Refusal {
        let mut challenge = format!("Bearer realm=\"{}\",service=\"{SERVICE}\"", self.realm);
        if !wanted.is_empty() {
            let scopes: Vec<String> = wanted.iter().map(Scope::text).collect();
            challenge += &format!(",scope=\"{}\"", scopes.join(" "));
        }
        if let Some(error) = error {
            challenge += &format!(",error=\"{error}\"");
        }
        unauthorized(wanted).challenging(challenge)
    }

    /// The token endpoint: a token for as much of what is asked for as this user may do.
    pub(super) fn give(&self, uri: &Uri, headers: &HeaderMap) -> Result<Answer, Refusal> {
        let Auth::Bearer { user, password, lifetime, actions } = &self.auth else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "no tokens here"));
        };
        if !presents(headers, user, password) || query(uri).get("service").is_none_or(|name| name != SERVICE)
        {
            return Err(unauthorized(&[]));
        }
        let scopes = scopes_asked(uri).into_iter().map(|mut scope| {
            scope.actions.retain(|action| actions.contains(action));
            scope
        });
        Ok(document(StatusCode::OK, self.generation, &self.issue(*lifetime, scopes.collect())))
    }

    fn issue(&self, lifetime: Duration, scopes: Vec<Scope>) -> Value {
        let token = format!("{:016x}{:016x}", random(), random());
        let grant = Grant { until: Instant::now() + lifetime, scopes };
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), grant);
        json!({ "token": token, "access_token": token, "expires_in": lifetime.as_secs() })
    }
}

/// Every `scope` parameter, each of which may hold several scopes.
fn scopes_asked(uri: &Uri) -> Vec<Scope> {
    let whole = format!("http://registry/?{}", uri.query().unwrap_or_default());
    let Ok(url) = reqwest::Url::parse(&whole) else { return Vec::new() };
    let asked = url.query_pairs().filter(|(name, _)| name == "scope");
    asked.flat_map(|(_, scopes)| scopes.split(' ').filter_map(Scope::parse).collect::<Vec<_>>()).collect()
}

/// What a request needs leave for.
fn wanted(method: &Method, uri: &Uri, route: &Route) -> Vec<Scope> {
    let scope = |kind: &str, name: &str, actions: &[&str]| Scope {
        kind: kind.to_owned(),
        name: name.to_owned(),
        actions: actions.iter().map(|action| (*action).to_owned()).collect(),
    };
    if *route == Route::Catalog {
        return vec![scope("registry", "catalog", &["*"])];
    }
    let Some(repo) = route.repository() else { return Vec::new() };
    let actions: &[&str] = match method.as_str() {
        "GET" | "HEAD" => &["pull"],
        "POST" | "PUT" | "PATCH" => &["pull", "push"],
        "DELETE" => &["delete"],
        _ => &[],
    };
    let source = query(uri).remove("from").map(|from| scope("repository", &from, &["pull"]));
    [scope("repository", repo.as_str(), actions)].into_iter().chain(source).collect()
}

fn unauthorized(wanted: &[Scope]) -> Refusal {
    let single = |scope: &Scope| {
        let each = |action: &String| json!({ "Type": scope.kind, "Class": "", "Name": scope.name, "Action": action });
        scope.actions.iter().map(each).collect::<Vec<_>>()
    };
    let detail = if wanted.is_empty() { Value::Null } else { wanted.iter().flat_map(single).collect() };
    Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required").with(detail)
}

fn presents(headers: &HeaderMap, user: &str, password: &str) -> bool {
    let expected = format!("{user}:{password}").into_bytes();
    credentials(headers, "Basic ")
        .is_some_and(|given| STANDARD.decode(given).is_ok_and(|given| given == expected))
}

fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix(scheme)
}

/// A number nobody guesses by accident; the standard library's hash keys are random.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(Instant::now())
}
