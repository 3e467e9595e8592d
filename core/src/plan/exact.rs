//! What will be freed, from what is stored: the garbage there would be, less the garbage there is.

use std::collections::{BTreeMap, BTreeSet};

use crate::decision::Decision;
use crate::gc::{Removed, Settings, decide};
use crate::inventory::Holdings;
use crate::name::{Bytes, Digest, RepoName};
use crate::policy::Verdicts;
use crate::stored::{Age, BlobId, Stamp};

/// Later than anything but the unknown, so that nothing stays for being young.
const END_OF_TIME: i64 = u32::MAX as i64 - 1;

/// The bytes that become garbage with the manifests that `verdicts` remove, each blob with the first repository that gives it up.
pub(super) fn freed(holdings: &Holdings, verdicts: &Verdicts) -> BTreeMap<RepoName, Bytes> {
    let removed = removed(verdicts);
    let before: BTreeSet<Digest> = garbage(holdings, &Removed::new()).into_keys().collect();
    let mut freed = garbage(holdings, &removed);
    freed.retain(|digest, _| !before.contains(digest));
    let mut by_repository = BTreeMap::new();
    for (name, manifests) in removed {
        let bytes: Bytes = reached(holdings, manifests).filter_map(|digest| freed.remove(&digest)).sum();
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
