//! The same fault of a vCPU again and again, while no entry changes.
//!
//! KVM's own: it retries, or stores what is there already. The guest's own: its handler returns,
//! and the same access is refused again by the same entries. What an entry that is not present
//! holds changes nothing.

use std::collections::BTreeMap;

use events::{Class, ErrorCode, Gpa, Gpte, Gva, Seq, VcpuId};
use trace::{EntryRow, FaultRow, PageRow, pathology::REPEATS};

use super::{Culprit, Finding, Pathology};
use crate::{faults::Paid, replay::VmReplay};

/// Equal faults of one vCPU.
#[derive(Clone, Copy, Debug)]
struct Run {
    rip: Option<Gva>,
    gva: Gva,
    error: ErrorCode,
    cr3: Gpa,
    /// Of the guest's own faults: the entries that refuse the access.
    refused_by: Option<[Gpte; 5]>,
    first: Seq,
    faults: u64,
    paid: Paid,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Livelocks {
    now: BTreeMap<VcpuId, Option<Run>>,
    runs: u64,
    faults: u64,
    paid: Paid,
    longest: Option<(VcpuId, Run)>,
}

impl Livelocks {
    pub(super) fn fault(&mut self, row: &FaultRow, vm: &VmReplay) {
        // Those do what the instruction does: a store, or a device access.
        if matches!(row.class, Class::WriteProtected | Class::Mmio) {
            self.end(row.vcpu);
            return;
        }
        let refused_by = match row.class {
            // Without the entries it is not known that they are the same.
            Class::Guest => match refused_by(row) {
                None => return self.end(row.vcpu),
                walked => walked,
            },
            _ => None,
        };
        let mut fault = Run {
            rip: row.rip,
            gva: row.gva,
            error: row.error_code,
            cr3: row.cr3,
            refused_by,
            first: row.seq,
            faults: 1,
            paid: Paid::default(),
        };
        fault.paid.add(row);
        let key = |run: &Run| (run.rip, run.gva, run.error, run.cr3, run.refused_by);
        let now = self.now.entry(row.vcpu).or_default();
        match now {
            Some(run) if key(run) == key(&fault) && !changes(row, vm) => {
                run.faults += 1;
                run.paid.add(row);
            }
            _ => {
                let before = now.replace(fault);
                self.over(row.vcpu, before);
            }
        }
    }

    /// An entry changed on the vCPU's own thread: it made progress.
    pub(super) fn entry(&mut self, row: &EntryRow, vm: &VmReplay) {
        let runs = |vcpu: &VcpuId| self.now.get(vcpu).is_some_and(Option::is_some);
        if let Some(vcpu) = row.vcpu.filter(runs) {
            let before = vm.tables().entry(row.sptep).unwrap_or_default();
            if before.without_accessed_dirty() != row.spte.without_accessed_dirty() {
                self.end(vcpu);
            }
        }
    }

    pub(super) fn page(&mut self, row: &PageRow) {
        if let Some(vcpu) = row.vcpu {
            self.end(vcpu);
        }
    }

    fn end(&mut self, vcpu: VcpuId) {
        let run = self.now.get_mut(&vcpu).and_then(Option::take);
        self.over(vcpu, run);
    }

    fn over(&mut self, vcpu: VcpuId, run: Option<Run>) {
        let Some(run) = run.filter(|run| run.faults >= REPEATS) else {
            return;
        };
        self.runs += 1;
        self.faults += run.faults;
        self.paid.add_all(run.paid);
        if self
            .longest
            .is_none_or(|(_, longest)| longest.faults < run.faults)
        {
            self.longest = Some((vcpu, run));
        }
    }

    pub(super) fn finish(&mut self) {
        let vcpus: Vec<_> = self.now.keys().copied().collect();
        for vcpu in vcpus {
            self.end(vcpu);
        }
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let (vcpu, run) = self.longest?;
        let found = Finding {
            size: self.faults,
            culprit: Culprit {
                vcpu: Some(vcpu),
                cr3: Some(run.cr3),
                rip: run.rip,
                gva: Some(run.gva),
                why: run
                    .refused_by
                    .map(|_| "the guest's own fault, refused by the same entries".to_owned()),
                ..Culprit::default()
            },
            ..Finding::new(Pathology::LiveLock, self.runs, run.first)
        };
        Some(found.paid(self.paid))
    }
}

/// The entries walked, as far as they decide: not A and D, and nothing of one that is not present.
/// `None` where no walk was recorded.
fn refused_by(row: &FaultRow) -> Option<[Gpte; 5]> {
    const ACCESSED_DIRTY: u64 = 1 << 5 | 1 << 6;
    let walked = [row.gpte5, row.gpte4, row.gpte3, row.gpte2, row.gpte1];
    walked.iter().any(Option::is_some).then(|| {
        walked.map(|gpte| match gpte.filter(|gpte| gpte.is_present()) {
            Some(gpte) => Gpte(gpte.0 & !ACCESSED_DIRTY),
            None => Gpte(0),
        })
    })
}

/// Whether the fault stored a leaf that was not there.
fn changes(row: &FaultRow, vm: &VmReplay) -> bool {
    let Some((place, spte)) = row.sptep.zip(row.spte) else {
        return false;
    };
    let before = vm.tables().entry(place).unwrap_or_default();
    before.without_accessed_dirty() != spte.without_accessed_dirty()
}
