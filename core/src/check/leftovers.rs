//! What nothing needs, counted by kind.

use serde::Serialize;

use crate::gc::{Known, Removed, Settings, decide, needed};
use crate::layout::Place;
use crate::name::{Bytes, Digest, RepoName};
use crate::stored::{Age, Stamp, Stored, StoredRepo};

/// How many of a kind are named.
const NAMED: usize = 100;

/// What is left over in a storage, by kind. None of it breaks anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Leftovers {
    /// Blobs that nothing needs.
    pub orphans: Leftover,
    /// Those of them that are younger than asked: somebody may be about to push what needs them.
    pub young_orphans: Leftover,
    /// Manifests that no tag leads to and no other manifest of their repository lists.
    pub untagged: Leftover,
    /// Layer links whose blob is gone.
    pub dangling_links: Leftover,
    /// Repositories without manifests, tags and uploads.
    pub empty_repositories: Leftover,
    /// Uploads that were not continued for as long as asked.
    pub abandoned_uploads: Leftover,
    /// Files a crash of the registry left behind.
    pub temporary_files: Leftover,
    /// Files that are no part of the layout, by the repository they are in. Nobody removes them.
    pub unknown_files: Leftover,
}

/// Things of a kind that are left over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// How many there are.
    pub count: usize,
    /// What they take, where they take anything worth counting.
    pub bytes: Bytes,
    /// The first hundred of them: keys below `docker/registry/v2`.
    pub paths: Vec<String>,
}

impl Leftover {
    fn add(&mut self, path: impl FnOnce() -> String, bytes: Bytes) {
        self.count += 1;
        self.bytes = self.bytes + bytes;
        if self.paths.len() < NAMED {
            self.paths.push(path());
        }
    }
}

/// Counts what is left over. What was written less than `age` before `now` is young.
#[must_use]
pub fn leftovers(stored: &Stored, known: &Known, age: Age, now: Stamp) -> Leftovers {
    let mut left = Leftovers::default();
    let needed = needed(stored, known, &Removed::new());
    for (_, blob) in stored.blobs.iter().filter(|(id, _)| !needed.contains(*id)) {
        let path = || Place::BlobData(blob.digest).key();
        let kind = if blob.stamp.is_older(age, now) { &mut left.orphans } else { &mut left.young_orphans };
        kind.add(path, blob.size);
    }
    for (name, repo) in &stored.repos {
        left.add_repository(stored, known, (name, repo));
    }
    for file in &stored.temporary {
        left.temporary_files.add(|| file.key.clone(), file.size);
    }
    left.add_garbage(stored, known, age, now);
    left
}

impl Leftovers {
    fn add_repository(&mut self, stored: &Stored, known: &Known, (name, repo): (&RepoName, &StoredRepo)) {
        for digest in untagged(stored, known, repo) {
            let size = stored.blobs.find(digest).map(|blob| stored.blobs.get(blob).size).unwrap_or_default();
            let place = Place::RevisionLink { repo: name.clone(), digest };
            self.untagged.add(|| place.key(), size);
        }
        for (digest, _) in &repo.dangling {
            let place = Place::LayerLink { repo: name.clone(), digest: *digest };
            self.dangling_links.add(|| place.key(), Bytes(0));
        }
        if repo.unknown > 0 {
            self.unknown_files.add(|| format!("repositories/{name}/"), Bytes(0));
            self.unknown_files.count += repo.unknown - 1;
        }
    }

    /// What a collection would find, asked of the collection itself.
    fn add_garbage(&mut self, stored: &Stored, known: &Known, age: Age, now: Stamp) {
        let settings = Settings {
            uploads: Some(age),
            empty_repositories: Some(Age(0)),
            ..Settings::blobs_only(now, age)
        };
        let garbage = decide(stored, known, &Removed::new(), &settings).garbage;
        for upload in garbage.uploads {
            self.abandoned_uploads
                .add(|| format!("repositories/{}/_uploads/{}/", upload.repository, upload.id), upload.bytes);
        }
        for name in garbage.repositories {
            self.empty_repositories.add(|| format!("repositories/{name}/"), Bytes(0));
        }
    }
}

/// The manifests of a repository that no tag leads to and no other manifest of it lists.
fn untagged(stored: &Stored, known: &Known, repo: &StoredRepo) -> Vec<Digest> {
    let mut led_to: std::collections::HashSet<Digest> = repo.tagged().collect();
    for digest in repo.revisions.keys() {
        let lists = stored.blobs.find(*digest).map(|blob| known.lists(blob)).unwrap_or_default();
        let manifests = lists.iter().filter(|blob| known.is_manifest(**blob));
        led_to.extend(manifests.map(|blob| stored.blobs.get(*blob).digest));
    }
    repo.revisions.keys().filter(|digest| !led_to.contains(*digest)).copied().collect()
}
