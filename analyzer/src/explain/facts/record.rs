//! A record that is neither a fault nor a change: a store, an act of the host, a root, a mark, an
//! act of KVM with its time.

use events::{Gfn, Hpa, Level, Seq, Spte, TimeNs, VmId};
use serde::Serialize;
use trace::{ActRow, EntryRow, HostRow, KeyframePage, MarkRow, RootRow};

use super::{
    common::{Because, GuestEntry, Store, Translations, Writer},
    page::PageChange,
};
use crate::{refaults::ActBill, replay::PageInfo};

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct RecordFacts {
    pub seq: Seq,
    pub time_ns: TimeNs,
    pub vm: VmId,
    /// First time of the trace.
    pub start_ns: u64,
    /// The guest's phase.
    pub phase: Option<String>,
    pub record: Kind,
    /// Entries that changed because of it: the first few.
    pub changed: Vec<EntryRow>,
    pub changed_total: u64,
    /// It emptied an entry.
    pub emptied: bool,
    /// Shadow pages that were zapped because of it.
    pub zapped: Vec<PageChange>,
    /// What it removed, as replay follows it, and the faults that came of it.
    pub bill: Option<ActBill>,
    /// The first entry that it emptied and that was mapped again.
    pub refilled: Option<Refilled>,
}

/// The record.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A store that KVM emulated.
    Store {
        #[serde(flatten)]
        store: Store,
        /// Shadow pages of the table that it concerns.
        shadow_pages: Vec<ShadowOfStore>,
        guest_entry: Option<GuestEntry>,
        /// Stores to the table since KVM last used it as one, this one included.
        stores_since_use: u32,
    },
    Host(HostRow),
    Root(RootFacts),
    Mark(MarkRow),
    Act(ActRow),
    KeyframePage {
        keyframe: u32,
        spt: Hpa,
        gfn: Gfn,
        level: Level,
        unsync: bool,
        /// Entries that are not empty.
        entries: usize,
    },
}

/// A root that a vCPU was first seen on.
#[derive(Clone, Debug, Serialize)]
pub struct RootFacts {
    #[serde(flatten)]
    pub row: RootRow,
    /// Why the vCPU uses it.
    pub cause: Because,
    /// Entries that it has; unknown if it is no shadow page that a record made.
    pub entries: Option<u32>,
}

/// A shadow page of the table that a store concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShadowOfStore {
    /// Bytes of an entry of the guest's table.
    #[serde(skip)]
    pub gpte_bytes: u16,
    #[serde(flatten)]
    pub table: PageInfo,
    /// The entry that the store concerns.
    pub sptep: Hpa,
    /// Its value before the store.
    pub spte: Spte,
    #[serde(flatten)]
    pub translations: Translations,
}

/// An entry that was mapped again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Refilled {
    pub by: Writer,
    pub after_ns: u64,
}

impl From<&KeyframePage> for Kind {
    fn from(page: &KeyframePage) -> Self {
        Kind::KeyframePage {
            keyframe: page.keyframe,
            spt: page.spt,
            gfn: page.gfn,
            level: page.level,
            unsync: page.unsync,
            entries: page.entries.len(),
        }
    }
}
