//! What was measured, and whether it is what is required.

use std::fmt::{self, Display, Write as _};

/// One figure.
#[derive(Debug, Clone)]
pub struct Finding {
    what: String,
    figure: String,
    required: Option<(String, Verdict)>,
}

/// Whether a requirement holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Held,
    /// It does not.
    Missed,
}

impl Finding {
    /// A figure that nothing is required of.
    pub fn told(what: impl Into<String>, figure: impl Display) -> Self {
        Self { what: what.into(), figure: figure.to_string(), required: None }
    }

    /// A figure that must not exceed `limit`.
    pub fn at_most<T: PartialOrd + Display>(what: impl Into<String>, figure: T, limit: T) -> Self {
        let verdict = if figure <= limit { Verdict::Held } else { Verdict::Missed };
        Self {
            required: Some((format!("≤ {limit:.1}"), verdict)),
            ..Self::told(what, format!("{figure:.1}"))
        }
    }

    /// A figure that must not fall short of `limit`.
    pub fn at_least<T: PartialOrd + Display>(what: impl Into<String>, figure: T, limit: T) -> Self {
        let verdict = if figure >= limit { Verdict::Held } else { Verdict::Missed };
        Self {
            required: Some((format!("≥ {limit:.1}"), verdict)),
            ..Self::told(what, format!("{figure:.1}"))
        }
    }

    /// Whether all requirements hold.
    pub fn verdict(findings: &[Self]) -> Verdict {
        let missed = |finding: &Self| matches!(finding.required, Some((_, Verdict::Missed)));
        if findings.iter().any(missed) { Verdict::Missed } else { Verdict::Held }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "holds",
            Self::Missed => "**MISSED**",
        })
    }
}

/// The findings as a Markdown table.
pub fn table(findings: &[Finding]) -> String {
    let mut text = "| what | figure | required | |\n|---|---|---|---|\n".to_owned();
    for Finding { what, figure, required } in findings {
        let (limit, verdict) = required
            .as_ref()
            .map_or_else(Default::default, |(limit, verdict)| (limit.as_str(), verdict.to_string()));
        let _ = writeln!(text, "| {what} | {figure} | {limit} | {verdict} |");
    }
    text
}

/// The middle one of some figures.
///
/// # Panics
/// When there are none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missed_requirement_is_enough() {
        let held = [Finding::at_most("a", 1, 1), Finding::at_least("b", 12.5, 12.0), Finding::told("c", "d")];
        assert_eq!(Finding::verdict(&held), Verdict::Held);
        assert_eq!(Finding::verdict(&[held[0].clone(), Finding::at_most("a", 2, 1)]), Verdict::Missed);
        assert_eq!(Finding::verdict(&[Finding::at_least("b", 11.9, 12.0)]), Verdict::Missed);
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
