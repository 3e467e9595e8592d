//! What will be freed, from what is stored: the garbage there would be, as far as it is what removed manifests lead to. As long as
//! those exist nothing of that is garbage.

use std::collections::{BTreeMap, BTreeSet};

use super::Shared;
use crate::decision::Decision;
use crate::gc::{Removed, Settings, decide};
use crate::inventory::Holdings;
use crate::name::{Bytes, Digest, RepoName};
use crate::policy::Verdicts;
use crate::stored::{Age, BlobId, Stamp};

/// Later than anything but the unknown, so that nothing stays for being young.
const END_OF_TIME: i64 = u32::MAX as i64 - 1;

/// The bytes that become garbage with the manifests that `verdicts` remove.
pub(super) fn freed(holdings: &Holdings, verdicts: &Verdicts, shared: Shared) -> BTreeMap<RepoName, Bytes> {
    let removed = removed(verdicts);
    let mut freed = garbage(holdings, &removed);
    let mut by_repository = BTreeMap::new();
    for (name, manifests) in removed {
        let counted = |digest| match shared {
            Shared::WithFirst => freed.remove(&digest),
            Shared::WithEach => freed.get(&digest).copied(),
        };
        let bytes: Bytes = reached(holdings, manifests).filter_map(counted).sum();
        if bytes > Bytes(0) {
            by_repository.insert(name, bytes);
        }
    }
    by_repository
}

fn removed(verdicts: &Verdicts) -> Removed {
    let mut removed = Removed::new();
    for (name, judged) in &verdicts.repos {
        let goes = judged.manifests.iter().filter(|(_, decision)| matches!(decision, Decision::Remove(_)));
        let goes: BTreeSet<Digest> = goes.map(|(digest, _)| *digest).collect();
        if !goes.is_empty() {
            removed.insert(name.clone(), goes);
        }
    }
    removed
}

fn garbage(holdings: &Holdings, removed: &Removed) -> BTreeMap<Digest, Bytes> {
    let settings = Settings::blobs_only(Stamp::from_second(END_OF_TIME), Age(0));
    let decided = decide(&holdings.stored, &holdings.known, removed, &settings);
    decided.garbage.blobs.into_iter().map(|blob| (blob.digest, blob.bytes)).collect()
}

/// Everything that `manifests` lead to, themselves included, each once.
fn reached(holdings: &Holdings, manifests: BTreeSet<Digest>) -> impl Iterator<Item = Digest> {
    let Holdings { stored, known } = holdings;
    let mut seen = BTreeSet::new();
    let mut queue: Vec<BlobId> = manifests.iter().filter_map(|digest| stored.blobs.find(*digest)).collect();
    std::iter::from_fn(move || {
        loop {
            let blob = queue.pop()?;
            if seen.insert(blob) {
                queue.extend_from_slice(known.lists(blob));
                return Some(stored.blobs.get(blob).digest);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Cause;
    use crate::gc::{Known, References};
    use crate::policy::RepoVerdicts;
    use crate::stored::{Blobs, Stored, StoredBlob};

    /// What lists these as layers; its size is a hundred.
    fn manifest(layers: &[&str]) -> String {
        let layers = layers.iter().map(|layer| format!(r#"{{"digest":"{}"}}"#, Digest::of(layer.as_bytes())));
        format!(r#"{{"layers":[{}]}}"#, layers.collect::<Vec<_>>().join(","))
    }

    /// A storage of these blobs, each with its size, and of these revisions.
    fn holdings(blobs: &[(&str, u64)], revisions: &[(&str, &str)]) -> Holdings {
        let now = Stamp::from_second(1_800_000_000);
        let blob = |(text, size): &(&str, u64)| StoredBlob {
            digest: Digest::of(text.as_bytes()),
            size: Bytes(*size),
            stamp: now,
        };
        let mut stored = Stored { blobs: blobs.iter().map(blob).collect::<Blobs>(), ..Stored::default() };
        for (repo, manifest) in revisions {
            let repo = stored.repos.entry(repo.parse().unwrap()).or_default();
            repo.revisions.insert(Digest::of(manifest.as_bytes()), now);
        }
        let mut known = Known::default();
        known.visit_roots(&stored);
        for digest in known.unread() {
            let text = revisions.iter().find(|(_, text)| Digest::of(text.as_bytes()) == digest).unwrap().1;
            known.learn(&stored.blobs, digest, &References::read(text.as_bytes()).map_err(|e| e.to_string()));
        }
        Holdings { stored, known }
    }

    fn removing(manifests: &[(&str, &str)]) -> Verdicts {
        let mut verdicts = Verdicts::default();
        for (repo, manifest) in manifests {
            let judged: &mut RepoVerdicts = verdicts.repos.entry(repo.parse().unwrap()).or_default();
            let goes = Decision::Remove(Cause::Unfinished);
            judged.manifests.insert(Digest::of(manifest.as_bytes()), goes);
        }
        verdicts
    }

    #[test]
    fn what_is_freed_is_what_only_the_removed_hold_each_blob_once() {
        let (one, two, three) =
            (manifest(&["shared", "a"]), manifest(&["shared", "b"]), manifest(&["shared", "c"]));
        let blobs = [
            ("shared", 1000),
            ("a", 1),
            ("b", 2),
            ("c", 4),
            ("garbage of before", 5000),
            (&*one, 100),
            (&*two, 100),
            (&*three, 100),
        ];
        let revisions = [("x", &*one), ("x", &*two), ("y", &*two), ("y", &*three)];
        let holdings = holdings(&blobs, &revisions);
        let freed = |removed: &[(&str, &str)]| -> Vec<(String, u64)> {
            let freed = super::freed(&holdings, &removing(removed), Shared::WithFirst).into_iter();
            freed.map(|(name, bytes)| (name.to_string(), bytes.0)).collect()
        };
        let line = |name: &str, bytes| (name.to_owned(), bytes);
        assert_eq!(freed(&[]), []);
        assert_eq!(freed(&[("x", &one)]), [line("x", 101)]);
        assert_eq!(freed(&[("x", &two)]), [], "it is still in y");
        assert_eq!(freed(&[("x", &two), ("y", &two)]), [line("x", 102)], "with the first that gives it up");
        assert_eq!(
            freed(&[("x", &one), ("x", &two), ("y", &two), ("y", &three)]),
            [line("x", 1000 + 101 + 102), line("y", 104)]
        );
        let removed = removing(&[("x", &one), ("x", &two), ("y", &two), ("y", &three)]);
        let each: Vec<u64> =
            super::freed(&holdings, &removed, Shared::WithEach).into_values().map(|bytes| bytes.0).collect();
        assert_eq!(each, [1000 + 101 + 102, 1000 + 102 + 104], "what both give up goes from each");
    }
}
