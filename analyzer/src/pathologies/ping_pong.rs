//! Guest tables that are protected, stored to and synced in turn, and syncs of many at once.

use std::collections::BTreeMap;

use events::{Class, Gfn, Gpa, Gva, PageEvent, Seq, VcpuId};
use trace::{FaultRow, PageRow};

use super::{Culprit, Finding, Pathology};
use crate::replay::{AddressMap, VmReplay};

/// Times that a table becomes unsync, see [`Pathology::threshold`].
pub(super) const CYCLES: u64 = 4;
/// Pages synced one after the other, see [`Pathology::threshold`].
pub(super) const SYNCED: u64 = 16;
/// Tables followed, 64 bytes each. Bounds a hostile trace.
const MAX_TABLES: usize = 1 << 16;

/// What became of a guest table.
#[derive(Clone, Copy, Debug)]
struct Table {
    cycles: u64,
    total_ns: u64,
    last: Seq,
    cr3: Gpa,
    rip: Option<Gva>,
    gva: Gva,
}

/// Pages that a vCPU syncs one after the other.
#[derive(Clone, Copy, Debug)]
struct Pass {
    first: Seq,
    cr3: Option<Gpa>,
    pages: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct PingPong {
    tables: AddressMap<Gfn, Table>,
    now: BTreeMap<VcpuId, Pass>,
    passes: u64,
    pages: u64,
    largest: Option<(VcpuId, Pass)>,
}

impl PingPong {
    pub(super) fn fault(&mut self, row: &FaultRow) {
        self.over(row.vcpu);
        let (Class::Unsync, Some(gpa)) = (row.class, row.gpa) else {
            return;
        };
        let is_full = self.tables.len() >= MAX_TABLES;
        if is_full && !self.tables.contains_key(&gpa.gfn()) {
            return;
        }
        let known = self.tables.get(&gpa.gfn());
        let (cycles, total_ns) = known.map_or((0, 0), |table| (table.cycles, table.total_ns));
        let table = Table {
            cycles: cycles + 1,
            total_ns: total_ns.saturating_add(row.total_ns),
            last: row.seq,
            cr3: row.cr3,
            rip: row.rip,
            gva: row.gva,
        };
        self.tables.insert(gpa.gfn(), table);
    }

    pub(super) fn page(&mut self, row: &PageRow, vm: &VmReplay) {
        // A zapped page leaves the list of those to be synced by the same event.
        let (PageEvent::Sync, Some(vcpu)) = (row.event, row.vcpu) else {
            return;
        };
        if vm.tables().page(row.spt).is_none() {
            return;
        }
        let pass = self.now.entry(vcpu).or_insert_with(|| Pass {
            first: row.seq,
            cr3: vm.roots().get(&vcpu).map(|root| root.cr3),
            pages: 0,
        });
        pass.pages += 1;
    }

    /// What a vCPU syncs next is of another pass.
    pub(super) fn over(&mut self, vcpu: VcpuId) {
        if self.now.is_empty() {
            return;
        }
        let Some(pass) = self.now.remove(&vcpu).filter(|pass| pass.pages >= SYNCED) else {
            return;
        };
        self.passes += 1;
        self.pages += pass.pages;
        if self
            .largest
            .is_none_or(|(_, largest)| largest.pages < pass.pages)
        {
            self.largest = Some((vcpu, pass));
        }
    }

    pub(super) fn finish(&mut self) {
        let vcpus: Vec<_> = self.now.keys().copied().collect();
        for vcpu in vcpus {
            self.over(vcpu);
        }
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let tables = || {
            self.tables
                .iter()
                .filter(|(_, table)| table.cycles >= CYCLES)
        };
        let key = |(gfn, table): &(&Gfn, &Table)| (table.total_ns, std::cmp::Reverse(gfn.0));
        let (gfn, worst) = tables().max_by_key(key)?;
        Some(Finding {
            size: tables().map(|(_, table)| table.cycles).sum(),
            cost_ns: Some(tables().map(|(_, table)| table.total_ns).sum()),
            culprit: Culprit {
                cr3: Some(worst.cr3),
                rip: worst.rip,
                gva: Some(worst.gva),
                gfn: Some(*gfn),
                ..Culprit::default()
            },
            ..Finding::new(Pathology::PingPong, tables().count() as u64, worst.last)
        })
    }

    /// A sync has no time of its own in the records of faults.
    pub(super) fn storm(&self) -> Option<Finding> {
        let (vcpu, pass) = self.largest?;
        Some(Finding {
            size: self.pages,
            culprit: Culprit {
                vcpu: Some(vcpu),
                cr3: pass.cr3,
                ..Culprit::default()
            },
            ..Finding::new(Pathology::UnsyncStorm, self.passes, pass.first)
        })
    }
}
