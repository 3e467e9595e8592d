//! The newest lines of versions: of the major versions, the minor versions of each, and the patches of each.

use std::collections::{BTreeMap, BTreeSet};

use super::retention::Claimed;
use super::rule::Lines;
use super::version::TagVersion;
use crate::name::Tag;

/// The tags whose version is in one of the newest lines. A tag that names but part of a version, such as `1.2`, stands for its line: it
/// stays with it and takes no place in it.
pub(super) fn newest<'a>(images: &[Claimed<'a>], last: Lines) -> BTreeSet<&'a Tag> {
    let versions = || images.iter().filter_map(|image| Some((image.tag, image.version.as_ref()?)));
    let releases = || versions().filter(|(_, version)| !version.is_prerelease());
    let mut lines: BTreeMap<u64, BTreeMap<u64, BTreeSet<u64>>> = BTreeMap::new();
    for (_, TagVersion { version, parts }) in releases() {
        let minors = lines.entry(version.major).or_default();
        if *parts >= 2 {
            let patches = minors.entry(version.minor).or_default();
            if *parts >= 3 {
                patches.insert(version.patch);
            }
        }
    }
    let kept = cut(lines, last);
    let is_kept = |TagVersion { version, parts }: &TagVersion| match kept.get(&version.major) {
        Some(_) if *parts == 1 => true,
        Some(minors) => match minors.get(&version.minor) {
            Some(_) if *parts == 2 => true,
            Some(patches) => patches.contains(&version.patch),
            None => false,
        },
        None => false,
    };
    let stay = releases().filter(|(_, version)| is_kept(version)).map(|(tag, _)| tag);
    let mut tags: BTreeSet<&Tag> = stay.collect();
    let mut pre: Vec<(&Tag, &TagVersion)> =
        versions().filter(|(_, version)| version.is_prerelease()).collect();
    pre.sort_by(|(_, a), (_, b)| b.precedence(a));
    pre.dedup_by(|(_, a), (_, b)| a.precedence(b).is_eq());
    let count = last.prerelease.unwrap_or_default() as usize;
    if let Some((_, oldest)) = pre.iter().take(count).next_back() {
        let stays = |version: &TagVersion| version.is_prerelease() && version.precedence(oldest).is_ge();
        tags.extend(versions().filter(|(_, version)| stays(version)).map(|(tag, _)| tag));
    }
    tags
}

type Majors = BTreeMap<u64, BTreeMap<u64, BTreeSet<u64>>>;

fn cut(lines: Majors, last: Lines) -> Majors {
    let count = |number: Option<u32>| number.map_or(usize::MAX, |number| number as usize);
    let majors = lines.into_iter().rev().take(count(last.major));
    majors
        .map(|(major, minors)| {
            let minors = minors.into_iter().rev().take(count(last.minor));
            let cut = minors
                .map(|(minor, patches)| (minor, patches.into_iter().rev().take(count(last.patch)).collect()));
            (major, cut.collect())
        })
        .collect()
}
