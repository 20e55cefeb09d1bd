//! Acts of the host that have their record after what they did.
//!
//! Where functions cannot be hooked, the VMM records an act once it is done. A fault of a vCPU
//! meanwhile finds its entry gone or without W. It waits here for the record: the next act of that
//! kind on the memslot.

use std::collections::VecDeque;

use events::{HostEvent, Hpa, VcpuId};
use trace::{FaultRow, HostRow};

use super::{
    Refaults,
    act::ActId,
    threads::{Kind, covers},
};

/// Longest time from the fault to the record of the act. The VMM stops the vCPUs to write it.
const MOST_NS: u64 = 1_000_000_000;
/// How long before a fault's first moment its page was missing, where the exit to KVM is not seen.
const EXIT_NS: u64 = 20_000;
/// Faults or stores that are remembered at most.
const MOST: usize = 4096;

/// What waits for the record of an act.
#[derive(Clone, Debug, Default)]
pub(super) struct Late {
    faults: Vec<FaultRow>,
    stores: VecDeque<Stored>,
}

/// The kind of act that a fault can have come of.
fn kind(row: &FaultRow) -> Kind {
    match row.error_code.is_present() {
        true => Kind::Dirty,
        false => Kind::Unmap,
    }
}

/// A leaf, and when which vCPU had stored it.
#[derive(Clone, Copy, Debug)]
struct Stored {
    place: Hpa,
    vcpu: Option<VcpuId>,
    time: u64,
}

impl Refaults {
    /// A vCPU has stored a leaf.
    pub(super) fn stores(&mut self, place: Hpa, vcpu: Option<VcpuId>, time: u64) {
        if self.threads.len() < 2 {
            return;
        }
        if self.late.stores.len() == MOST {
            self.late.stores.pop_front();
        }
        self.late.stores.push_back(Stored { place, vcpu, time });
    }

    /// Whether another vCPU stored the leaf of a fault after the fault had begun. No TLB keeps a
    /// page that is not present: it was missing when the CPU left the guest.
    pub(super) fn was_overtaken(&self, row: &FaultRow) -> bool {
        let exit = match row.exit_ns {
            None if !row.error_code.is_present() => EXIT_NS,
            _ => 0,
        };
        let begun = row.time_ns.0.saturating_sub(exit);
        let is_it = |of: &Stored| {
            Some(of.place) == row.sptep && of.vcpu != Some(row.vcpu) && of.time >= begun
        };
        self.late.stores.iter().rev().any(is_it)
    }

    /// Keeps a refault whose cause is not seen until the next act of the host; false if none can
    /// be the cause.
    pub(super) fn waits(&mut self, row: &FaultRow, act: Option<ActId>) -> bool {
        let code = row.error_code;
        let may_be = row.slot.is_some() && (!code.is_present() || code.is_write());
        let waits = self.acts_come_late && act.is_none() && may_be && self.late.faults.len() < MOST;
        if waits {
            self.late.faults.push(row.clone());
        }
        waits
    }

    /// The record of an act has come.
    pub(super) fn act_came(&mut self, kind: Kind, row: &HostRow) {
        let comes_late = self.acts_come_late && row.vcpu.is_none();
        if !comes_late || row.event == HostEvent::FlushSlot {
            return;
        }
        let since = row.time_ns.0.saturating_sub(MOST_NS);
        for of in std::mem::take(&mut self.late.faults) {
            let is_old = of.time_ns.0 < since;
            if !is_old && (self::kind(&of) != kind || of.slot != row.slot) {
                self.late.faults.push(of);
                continue;
            }
            let gfn = of.gpa.map(|gpa| gpa.gfn());
            let act = match !is_old && gfn.is_some() && covers(row, gfn) {
                true => self.opened(row.vcpu, kind),
                false => None,
            };
            self.ends_wait(&of, act);
        }
    }

    /// No more records come.
    pub(super) fn end_waits(&mut self) {
        for of in std::mem::take(&mut self.late.faults) {
            self.ends_wait(&of, None);
        }
    }

    /// A refault came of `act`, which has no other record of the entry, or of what is not seen.
    fn ends_wait(&mut self, row: &FaultRow, act: Option<ActId>) {
        if let Some((act, bill)) = act.and_then(|act| self.bill_mut(act)) {
            bill.acts += u64::from(act.is_idle());
            if kind(row) == Kind::Dirty {
                act.weakened = act.weakened.saturating_add(1);
                bill.weakened += 1;
            } else {
                act.removed = act.removed.saturating_add(1);
                bill.removed += 1;
            }
        }
        self.add_refault(act, row);
    }
}
