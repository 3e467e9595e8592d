//! A registry to look at: every kind of image a cleaner meets, and what becomes of each.

use std::io;
use std::time::SystemTime;

use clean_registry_core::layout::{Place, UploadFile};
use clean_registry_core::name::{Digest, RepoName, Tag};
use jiff::{SignedDuration, Timestamp};

use super::builder::{Builder, Built, noise};
use super::store::Store;

/// The outcomes hold for images kept this many days.
pub const DAYS_TO_KEEP: u32 = 30;
/// The tags that are protected as they are.
pub const PROTECTED_TAGS: [&str; 3] = ["latest", "prod-stable", "dev-stable"];
/// What protects a tag that contains it, in whatever case.
pub const PROTECTED_PATTERNS: [&str; 4] = ["develop", "master", "main", "release"];

const KIB: usize = 1 << 10;

/// What was made.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Every tag.
    pub tags: Vec<Tagged>,
    /// Every manifest that no tag points at and that is no one's child.
    pub untagged: Vec<(RepoName, Digest)>,
    /// The blobs no manifest needs from the start.
    pub orphans: Vec<Digest>,
}

/// One tag and what becomes of it.
#[derive(Debug, Clone)]
pub struct Tagged {
    /// The repository.
    pub repo: RepoName,
    /// The tag.
    pub tag: Tag,
    /// What it points at.
    pub digest: Digest,
    /// What becomes of it.
    pub fate: Fate,
    /// Why, in a few words.
    pub why: &'static str,
}

/// What becomes of a tag with [`DAYS_TO_KEEP`], [`PROTECTED_TAGS`] and [`PROTECTED_PATTERNS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes, and its manifest with it.
    Goes,
    /// It stays.
    Stays,
    /// It goes where a tag can be deleted by itself, and stays where it cannot: the manifest has another tag that stays.
    Untagged,
}

use Fate::{Goes, Stays, Untagged};

/// Writes the sample into an empty storage, with ages counted from `now`. The same `now`, the same bytes.
///
/// # Errors
/// If a file cannot be written.
pub fn write(store: &Store, now: Timestamp) -> io::Result<Sample> {
    let mut writer =
        Writer { store, now, sample: Sample { tags: Vec::new(), untagged: Vec::new(), orphans: Vec::new() } };
    shop(&mut writer)?;
    platform(&mut writer)?;
    signed(&mut writer)?;
    odd_dates(&mut writer)?;
    odd_shapes(&mut writer)?;
    leftovers(&mut writer)?;
    Ok(writer.sample)
}

struct Writer<'a> {
    store: &'a Store,
    now: Timestamp,
    sample: Sample,
}

impl Writer<'_> {
    fn ago(&self, days: i64) -> Timestamp {
        self.now - SignedDuration::from_hours(24 * days)
    }

    /// A Docker image of this age on the layers all of the shop shares.
    fn image(&self, name: &str, days: i64) -> Built {
        let base = noise("base", 1024 * KIB);
        let own = noise(name, 384 * KIB);
        Builder::docker_image(name).created(self.ago(days)).layer(base).layer(own).build()
    }

    /// An OCI image of this age for one platform, with layers of its own.
    fn oci(&self, name: &str, days: i64, architecture: &str) -> Built {
        let image = Builder::image(name).created(self.ago(days)).layer(noise(name, 256 * KIB));
        image.build().on("linux", architecture)
    }

    /// Tags what was pushed `days` ago.
    fn tag(
        &mut self,
        repo: &str,
        tag: &str,
        days: i64,
        built: &Built,
        fate: Fate,
        why: &'static str,
    ) -> io::Result<()> {
        let (repo, tag): (RepoName, Tag) = (name(repo)?, name(tag)?);
        let digest = built.write(self.store, &repo)?;
        self.store.write_tag(&repo, &tag, &digest)?;
        let places = [
            Place::RevisionLink { repo: repo.clone(), digest },
            Place::TagCurrent { repo: repo.clone(), tag: tag.clone() },
            Place::TagHistory { repo: repo.clone(), tag: tag.clone(), digest },
        ];
        for place in places {
            self.backdate(&place, days)?;
        }
        self.sample.tags.push(Tagged { repo, tag, digest, fate, why });
        Ok(())
    }

    /// Storage tells by a link's time when a tag was pushed (FACTS section 5).
    fn backdate(&self, place: &Place, days: i64) -> io::Result<()> {
        let file = std::fs::File::options().append(true).open(self.store.path(place))?;
        file.set_modified(SystemTime::from(self.ago(days)))
    }
}

