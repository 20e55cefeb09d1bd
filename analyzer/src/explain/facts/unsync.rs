//! A time in which a shadow page is unsync: the guest writes the table without an exit.

use events::{Cause, Gfn, Hpa, Level, PageEvent, Seq, TimeNs, VcpuId};
use serde::Serialize;
use trace::{EntryRow, PageRow};

use super::common::FaultRef;

/// See the module. `seq`, `time_ns` and `vcpu` are those of the event that began it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnsyncPeriod {
    pub seq: Seq,
    pub time_ns: TimeNs,
    pub vcpu: Option<VcpuId>,
    pub spt: Hpa,
    /// The guest table that it shadows.
    pub gfn: Gfn,
    pub level: Level,
    /// The fault that made it unsync.
    pub fault: Option<FaultRef>,
    /// `kvm_mmu_sync_page`.
    pub synced: Option<PeriodEnd>,
    /// The zap of the page.
    pub zapped: Option<PeriodEnd>,
    /// Entries that syncs changed.
    pub changed_by_sync: u64,
    /// Entries that INVLPG or an injected fault changed.
    pub changed_by_invlpg: u64,
    /// The first of those entries, where they are asked for.
    pub changed: Vec<EntryRow>,
    /// Its end is known, and what that changed.
    #[serde(skip)]
    pub is_over: bool,
}

/// How an unsync period ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PeriodEnd {
    pub seq: Seq,
    pub time_ns: TimeNs,
    pub vcpu: Option<VcpuId>,
    /// Length of the period.
    pub after_ns: u64,
}

impl UnsyncPeriod {
    pub fn begin(row: &PageRow) -> Self {
        Self {
            seq: row.seq,
            time_ns: row.time_ns,
            vcpu: row.vcpu,
            spt: row.spt,
            gfn: row.gfn,
            level: row.level,
            fault: None,
            synced: None,
            zapped: None,
            changed_by_sync: 0,
            changed_by_invlpg: 0,
            changed: Vec::new(),
            is_over: false,
        }
    }

    /// Counts a change of the page's entries, and keeps it if fewer than `kept` are.
    pub fn entry(&mut self, row: &EntryRow, kept: usize) {
        match row.cause {
            Cause::Sync => self.changed_by_sync += 1,
            Cause::Invlpg => self.changed_by_invlpg += 1,
            _ => return,
        }
        if self.changed.len() < kept {
            self.changed.push(row.clone());
        }
    }

    /// Takes an event of the page. A zap after the sync does not end the period.
    pub fn page(&mut self, row: &PageRow) {
        let end = self.end(row);
        match row.event {
            PageEvent::Sync => _ = self.synced.get_or_insert(end),
            PageEvent::Zapped if self.synced.is_none() => self.zapped = Some(end),
            _ => {}
        }
    }

    /// Its end by an event of the page.
    pub fn end(&self, row: &PageRow) -> PeriodEnd {
        PeriodEnd {
            seq: row.seq,
            time_ns: row.time_ns,
            vcpu: row.vcpu,
            after_ns: row.time_ns.0.saturating_sub(self.time_ns.0),
        }
    }

    /// How many of its entries changed.
    pub fn changed_total(&self) -> u64 {
        self.changed_by_sync + self.changed_by_invlpg
    }
}
