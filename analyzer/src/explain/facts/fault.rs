//! A fault, what led to it and what followed.

use events::{Cause, Gpa, Gva, Hpa, Hva, Level, Pfn, Seq, Spte, TimeNs};
use serde::Serialize;
use trace::{EntryRow, FaultRow, HostRow, Mode, PageRow};

use super::{
    common::{Because, FaultRef, Invalidation, Store, StoredBy, Writer},
    page::PageChange,
    unsync::UnsyncPeriod,
};
use crate::{
    faults::{GuestStep, refuses},
    refaults::{ActBill, Refault, left_guest},
    replay::{PageInfo, Step},
};

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct FaultFacts {
    /// Its number among the faults of its VM, from 0.
    #[serde(rename = "fault")]
    pub index: u64,
    /// First time of the trace.
    pub start_ns: u64,
    /// Whose tables are shadowed.
    pub mode: Mode,
    /// The guest's phase.
    pub phase: Option<String>,
    /// Its record; `gpa` may come from the guest's entries.
    #[serde(flatten)]
    pub row: FaultRow,
    /// Why it is of its class.
    pub cause: Because,
    /// The guest ran without paging: GVA is GPA, and the leaf is in a direct table.
    pub is_unpaged: bool,
    /// The guest's entries that the walk read, from the root on.
    pub guest_walk: Vec<GuestStep>,
    /// Why the guest's tables give no GPA.
    pub guest_refusal: Option<Because>,
    /// Size of the guest's page, in pages of 4 KiB, where it is larger than one.
    pub guest_page_pages: Option<u64>,
    /// The latest emulated stores to the guest entries of the walk.
    pub entries_stored: Vec<StoredEntry>,
    /// The memslot, where `meta.json` has it: as KVM found it, or the one that holds the GPA.
    pub memslot: Option<MemslotRange>,
    /// The host's frame, if the record has none: that of the shadow entry which the fault left.
    pub pfn_by_shadow: Option<Pfn>,
    /// Memslots changed between the looks before and after the fault: none is known.
    pub memslots_changed: bool,
    /// The shadow tables after the fault, from the root down.
    pub shadow_walk: Vec<Step>,
    /// What they translate the address to.
    pub hpa: Option<Hpa>,
    /// The leaf maps the frame that the host's tables gave.
    pub leaf_maps_frame: Option<bool>,
    /// The leaf's place before the fault; unknown without a leaf, or in an unknown table.
    pub before: Option<Spte>,
    /// Who stored that, or the leaf that the address had.
    pub stored_before: Option<Writer>,
    /// The record that emptied the entry before the fault.
    pub emptied: Option<EntryRow>,
    /// What made it necessary, where its address was mapped before.
    pub refault: Option<RefaultFacts>,
    /// Every entry of its frame that it dropped, and what came of that: there were more than KVM keeps
    /// track of.
    pub recycled: Option<ActBill>,
    /// Events of shadow pages since the previous fault of the vCPU.
    pub pages: Vec<PageChange>,
    /// Pages that were zapped after the fault's record and before the next fault of the vCPU.
    pub zapped_after: Vec<PageChange>,
    /// Shadow pages of the guest frame, if it is a guest table.
    pub shadows_of_frame: Vec<PageInfo>,
    /// Bytes of an entry of this table.
    #[serde(skip)]
    pub gpte_bytes: u16,
    /// The emulated store that the fault is about.
    pub store: Option<Store>,
    /// Pages that the fault made unsync.
    pub unsync: Vec<UnsyncPeriod>,
    /// What the host did between the start of the fault and its record.
    pub host: Option<HostRow>,
    /// What the host was doing meanwhile, whose record came after the fault: it took from the entry
    /// what the fault needed.
    pub late_act: Option<HostRow>,
    /// For a fault that KVM gave up: its own lookup had the host take a frame away.
    pub invalidated_by_itself: Option<Invalidation>,
    /// For a fault that KVM gave up: another vCPU had the host do so, perhaps meanwhile.
    pub invalidated_beside: Option<Invalidation>,
    /// For a fault that KVM gave up: its root was zapped meanwhile.
    pub root_zapped: Option<PageRow>,
    /// For a fault that KVM gave up: the entry as the probes read it afterwards.
    pub read_again: Option<EntryRow>,
    /// What came after it, as far as the look-ahead goes.
    pub followed: Vec<Followed>,
    /// Missing records since the tables were last known to be right.
    pub missing_records_since_keyframe: u64,
}