fn name<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> io::Result<T> {
    text.parse().map_err(io::Error::other)
}

/// Releases of two programs that share their base, with protected names among them.
fn shop(writer: &mut Writer<'_>) -> io::Result<()> {
    for (tag, days, fate, why) in [
        ("1.0", 400, Goes, "old"),
        ("1.1", 200, Goes, "old"),
        ("1.2", 90, Goes, "old"),
        ("1.3", 12, Stays, "young"),
    ] {
        let image = writer.image(&format!("web {tag}"), days);
        writer.tag("shop/web", tag, days, &image, fate, why)?;
    }
    let newest = writer.image("web 1.3", 12);
    writer.tag("shop/web", "latest", 12, &newest, Stays, "protected, and young")?;

    let shared = writer.image("api 2024.1", 300);
    writer.tag("shop/api", "2024.1", 300, &shared, Untagged, "old, on the image of a protected tag")?;
    writer.tag("shop/api", "latest", 300, &shared, Stays, "protected")?;
    for (tag, days, fate, why) in [
        ("Release-2023", 500, Stays, "protected by its name"),
        ("feature-develop-17", 120, Stays, "protected by its name"),
        ("build-41", 60, Goes, "old"),
        ("build-42", 2, Stays, "young"),
    ] {
        let image = writer.image(&format!("api {tag}"), days);
        writer.tag("shop/api", tag, days, &image, fate, why)?;
    }
    Ok(())
}

/// Images for several platforms with buildx's attestations, sharing children and nested.
fn platform(writer: &mut Writer<'_>) -> io::Result<()> {
    let repo = "platform/tool";
    let multi = |children: &[&Built]| {
        let attestations = children.iter().map(|image| Builder::attestation(image));
        Built::index(children.iter().map(|image| (*image).clone()).chain(attestations))
    };
    let shared = writer.oci("tool arm64", 120, "arm64");
    let (old, new) = (writer.oci("tool 1.0 amd64", 120, "amd64"), writer.oci("tool 1.1 amd64", 3, "amd64"));
    writer.tag(
        repo,
        "1.0",
        120,
        &multi(&[&old, &shared]),
        Goes,
        "old; one of its children is needed by 1.1",
    )?;
    writer.tag(repo, "1.1", 3, &multi(&[&new, &shared]), Stays, "as young as its youngest child")?;
    let inner = Built::index([writer.oci("tool nested amd64", 200, "amd64")]);
    let nested = Built::index([inner, writer.oci("tool nested arm64", 210, "arm64")]);
    writer.tag(repo, "nested", 200, &nested, Goes, "old at every depth")?;
    let inner = Built::index([writer.oci("tool nested-young amd64", 4, "amd64")]);
    let nested = Built::index([inner, writer.oci("tool nested-young arm64", 210, "arm64")]);
    writer.tag(repo, "nested-young", 4, &nested, Stays, "young at some depth")?;
    let list = Built::docker_list([writer.image("tool list", 80).on("linux", "amd64")]);
    writer.tag(repo, "list", 80, &list, Goes, "old")
}

