//! What the registry's own collector would lose, although something points at it (FACTS section 3).

use std::collections::BTreeSet;

use crate::inventory::Inventory;
use crate::name::{Digest, RepoName};
use crate::plan::{Action, Plan};

/// What has to be seen to before the registry's own collector may run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hazards {
    /// Manifests that stay and list a blob by a digest other than sha256: the collector sweeps that blob.
    pub foreign_digests: Vec<(RepoName, Digest, String)>,
    /// Repositories whose remaining manifests list no blob at all, such as an empty index alone. Registry 2.x does not see them
    /// and sweeps their manifests, registry 3.x gives up on the whole collection. A single blob in them cures both.
    pub without_blobs: Vec<RepoName>,
}

impl Hazards {
    /// The hazards in `inventory` once `plan` has been applied.
    #[must_use]
    pub fn after(plan: &Plan, inventory: &Inventory) -> Self {
        let deletes = plan.steps.iter().filter(|step| step.action == Action::Delete);
        let deleted: BTreeSet<_> = deletes.map(|step| (&step.repository, step.digest)).collect();
        let mut hazards = Self::default();
        for (name, repo) in &inventory.repos {
            let remaining = repo.manifests.iter().filter(|(digest, _)| !deleted.contains(&(name, **digest)));
            let (mut manifests, mut blobs) = (0, 0);
            for (digest, manifest) in remaining {
                manifests += 1;
                blobs += manifest.blobs().count() + manifest.foreign_digests.len();
                let foreign = manifest.foreign_digests.iter();
                hazards.foreign_digests.extend(foreign.map(|text| (name.clone(), *digest, text.clone())));
            }
            if manifests > 0 && blobs == 0 {
                hazards.without_blobs.push(name.clone());
            }
        }
        hazards
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::decision::Cause;
    use crate::inventory::{Powers, Repo};
    use crate::manifest::Manifest;
    use crate::plan::{Estimate, FORMAT, Origin, PolicyStamp, Step};

    fn inventory(repos: &[(&str, &[&str])]) -> Inventory {
        let repos = repos.iter().map(|(name, manifests)| {
            let read = |text: &&str| {
                (Digest::of(text.as_bytes()), Arc::new(Manifest::parse(text.as_bytes(), None).unwrap()))
            };
            let repo =
                Repo { manifests: manifests.iter().map(read).collect::<BTreeMap<_, _>>(), ..Repo::default() };
            (name.parse().unwrap(), repo)
        });
        Inventory::of("r".to_owned(), Timestamp::UNIX_EPOCH, Powers::DeleteOnly, repos.collect())
    }

    fn plan(deletes: &[(&str, &str)]) -> Plan {
        let steps = deletes.iter().map(|(repository, manifest)| Step {
            action: Action::Delete,
            repository: repository.parse().unwrap(),
            digest: Digest::of(manifest.as_bytes()),
            tags: Vec::new(),
            cause: Cause::Unfinished,
        });
        Plan {
            format: FORMAT,
            registry: "r".to_owned(),
            as_of: Timestamp::UNIX_EPOCH,
            origin: Origin::Policy,
            policy: PolicyStamp { hash: Digest::of(b""), sentence: String::new() },
            estimate: Estimate::default(),
            steps: steps.collect(),
            gaps: Vec::new(),
            warnings: Vec::new(),
            kept: None,
        }
    }

    const EMPTY: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

    fn image(algorithm: &str, length: usize) -> String {
        format!(r#"{{"layers":[{{"digest":"{algorithm}:{}","size":1}}]}}"#, "a".repeat(length))
    }

    #[test]
    fn a_repository_without_blobs_is_one_whose_remaining_manifests_list_none() {
        let image = image("sha256", 64);
        let inventory = inventory(&[("bare", &[EMPTY]), ("both", &[EMPTY, &image]), ("none", &[])]);
        let name = |text: &str| text.parse::<RepoName>().unwrap();
        assert_eq!(Hazards::after(&plan(&[]), &inventory).without_blobs, [name("bare")]);
        let plan = plan(&[("bare", EMPTY), ("both", &image)]);
        assert_eq!(Hazards::after(&plan, &inventory).without_blobs, [name("both")]);
    }

    #[test]
    fn a_blob_by_another_algorithm_is_a_hazard_while_its_manifest_stays() {
        let image = image("sha512", 128);
        let inventory = inventory(&[("app", &[&image])]);
        assert_eq!(Hazards::after(&plan(&[]), &inventory).foreign_digests.len(), 1);
        assert_eq!(Hazards::after(&plan(&[("app", &image)]), &inventory), Hazards::default());
    }
}
