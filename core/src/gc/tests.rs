//! Numbers are those of the table of scenarios in FACTS section 8.

use super::*;

/// A storage in memory.
#[derive(Default)]
struct World {
    stored: Stored,
    bytes: BTreeMap<Digest, Vec<u8>>,
}

impl World {
    fn blob(&mut self, bytes: impl Into<Vec<u8>>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.stored.blobs.insert(digest, Bytes(bytes.len() as u64));
        self.bytes.insert(digest, bytes);
        digest
    }

    fn image(&mut self, name: &str) -> (Digest, [Digest; 2]) {
        let config = self.blob(format!("config of {name}"));
        let layer = self.blob(format!("layer of {name}"));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"digest":"{config}"}},"layers":[{{"digest":"{layer}"}}]}}"#,
            MediaType::OCI_MANIFEST
        );
        (self.blob(manifest), [config, layer])
    }

    fn index(&mut self, media_type: &str, children: &[Digest]) -> Digest {
        let children: Vec<String> = children
            .iter()
            .map(|child| format!(r#"{{"mediaType":"{media_type}","digest":"{child}"}}"#))
            .collect();
        self.blob(format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(",")))
    }

    fn root(&mut self, digest: Digest) {
        self.stored.roots.insert(digest);
    }

    fn sweep(&self) -> Result<Garbage, Blocked> {
        let mut marking = Marking::new(self.stored.clone());
        loop {
            let unread = marking.unread();
            if unread.is_empty() {
                return marking.sweep();
            }
            for digest in unread {
                marking.read(digest, &self.bytes[&digest]);
            }
        }
    }

    fn garbage(&self) -> Vec<Digest> {
        self.sweep().unwrap().blobs.into_keys().collect()
    }
}

#[test]
fn an_index_keeps_its_children_at_any_depth() {
    // 1, 2
    let mut world = World::default();
    let (image, _) = world.image("deep");
    let inner = world.index(MediaType::OCI_MANIFEST, &[image]);
    let middle = world.index(MediaType::OCI_INDEX, &[inner]);
    let outer = world.index(MediaType::OCI_INDEX, &[middle]);
    let lost = world.blob("nobody's");
    world.root(outer);
    assert_eq!(world.garbage(), [lost]);
}

#[test]
fn a_child_that_one_repository_lost_is_kept_for_the_other() {
    // 3: repository a has only the index left, b has both; the roots of both count alike.
    let mut world = World::default();
    let (child, blobs) = world.image("child");
    let index = world.index(MediaType::OCI_MANIFEST, &[child]);
    world.root(index);
    assert_eq!(world.garbage(), [], "listed by the index alone");
    world.root(child);
    assert_eq!(world.garbage(), []);
    world.stored.roots.clear();
    world.root(child);
    assert_eq!(world.garbage(), [index]);
    assert!(blobs.iter().all(|blob| !world.garbage().contains(blob)));
}

#[test]
fn what_two_indexes_share_goes_with_the_last_of_them() {
    // 6
    let mut world = World::default();
    let (shared, shared_blobs) = world.image("shared");
    let (own, own_blobs) = world.image("own");
    let expired = world.index(MediaType::OCI_MANIFEST, &[shared, own]);
    let live = world.index(MediaType::OCI_MANIFEST, &[shared]);
    world.root(live);
    let garbage = world.garbage();
    for digest in [expired, own, own_blobs[0], own_blobs[1]] {
        assert!(garbage.contains(&digest));
    }
    for digest in [live, shared, shared_blobs[0], shared_blobs[1]] {
        assert!(!garbage.contains(&digest));
    }
}

