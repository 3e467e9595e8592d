//! What was probably meant by a word that is not known.

/// Words that are less alike than this (1: the same) are not taken for one another.
const ALIKE: f64 = 0.7;
/// A word that is less like it than the nearest by more than this is not named beside it.
const NEARLY: f64 = 0.05;
/// More than so many are no help.
const MOST: usize = 3;

/// The words of `known` that are most like `unknown`, the nearest first: three at most, and none where none is like it.
///
/// A name is near to any that is the same behind some folders: `web` to `shop/web`.
pub fn nearest<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> Vec<&'k str> {
    let rated = known.into_iter().map(|word| (word, likeness(unknown, word)));
    let mut near: Vec<(&str, f64)> = rated.filter(|(_, likeness)| *likeness > ALIKE).collect();
    near.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let least = near.first().map_or(ALIKE, |(_, best)| best - NEARLY);
    near.into_iter().take_while(|(_, likeness)| *likeness >= least).map(|(word, _)| word).take(MOST).collect()
}

fn likeness(one: &str, other: &str) -> f64 {
    let is_behind = |whole: &str, end: &str| whole.strip_suffix(end).is_some_and(|rest| rest.ends_with('/'));
    if is_behind(one, other) || is_behind(other, one) { 1.0 } else { strsim::jaro_winkler(one, other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_comes_first_and_what_is_like_none_gets_none() {
        let known = ["shop/api", "shop/web", "tool", "shop/wed", "shop/we"];
        assert_eq!(nearest("shop/wep", known), ["shop/we", "shop/web", "shop/wed"], "and not shop/api");
        assert_eq!(nearest("toll", known), ["tool"]);
        assert_eq!(nearest("unlike", known), [""; 0]);
    }

    #[test]
    fn a_folder_too_few_or_too_many_is_near() {
        assert_eq!(nearest("web", ["wed", "shop/web", "shop/api"]), ["shop/web"]);
        assert_eq!(nearest("registry.example/shop/web", ["shop/web", "web"]), ["shop/web", "web"]);
    }
}