impl FaultFacts {
    /// As KVM found it; otherwise by the memslot that holds the GPA.
    pub fn hva(&self) -> Option<Hva> {
        let by_slot = || self.memslot.map(|slot| slot.hva_by_slot);
        self.row.hva.or_else(by_slot)
    }

    /// As far as the records before it show, its entry allowed the access already, and the path to
    /// it was there.
    pub fn is_unexplained(&self) -> bool {
        let before = self.before.filter(|before| before.is_shadow_present());
        let allowed = before.filter(|before| !refuses(*before, self.row.error_code));
        let is_same = |before: Spte| Some(before.pfn()) == self.row.spte.map(Spte::pfn);
        let found = u64::from(self.row.created) + u64::from(self.row.reused);
        allowed
            .is_some_and(|before| !is_same(before) || (found == 0 && self.overtaken_by().is_none()))
    }

    /// The other vCPU that had stored the entry since this fault left the guest.
    pub fn overtaken_by(&self) -> Option<Writer> {
        let by = self.stored_before?;
        let stores = matches!(by.by, StoredBy::Fault(_) | StoredBy::Cause(Cause::Prefetch));
        let is_other = by.vcpu.is_some() && by.vcpu != Some(self.row.vcpu);
        (stores && is_other && by.time_ns >= left_guest(&self.row)).then_some(by)
    }
}

/// What removed or weakened the entry of a fault, as `refaults` joins them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefaultFacts {
    /// Its cause: see `refaults`; `zapped` and `later` as in the CSV of `export`.
    pub cause: &'static str,
    /// The record of the act.
    pub seq: Seq,
    /// When.
    pub time_ns: TimeNs,
    /// What was done.
    pub what: String,
    /// Records are missing in between: another act may have done it.
    pub over_gap: bool,
}

impl RefaultFacts {
    /// Absent where no record shows what did it.
    pub fn of(refault: &Refault) -> Option<Self> {
        let removal = refault.removal?;
        Some(Self {
            cause: refault.name(),
            seq: removal.seq,
            time_ns: removal.time,
            what: removal.what(),
            over_gap: refault.over_gap,
        })
    }
}

/// A guest entry of the walk that was stored to, and still has that value.
#[derive(Clone, Debug, Serialize)]
pub struct StoredEntry {
    pub level: Level,
    pub store: Store,
}

/// A memslot, and the HVA that it gives.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MemslotRange {
    pub slot: u16,
    pub gpa: Gpa,
    pub hva: Hva,
    pub bytes: u64,
    /// The slot's HVA plus the offset of the fault's GPA.
    pub hva_by_slot: Hva,
    /// KVM ended the fault before it looked for a memslot: this is the one that holds the GPA.
    pub is_computed: bool,
}

/// Something that came after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Followed {
    /// KVM mapped a neighbour ahead.
    Prefetched {
        sptep: Hpa,
        spte: Spte,
        /// The address that it translates, if its table is the fault's.
        gva: Option<Gva>,
    },
    /// A later fault in the same 2 MiB.
    Fault {
        #[serde(flatten)]
        fault: FaultRef,
        after_ns: u64,
        /// Times that the same fault came again, with no other of its vCPU in between, as far as
        /// the look-ahead goes.
        again: u64,
        /// When the last of these came.
        last_after_ns: u64,
    },
}
