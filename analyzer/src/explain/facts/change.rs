//! A change of a shadow entry, what led to it and what followed.

use events::{Gpte, Seq, Spte, TimeNs};
use serde::Serialize;
use trace::{EntryRow, HostRow, PageRow};

use super::{
    common::{Because, FaultRef, GuestEntry, Store, Translations, Writer},
    unsync::UnsyncPeriod,
};
use crate::{refaults::ActBill, replay::PageInfo};

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
    /// What happened, in one clause.
    pub clause: &'static str,
    /// The kernel's function.
    pub function: &'static str,
    /// What the kernel does there.
    pub detail: &'static str,
    /// Each difference between `old` and `spte`, in words.
    pub changed: Vec<String>,
    /// The table that holds the entry.
    pub table: Option<PageInfo>,
    #[serde(flatten)]
    pub translations: Translations,
    pub guest_entry: Option<GuestEntry>,
    /// What a later walk read there.
    pub guest_entry_later: Option<LaterGpte>,
    /// Who stored the entry before.
    pub stored_before: Option<Writer>,
    /// What led to the change, other than `store`, `unsync` and `host`.
    pub causes: Vec<Because>,
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
    /// What the act of the record asked for removed, and what came of it.
    pub bill: Option<ActBill>,
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
