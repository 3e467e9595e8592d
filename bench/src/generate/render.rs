//! Bytes and keys for what was drawn, exactly as Distribution writes them.

use std::collections::HashMap;
use std::io;

use clean_registry_core::layout::Place;
use clean_registry_core::name::{Digest, MediaType, RepoName, Tag};
use jiff::{SignedDuration, Timestamp};

use super::{BASES, Currency, Image, Piece, Push, SHARED, Shape};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A file to be written.
#[derive(Debug, Clone, Copy)]
pub struct File<'a> {
    /// Its key below `docker/registry/v2`.
    pub key: &'a str,
    /// What it says.
    pub bytes: &'a [u8],
    /// When it was written, in seconds since 1970.
    pub second: i64,
}

/// A part of a registry; every part can be written by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The layers that are common to all repositories, and the blobs that are nobody's.
    Common,
    /// What one repository has to itself, and all its links.
    Repository(u32),
}

/// Takes files.
pub type Sink<'a> = &'a mut dyn FnMut(File<'_>) -> io::Result<()>;

impl Shape {
    /// All parts.
    pub fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        std::iter::once(Part::Common).chain((0..self.repositories).map(Part::Repository))
    }
}

/// Hands over every file of a part, blobs before the links to them, as a push writes them. `at` is the moment that ages count from.
///
/// # Errors
/// Those of `sink`.
pub fn files(shape: &Shape, part: Part, at: Timestamp, sink: Sink<'_>) -> io::Result<()> {
    let mut rendering = Rendering { shape, at: at.as_second(), sink, linked: HashMap::new() };
    match part {
        Part::Common => rendering.common(),
        Part::Repository(number) => rendering.repository(number),
    }
}

/// The name of a repository.
///
/// # Errors
/// Never.
pub fn repository_name(number: u32) -> io::Result<RepoName> {
    format!("team-{:02}/app-{number:05}", number % 20).parse().map_err(io::Error::other)
}

/// The name of a tag.
///
/// # Errors
/// Never.
pub fn tag_name(number: u32) -> io::Result<Tag> {
    format!("build-{number:06}").parse().map_err(io::Error::other)
}

/// What a manifest says of something.
#[derive(Debug, Clone, Copy)]
struct Descriptor {
    digest: Digest,
    size: usize,
}

impl Descriptor {
    fn json(self, media_type: &str, more: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}{more}}}"#, self.digest, self.size)
    }
}

struct Rendering<'a> {
    shape: &'a Shape,
    at: i64,
    sink: Sink<'a>,
    /// What the repository has written or linked already.
    linked: HashMap<Piece, Descriptor>,
}

impl Rendering<'_> {
    fn common(&mut self) -> io::Result<()> {
        let shared = (0..SHARED).map(Piece::Shared);
        for piece in shared.chain((0..self.shape.orphans()).map(Piece::Orphan)) {
            let bytes = self.layer(piece);
            self.blob(&bytes, self.oldest())?;
        }
        Ok(())
    }

    fn repository(&mut self, number: u32) -> io::Result<()> {
        let name = repository_name(number)?;
        for push in self.shape.repository(number) {
            self.push(&name, &push)?;
        }
        Ok(())
    }

    fn push(&mut self, repo: &RepoName, push: &Push) -> io::Result<()> {
        let second = self.at - i64::from(push.age);
        let mut children = Vec::with_capacity(push.images.len());
        for image in &push.images {
            children.push((self.image(repo, image, second)?, image.architecture));
        }
        let digest = match push.index {
            Some(_) => self.manifest(repo, &index(&children), second)?.digest,
            None => children[0].0.digest,
        };
        let tag = tag_name(push.tag)?;
        let history = Place::TagHistory { repo: repo.clone(), tag: tag.clone(), digest };
        self.link(&history, digest, second)?;
        if push.currency == Currency::Current {
            self.link(&Place::TagCurrent { repo: repo.clone(), tag }, digest, second)?;
        }
        Ok(())
    }

    fn image(&mut self, repo: &RepoName, image: &Image, second: i64) -> io::Result<Descriptor> {
        let mut layers = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            layers.push(self.layer_of(repo, *layer, second)?);
        }
        let config = config(image, &layers, second)?;
        let config = self.blob(config.as_bytes(), second)?;
        self.link(&Place::LayerLink { repo: repo.clone(), digest: config.digest }, config.digest, second)?;
        let layers: Vec<String> = layers.iter().map(|layer| layer.json(LAYER, "")).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            MediaType::OCI_MANIFEST,
            config.json(CONFIG, ""),
            layers.join(",")
        );
        self.manifest(repo, &manifest, second)
    }

    fn layer_of(&mut self, repo: &RepoName, layer: Piece, second: i64) -> io::Result<Descriptor> {
        if let Some(known) = self.linked.get(&layer) {
            return Ok(*known);
        }
        let bytes = self.layer(layer);
        let descriptor = match layer {
            Piece::Shared(_) => Descriptor { digest: Digest::of(&bytes), size: bytes.len() },
            _ => self.blob(&bytes, second)?,
        };
        let digest = descriptor.digest;
        self.link(&Place::LayerLink { repo: repo.clone(), digest }, digest, second)?;
        self.linked.insert(layer, descriptor);
        Ok(descriptor)
    }

    fn manifest(&mut self, repo: &RepoName, text: &str, second: i64) -> io::Result<Descriptor> {
        let manifest = self.blob(text.as_bytes(), second)?;
        let digest = manifest.digest;
        self.link(&Place::RevisionLink { repo: repo.clone(), digest }, digest, second)?;
        Ok(manifest)
    }

    fn blob(&mut self, bytes: &[u8], second: i64) -> io::Result<Descriptor> {
        let digest = Digest::of(bytes);
        (self.sink)(File { key: &Place::BlobData(digest).key(), bytes, second })?;
        Ok(Descriptor { digest, size: bytes.len() })
    }

    fn link(&mut self, place: &Place, digest: Digest, second: i64) -> io::Result<()> {
        (self.sink)(File { key: &place.key(), bytes: digest.to_string().as_bytes(), second })
    }

    fn layer(&self, piece: Piece) -> Vec<u8> {
        format!("{piece:?} of seed {}\n", self.shape.seed).into_bytes()
    }

    fn oldest(&self) -> i64 {
        self.at - i64::from(self.shape.ages.end) * 86_400
    }
}

