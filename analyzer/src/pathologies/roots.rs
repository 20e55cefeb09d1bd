//! Roots that are built anew at each switch.

use std::collections::BTreeMap;

use events::{Class, Gpa, Seq, VcpuId};
use trace::{FaultRow, RootRow};

use super::{Culprit, Finding, Pathology};
use crate::{
    faults::Paid,
    replay::{AddressMap, VmReplay},
};

/// Switches that find a new root, see [`Pathology::threshold`].
pub(super) const REBUILT: u64 = 8;
/// Address spaces followed, 40 bytes each. Bounds a hostile trace.
const MAX_SPACES: usize = 1 << 16;

/// The switches to one CR3.
#[derive(Clone, Copy, Debug)]
struct Space {
    /// Switches after the first.
    switches: u64,
    rebuilt: u64,
    /// The latest switch.
    seen: Seq,
    /// The switch with the costliest new root, and the time of its faults, ns.
    worst: (Seq, u64),
    /// The faults on new roots.
    paid: Paid,
}

/// A new root in use.
#[derive(Clone, Copy, Debug)]
struct New {
    cr3: Gpa,
    /// The switch that found it.
    switch: Seq,
    /// The faults on it so far.
    paid: Paid,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Roots {
    spaces: AddressMap<Gpa, Space>,
    /// vCPUs whose latest switch found a new root.
    on_new: BTreeMap<VcpuId, New>,
}

impl Roots {
    pub(super) fn root(&mut self, row: &RootRow, vm: &VmReplay) {
        if row.keyframe.is_some() {
            return;
        }
        self.on_new.remove(&row.vcpu);
        // A PAE root is no shadow page: it is not known when it was made.
        let Some(page) = vm.tables().page(row.root.table()) else {
            return;
        };
        let is_full = self.spaces.len() >= MAX_SPACES;
        match self.spaces.get_mut(&row.cr3) {
            Some(space) => {
                space.switches += 1;
                if page.since > space.seen {
                    space.rebuilt += 1;
                    let new = New {
                        cr3: row.cr3,
                        switch: row.seq,
                        paid: Paid::default(),
                    };
                    if space.rebuilt == 1 {
                        space.worst = (row.seq, 0);
                    }
                    self.on_new.insert(row.vcpu, new);
                }
                space.seen = row.seq;
            }
            None if !is_full => {
                let space = Space {
                    switches: 0,
                    rebuilt: 0,
                    seen: row.seq,
                    worst: (row.seq, 0),
                    paid: Paid::default(),
                };
                self.spaces.insert(row.cr3, space);
            }
            None => {}
        }
    }

    /// Until the next switch, a fault on a new root is a cost of it: those that need no entry are not.
    pub(super) fn fault(&mut self, row: &FaultRow) {
        if self.on_new.is_empty() || matches!(row.class, Class::Guest | Class::Mmio) {
            return;
        }
        let Some(new) = self.on_new.get_mut(&row.vcpu) else {
            return;
        };
        if let Some(space) = self.spaces.get_mut(&new.cr3) {
            space.paid.add(row);
            new.paid.add(row);
            if new.paid.own_ns() > space.worst.1 {
                space.worst = (new.switch, new.paid.own_ns());
            }
        }
    }

    pub(super) fn finding(&self) -> Option<Finding> {
        let spaces = || {
            let spaces = self.spaces.iter();
            spaces.filter(|(_, of)| of.rebuilt >= REBUILT && of.rebuilt * 2 >= of.switches)
        };
        let key = |(cr3, space): &(&Gpa, &Space)| (space.rebuilt, std::cmp::Reverse(cr3.0));
        let (cr3, worst) = spaces().max_by_key(key)?;
        let mut paid = Paid::default();
        spaces().for_each(|(_, space)| paid.add_all(space.paid));
        Some(Finding {
            size: spaces().map(|(_, space)| space.rebuilt).sum(),
            culprit: Culprit {
                cr3: Some(*cr3),
                ..Culprit::default()
            },
            ..Finding::new(
                Pathology::RootsRebuilt,
                spaces().count() as u64,
                worst.worst.0,
            )
            .paid(paid)
        })
    }
}