/// Signatures, attestations and referrers: they follow what they are about.
fn signed(writer: &mut Writer<'_>) -> io::Result<()> {
    let repo = "platform/signed";
    for (tag, days, fate, why, why_about) in [
        ("1.0", 300, Goes, "old", "about an image that goes"),
        ("2.0", 5, Stays, "young", "about an image that stays"),
    ] {
        let image = writer.oci(&format!("signed {tag}"), days, "amd64");
        writer.tag(repo, tag, days, &image, fate, why)?;
        let signature = Builder::signature(&image);
        writer.tag(repo, image.tag_about(".sig").as_str(), days, &signature, fate, why_about)?;
        let attestation = Builder::referrer(&image, "application/vnd.dsse.envelope.v1+json");
        writer.tag(repo, image.tag_about(".att").as_str(), days, &attestation, fate, why_about)?;
        let referrers = Built::index([Builder::referrer(&image, "application/spdx+json")]);
        writer.tag(repo, image.tag_about("").as_str(), days, &referrers, fate, why_about)?;
    }
    Ok(())
}

/// Images whose date says nothing.
fn odd_dates(writer: &mut Writer<'_>) -> io::Result<()> {
    let repo = "odd/dates";
    let tomorrow = writer.ago(-1).to_string();
    for (tag, created, why) in [
        ("reproducible-1970", "1970-01-01T00:00:00Z", "a date before there were containers"),
        ("reproducible-1980", "1980-01-01T00:00:01Z", "a date before there were containers"),
        ("from-tomorrow", &*tomorrow, "a date in the future"),
        ("unparsable", "last tuesday", "a date nobody can read"),
    ] {
        let image = Builder::image(tag).created_text(created).layer(noise(tag, 16 * KIB)).build();
        writer.tag(repo, tag, 100, &image, Stays, why)?;
    }
    let undated = Builder::image("undated").layer(noise("undated", 16 * KIB)).build();
    writer.tag(repo, "undated", 100, &undated, Stays, "no date at all")
}

/// Manifests that are not what a cleaner expects.
fn odd_shapes(writer: &mut Writer<'_>) -> io::Result<()> {
    let repo = "odd/shapes";
    let untyped =
        Builder::image("untyped").untyped().created(writer.ago(100)).layer(noise("untyped", 64 * KIB));
    writer.tag(repo, "untyped", 100, &untyped.build(), Goes, "old, though it does not say what it is")?;
    writer.tag(repo, "empty", 100, &Built::index([]), Stays, "an index of nothing has no date")?;
    let cache = Built::build_cache([noise("cache 1", 96 * KIB), noise("cache 2", 96 * KIB)]);
    writer.tag(repo, "buildcache", 100, &cache, Stays, "lists layers, which have no date")?;
    let chart = Builder::chart("shop", "1.0.0").layer(noise("chart", 8 * KIB)).build();
    writer.tag("charts/shop", "1.0.0", 100, &chart, Stays, "a chart has no date")
}

/// What no tag leads to: an old image pushed by digest, a blob without a manifest, an upload nobody finished.
fn leftovers(writer: &mut Writer<'_>) -> io::Result<()> {
    let repo: RepoName = name("shop/web")?;
    let untagged = writer.image("web by digest", 150);
    let digest = untagged.write(writer.store, &repo)?;
    writer.backdate(&Place::RevisionLink { repo: repo.clone(), digest }, 150)?;
    writer.sample.untagged.push((repo.clone(), digest));
    let orphan = writer.store.write_blob(&noise("orphan", 512 * KIB))?;
    writer.store.write_link(&Place::LayerLink { repo: repo.clone(), digest: orphan }, &orphan)?;
    writer.sample.orphans.push(orphan);
    let id = name("0b1e5a4c-2f3d-4a6b-8c7d-9e0f1a2b3c4d")?;
    let upload = |file| Place::Upload { repo: repo.clone(), id: Clone::clone(&id), file };
    let started = writer.ago(40).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    writer.store.write(&upload(UploadFile::StartedAt), started.as_bytes())?;
    writer.store.write(&upload(UploadFile::Data), &noise("upload", 64 * KIB))
}
