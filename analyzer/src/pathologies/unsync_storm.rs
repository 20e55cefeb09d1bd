//! Syncs of many pages, one after the other.

use std::collections::BTreeMap;

use events::{Act, Gpa, PageEvent, Seq, VcpuId};
use trace::{ActRow, PageRow};

use super::{Culprit, Finding, Pathology};
use crate::{faults::Paid, replay::VmReplay};

/// Pages synced one after the other, see [`Pathology::threshold`].
pub(super) const SYNCED: u64 = 16;
/// Pages that a vCPU syncs one after the other.
#[derive(Clone, Copy, Debug)]
struct Pass {
    first: Seq,
    cr3: Option<Gpa>,
    pages: u64,
    /// Time of the syncs.
    total_ns: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct UnsyncStorm {
    /// The records have the time of each sync.
    is_timed: bool,
    now: BTreeMap<VcpuId, Pass>,
    passes: u64,
    pages: u64,
    total_ns: u64,
    largest: Option<(VcpuId, Pass)>,
}

impl UnsyncStorm {
    pub(super) fn new(is_timed: bool) -> Self {
        Self {
            is_timed,
            ..Self::default()
        }
    }

    /// A sync is over: the records of its pages came before.
    pub(super) fn act(&mut self, row: &ActRow) {
        let syncs = matches!(row.act, Act::SyncRoots | Act::Sync);
        if let (true, Some(vcpu)) = (syncs, row.vcpu)
            && let Some(pass) = self.now.get_mut(&vcpu)
        {
            pass.total_ns = pass.total_ns.saturating_add(row.total_ns);
        }
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
            total_ns: 0,
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
        self.total_ns = self.total_ns.saturating_add(pass.total_ns);
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

    /// Without records of acts a sync has no time of its own, but a part of a fault's.
    pub(super) fn finding(&self) -> Option<Finding> {
        let (vcpu, pass) = self.largest?;
        let found = Finding {
            size: self.pages,
            culprit: Culprit {
                vcpu: Some(vcpu),
                cr3: pass.cr3,
                ..Culprit::default()
            },
            ..Finding::new(Pathology::UnsyncStorm, self.passes, pass.first)
        };
        let paid = Paid {
            total_ns: self.total_ns,
            switched_out_ns: 0,
        };
        Some(match self.is_timed {
            true => found.paid(paid),
            false => found,
        })
    }
}
