//! The life of a shadow page: born, linked, used again, unsync, synced, zapped.

use std::collections::BTreeMap;

use events::{Cause, Gfn, Hpa, Level, Seq, TimeNs, VcpuId};
use serde::Serialize;
use trace::{HostRow, PageRow};

use super::{
    common::{Because, FaultRef, Translations},
    unsync::UnsyncPeriod,
};
use crate::refaults::ActBill;

/// An event of a shadow page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PageChange {
    #[serde(flatten)]
    pub row: PageRow,
    /// Emulated stores to the guest table since KVM last used it as one.
    pub stores_since_use: u32,
    /// The store to the guest table that its vCPU was in the middle of.
    #[serde(skip)]
    pub store: Option<Seq>,
    /// Why it was zapped, if a store to the guest table led to that.
    pub zapped_by: Option<ZapCause>,
}

impl PageChange {
    pub fn new(row: &PageRow, stores_since_use: u32, store: Option<Seq>) -> Self {
        Self {
            row: row.clone(),
            stores_since_use,
            store,
            zapped_by: None,
        }
    }
}

/// One life of the page at an address; KVM uses the address again after a zap.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PageFacts {
    pub spt: Hpa,
    /// Which of the lives that the trace has at this address, from 0.
    #[serde(rename = "life")]
    pub number: u64,
    /// First time of the trace.
    pub start_ns: u64,
    /// The guest table that it shadows; of a direct page, the first frame that it maps.
    pub gfn: Gfn,
    pub level: Level,
    /// It shadows no guest table.
    pub direct: bool,
    /// Its first record: its birth, or the first that names it.
    pub first: Moment,
    pub was_born: bool,
    /// The first entries that were pointed to it.
    pub links: Vec<Link>,
    pub links_total: u64,
    /// Times that a lookup found it and KVM used it again.
    pub reused: u64,
    /// The first unsync periods.
    pub unsync: Vec<UnsyncPeriod>,
    pub unsync_total: u64,
    /// Why it never was unsync.
    pub never_unsync: Option<Because>,
    /// Leaves that faults stored in it.
    pub leaves_by_faults: u64,
    /// Changes of its entries by cause.
    pub changes: BTreeMap<Cause, u64>,
    pub most_entries: u32,
    /// Its entries at the end of its life, or of the trace.
    pub entries: u32,
    pub zapped: Option<Zap>,
    /// Records missing during its life.
    pub missing_records: u64,
    /// What the act of the record asked for removed, and what came of it.
    pub bill: Option<ActBill>,
}

/// An event in the life of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moment {
    pub seq: Seq,
    pub time_ns: TimeNs,
    pub vcpu: Option<VcpuId>,
    /// The guest's phase.
    pub phase: Option<String>,
    /// The next fault of the vCPU, which was in progress.
    pub fault: Option<FaultRef>,
    /// The page is the root that this fault ran on.
    pub is_root: bool,
}

/// An entry that was pointed to the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    pub seq: Seq,
    pub time_ns: TimeNs,
    pub sptep: Hpa,
    pub level: Level,
    #[serde(flatten)]
    pub translations: Translations,
}

/// The end of a life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Zap {
    pub at: Moment,
    /// Entries that pointed to it, and went with it.
    pub parents: usize,
    pub was_unsync: bool,
    /// The record of its second zap: a root in use is freed once no vCPU has it.
    #[serde(rename = "freed_seq", skip_serializing_if = "Option::is_none")]
    pub freed: Option<Seq>,
    /// The record of a sync of it, which came after its zap.
    #[serde(rename = "synced_seq", skip_serializing_if = "Option::is_none")]
    pub synced: Option<Seq>,
    pub why: ZapCause,
}

/// Why a page was zapped, as far as the records show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ZapCause {
    /// The guest stored to the table too often since KVM last used it as one.
    WriteFlooding {
        store_seq: Seq,
        stores_since_use: u32,
    },
    /// The guest's store is short, or crosses entries.
    PartialStore {
        store_seq: Seq,
        stores_since_use: u32,
    },
    /// `kvm_mmu_unprotect_gfn_and_retry`: the guest executes the store again.
    StoreRetried,
    SyncFailed,
    /// The page was unsync, and this table pointed to it and was zapped just before.
    WithParent(Hpa),
    Host(HostRow),
    /// In a fault: for room, or since its frame became another table.
    InFault,
    /// On no vCPU's thread: the VM ends, or the VMM limits the number of pages.
    NoVcpu,
}

impl ZapCause {
    /// Why a store led to the zap of a page of the table: `detect_write_flooding` counts three
    /// stores, and leaves level 1 out.
    pub fn of_store(store_seq: Seq, stores_since_use: u32, level: Level) -> Self {
        match stores_since_use >= 3 && level.0 > 1 {
            true => Self::WriteFlooding {
                store_seq,
                stores_since_use,
            },
            false => Self::PartialStore {
                store_seq,
                stores_since_use,
            },
        }
    }
}

impl PageFacts {
    /// Whether a record is within this life.
    pub fn has(&self, seq: Seq) -> bool {
        (self.first.seq..=self.until()).contains(&seq)
    }

    /// Its last record.
    pub fn until(&self) -> Seq {
        let end = self.zapped.as_ref();
        end.map_or(Seq(u64::MAX), |end| {
            let later = [end.freed, end.synced].into_iter().flatten();
            later.fold(end.at.seq, Seq::max)
        })
    }
}
