//! Entries that were mapped ahead and never used.
//!
//! KVM maps a prefetched leaf with A clear, and the hardware sets A at the first access. No record
//! says when: a keyframe shows it.

use events::{Cause, Gfn, Hpa, Pfn, Seq};
use trace::{EntryRow, FaultRow, KeyframePage};

use super::{Culprit, Finding, Pathology};
use crate::replay::AddressMap;

/// Unused entries at a keyframe, see [`Pathology::threshold`].
pub(super) const UNUSED: u64 = 64;
/// Entries followed, 40 bytes each. Bounds a hostile trace.
const MAX_PLACES: usize = 1 << 20;

/// An entry that was mapped ahead.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    seq: Seq,
    pfn: Pfn,
    gfn: Option<Gfn>,
}

/// What one keyframe shows.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    keyframe: u32,
    present: u64,
    unused: u64,
    first: Option<Ahead>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Prefetched {
    ahead: AddressMap<Hpa, Ahead>,
    now: Shown,
    worst: Shown,
}

impl Prefetched {
    pub(super) fn fault(&mut self, row: &FaultRow) {
        if let (Some(place), false) = (row.sptep, self.ahead.is_empty()) {
            self.ahead.remove(&place);
        }
    }

    pub(super) fn entry(&mut self, row: &EntryRow) {
        match row.cause {
            Cause::Prefetch if row.spte.is_leaf(row.level) => {
                let ahead = Ahead {
                    seq: row.seq,
                    pfn: row.spte.pfn(),
                    gfn: row.gfn,
                };
                if self.ahead.len() < MAX_PLACES {
                    self.ahead.insert(row.sptep, ahead);
                }
            }
            // What is read again stays what it was.
            Cause::Reread if row.spte.is_shadow_present() => {}
            _ if self.ahead.is_empty() => {}
            _ => {
                self.ahead.remove(&row.sptep);
            }
        }
    }

    pub(super) fn keyframe(&mut self, page: &KeyframePage) {
        if self.ahead.is_empty() {
            return;
        }
        if self.now.keyframe != page.keyframe {
            self.now = Shown {
                keyframe: page.keyframe,
                ..Shown::default()
            };
        }
        for (index, spte) in &page.entries {
            let place = Hpa(page.spt.0.wrapping_add(u64::from(*index) * 8));
            // A page made again at the address holds other frames.
            let ahead = self.ahead.get(&place);
            let Some(ahead) =
                ahead.filter(|ahead| spte.is_leaf(page.level) && spte.pfn() == ahead.pfn)
            else {
                continue;
            };
            self.now.present += 1;
            if !spte.is_accessed() {
                self.now.unused += 1;
                self.now.first.get_or_insert(*ahead);
            }
        }
        if self.now.unused > self.worst.unused {
            self.worst = self.now;
        }
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let Shown {
            present,
            unused,
            first,
            ..
        } = self.worst;
        let first = first.filter(|_| unused >= UNUSED && unused * 2 >= present)?;
        Some(Finding {
            size: present,
            culprit: Culprit {
                gfn: first.gfn,
                ..Culprit::default()
            },
            ..Finding::new(Pathology::UnusedPrefetch, unused, first.seq)
        })
    }
}
