//! Repositories without layers, which the registry's own collector does not cope with.

use std::collections::{BTreeMap, BTreeSet};

use clean_registry_core::layout::PREFIX;
use clean_registry_core::name::RepoName;

use super::docker::{Container, Error};

/// The repositories below `root` inside the container that have a place for manifests and none for layers; `None` if that
/// cannot be seen there.
///
/// A manifest that lists no blob, such as an empty index, makes one. Registry 2.x neither lists it nor keeps its manifests
/// from being swept, and registry 3.x gives up on the whole collection, even when the manifest is gone again (FACTS section 3,
/// S11 and S25).
///
/// # Errors
/// The container does not run, or the engine is lost.
pub async fn without_layers(container: &Container, root: &str) -> Result<Option<BTreeSet<RepoName>>, Error> {
    let blobs = format!("*/{PREFIX}/blobs");
    let listed = ["(", "-path", &blobs, "-o", "-name", "_uploads", "-o", "-name", "_manifests", "-o"];
    let layers = ["-path", "*/_layers/*", ")", "-prune", "-print"];
    let command = [&["find", root, "-type", "d"], &listed[..], &layers].concat();
    let output = container.exec(&command).await?;
    Ok((output.code == 0).then(|| bare(output.stdout.lines())))
}

/// Those of the repositories in a listing of folders that have `_manifests`, and nothing in `_layers`.
fn bare<'a>(folders: impl Iterator<Item = &'a str>) -> BTreeSet<RepoName> {
    let mut has_layers: BTreeMap<RepoName, bool> = BTreeMap::new();
    let repositories = format!("{PREFIX}/repositories/");
    for folder in folders {
        let Some((_, path)) = folder.split_once(&repositories) else { continue };
        let name = |end: &str| path.split_once(end).and_then(|(name, _)| name.parse().ok());
        if let Some(name) = name("/_layers/") {
            has_layers.insert(name, true);
        } else if let Some(name) = name("/_manifests") {
            has_layers.entry(name).or_insert(false);
        }
    }
    has_layers.into_iter().filter_map(|(name, has_layers)| (!has_layers).then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_bare_with_manifests_and_without_layers() {
        let base = "/var/lib/registry/docker/registry/v2";
        let folders = [
            "/blobs",
            "/repositories/app/_manifests",
            "/repositories/app/_layers/sha256",
            "/repositories/app/_uploads",
            "/repositories/app/bare/_manifests",
            "/repositories/later/_layers/sha512",
            "/repositories/later/_manifests",
            "/repositories/begun/_uploads",
        ];
        let folders: Vec<String> = folders.iter().map(|folder| format!("{base}{folder}")).collect();
        let found = bare(folders.iter().map(String::as_str));
        assert_eq!(found.iter().map(RepoName::as_str).collect::<Vec<_>>(), ["app/bare"]);
        assert!(bare(["/var/lib/registry"].into_iter()).is_empty());
    }
}