fn index(children: &[(Descriptor, &str)]) -> String {
    let children: Vec<String> = children
        .iter()
        .map(|(child, architecture)| {
            let platform = format!(r#","platform":{{"architecture":"{architecture}","os":"linux"}}"#);
            child.json(MediaType::OCI_MANIFEST, &platform)
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
        MediaType::OCI_INDEX,
        children.join(",")
    )
}

/// The number of the manifest makes every configuration another, and so every manifest.
fn config(image: &Image, layers: &[Descriptor], second: i64) -> io::Result<String> {
    let created = Timestamp::from_second(second).map_err(io::Error::other)? - SignedDuration::from_mins(1);
    let layers: Vec<String> = layers.iter().map(|layer| format!(r#""{}""#, layer.digest)).collect();
    Ok(format!(
        r#"{{"created":"{created}","architecture":"{}","os":"linux","config":{{"Labels":{{"of":"{:?}"}}}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        image.architecture,
        image.manifest,
        layers.join(",")
    ))
}

const _: () = assert!(BASES > 0 && SHARED > 0);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clean_registry_core::layout::Folder;

    use super::super::made::Made;
    use super::*;

    fn small() -> Shape {
        Shape { repositories: 5, tags: 20, ..Shape::default() }
    }

    fn all(shape: &Shape) -> Vec<(String, Vec<u8>, i64)> {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let mut found = Vec::new();
        for part in shape.parts() {
            let mut sink = |file: File<'_>| {
                found.push((file.key.to_owned(), file.bytes.to_vec(), file.second));
                Ok(())
            };
            files(shape, part, at, &mut sink).unwrap();
        }
        found
    }

    #[test]
    fn every_file_has_its_place_and_is_written_once() {
        let shape = small();
        let found = all(&shape);
        let keys: HashSet<&String> = found.iter().map(|(key, ..)| key).collect();
        assert_eq!(keys.len(), found.len());
        let made = Made::of(&shape);
        let mut count = [0; 5];
        for (key, bytes, _) in &found {
            let (kind, digest) = match Place::parse(key).expect(key) {
                Place::BlobData(digest) => {
                    assert_eq!(Digest::of(bytes), digest);
                    (0, None)
                }
                Place::RevisionLink { digest, .. } => (1, Some(digest)),
                Place::LayerLink { digest, .. } => (2, Some(digest)),
                Place::TagCurrent { .. } => (3, None),
                Place::TagHistory { digest, .. } => (4, Some(digest)),
                other => panic!("{other:?}"),
            };
            count[kind] += 1;
            if let Some(digest) = digest {
                assert_eq!(bytes, digest.to_string().as_bytes());
                assert!(keys.contains(&Place::BlobData(digest).key()), "{key} leads nowhere");
            }
        }
        assert_eq!(count, [made.blobs, made.manifests, made.links, made.tags, made.history]);
    }

    #[test]
    fn the_same_seed_makes_the_same_bytes() {
        assert_eq!(all(&small()), all(&small()));
        assert_ne!(all(&small()), all(&Shape { seed: 3, ..small() }));
        assert_eq!(Folder::at("blobs/sha256/ab"), Folder::Leaves("data"));
    }

    #[test]
    fn things_are_as_old_as_is_asked_for() {
        let shape = Shape { ages: 10..20, ..small() };
        let day = |second: &i64| (1_700_000_000 - second) / 86_400;
        let mut ages: Vec<i64> = all(&shape).iter().map(|(_, _, second)| day(second)).collect();
        ages.sort_unstable();
        assert!(ages[0] >= 10 && ages[ages.len() - 1] <= 21, "{ages:?}");
        assert!(ages[0] < ages[ages.len() - 1]);
    }
}
