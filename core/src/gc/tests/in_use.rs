//! Untagged manifests that workloads use.

use std::sync::Arc;

use super::world::{World, set};
use crate::in_use::{InUse, RegistryNames};

/// The untagged manifests that go while a workload uses `reference`; `{name}` in it is a digest.
fn going(world: World, reference: &str) -> std::collections::BTreeSet<String> {
    let (before, name) = reference.split_once('{').unwrap_or((reference, ""));
    let name = name.trim_end_matches('}');
    let digest = if name.is_empty() { String::new() } else { world.digest(name).to_string() };
    let mut in_use = InUse::default();
    let names = RegistryNames::new(["registry.example"]).unwrap();
    in_use.hold(&names, &format!("{before}{digest}"), "a pod");
    world.with(|settings| settings.in_use = Some(Arc::new(in_use))).untagged().manifests()
}

#[test]
fn an_untagged_manifest_stays_while_a_workload_uses_it() {
    let world = || World::new().image("image").has("a", &["image"]).has("b", &["image"]);
    assert_eq!(going(world(), "registry.example/a@{image}"), set(["b image"]));
    assert_eq!(going(world(), "registry.example/a@{image config}"), set(["b image"]));
    assert_eq!(going(world(), "{image}"), set([]));
    assert_eq!(going(world(), "{image config}"), set([]));
    assert_eq!(going(world(), "other.example/a@{image}"), set(["a image", "b image"]));
    assert_eq!(going(world(), "registry.example/a:v1"), set(["a image", "b image"]));
}

#[test]
fn what_a_used_index_lists_and_what_is_about_it_stays() {
    let world = World::new().image("child").index("index", &["child"]).referrer("signature", "index");
    let world = world.has("a", &["child", "index", "signature"]);
    assert_eq!(going(world, "registry.example/a@{index}"), set([]));
}

#[test]
fn blobs_of_what_is_used_stay() {
    let world = World::new().image("image").has("a", &["image"]);
    let mut in_use = InUse::default();
    let id = world.digest("image config").to_string();
    in_use.hold(&RegistryNames::default(), &id, "container web");
    let world = world.with(|settings| settings.in_use = Some(Arc::new(in_use))).untagged();
    assert_eq!((world.manifests(), world.blobs()), (set([]), set([])));
}
