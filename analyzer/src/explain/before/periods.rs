//! The latest unsync period of each shadow page.

use std::collections::{BTreeMap, HashMap};

use events::{Hpa, PageEvent, VcpuId};
use trace::{EntryRow, PageRow};

use crate::explain::facts::{FaultRef, UnsyncPeriod};

/// Pages kept. Bounds the memory that a hostile trace takes.
const MAX_PAGES: usize = 1 << 20;
/// Pages of one vCPU whose fault has no record yet.
const MAX_WAITING: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::explain) struct Periods {
    of: HashMap<Hpa, UnsyncPeriod>,
    /// Pages that became unsync in a fault whose record has not come yet.
    waiting: BTreeMap<VcpuId, Vec<Hpa>>,
}

impl Periods {
    /// The current or latest one of a page.
    pub fn of(&self, spt: Hpa) -> Option<&UnsyncPeriod> {
        self.of.get(&spt)
    }

    pub fn page(&mut self, row: &PageRow) {
        match row.event {
            PageEvent::Unsync => {
                if self.of.len() >= MAX_PAGES {
                    return;
                }
                self.of.insert(row.spt, UnsyncPeriod::begin(row));
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

    pub fn fault(&mut self, fault: FaultRef) {
        for spt in self.waiting.remove(&fault.vcpu).unwrap_or_default() {
            if let Some(period) = self.of.get_mut(&spt) {
                period.fault.get_or_insert(fault);
            }
        }
    }

    pub fn entry(&mut self, row: &EntryRow) {
        if let Some(period) = self.of.get_mut(&row.sptep.table()) {
            period.entry(row, 0);
        }
    }
}
