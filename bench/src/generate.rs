//! What a generated registry holds, the same for the same [`Shape`]: repositories in the order of their numbers, each drawn by itself, so
//! that they can be made side by side and none has to be remembered.
//!
//! [`Shape::repository`] draws in numbers alone; [`render`] gives them bytes and keys, as Distribution writes them; [`folder`] puts these
//! into a directory. Who wants them elsewhere takes them from [`render::files`].

use std::ops::Range;

pub mod arguments;
pub mod folder;
pub mod made;
pub mod render;

/// How many layers are common to all repositories.
pub const SHARED: u32 = 50;
/// How many layers a repository has that all of its images may be built on.
pub const BASES: u32 = 4;
/// How many layers an image is built on, at most: one drawn twice counts once.
const BELOW: usize = 3;
const DAY: u32 = 86_400;

/// So many in a hundred; more than a hundred is more than one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(pub u32);

/// Blobs that nothing refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// So many.
    Number(u32),
    /// So many for a hundred manifests.
    Percent(Percent),
}

/// What a registry is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// How many repositories.
    pub repositories: u32,
    /// How many tags in each.
    pub tags: u32,
    /// How many of the layers that an image is built on are common to all repositories.
    pub shared: Percent,
    /// How many layers an image has that no other has.
    pub own: Percent,
    /// How many of the tags are on an index of two images.
    pub multi_arch: Percent,
    /// How many of the tags were pushed before with something else, which no tag points at any more.
    pub untagged: Percent,
    /// Blobs without a link.
    pub orphans: Orphans,
    /// How many days ago things were pushed.
    pub ages: Range<u32>,
    /// Another seed, another registry of the same kind.
    pub seed: u64,
}

impl Default for Shape {
    /// 300 repositories of 100 tags: about 42 000 manifests and 115 000 blobs.
    fn default() -> Self {
        Self {
            repositories: 300,
            tags: 100,
            shared: Percent(30),
            own: Percent(90),
            multi_arch: Percent(15),
            untagged: Percent(8),
            orphans: Orphans::Percent(Percent(3)),
            ages: 1..180,
            seed: 1,
        }
    }
}

/// A blob, by what it is rather than by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// A layer that is common to all repositories.
    Shared(u32),
    /// A layer, by its number in a repository, that many of its images are built on.
    Base(u32, u32),
    /// A layer of one image, by its number in a repository.
    Own(u32, u32),
    /// The configuration of one image, by the repository and the number of its manifest.
    Config(u32, u32),
    /// A manifest, by its number in a repository.
    Manifest(u32, u32),
    /// A blob that nothing refers to.
    Orphan(u32),
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its manifest.
    pub manifest: Piece,
    /// Its configuration.
    pub config: Piece,
    /// Its layers.
    pub layers: Vec<Piece>,
    /// What it runs on.
    pub architecture: &'static str,
}

/// Something pushed under a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The number of the tag.
    pub tag: u32,
    /// Whether the tag still points at it.
    pub currency: Currency,
    /// How many seconds ago.
    pub age: u32,
    /// The images.
    pub images: Vec<Image>,
    /// What lists the images, unless it is one image by itself.
    pub index: Option<Piece>,
}

/// Whether a tag points at something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Currency {
    /// It does.
    Current,
    /// It did, before it was pushed again.
    Former,
}

impl Push {
    /// What the tag points, or pointed, at.
    #[must_use]
    pub fn target(&self) -> Piece {
        self.index.unwrap_or(self.images[0].manifest)
    }
}

impl Shape {
    /// How many blobs nothing refers to.
    #[must_use]
    pub fn orphans(&self) -> u32 {
        match self.orphans {
            Orphans::Number(number) => number,
            Orphans::Percent(Percent(percent)) => {
                let orphans = u64::from(self.repositories) * u64::from(self.tags) * u64::from(percent) / 100;
                u32::try_from(orphans).unwrap_or(u32::MAX)
            }
        }
    }

    /// Everything that was pushed into the repository of this number, the oldest of each tag first.
    #[must_use]
    pub fn repository(&self, number: u32) -> Vec<Push> {
        let dice = Dice(self.seed ^ (u64::from(number) + 1).wrapping_mul(0xd6e8_feb8_6659_fd93));
        let mut drawing = Drawing { shape: self, repository: number, dice, manifests: 0, owns: 0 };
        (0..self.tags).flat_map(|tag| drawing.tag(tag)).collect()
    }
}

/// One repository being drawn.
struct Drawing<'a> {
    shape: &'a Shape,
    repository: u32,
    dice: Dice,
    manifests: u32,
    owns: u32,
}

impl Drawing<'_> {
    fn tag(&mut self, tag: u32) -> Vec<Push> {
        let Range { start, end } = self.shape.ages;
        let age = start * DAY + self.dice.below((end - start).max(1) * DAY);
        let former = self.dice.number(self.shape.untagged);
        let mut pushes: Vec<Push> =
            (1..=former).rev().map(|before| self.push(tag, age + before * DAY, Currency::Former)).collect();
        pushes.push(self.push(tag, age, Currency::Current));
        pushes
    }

    fn push(&mut self, tag: u32, age: u32, currency: Currency) -> Push {
        if self.dice.number(self.shape.multi_arch) == 0 {
            return Push { tag, currency, age, images: vec![self.image("amd64")], index: None };
        }
        let images = vec![self.image("amd64"), self.image("arm64")];
        Push { tag, currency, age, images, index: Some(self.manifest()) }
    }

    fn manifest(&mut self) -> Piece {
        self.manifests += 1;
        Piece::Manifest(self.repository, self.manifests - 1)
    }

    fn image(&mut self, architecture: &'static str) -> Image {
        let config = Piece::Config(self.repository, self.manifests);
        let manifest = self.manifest();
        let mut layers: Vec<Piece> = Vec::with_capacity(BELOW + 1);
        for _ in 0..BELOW {
            let layer = match self.dice.number(self.shape.shared) {
                0 => Piece::Base(self.repository, self.dice.below(BASES)),
                _ => Piece::Shared(self.dice.below(SHARED)),
            };
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
        for _ in 0..self.dice.number(self.shape.own) {
            layers.push(Piece::Own(self.repository, self.owns));
            self.owns += 1;
        }
        Image { manifest, config, layers, architecture }
    }
}

/// SplitMix64, <https://prng.di.unimi.it/splitmix64.c>
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(((self.roll() >> 32) * u64::from(limit)) >> 32).unwrap_or_default()
    }

    /// A number that is `percent` in a hundred on the average.
    fn number(&mut self, Percent(percent): Percent) -> u32 {
        percent / 100 + u32::from(self.below(100) < percent % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::made::Made;
    use super::*;

    #[test]
    fn the_default_is_of_the_size_that_is_promised() {
        let made = Made::of(&Shape::default());
        assert_eq!(made.tags, 30_000);
        assert!((41_000..43_000).contains(&made.manifests), "{made:?}");
        assert!((114_000..116_000).contains(&made.blobs), "{made:?}");
        assert!(made.untagged > 2_000 && made.orphans == 900, "{made:?}");
    }

    #[test]
    fn the_seed_alone_decides_what_is_drawn() {
        let shape = Shape::default();
        assert_eq!(shape.repository(7), shape.repository(7));
        assert_ne!(shape.repository(7), shape.repository(8));
        assert_ne!(shape.repository(7), Shape { seed: 2, ..shape }.repository(7));
    }
}
