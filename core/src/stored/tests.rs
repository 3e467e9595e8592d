use super::*;

fn blob(text: &str) -> StoredBlob {
    StoredBlob { digest: Digest::of(text.as_bytes()), size: Bytes(1), stamp: Stamp(7) }
}

#[test]
fn every_blob_is_found_by_its_digest_and_no_other() {
    let texts: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    let blobs: Blobs = texts.iter().rev().map(|text| blob(text)).collect();
    assert_eq!((blobs.len(), blobs.bytes()), (2000, Some(Bytes(2000))));
    let mut set = blobs.set();
    for text in &texts {
        let id = blobs.find(blob(text).digest).unwrap();
        assert_eq!(blobs.get(id), blob(text));
        assert!(set.insert(id) && !set.insert(id) && set.contains(id));
    }
    assert_eq!(blobs.find(Digest::of(b"another")), None);
    assert_eq!((set.len(), blobs.ids().count()), (2000, 2000));
    assert!(blobs.iter().map(|(_, blob)| blob.digest).is_sorted());
}

#[test]
fn digests_that_are_not_spread_evenly_are_found_as_well() {
    for (fixed, number) in [(0x00, 300), (0x7f, 300), (0xff, 300), (0x80, 1)] {
        let digest = |number: u16| {
            let mut bytes = [fixed; 32];
            bytes[30..].copy_from_slice(&number.to_be_bytes());
            Digest::from_bytes(bytes)
        };
        let blobs: Blobs =
            (0..number).map(|number| StoredBlob { digest: digest(2 * number), ..blob("") }).collect();
        for number in 0..number {
            let id = blobs.find(digest(2 * number)).unwrap();
            assert_eq!(blobs.get(id).digest, digest(2 * number));
            assert_eq!(blobs.find(digest(2 * number + 1)), None);
        }
    }
    assert_eq!(Blobs::default().find(Digest::of(b"")), None);
}

#[test]
fn what_is_told_of_a_blob_later_is_known_of_it_alone() {
    let named = |text| StoredBlob { size: StoredBlob::UNKNOWN, stamp: Stamp::UNKNOWN, ..blob(text) };
    let mut blobs: Blobs = ["a", "b", "c"].into_iter().map(named).collect();
    let id = |blobs: &Blobs, text| blobs.find(blob(text).digest).unwrap();
    let (a, b) = (id(&blobs, "a"), id(&blobs, "b"));
    blobs.learn(a, Bytes(5), Stamp(9));
    assert_eq!((blobs.get(a).known_size(), blobs.get(a).stamp), (Some(Bytes(5)), Stamp(9)));
    assert_eq!((blobs.get(b), blobs.get(b).known_size(), blobs.bytes()), (named("b"), None, None));
    blobs.learn_absent(b);
    assert!(blobs.is_absent(b) && !blobs.is_absent(a));
    assert_eq!((blobs.len(), blobs.ids().count(), blobs.ids().any(|id| id == b)), (2, 2, false));
    assert_eq!(id(&blobs, "b"), b, "its place is its own");
}

#[test]
fn a_blob_listed_twice_is_one() {
    let twice: Blobs = [blob("a"), blob("b"), blob("a")].into_iter().collect();
    assert_eq!(twice.len(), 2);
}

#[test]
fn of_a_blob_listed_twice_the_youngest_counts() {
    let (old, young) = (blob("a"), StoredBlob { stamp: Stamp(8), ..blob("a") });
    for twice in [[old, young], [young, old]] {
        let blobs: Blobs = twice.into_iter().collect();
        assert_eq!(blobs.iter().map(|(_, blob)| blob).collect::<Vec<_>>(), [young]);
    }
}

#[test]
fn a_repository_is_as_young_as_its_youngest_link() {
    assert_eq!(StoredRepo::default().newest(), None);
    let tag = |stamp| StoredTag { target: None, stamp };
    let tags = [("v1", 3), ("v2", 5), ("v3", 4)];
    let tags = tags.map(|(name, second)| (name.parse().unwrap(), tag(Stamp(second))));
    let repo = StoredRepo { tags: tags.into(), ..StoredRepo::default() };
    assert_eq!(repo.newest(), Some(Stamp(5)));
    let dangling = vec![(Digest::of(b"gone"), Stamp(6))];
    assert_eq!(StoredRepo { dangling, ..repo }.newest(), Some(Stamp(6)));
}

#[test]
fn what_is_unknown_or_in_the_future_is_young() {
    let now = Stamp::from_second(1_000_000);
    let day = Age(86_400);
    for (second, is_older) in
        [(1_000_000 - 86_400, true), (1_000_000 - 86_399, false), (1_000_001, false), (-5, true)]
    {
        assert_eq!(Stamp::from_second(second).is_older(day, now), is_older, "{second}");
    }
    assert!(!Stamp::UNKNOWN.is_older(Age(0), now));
    assert!(!Stamp::UNKNOWN.is_older(Age(0), Stamp::UNKNOWN));
    assert!(!Stamp(7).is_older(Age(0), Stamp::UNKNOWN), "who does not know the time finds nothing old");
    assert!(!Stamp(7).is_older(Age(u64::MAX), now), "never is never");
    assert!(now.is_older(Age(0), now));
    assert!(!Stamp::from_second(1_000_001).is_older(Age(0), now), "the future is not old");
    assert_eq!(Stamp::from_second(i64::from(u32::MAX)), Stamp::UNKNOWN);
}
