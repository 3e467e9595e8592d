//! Limits in words.

use super::{Limit, Limits};

impl Limits {
    /// The limits as sentences, without capitals and full stops; none where nothing is limited.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let whole = said(self.all).map(|said| format!("a run is refused whole that {said}"));
        let of_repositories = self.repositories.iter().filter_map(|entry| {
            Some(format!("of each of repositories {} alone, one that {}", entry.repos, said(entry.limit)?))
        });
        whole.into_iter().chain(of_repositories).collect()
    }
}

/// What a run must not do; `None` if it may do anything.
fn said(limit: Limit) -> Option<String> {
    let removed = [
        limit.max_delete.map(|most| format!("{most} tags or manifests")),
        limit.max_percent.map(|most| format!("{most} of the tags or of the manifests")),
        limit.max_bytes.map(|most| most.to_string()),
    ];
    let removed: Vec<String> =
        removed.into_iter().flatten().map(|most| format!("more than {most}")).collect();
    let removes = (!removed.is_empty()).then(|| format!("removes {}", removed.join(", or ")));
    let left = limit.min_tags_left.filter(|least| *least > 0);
    let leaves = left.map(|least| format!("leaves a repository it takes tags from with fewer than {least}"));
    let said: Vec<String> = removes.into_iter().chain(leaves).collect();
    (!said.is_empty()).then(|| said.join(", or "))
}

#[cfg(test)]
mod tests {
    use crate::limits::{ForRepositories, Limit, Limits, Percent};
    use crate::name::Bytes;
    use crate::pattern::Patterns;

    #[test]
    fn limits_are_told_in_words_and_none_where_there_are_none() {
        assert_eq!(Limits::default().sentences(), [""; 0]);
        let all = Limit {
            max_delete: Some(500),
            max_percent: Some(Percent(1250)),
            max_bytes: Some(Bytes(2 << 30)),
            min_tags_left: Some(1),
        };
        let entry = |repos: &str, limit| ForRepositories { repos: Patterns::new([repos]).unwrap(), limit };
        let of_production = Limit { max_delete: Some(20), ..Limit::default() };
        let emptied = Limit { min_tags_left: Some(0), ..Limit::default() };
        let repositories = vec![entry("prod/**", of_production), entry("scratch/**", emptied)];
        assert_eq!(
            Limits { all, repositories }.sentences(),
            [
                "a run is refused whole that removes more than 500 tags or manifests, or more than 12.50 % of the tags or of the \
                 manifests, or more than 2.0 GiB, or leaves a repository it takes tags from with fewer than 1",
                "of each of repositories prod/** alone, one that removes more than 20 tags or manifests",
            ]
        );
    }
}
