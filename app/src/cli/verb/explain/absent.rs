//! What is said of a repository, a tag or a manifest that is not there: what is, and may have been meant.

use clean_registry_core::inventory::Repo;
use clean_registry_core::name::{RepoName, Tag, count};

use super::Subject;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::nearest::nearest;

/// Why nothing can be said of `subject` in the repository `name`, of which `repo` was seen.
pub(super) async fn absent(ctx: &Context, name: &RepoName, subject: &Subject, repo: &Repo) -> Failure {
    if repo.tags.is_empty() && repo.manifests.is_empty() {
        return match repo.blind_spots().next() {
            Some(gap) => Failure::new(Exit::Unreachable, format!("what {name} holds is not known: {gap}")),
            None => empty(ctx, name).await,
        };
    }
    let failure = |what: String| Failure::new(Exit::Usage, format!("{name} has no {what}"));
    let shown = format!("`clean-registry explain {name}` shows what it has");
    match subject {
        Subject::Repository => failure("tag".to_owned()).hinted(manifests_alone(name, repo)),
        Subject::Tag(tag) => {
            let known = repo.tags.keys().map(Tag::as_str);
            failure(format!("tag {tag}")).hinted(meant(tag.as_str(), known).unwrap_or(shown))
        }
        Subject::Digest(digest) => failure(format!("manifest {digest}")).hinted(shown),
    }
}

/// There is no such repository, or nothing in it.
async fn empty(ctx: &Context, name: &RepoName) -> Failure {
    let listed = ctx.reader.catalog().await.repositories;
    if listed.contains(name) {
        return Failure::new(Exit::Usage, format!("{name} has no tag"));
    }
    let failure = Failure::new(Exit::Usage, format!("the registry has no repository {name}"));
    match meant(name.as_str(), listed.iter().map(RepoName::as_str)) {
        Some(hint) => failure.hinted(hint),
        None => failure,
    }
}

fn manifests_alone(name: &RepoName, repo: &Repo) -> String {
    let manifests = count(repo.manifests.len(), "untagged manifest", "untagged manifests");
    format!("it has {manifests}: ask about one as {name}@DIGEST")
}

fn meant<'k>(unknown: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let near = nearest(unknown, known);
    (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")))
}
