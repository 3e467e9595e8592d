//! Passwords, keys and tokens.

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// A text that is never shown, not even in an error about it.
#[derive(Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Secret(String);

impl Secret {
    /// Guards `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hidden;

        impl Visitor<'_> for Hidden {
            type Value = Secret;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text in quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                Err(E::custom("a password must be a text in quotes"))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                self.visit_bool(false)
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                self.visit_bool(false)
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                self.visit_bool(false)
            }
        }

        deserializer.deserialize_any(Hidden)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(hidden)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_neither_in_debug_output_nor_in_an_error_about_it() {
        assert_eq!(format!("{:?} {:?}", Secret::new("s3cret"), Secret::default()), "(hidden) (none)");
        assert_eq!(serde_json::from_str::<Secret>(r#""s3cret""#).unwrap().expose(), "s3cret");
        for text in ["12345", "-12345", "123.45", "true"] {
            let error = serde_json::from_str::<Secret>(text).unwrap_err().to_string();
            assert!(error.contains("text in quotes") && !error.contains(text), "{error}");
        }
    }
}
