//! The shadow MMU, replayed from records.
//!
//! The rules are those of `arch/x86/kvm/mmu/mmu.c` and `paging_tmpl.h`, Linux 6.1 to 7.2, as far as
//! a record does not carry the new entry itself: making or syncing an indirect page
//! write-protects its guest table, zapping a page clears its entries and those that point to it.
//! Knows records, no files and no formatting; no input makes it panic.

mod anomalies;
mod checks;
mod drift;
mod frame_order;
mod gaps;
mod guest;
mod hash;
mod keyframes;
mod options;
mod pae;
mod page;
mod places;
mod rereads;
mod tables;
mod unchanged;
mod vm;
mod walk;

#[cfg(test)]
mod anomalous;
#[cfg(test)]
mod apart;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod model;
#[cfg(test)]
mod records;
#[cfg(test)]
mod roots;
#[cfg(test)]
mod seen_late;
#[cfg(test)]
mod settling;
#[cfg(test)]
mod story;
#[cfg(test)]
pub(crate) use records::{any_record, blank_fault};

use std::collections::BTreeMap;

use events::VmId;
use trace::Record;

pub use anomalies::{Anomalies, Anomaly, AnomalyKind};
pub use checks::Checks;
pub use drift::{Difference, DifferenceKind, Drift, Late, LateKind};
pub use frame_order::FrameOrder;
pub use gaps::{Gap, Gaps};
pub use guest::GuestTable;
pub(crate) use hash::AddressMap;
pub use hash::AddressSet;
pub use keyframes::{KeyframeCheck, KeyframeUse, SeqTime};
pub use options::ReplayOptions;
pub(crate) use pae::LEVEL as PAE_LEVEL;
pub use pae::Pdptes;
pub use page::{PageInfo, ShadowPage};
pub(crate) use tables::RMAP_RECYCLE_THRESHOLD;
pub use tables::{MAX_LEVEL, ShadowTables, Totals, Touched};
pub use unchanged::is_unchanged;
pub use vm::{CurrentRoot, VmReplay};
pub use walk::{
    LOWEST_ROOT, MAX_RUNS, Mapping, Ranges, RangesOf, Roots, Run, Step, Walk, canonical, first_gva,
};

/// The shadow tables of every VM.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    options: ReplayOptions,
    vms: BTreeMap<VmId, VmReplay>,
}

impl Replay {
    /// Empty tables.
    pub fn new(options: ReplayOptions) -> Self {
        Self {
            options,
            vms: BTreeMap::new(),
        }
    }

    /// Applies the next record.
    pub fn apply(&mut self, record: &Record) {
        let options = self.options;
        self.vms
            .entry(record.vm())
            .or_insert_with(|| VmReplay::new(options))
            .apply(record);
    }

    /// One VM, if a record named it.
    pub fn vm(&self, vm: VmId) -> Option<&VmReplay> {
        self.vms.get(&vm)
    }

    /// One VM and nothing else, if a record named it.
    pub fn into_vm(mut self, vm: VmId) -> Option<VmReplay> {
        self.vms.remove(&vm)
    }

    /// Every VM that a record named.
    pub fn vms(&self) -> impl Iterator<Item = (VmId, &VmReplay)> {
        self.vms.iter().map(|(vm, replay)| (*vm, replay))
    }
}
