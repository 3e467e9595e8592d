//! How much a [`Shape`] comes to, and what collectors must find in it.

use std::collections::HashSet;
use std::fmt;

use super::{Currency, Piece, Push, SHARED, Shape};

/// What there is, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// Blobs in all.
    pub blobs: usize,
    /// Revision links.
    pub manifests: usize,
    /// Tags.
    pub tags: usize,
    /// Layer links.
    pub links: usize,
    /// What tags point at now and pointed at before.
    pub history: usize,
    /// Blobs that nothing ever referred to.
    pub orphans: usize,
    /// Manifests that no tag needs.
    pub untagged: usize,
    /// Blobs that some manifest needs: what a collection marks.
    pub marked: usize,
    /// Blobs that some tag needs: what remains if untagged manifests go as well.
    pub tagged: usize,
    /// Blobs that a tagged manifest lists itself: what remains of them to Distribution 2.8, which looks no further.
    pub listed: usize,
}

/// The blobs of one repository, each once, by who needs them.
#[derive(Debug, Default)]
struct Needed {
    marked: HashSet<Piece>,
    tagged: HashSet<Piece>,
    listed: HashSet<Piece>,
}

impl Made {
    /// Counts what `shape` comes to.
    #[must_use]
    pub fn of(shape: &Shape) -> Self {
        let mut made = Self::default();
        let mut shared = Needed::default();
        for number in 0..shape.repositories {
            made.count(&shape.repository(number), &mut shared);
        }
        made.orphans = shape.orphans() as usize;
        made.blobs += made.orphans + SHARED as usize;
        made.marked += shared.marked.len();
        made.tagged += shared.tagged.len();
        made.listed += shared.listed.len();
        made
    }

    fn count(&mut self, pushes: &[Push], shared: &mut Needed) {
        let mut here = Needed::default();
        for push in pushes {
            here.take(push);
            self.history += 1;
            self.tags += usize::from(push.currency == Currency::Current);
        }
        let is_manifest = |piece: &&Piece| matches!(piece, Piece::Manifest(..));
        let manifests = here.marked.iter().filter(is_manifest).count();
        self.manifests += manifests;
        self.untagged += manifests - here.tagged.iter().filter(is_manifest).count();
        self.links += here.marked.len() - manifests;
        for (all, here, count) in [
            (&mut shared.marked, here.marked, &mut self.marked),
            (&mut shared.tagged, here.tagged, &mut self.tagged),
            (&mut shared.listed, here.listed, &mut self.listed),
        ] {
            let (common, own): (HashSet<Piece>, HashSet<Piece>) =
                here.into_iter().partition(|piece| matches!(piece, Piece::Shared(_)));
            all.extend(common);
            *count += own.len();
        }
        self.blobs = self.marked;
    }
}

impl Needed {
    fn take(&mut self, push: &Push) {
        let is_current = push.currency == Currency::Current;
        for image in &push.images {
            let pieces = image.layers.iter().copied().chain([image.config, image.manifest]);
            self.marked.extend(pieces.clone());
            if is_current {
                self.tagged.extend(pieces.clone());
            }
            match push.index {
                Some(_) if is_current => drop(self.listed.insert(image.manifest)),
                None if is_current => self.listed.extend(pieces),
                _ => {}
            }
        }
        self.marked.extend(push.index);
        if is_current {
            self.tagged.extend(push.index);
            self.listed.extend(push.index);
        }
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} manifests, {} of them untagged; {} tags; {} layer links; {} blobs, {} of them nobody's",
            self.manifests, self.untagged, self.tags, self.links, self.blobs, self.orphans
        )?;
        let goes = |stays: usize| format!("{stays} blobs marked, {} eligible", self.blobs - stays);
        writeln!(f, "garbage-collect:                 {}", goes(self.marked))?;
        writeln!(f, "garbage-collect -m, 3.x:         {}", goes(self.tagged))?;
        write!(f, "garbage-collect -m, 2.8:         {}", goes(self.listed))
    }
}
