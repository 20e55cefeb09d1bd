//! Ranges of frames whose leaves are read again, where a change has no record.
//!
//! A row `reread` opens a range while the guest is stopped, each leaf that is present follows as a
//! record, and `settled` closes it: a leaf without a record in between is gone.

use events::{Gfn, Hpa, Level, Spte};

use super::{ShadowTables, hash::AddressSet, tables::first_of};

/// Ranges open at a time; the collector settles each before it opens the next. Bounds a hostile
/// trace.
const MAX_OPEN: usize = 8;

/// Some guest frames that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frames {
    pub(super) first: Gfn,
    pub(super) pages: u64,
}

impl Frames {
    fn end(&self) -> u64 {
        self.first.0.saturating_add(self.pages)
    }

    /// Whether the page of an entry at `level` that begins at `gfn` has any of the frames.
    fn meet(&self, gfn: Gfn, level: Level) -> bool {
        gfn.0 < self.end() && self.first.0 < gfn.0.saturating_add(level.pages())
    }
}

#[derive(Clone, Debug)]
struct Open {
    frames: Frames,
    /// Leaves that no record has named since.
    unnamed: AddressSet<Hpa>,
}

/// The open ranges of a VM.
#[derive(Clone, Debug, Default)]
pub(super) struct Rereads(Vec<Open>);

impl Rereads {
    /// A range is read again from here on.
    pub(super) fn open(&mut self, frames: Frames, tables: &ShadowTables) {
        self.0.retain(|open| open.frames != frames);
        if self.0.len() >= MAX_OPEN {
            self.0.remove(0);
        }
        let unnamed = tables.leaves_in(&frames);
        self.0.push(Open { frames, unnamed });
    }

    /// A record gives the value at `place`.
    pub(super) fn named(&mut self, place: Hpa) {
        for open in &mut self.0 {
            open.unnamed.remove(&place);
        }
    }

    /// The leaves of an open range that no record has named: what goes if it is settled now.
    pub(super) fn unnamed(&self, frames: Frames) -> impl Iterator<Item = Hpa> {
        let open = self.0.iter().find(move |open| open.frames == frames);
        open.into_iter()
            .flat_map(|open| open.unnamed.iter().copied())
    }

    /// Every leaf of the range that is still there was named: the others go. False if the range was
    /// not open.
    pub(super) fn settle(&mut self, frames: Frames, tables: &mut ShadowTables) -> bool {
        let Some(at) = self.0.iter().position(|open| open.frames == frames) else {
            return false;
        };
        for place in self.0.remove(at).unnamed {
            // Its page may have been zapped meanwhile, and its leaf with it.
            if tables.page(place.table()).is_some() {
                tables.store(place, Spte(0), None);
            }
        }
        true
    }
}

impl ShadowTables {
    /// Leaves known to map any of the frames.
    fn leaves_in(&self, frames: &Frames) -> AddressSet<Hpa> {
        let mut leaves = AddressSet::default();
        self.each_leaf_in(frames.first, frames.pages, |places| leaves.extend(places));
        leaves
    }

    /// Leaves known to map any of `pages` frames from `first`, large ones that reach in included.
    pub(crate) fn each_leaf_in(&self, first: Gfn, pages: u64, mut each: impl FnMut(&[Hpa])) {
        let frames = Frames { first, pages };
        if pages > self.known_frames() as u64 {
            let leaves = self.known_leaves();
            let leaves = leaves.filter(|(gfn, level, _)| frames.meet(*gfn, *level));
            leaves.for_each(|(.., places)| each(places));
            return;
        }
        for level in [1, 2, 3].map(Level) {
            // Saturating: past the last frame there is nothing.
            let mut gfn = first_of(first, level);
            while frames.meet(gfn, level) {
                each(self.leaves_of(gfn, level));
                let Some(next) = gfn.0.checked_add(level.pages()) else {
                    break;
                };
                gfn = Gfn(next);
            }
        }
    }
}
