//! Registries in the making: many tags, each on an image of its own, straight into Distribution's storage layout.

use std::io;
use std::path::Path;
use std::thread;

use clean_registry::demo::builder::{Builder, Built};
use clean_registry::demo::store::Store;
use clean_registry_core::layout::Place;
use clean_registry_core::name::RepoName;
use jiff::{SignedDuration, Timestamp};

/// How many layers an image has, and of how many in all they are taken.
const LAYERS: usize = 6;
const ALL_LAYERS: usize = 64;

/// What a registry is to hold.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many repositories.
    pub repositories: usize,
    /// How many tags in each.
    pub tags: usize,
    /// How many of these tags are on an index, of two images that have tags of their own; the rest is on images, each with
    /// a configuration of its own.
    pub indexes: usize,
}

impl Shape {
    /// The tags of all repositories.
    pub const fn all_tags(&self) -> usize {
        self.repositories * self.tags
    }

    /// The configurations of all repositories.
    pub const fn configs(&self) -> usize {
        self.repositories * (self.tags - self.indexes)
    }

    /// Writes it all below `root`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn fill(&self, root: &Path) -> io::Result<()> {
        let store = Store::open(root)?;
        self.layers(&store)?;
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let now = Timestamp::now();
        thread::scope(|scope| {
            let work = |worker| {
                let store = &store;
                scope.spawn(move || {
                    (worker..self.all_tags()).step_by(workers).try_for_each(|tag| self.tag(store, now, tag))
                })
            };
            let working: Vec<_> = (0..workers).map(work).collect();
            working.into_iter().try_for_each(|worker| {
                worker.join().unwrap_or_else(|_| Err(io::Error::other("a worker broke")))
            })
        })
    }

    /// The layers are the same in all repositories, and every image has some of them.
    fn layers(&self, store: &Store) -> io::Result<()> {
        for number in 0..ALL_LAYERS {
            let digest = store.write_blob(&layer(number))?;
            for repository in 0..self.repositories {
                store.write_link(&Place::LayerLink { repo: name(repository)?, digest }, &digest)?;
            }
        }
        Ok(())
    }

    fn tag(&self, store: &Store, now: Timestamp, number: usize) -> io::Result<()> {
        let (repository, tag) = (number / self.tags, number % self.tags);
        let image = |tag| image(now, repository * self.tags + tag);
        let built = match tag.checked_sub(self.tags - self.indexes) {
            None => image(tag),
            Some(index) => Built::index([
                image(2 * index).on("linux", "amd64"),
                image(2 * index + 1).on("linux", "arm64"),
            ]),
        };
        let (repo, tag) = (name(repository)?, format!("build-{tag:06}").parse().map_err(io::Error::other)?);
        let digest = built.write(store, &repo)?;
        // Without the tag's history, which nothing that is asked here looks at.
        store.write_link(&Place::TagCurrent { repo, tag }, &digest)
    }
}

fn name(repository: usize) -> io::Result<RepoName> {
    format!("team/app-{repository:04}").parse().map_err(io::Error::other)
}

fn layer(number: usize) -> Vec<u8> {
    format!("layer {number}").into_bytes()
}

/// Created a number of hours ago that grows with `number` up to sixty days. Its layers are taken to be there.
fn image(now: Timestamp, number: usize) -> Built {
    let hours = i64::try_from(number % (60 * 24)).unwrap_or_default();
    let image = Builder::image(&format!("image {number}")).created(now - SignedDuration::from_hours(hours));
    let layers = (1..=LAYERS).map(|step| layer((number * step) % ALL_LAYERS));
    let mut built = layers.fold(image, Builder::layer).build();
    built.blobs.drain(..LAYERS);
    built
}
