//! What the parsers say of a file that is not of the form, made to help: in plain words, with the nearest known word, and the rule at
//! fault, where they tell only the place.

use serde::Deserialize as _;
use serde_json::Value;

use super::Config;
use super::cleanup::RuleSection;
use crate::nearest::nearest;

/// The name of the first rule that cannot be read, if nothing else in the file is wrong.
pub(super) fn rule_at_fault(text: &str) -> Option<String> {
    let mut file: Value = serde_saphyr::from_str(text).ok()?;
    let rules = std::mem::take(file.pointer_mut("/cleanup/rules")?.as_array_mut()?);
    let cleanup = file.pointer_mut("/cleanup")?.as_object_mut()?;
    cleanup.remove("rules");
    // Without its rules a section may ask for nothing, which is another error than this one.
    Config::deserialize(&file).ok()?;
    let culprit = rules.iter().find(|rule| RuleSection::deserialize(*rule).is_err())?;
    let name = culprit.get("name")?.as_str()?;
    (!name.trim().is_empty()).then(|| name.to_owned())
}

/// What follows the first line shows the file around the error, passwords and all.
pub(super) fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// Says what the parsers say of numbers in words that are not Rust's.
pub(super) fn in_words(message: &str) -> String {
    const NUMBER: &str = "a whole number from 0 on";
    let message = message.replace("invalid u32", &format!("{NUMBER} is expected"));
    message.replace("expected u32", &format!("expected {NUMBER}"))
}

/// The known word that is nearest to the unknown one a parser's message names: a key, or one of the words a key takes.
///
/// Both parsers say ``unknown field `x`, expected one of a, b``, one of them with quotes around each; of two it says ``a or b``.
pub(super) fn nearest_word(message: &str) -> Option<String> {
    let line = message.lines().next()?;
    let (_, rest) = ["unknown field `", "unknown variant `"].iter().find_map(|what| line.split_once(what))?;
    let (unknown, rest) = rest.split_once("`, expected ")?;
    let known = rest.trim_start_matches("one of ").split(" at line ").next()?;
    let words = known.split([',', ' ']).map(|key| key.trim_matches('`'));
    let keys = words.filter(|key| !key.is_empty() && *key != "or");
    nearest(unknown, keys).first().map(|key| (*key).to_owned())
}
