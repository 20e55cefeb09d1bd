//! Ranges of frames whose leaves are read again, where a change has no record.
//!
//! A row `reread` opens a range while the guest is stopped, each leaf that is present follows as a
//! record, and `settled` closes it: a leaf without a record in between is gone.

use std::collections::VecDeque;

use events::{Cause, Gfn, HostEvent, Hpa, Level, Spte};
use trace::{EntryRow, HostRow};

use super::{ShadowTables, hash::AddressSet, tables::first_of};

/// Ranges open at a time; the collector settles each before it opens the next. Bounds a hostile
/// trace.
const MAX_OPEN: usize = 8;
/// Acts of the host remembered until their range is settled. Bounds a hostile trace.
const MAX_ACTS: usize = 64;

/// Some guest frames that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frames {
    pub(super) first: Gfn,
    pub(super) pages: u64,
}

impl Frames {
    pub(super) fn of(row: &HostRow) -> Self {
        Self {
            first: row.gfn,
            pages: row.pages,
        }
    }

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
pub(super) struct Rereads {
    open: Vec<Open>,
    /// The latest acts of the host on ranges that are not settled since.
    acts: VecDeque<HostRow>,
}

impl Rereads {
    /// The host acts on a range.
    pub(super) fn act(&mut self, row: &HostRow) {
        if self.acts.len() == MAX_ACTS {
            self.acts.pop_front();
        }
        self.acts.push_back(row.clone());
    }

    /// The act that a range is read again for: the latest one of the same thread on it.
    pub(super) fn read_for(&self, range: &HostRow) -> Option<&HostRow> {
        let mut acts = self.acts.iter().rev();
        acts.find(|act| is_same(act, range))
    }

    /// A range is read again from here on.
    pub(super) fn open(&mut self, frames: Frames, tables: &ShadowTables) {
        self.open.retain(|open| open.frames != frames);
        if self.open.len() >= MAX_OPEN {
            self.open.remove(0);
        }
        let unnamed = tables.leaves_in(&frames);
        self.open.push(Open { frames, unnamed });
    }

    /// A record gives the value at `place`.
    pub(super) fn named(&mut self, place: Hpa) {
        for open in &mut self.open {
            open.unnamed.remove(&place);
        }
    }

    /// See [`super::VmReplay::gone`].
    pub(super) fn gone(&self, settled: &HostRow, tables: &ShadowTables) -> Vec<EntryRow> {
        let frames = Frames::of(settled);
        let Some(open) = self.open.iter().find(|open| open.frames == frames) else {
            return Vec::new();
        };
        let act = self.read_for(settled);
        let cause = act.and_then(|act| cause(act.event));
        let act = act.unwrap_or(settled);
        let gone = open.unnamed.iter().filter_map(|place| {
            let page = tables.page(place.table())?;
            Some(EntryRow {
                seq: act.seq,
                time_ns: act.time_ns,
                vm: act.vm,
                vcpu: act.vcpu,
                cause: cause.unwrap_or(Cause::Reread),
                sptep: *place,
                spte: Spte(0),
                old: Some(page.entry(place.index())),
                level: page.info.level,
                gfn: page.leaf_gfn(place.index()),
            })
        });
        let mut gone: Vec<_> = gone.collect();
        gone.sort_by_key(|row| row.sptep);
        gone
    }

    /// Every leaf of the range that is still there was named: the others go. False if the range was
    /// not open.
    pub(super) fn settle(&mut self, settled: &HostRow, tables: &mut ShadowTables) -> bool {
        self.acts.retain(|act| !is_same(act, settled));
        let frames = Frames::of(settled);
        let Some(at) = self.open.iter().position(|open| open.frames == frames) else {
            return false;
        };
        // In order: what is made of the changes must be the same at each reading.
        let mut unnamed: Vec<_> = self.open.remove(at).unnamed.into_iter().collect();
        unnamed.sort_unstable();
        for place in unnamed {
            // Its page may have been zapped meanwhile, and its leaf with it.
            if tables.page(place.table()).is_some() {
                tables.store(place, Spte(0), None);
            }
        }
        true
    }
}

/// Whether two records are of one thread and one range.
fn is_same(one: &HostRow, other: &HostRow) -> bool {
    (one.vcpu, one.gfn, one.pages) == (other.vcpu, other.gfn, other.pages)
}

/// What an act of the host changes entries for.
fn cause(event: HostEvent) -> Option<Cause> {
    Some(match event {
        HostEvent::Unmap => Cause::HostUnmap,
        HostEvent::DirtyStart | HostEvent::DirtyClear | HostEvent::DirtyStop => Cause::DirtyLog,
        HostEvent::ZapRange | HostEvent::FlushSlot => Cause::Memslot,
        HostEvent::Reread | HostEvent::Settled => return None,
    })
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
