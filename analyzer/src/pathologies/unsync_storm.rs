//! Syncs of many pages, one after the other.

use std::collections::BTreeMap;

use events::{Gpa, PageEvent, Seq, VcpuId};
use trace::PageRow;

use super::{Culprit, Finding, Pathology};
use crate::replay::VmReplay;

/// Pages synced one after the other, see [`Pathology::threshold`].
pub(super) const SYNCED: u64 = 16;
/// Pages that a vCPU syncs one after the other.
#[derive(Clone, Copy, Debug)]
struct Pass {
    first: Seq,
    cr3: Option<Gpa>,
    pages: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct UnsyncStorm {
    now: BTreeMap<VcpuId, Pass>,
    passes: u64,
    pages: u64,
    largest: Option<(VcpuId, Pass)>,
}

impl UnsyncStorm {
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

    /// A sync has no time of its own in the records of faults.
    pub(super) fn finding(&self) -> Option<Finding> {
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