#[test]
fn a_layer_known_by_another_algorithm_is_kept() {
    // 10
    let mut world = World::default();
    let layer = world.blob("pushed by sha512");
    let alias = format!("sha512:{}", "ab".repeat(64));
    let manifest = world.blob(format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{alias}"}}]}}"#));
    world.root(manifest);
    assert_eq!(world.garbage(), [layer], "without the link the name says nothing");
    world.stored.aliases.entry(alias).or_default().insert(layer);
    assert_eq!(world.garbage(), []);
}

#[test]
fn schema_1_keeps_its_layers() {
    // 11
    let mut world = World::default();
    let layer = world.blob("old layer");
    let manifest = world.blob(format!(r#"{{"schemaVersion":1,"fsLayers":[{{"blobSum":"{layer}"}}]}}"#));
    world.root(manifest);
    assert_eq!(world.garbage(), []);
}

#[test]
fn an_empty_index_is_readable() {
    // 12
    let mut world = World::default();
    let index = world.index(MediaType::OCI_INDEX, &[]);
    world.root(index);
    assert_eq!(world.sweep(), Ok(Garbage::default()));
}

#[test]
fn layers_listed_as_children_are_kept_and_not_taken_for_manifests() {
    // 13
    let mut world = World::default();
    let layer = world.blob("a layer is not JSON");
    let index = world.index("application/vnd.docker.image.rootfs.diff.tar.gzip", &[layer]);
    world.root(index);
    assert_eq!(world.garbage(), []);

    let huge = Digest::of(b"too large to be a manifest");
    world.stored.blobs.insert(huge, LARGEST_MANIFEST + Bytes(1));
    let index = world.index("application/vnd.oci.image.layer.v1.tar+gzip", &[huge]);
    world.root(index);
    assert_eq!(world.garbage(), [], "and the huge one was not even asked for: it has no bytes here");
}

#[test]
fn an_unreadable_manifest_blocks_the_sweep() {
    // 17, 44
    for bytes in ["", "{\"schemaVersion\":2,\"lay", "[]", "{}", "\"layers\""] {
        let mut world = World::default();
        let broken = world.blob(bytes);
        world.blob("might be its layer");
        world.root(broken);
        assert!(
            matches!(world.sweep(), Err(Blocked::Unreadable(digest, _)) if digest == broken),
            "{bytes:?}"
        );

        let mut world = World::default();
        let broken = world.blob(bytes);
        let index = world.index(MediaType::OCI_MANIFEST, &[broken]);
        world.root(index);
        assert!(
            matches!(world.sweep(), Err(Blocked::Unreadable(digest, _)) if digest == broken),
            "{bytes:?}"
        );
    }
}

#[test]
fn bytes_first_met_as_a_layer_and_later_as_a_manifest_block_too() {
    let mut world = World::default();
    let broken = world.blob("no JSON");
    let cache = world.index("application/vnd.oci.image.layer.v1.tar+gzip", &[broken]);
    let index = world.index(MediaType::OCI_MANIFEST, &[broken]);
    let outer = world.index(MediaType::OCI_INDEX, &[index]);
    world.root(cache);
    assert_eq!(
        world.garbage(),
        [index, outer].into_iter().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
    world.root(outer);
    assert!(matches!(world.sweep(), Err(Blocked::Unreadable(digest, _)) if digest == broken));
}

#[test]
fn a_manifest_nobody_fed_blocks_the_sweep() {
    let mut world = World::default();
    let (image, _) = world.image("unread");
    world.root(image);
    let mut marking = Marking::new(world.stored.clone());
    assert_eq!(marking.unread(), BTreeSet::from([image]));
    assert_eq!(marking.unread(), BTreeSet::new(), "asked for once");
    assert_eq!(marking.sweep(), Err(Blocked::Unread(image)));
}

#[test]
fn a_link_without_its_manifest_is_reported_and_the_rest_is_cleaned() {
    // 18
    let mut world = World::default();
    let gone = Digest::of(b"gone");
    let lost = world.blob("nobody's");
    world.root(gone);
    let garbage = world.sweep().unwrap();
    assert_eq!(garbage.dangling, BTreeSet::from([gone]));
    assert_eq!(garbage.blobs.into_keys().collect::<Vec<_>>(), [lost]);
}

#[test]
fn an_untagged_manifest_is_a_root_like_any_other() {
    // 20
    let mut world = World::default();
    let (image, _) = world.image("by digest only");
    world.root(image);
    assert_eq!(world.garbage(), []);
}

#[test]
fn freed_bytes_count_each_blob_once() {
    // 47
    let mut world = World::default();
    let (_, [config, layer]) = world.image("gone");
    world.blob(format!(r#"{{"config":{{"digest":"{config}"}},"layers":[{{"digest":"{layer}"}}]}}"#));
    let garbage = world.sweep().unwrap();
    assert_eq!(garbage.blobs.len(), 4);
    assert_eq!(garbage.size(), world.stored.blobs.values().copied().sum());
}

#[test]
fn a_referrer_does_not_keep_its_subject() {
    let mut world = World::default();
    let (subject, _) = world.image("subject");
    let config = world.blob("{}");
    let referrer = world.blob(format!(
        r#"{{"config":{{"digest":"{config}"}},"layers":[],"subject":{{"mediaType":"{}","digest":"{subject}"}}}}"#,
        MediaType::OCI_MANIFEST
    ));
    world.root(referrer);
    let garbage = world.garbage();
    assert!(garbage.contains(&subject));
    assert!(!garbage.contains(&config));
}

#[test]
fn manifests_that_list_each_other_end() {
    // No digest can contain itself, but a link can say anything.
    let mut world = World::default();
    let (first, second) = (Digest::of(b"first"), Digest::of(b"second"));
    for (digest, other) in [(first, second), (second, first)] {
        world.stored.blobs.insert(digest, Bytes(1));
        world.bytes.insert(
            digest,
            format!(r#"{{"manifests":[{{"mediaType":"{}","digest":"{other}"}}]}}"#, MediaType::OCI_INDEX)
                .into(),
        );
    }
    world.root(first);
    assert_eq!(world.garbage(), []);
}

#[test]
fn json_is_read_as_widely_as_go_reads_it() {
    let mut world = World::default();
    let layers: Vec<Digest> = (0..3).map(|number| world.blob(format!("layer {number}"))).collect();
    let manifest = world.blob(format!(
        r#"{{"Layers":[{{"Digest":"{}"}}],"layers":[{{"digest":"{}","digest":"{}"}}]}}"#,
        layers[0], layers[1], layers[2]
    ));
    world.root(manifest);
    assert_eq!(world.garbage(), []);
}

#[test]
fn what_is_spared_is_kept_without_being_read() {
    // 21, 22
    let mut world = World::default();
    let young = world.blob("uploaded a minute ago");
    assert_eq!(world.garbage(), [young]);
    world.stored.spared.insert(young);
    assert_eq!(world.garbage(), []);
}
