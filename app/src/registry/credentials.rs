//! Who asks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;

use crate::secret::Secret;

/// What is shown to a registry, and to the token server it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    Anonymous,
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password, or what the registry takes in its place.
        password: Secret,
    },
    /// What `docker login` stored in place of a password: it is exchanged for tokens.
    /// <https://distribution.github.io/distribution/spec/auth/oauth/>
    IdentityToken(Secret),
}

impl Credentials {
    /// The `Authorization` of the Basic scheme, for credentials that have a user.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let Self::Basic { user, password } = self else { return None };
        Some(sensitive(&format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))))
    }

    /// Whether there is anything to show.
    pub(super) fn is_given(&self) -> bool {
        *self != Self::Anonymous
    }
}

/// A header that is kept out of logs. Characters no header can hold give an empty one, which is refused like any
/// wrong password.
pub(super) fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let credentials = Credentials::Basic { user: "alice".into(), password: Secret::new("s3cret") };
        for text in [
            format!("{credentials:?}"),
            format!("{:?}", Credentials::IdentityToken(Secret::new("s3cret"))),
            format!("{:?}", credentials.basic()),
        ] {
            assert!(!text.contains("s3cret") && !text.contains("YWxpY2U6"), "{text}");
        }
    }
}
