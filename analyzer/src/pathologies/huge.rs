//! Memory that could be mapped by huge pages, and is not.

use std::collections::BTreeSet;

use events::{Gfn, Gva, HostEvent, Level, Seq};
use trace::{FaultRow, HostRow, Memslot, Slot, VmMeta};

use super::{Culprit, Finding, Pathology};
use crate::{
    faults::{Memslots, Paid},
    replay::{AddressMap, ShadowPage, VmReplay},
};

/// Regions, see [`Pathology::threshold`].
pub(super) const REGIONS: u64 = 1;
/// Regions of 2 MiB followed, 64 bytes each. Bounds a hostile trace.
const MAX_REGIONS: usize = 1 << 16;
/// Frames of a region.
const FRAMES: u64 = 512;
/// Bytes of a region.
const BYTES: u64 = FRAMES << 12;

/// Why a region has small pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// The guest maps it by entries of 4 KiB, though frames and host frames adjoin.
    GuestEntries,
    /// GPA and HVA of the slot lie differently within 2 MiB, or the region crosses its end.
    SlotAlignment,
    /// A guest table is in the region, so KVM tracks writes to it.
    WriteTracked,
    /// Dirty logging needs entries of 4 KiB.
    DirtyLog,
    /// None of these, and a frame of the host is not where it would be in a huge page.
    HostPages,
    /// None of these, and every frame is.
    NotSeen,
}

impl Why {
    const ALL: [Self; 6] = [
        Self::GuestEntries,
        Self::SlotAlignment,
        Self::WriteTracked,
        Self::DirtyLog,
        Self::HostPages,
        Self::NotSeen,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::GuestEntries => "the guest maps it by 4 KiB entries, whose frames adjoin",
            Self::SlotAlignment => "GPA and HVA of the slot differ within 2 MiB",
            Self::WriteTracked => "a guest table lies in the region",
            Self::DirtyLog => "dirty logging is on",
            Self::HostPages => "the host backs it with small pages",
            // KVM sets the flag of a memslot before the record of it.
            Self::NotSeen => {
                "why is not seen: the host's frames are those of a huge page, which it may map in \
                 parts, or a dirty log had just begun"
            }
        }
    }
}

/// A region with small pages.
#[derive(Clone, Copy, Debug)]
struct Region {
    why: Why,
    /// In all faults the host's frame is where it would be in a huge page.
    fits: bool,
    /// One of the faults came while the dirty log was on.
    logged: bool,
    /// One of the faults came while a guest table was in it.
    tracked: bool,
    faults: u64,
    paid: Paid,
    first: Seq,
    gva: Option<Gva>,
    slot: Option<Slot>,
}

