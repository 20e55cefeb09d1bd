//! A change of a shadow entry, what led to it and what followed.

use events::{Class, Gfn, Gpa, Gpte, Hpa, Level, Seq, Spte, TimeNs};
use serde::Serialize;
use trace::{EntryRow, HostRow, PageRow};

use super::{
    common::{FaultRef, GuestEntry, Store, Translations, Writer},
    unsync::UnsyncPeriod,
};

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeFacts {
    /// Its number among the changes of its VM, from 0.
    #[serde(rename = "change")]
    pub index: u64,
    /// First time of the trace.
    pub start_ns: u64,
    /// The guest's phase.
    pub phase: Option<String>,
    /// Its record; `old` and `gfn` may come from replay.
    #[serde(flatten)]
    pub row: EntryRow,
    /// The record has `old`.
    pub old_is_recorded: bool,
    /// The kernel's function.
    pub function: &'static str,
    /// Each difference between `old` and `spte`, in words.
    pub changed: Vec<String>,
    /// The table that holds the entry.
    pub table: Option<Table>,
    #[serde(flatten)]
    pub translations: Translations,
    pub guest_entry: Option<GuestEntry>,
    /// What a later walk read there.
    pub guest_entry_later: Option<LaterGpte>,
    /// Who stored the entry before.
    pub stored_before: Option<Writer>,
    /// What led to the change.
    pub causes: Vec<ChangeCause>,
    /// The emulated store that led to it.
    pub store: Option<Store>,
    /// The unsync period of its table.
    pub unsync: Option<UnsyncPeriod>,
    /// What the host did.
    pub host: Option<HostRow>,
    /// The event by which its frame became a table.
    pub frame_became: Option<PageRow>,
    /// The latest fault of its vCPU before it.
    pub fault_before: Option<FaultRef>,
    /// The next fault of its vCPU, which may have begun before the change.
    pub fault_next: Option<FaultRef>,
    /// KVM injected that one into the guest with P set.
    pub fault_next_is_injected: bool,
    /// That one stored the same entry.
    pub fault_next_stores_it: bool,
    /// Changes of the same cause in a row on the same thread, from this one on.
    pub together: u64,
    /// From the change that emptied the entry to its next mapping.
    pub missing_ns: Option<u64>,
    pub followed: Vec<Fate>,
    /// Missing records since the tables were last known to be right.
    pub missing_records_since_keyframe: u64,
}

/// A shadow page as a change finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    pub spt: Hpa,
    pub level: Level,
    /// The guest table that it shadows; of a direct page, the first frame that it maps.
    pub gfn: Gfn,
    pub direct: bool,
    pub unsync: bool,
}

/// A guest entry as a later fault's walk read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LaterGpte {
    pub gpte: Gpte,
    pub fault: FaultRef,
}

/// Something that came after a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The entry was stored again.
    Stored { by: Writer, spte: Spte },
    /// A fault on one of its addresses did not store it.
    Access(FaultRef),
    /// Its table was zapped.
    TableZapped { seq: Seq, time_ns: TimeNs },
}

/// Something that led to a change. Those without fields are in the field of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ChangeCause {
    Store,
    Unsync,
    Host,
    FrameBecame,
    /// A sync of a table whose unsync period is not in the trace.
    UnsyncNotRecorded,
    /// A lookup (`kvm_mmu_find_shadow_page`) found the page, and syncs it without ending the period.
    FoundByLookup,
    /// The guest loaded another CR3.
    Cr3Loaded {
        from: Gpa,
        to: Gpa,
    },
    /// A TLB flush, a reload of CR3, or a fault that came through an upper table.
    SameCr3,
    /// KVM injected this fault, and invalidates its address before.
    Injected {
        fault: FaultRef,
    },
    /// INVLPG or INVPCID of the guest.
    GuestInvalidation,
    /// The host acted on the vCPU's own thread, as where it copies a page on write.
    CopyOnWrite(CopyOnWrite),
    /// The fault that was in progress.
    WithinFault {
        fault: FaultRef,
    },
    /// A marker for MMIO that no fault on its address stored.
    WithoutFault,
    /// Mapped ahead.
    PrefetchedAfter {
        fault: FaultRef,
    },
    /// The fault maps another frame in its place.
    ReplacedByFrame {
        fault: FaultRef,
    },
    /// A table takes the place of the large page.
    ReplacedByTable {
        fault: FaultRef,
    },
    /// The fault mapped the frame once more than `RMAP_RECYCLE_THRESHOLD`.
    RmapRecycled {
        fault: FaultRef,
    },
    /// Read after a fault that KVM gave up.
    ReadAfterRetry {
        fault: FaultRef,
    },
}

/// What the host copied a page for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "copied_for", rename_all = "snake_case")]
pub enum CopyOnWrite {
    /// An emulated store to the frame.
    Store { seq: Seq, gpa: Gpa },
    /// A fault on the frame that KVM gave up for that, or whose store it emulates.
    Fault { fault: FaultRef },
    /// No such store or fault follows.
    Unknown,
}

impl ChangeFacts {
    /// The fault of its vCPU that was in progress.
    pub fn within(&self) -> Option<FaultRef> {
        self.fault_next
            .filter(|next| next.time_ns <= self.row.time_ns)
    }

    /// The next fault, if the host copied the frame for it: it is about the same frame, and KVM gave
    /// it up or emulates its store.
    pub fn copied_for(&self) -> Option<FaultRef> {
        let next = self.fault_next?;
        let is_its = match next.gfn.zip(self.row.gfn) {
            Some((of_fault, of_entry)) => of_fault == of_entry,
            None => self.translations.contain(next.gva, self.row.level),
        };
        let stores = matches!(next.class, Class::Retried | Class::WriteProtected);
        (is_its && stores).then_some(next)
    }

    /// The entry had this value already.
    pub fn is_no_change(&self) -> bool {
        self.row.old == Some(self.row.spte)
    }
}
