//! A fault, as it is known when its record has come.

use std::collections::BTreeMap;

use events::{Class, Gpa, Gptes, HostEvent, Hpa, Hva, PageEvent, Pfn, Seq, Spte, VcpuId};
use trace::{FaultRow, HostRow, Mode, PageRow, VmMeta};

use super::{history::History, state::Before, stores::is_kept};
use crate::{
    explain::facts::{
        Because, FaultFacts, GuestStep, MemslotRange, PageChange, StoredEntry, UnsyncPeriod, gpa,
        guest_walk,
    },
    faults::{Memslots, SlotsByGpa},
    replay::{PageInfo, Walk},
};

/// Page events kept of a vCPU between two faults.
const MAX_CHANGES: usize = 64;

/// Events of shadow pages on each vCPU since its previous fault.
#[derive(Debug, Default)]
pub(in crate::explain) struct Recent(BTreeMap<VcpuId, Vec<PageChange>>);

impl Recent {
    /// Takes a page event.
    pub fn page(&mut self, row: &PageRow, history: &History) {
        let Some(vcpu) = row.vcpu else { return };
        let changes = self.0.entry(vcpu).or_default();
        if changes.len() < MAX_CHANGES {
            let stores = history.stores_since_use(row.gfn);
            let store = history.stores.open_on(row).map(|store| store.seq);
            changes.push(PageChange::new(row, stores, store));
        }
    }

    /// Those of a vCPU, whose fault's record has come.
    pub fn take(&mut self, vcpu: VcpuId) -> Vec<PageChange> {
        self.0.remove(&vcpu).unwrap_or_default()
    }
}

impl Before<'_> {
    /// A fault whose record the replay has, and the history has not. `before` is the leaf's place
    /// before the fault, `pages` are the events of shadow pages since its vCPU's previous fault.
    pub fn fault(
        &self,
        row: &FaultRow,
        vm: Option<&VmMeta>,
        before: Option<Spte>,
        pages: Vec<PageChange>,
    ) -> FaultFacts {
        let history = self.history;
        let slots = vm.map(Memslots::of).unwrap_or_default();
        let guest_walk = guest_walk(row);
        let walk = self.replay.map(|vm| vm.walk(row.root, row.gva));
        let place = row.sptep.or_else(|| leaf_place(walk.as_ref()?));
        let tables = self.replay.map(|vm| vm.tables());
        let page = place.and_then(|place| tables?.page(place.table()));
        let born = page.map_or(Seq(0), |page| page.since);
        let is_direct = page.is_some_and(|page| page.info.direct);
        let emptied = row.sptep.and_then(|place| history.stores.emptied(place));
        let unsync = pages.iter().map(|page| &page.row);
        let unsync = unsync.filter(|row| row.event == PageEvent::Unsync);
        let unmaps = (row.class == Class::Retried).then_some(&history.invalidations);
        let hpa = walk.as_ref().and_then(|walk| walk.mapping);
        FaultFacts {
            mode: vm.map_or(Mode::Shadow, |vm| vm.mode),
            index: history.fault_count,
            start_ns: 0,
            phase: history.phase.clone(),
            cause: Because::default(),
            is_unpaged: guest_walk.is_empty() && row.sptep.is_some() && is_direct,
            guest_refusal: None,
            guest_page_pages: large_page(&guest_walk),
            entries_stored: self.entries_stored(&guest_walk),
            guest_walk,
            memslot: memslot(row, &slots, vm),
            pfn_by_shadow: frame(row, walk.as_ref()),
            memslots_changed: slots.changed(row.time_ns),
            shadow_walk: walk.map(|walk| walk.steps).unwrap_or_default(),
            hpa: hpa.map(|to| Hpa(to.pfn.hpa().0 | row.gva.page_offset())),
            leaf_maps_frame: leaf_maps_frame(row),
            before,
            stored_before: place.and_then(|place| history.writer_of(place, born)),
            emptied: emptied.filter(|row| row.seq >= born).cloned(),
            unsync: unsync.map(UnsyncPeriod::begin).collect(),
            pages,
            zapped_after: Vec::new(),
            shadows_of_frame: self.shadows_of_frame(row),
            gpte_bytes: self.gpte_bytes(row),
            store: history.stores.of(row).cloned(),
            host: self.host(row).cloned(),
            late_act: None,
            refault: None,
            recycled: None,
            invalidated_by_itself: unmaps.and_then(|all| all.within(row)).copied(),
            invalidated_beside: unmaps.and_then(|all| all.beside(row)).copied(),
            root_zapped: unmaps.and_then(|_| history.zap_of_root(row)).cloned(),
            read_again: None,
            followed: Vec::new(),
            missing_records_since_keyframe: 0,
            row: FaultRow {
                gpa: gpa(row),
                ..row.clone()
            },
        }
    }

    /// Of a table of 4-byte entries, those that shadow the entry at the fault's address.
    fn shadows_of_frame(&self, row: &FaultRow) -> Vec<PageInfo> {
        let Some(gpa) = gpa(row) else {
            return Vec::new();
        };
        let shadows = self.shadows_of(gpa.gfn()).into_iter().map(|page| page.info);
        let concerned = |page: &PageInfo| self.gptes(page).shadow_entries(gpa.0).next().is_some();
        shadows.filter(concerned).collect()
    }

    /// Bytes of an entry, if the fault's frame is a guest table.
    fn gpte_bytes(&self, row: &FaultRow) -> u16 {
        let shadows = gpa(row).map_or_else(Vec::new, |gpa| self.shadows_of(gpa.gfn()));
        let bytes = shadows.first().map(|page| self.gptes(&page.info).bytes);
        bytes.unwrap_or(Gptes::ALL.bytes)
    }

    fn entries_stored(&self, walk: &[GuestStep]) -> Vec<StoredEntry> {
        let stored = walk.iter().filter_map(|step| {
            let store = self.history.stores.at(step.place()?)?;
            // Stores to a table that is no longer shadowed are not seen: the latest may be older.
            is_kept(store, step.gpte).then(|| StoredEntry {
                level: step.level,
                store: store.clone(),
            })
        });
        stored.collect()
    }

    /// What the host did to the frame while the fault was handled.
    fn host(&self, row: &FaultRow) -> Option<&HostRow> {
        let frame = gpa(row).map(Gpa::gfn);
        let kinds = [HostEvent::Unmap, HostEvent::FlushSlot];
        let act = self.history.act(&kinds, frame);
        act.filter(|act| act.time_ns >= row.time_ns)
    }
}