impl Region {
    fn why(&self) -> Why {
        match self.why {
            Why::HostPages if self.fits && self.tracked => Why::WriteTracked,
            Why::HostPages if self.fits && self.logged => Why::DirtyLog,
            Why::HostPages if self.fits => Why::NotSeen,
            why => why,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Huge {
    memslots: Memslots,
    logged: BTreeSet<Option<u16>>,
    /// By their first frame.
    regions: AddressMap<Gfn, Region>,
    /// The leaf tables that shadow entries of 4 KiB, by the record that made each known.
    filled: AddressMap<Seq, Filled>,
}

/// The faults that filled a leaf table.
#[derive(Clone, Copy, Debug)]
struct Filled {
    faults: u64,
    paid: Paid,
    first: Seq,
    gva: Gva,
    slot: Option<Slot>,
}

impl Huge {
    pub(super) fn new(meta: Option<&VmMeta>) -> Self {
        Self {
            memslots: meta.map(Memslots::of).unwrap_or_default(),
            ..Self::default()
        }
    }

    pub(super) fn host(&mut self, row: &HostRow) {
        let slot = row.slot.map(|slot| slot.0);
        match row.event {
            HostEvent::DirtyStart => {
                self.logged.insert(slot);
            }
            HostEvent::DirtyStop => {
                self.logged.remove(&slot);
            }
            _ => {}
        }
    }

    /// A fault on a huge page of the guest's that is mapped by a small one.
    pub(super) fn fault(&mut self, row: &FaultRow, vm: &VmReplay) {
        let large = row
            .gpte2
            .filter(|gpte| gpte.is_present() && gpte.is_large());
        let (Some(Level(1)), Some(gpa)) = (row.level, row.gpa) else {
            return;
        };
        if large.is_none() {
            self.fills(row, vm);
            return;
        }
        let first = Gfn(gpa.gfn().0 & !(FRAMES - 1));
        let apart = row.pfn.map(|pfn| pfn.0.wrapping_sub(gpa.gfn().0));
        let fits = apart.is_some_and(|apart| apart.is_multiple_of(FRAMES));
        let known = self.regions.get(&first);
        if known.is_none() && self.regions.len() >= MAX_REGIONS {
            return;
        }
        // A table may come later. What has a reason already needs no look at 512 frames.
        let asks = known.is_none_or(|of| of.why() == Why::NotSeen);
        let tracked = asks && has_table(first, vm);
        if known.is_none() {
            let region = Region {
                why: self.why(first, row, tracked),
                fits,
                logged: false,
                tracked,
                faults: 0,
                paid: Paid::default(),
                first: row.seq,
                gva: Some(row.gva),
                slot: row.slot,
            };
            self.regions.insert(first, region);
        }
        if let Some(region) = self.regions.get_mut(&first) {
            region.fits &= fits;
            region.tracked |= tracked;
            region.logged |= self.logged.contains(&row.slot.map(|slot| slot.0));
            region.faults += 1;
            region.paid.add(row);
        }
    }

    /// A fault on a page that the guest maps by an entry of 4 KiB.
    fn fills(&mut self, row: &FaultRow, vm: &VmReplay) {
        let page = row.sptep.and_then(|place| vm.tables().page(place.table()));
        let Some(page) = page.filter(|page| !page.info.direct) else {
            return;
        };
        let is_full = self.filled.len() >= MAX_REGIONS;
        match self.filled.get_mut(&page.since) {
            Some(filled) => {
                filled.faults += 1;
                filled.paid.add(row);
            }
            None if !is_full => {
                let mut paid = Paid::default();
                paid.add(row);
                let filled = Filled {
                    faults: 1,
                    paid,
                    first: row.seq,
                    gva: row.gva,
                    slot: row.slot,
                };
                self.filled.insert(page.since, filled);
            }
            None => {}
        }
    }

    fn why(&self, first: Gfn, row: &FaultRow, tracked: bool) -> Why {
        let begin = first.0 << 12;
        let fits = |slot: &Memslot| {
            let inside = begin >= slot.gpa && begin - slot.gpa <= slot.bytes.saturating_sub(BYTES);
            inside && slot.bytes >= BYTES && (slot.gpa ^ slot.hva).is_multiple_of(BYTES)
        };
        let own = row.slot.into_iter();
        let mut own = own
            .flat_map(|slot| self.memslots.at(slot, row.time_ns))
            .peekable();
        let known = own.peek().is_some();
        if known && !own.any(fits) {
            Why::SlotAlignment
        } else if self.logged.contains(&row.slot.map(|slot| slot.0)) {
            Why::DirtyLog
        } else if tracked {
            Why::WriteTracked
        } else {
            Why::HostPages
        }
    }

    pub(super) fn finish(&mut self, vm: &VmReplay) {
        for page in vm.tables().sorted_pages() {
            let Some(first) = adjoining(page).filter(|_| self.regions.len() < MAX_REGIONS) else {
                continue;
            };
            let filled = self.filled.get(&page.since);
            let region = self.regions.entry(first).or_insert(Region {
                why: Why::GuestEntries,
                fits: false,
                logged: false,
                tracked: false,
                faults: 0,
                paid: Paid::default(),
                first: filled.map_or(page.since, |of| of.first),
                gva: filled.map(|of| of.gva),
                slot: filled.and_then(|of| of.slot),
            });
            // Several tables may map the same frames.
            if let (Some(filled), Why::GuestEntries) = (filled, region.why) {
                region.faults += filled.faults;
                region.paid.add_all(filled.paid);
            }
        }
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        Why::ALL
            .iter()
            .filter_map(|why| self.finding(*why))
            .collect()
    }

    fn finding(&self, why: Why) -> Option<Finding> {
        let regions = || self.regions.iter().filter(|(_, of)| of.why() == why);
        let count = regions().count() as u64;
        let key = |(gfn, of): &(&Gfn, &Region)| (of.paid.own_ns(), std::cmp::Reverse(gfn.0));
        let (gfn, worst) = regions().max_by_key(key).filter(|_| count >= REGIONS)?;
        let mut paid = Paid::default();
        regions().for_each(|(_, of)| paid.add_all(of.paid));
        Some(Finding {
            size: regions().map(|(_, of)| of.faults).sum(),
            culprit: Culprit {
                gva: worst.gva,
                gfn: Some(*gfn),
                slot: worst.slot,
                why: Some(why.text().to_owned()),
                ..Culprit::default()
            },
            ..Finding::new(Pathology::NoHugePage, count, worst.first).paid(paid)
        })
    }
}

/// Whether a guest table that is shadowed lies in a region: KVM maps it by small pages then, also for
/// a leaf table (`account_shadowed`, `kvm_mmu_gfn_disallow_lpage`).
fn has_table(first: Gfn, vm: &VmReplay) -> bool {
    let frames = first.0..first.0.saturating_add(FRAMES);
    let mut frames = frames.map(Gfn);
    frames.any(|gfn| !vm.tables().shadowing(gfn).is_empty())
}

/// The first frame of a guest's leaf table that is full, where frames and host frames adjoin and
/// begin at 2 MiB, with the same rights.
fn adjoining(page: &ShadowPage) -> Option<Gfn> {
    const RIGHTS: u64 = 1 << 1 | 1 << 2 | 1 << 63;
    let info = page.info;
    if info.direct || info.level != Level(1) || u64::from(page.present()) != FRAMES {
        return None;
    }
    let (gfn, spte) = (page.leaf_gfn(0)?, page.entry(0));
    let aligned = gfn.0.is_multiple_of(FRAMES) && spte.pfn().0.is_multiple_of(FRAMES);
    let adjoins = |(index, of): (u16, events::Spte)| {
        let at = u64::from(index);
        page.leaf_gfn(index) == Some(Gfn(gfn.0 + at))
            && of.pfn().0 == spte.pfn().0 + at
            && of.0 & RIGHTS == spte.0 & RIGHTS
    };
    (aligned && page.entries().all(adjoins)).then_some(gfn)
}
