//! Times in which a shadow page is unsync: the guest writes the leaf table behind it without an exit.

use std::collections::{BTreeMap, HashMap};

use events::{Cause, Hpa, PageEvent, Seq, TimeNs, VcpuId};
use trace::{EntryRow, PageRow};

use super::history::FaultRef;

/// One such time of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The event that began it.
    pub seq: Seq,
    /// When.
    pub time: TimeNs,
    /// The vCPU whose fault it was.
    pub vcpu: Option<VcpuId>,
    /// That fault.
    pub fault: Option<FaultRef>,
    /// The end: `kvm_mmu_sync_page`, with its vCPU.
    pub synced: Option<(Seq, TimeNs, Option<VcpuId>)>,
    /// Entries that a sync changed, up to now.
    pub by_sync: u64,
    /// Entries that INVLPG or an injected fault changed, up to now.
    pub by_invlpg: u64,
}

impl Period {
    /// A page becomes unsync.
    pub(super) fn begin(row: &PageRow) -> Self {
        Self {
            seq: row.seq,
            time: row.time_ns,
            vcpu: row.vcpu,
            fault: None,
            synced: None,
            by_sync: 0,
            by_invlpg: 0,
        }
    }

    /// Takes note of a change of the page's entries.
    pub(super) fn entry(&mut self, row: &EntryRow) {
        match row.cause {
            Cause::Sync => self.by_sync += 1,
            Cause::Invlpg => self.by_invlpg += 1,
            _ => {}
        }
    }

    /// Takes note of an event of the page's.
    pub(super) fn page(&mut self, row: &PageRow) {
        if row.event == PageEvent::Sync && self.synced.is_none() {
            self.synced = Some((row.seq, row.time_ns, row.vcpu));
        }
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        let synced = self.synced.map(|(seq, time, vcpu)| {
            serde_json::json!({
                "seq": seq.0, "time_ns": time.0, "vcpu": vcpu.map(|vcpu| vcpu.0),
                "after_ns": time.0.saturating_sub(self.time.0),
            })
        });
        serde_json::json!({
            "seq": self.seq.0, "time_ns": self.time.0, "vcpu": self.vcpu.map(|vcpu| vcpu.0),
            "fault": self.fault.map(|fault| fault.json()), "synced": synced,
            "changed_by_sync": self.by_sync, "changed_by_invlpg": self.by_invlpg,
        })
    }
}

/// Pages kept. Bounds a hostile trace.
const MAX_PAGES: usize = 1 << 20;
/// Pages of one vCPU that wait for their fault's record.
const MAX_WAITING: usize = 64;

/// The latest such time of each page.
#[derive(Debug, Default)]
pub(super) struct Periods {
    of: HashMap<Hpa, Period>,
    /// Pages that became unsync in a fault whose record has not come yet.
    waiting: BTreeMap<VcpuId, Vec<Hpa>>,
}

impl Periods {
    pub(super) fn of(&self, spt: Hpa) -> Option<&Period> {
        self.of.get(&spt)
    }

    pub(super) fn page(&mut self, row: &PageRow) {
        match row.event {
            PageEvent::Unsync => {
                if self.of.len() >= MAX_PAGES {
                    return;
                }
                self.of.insert(row.spt, Period::begin(row));
                let Some(vcpu) = row.vcpu else { return };
                let waiting = self.waiting.entry(vcpu).or_default();
                if waiting.len() < MAX_WAITING {
                    waiting.push(row.spt);
                }
            }
            PageEvent::Born => {
                self.of.remove(&row.spt);
            }
            _ => {
                if let Some(period) = self.of.get_mut(&row.spt) {
                    period.page(row);
                }
            }
        }
    }

    pub(super) fn fault(&mut self, fault: FaultRef) {
        for spt in self.waiting.remove(&fault.vcpu).unwrap_or_default() {
            if let Some(period) = self.of.get_mut(&spt) {
                period.fault.get_or_insert(fault);
            }
        }
    }

    pub(super) fn entry(&mut self, row: &EntryRow) {
        if let Some(period) = self.of.get_mut(&row.sptep.table()) {
            period.entry(row);
        }
    }
}
