//! Acts of the host that have their record after what they did.
//!
//! Where functions cannot be hooked, the VMM records an act once it is done. A fault of a vCPU
//! meanwhile finds its entry gone or without W. It waits here for the record: the next act of that
//! kind on the memslot.

use std::collections::VecDeque;

use events::{Hpa, TimeNs, VcpuId};
use trace::{FaultRow, HostRow, Meta};

use super::{
    Refaults,
    act::{ActId, Effect},
    threads::{Kind, covers},
};

/// Longest time from the fault to the record of the act. The VMM stops the vCPUs to write it.
const MOST_NS: u64 = 1_000_000_000;
/// How long before a fault's first moment its page was missing, where the exit to KVM is not seen.
const EXIT_NS: u64 = 20_000;
/// Faults or stores that are remembered at most.
const MOST: usize = 4096;

/// Whether acts of the host have their record after what they did: those of our own VMM, where
/// functions cannot be hooked.
pub(crate) fn acts_come_late(recording: &Meta) -> bool {
    recording.workload.is_some() && !recording.sees().every_change
}

/// Whether an act whose record comes later can have made a fault necessary.
pub(crate) fn may_wait(fault: &FaultRow) -> bool {
    let code = fault.error_code;
    fault.slot.is_some() && (!code.is_present() || code.is_write())
}

/// Whether a fault came of an act of the host whose record came after it; absent if a later act may
/// be the cause.
pub(crate) fn came_of(fault: &FaultRow, act: &HostRow) -> Option<bool> {
    let kind = Kind::of(act.event)?;
    if act.vcpu.is_some() || kind == Kind::Memslot {
        return None;
    }
    if fault.time_ns.0 < act.time_ns.0.saturating_sub(MOST_NS) {
        return Some(false);
    }
    if self::kind(fault) != kind || fault.slot != act.slot {
        return None;
    }
    let gfn = fault.gpa.map(|gpa| gpa.gfn());
    Some(gfn.is_some() && covers(act, gfn))
}

/// The moment at which a fault found its page missing at the latest.
pub(crate) fn left_guest(fault: &FaultRow) -> TimeNs {
    let exit = match fault.exit_ns {
        None if !fault.error_code.is_present() => EXIT_NS,
        _ => 0,
    };
    TimeNs(fault.time_ns.0.saturating_sub(exit))
}

/// What waits for the record of an act.
#[derive(Clone, Debug, Default)]
pub(super) struct Late {
    faults: Vec<Waiting>,
    stores: VecDeque<Stored>,
}

/// The kind of act that a fault can have come of.
fn kind(row: &FaultRow) -> Kind {
    match row.error_code.is_present() {
        true => Kind::Dirty,
        false => Kind::Unmap,
    }
}

/// A refault, and whether it is counted.
#[derive(Clone, Debug)]
struct Waiting {
    row: FaultRow,
    /// It is in the stretch asked for, and so is what its act removed.
    inside: bool,
    /// It is asked for.
    is_meant: bool,
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
        let begun = left_guest(row);
        let is_it = |of: &Stored| {
            Some(of.place) == row.sptep && of.vcpu != Some(row.vcpu) && of.time >= begun.0
        };
        self.late.stores.iter().rev().any(is_it)
    }

    /// Keeps a refault whose cause is not seen until the next act of the host; false if none can
    /// be the cause.
    pub(super) fn waits(&mut self, row: &FaultRow, act: Option<ActId>) -> bool {
        let has_room = self.late.faults.len() < MOST;
        let waits = self.acts_come_late && act.is_none() && may_wait(row) && has_room;
        if waits {
            self.late.faults.push(Waiting {
                row: row.clone(),
                inside: self.inside,
                is_meant: self.is_meant(row),
            });
        }
        waits
    }

    /// The record of an act has come.
    pub(super) fn act_came(&mut self, kind: Kind, row: &HostRow) {
        for of in std::mem::take(&mut self.late.faults) {
            match came_of(&of.row, row) {
                None => self.late.faults.push(of),
                Some(is_it) => {
                    let act = match is_it {
                        true => self.opened(row.vcpu, kind),
                        false => None,
                    };
                    self.ends_wait(&of, act);
                }
            }
        }
    }

    /// No more records come.
    pub(super) fn end_waits(&mut self) {
        for of in std::mem::take(&mut self.late.faults) {
            self.ends_wait(&of, None);
        }
    }

    /// A refault came of `act`, which has no other record of the entry, or of what is not seen.
    fn ends_wait(&mut self, of: &Waiting, act: Option<ActId>) {
        let effect = match kind(&of.row) {
            Kind::Dirty => Effect::Weakened,
            _ => Effect::Removed,
        };
        if let Some((act, bill)) = act.and_then(|act| self.bill_mut(act)) {
            act.does(effect, bill, of.inside);
        }
        if of.is_meant {
            self.add_refault(act, &of.row);
        }
    }
}