/// Where the leaf of a walk is.
fn leaf_place(walk: &Walk) -> Option<Hpa> {
    walk.mapping?;
    let step = walk.steps.last()?;
    Some(Hpa(step.spt.0.wrapping_add(u64::from(step.index) * 8)))
}

fn large_page(walk: &[GuestStep]) -> Option<u64> {
    let last = walk.last()?;
    (last.level.0 > 1 && last.is_leaf()).then(|| last.pages())
}

/// Whether the leaf maps the frame that the host's tables gave.
fn leaf_maps_frame(row: &FaultRow) -> Option<bool> {
    let (spte, level, pfn) = (row.spte?, row.level?, row.pfn?);
    let within = level.pages() - 1;
    spte.is_leaf(level)
        .then(|| pfn.0 & !within == spte.pfn().0 & !within)
}

/// The memslot that the fault names; if KVM ended it before it looked for one, that of its GPA.
fn memslot(row: &FaultRow, slots: &Memslots, vm: Option<&VmMeta>) -> Option<MemslotRange> {
    let gpa = gpa(row)?;
    let is_computed = row.slot.is_none();
    let row = FaultRow {
        gpa: Some(gpa),
        slot: match row.slot {
            Some(slot) => Some(slot),
            None => SlotsByGpa::of(vm?).at(gpa, row.time_ns),
        },
        ..row.clone()
    };
    let slot = slots.of_fault(&row)?;
    let offset = gpa.0.wrapping_sub(slot.gpa);
    Some(MemslotRange {
        slot: slot.slot,
        gpa: Gpa(slot.gpa),
        hva: Hva(slot.hva),
        bytes: slot.bytes,
        hva_by_slot: Hva(offset.wrapping_add(slot.hva)),
        is_computed,
    })
}

/// The frame of the entry that a fault left as it was, or only gave a right: KVM asked the host for
/// none. An entry that a fault could not store is not the fault's.
fn frame(row: &FaultRow, walk: Option<&Walk>) -> Option<Pfn> {
    use Class::{Fast, Spurious, Unsync, WriteProtected};
    let keeps = matches!(row.class, WriteProtected | Unsync | Fast | Spurious);
    let mapping = walk.filter(|_| keeps && row.pfn.is_none())?.mapping?;
    Some(mapping.pfn)
}
