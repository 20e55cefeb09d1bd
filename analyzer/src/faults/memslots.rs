//! The memslots of a VM over time, by their ids.

use events::TimeNs;
use trace::{FaultRow, Memslot, Slot, VmMeta};

/// Earlier memslots of the same id that are looked at. A slot has one memslot at a time, so that
/// the first or the second is the one; bounds the work that a trace takes.
const MOST: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Memslots(Vec<Memslot>);

impl Memslots {
    /// Those of the metadata, in the order of their ids, then of their beginnings.
    pub fn of(vm: &VmMeta) -> Self {
        let mut slots = vm.memslots.clone();
        slots.sort_by_key(|slot| (slot.slot, slot.from_ns));
        Self(slots)
    }

    /// What a slot was at a time, the latest first: several, if the recorder noted an end late.
    pub fn at(&self, slot: Slot, time: TimeNs) -> impl Iterator<Item = &Memslot> {
        let begun = |of: &Memslot| (of.slot, of.from_ns) <= (slot.0, time.0);
        let begun = self.0.get(..self.0.partition_point(begun));
        let own = begun.unwrap_or_default().iter().rev().take(MOST);
        own.take_while(move |of| of.slot == slot.0)
            .filter(move |of| of.until_ns.is_none_or(|until| time.0 <= until))
    }

    /// The memslot that a fault names, as it was then.
    pub fn of_fault(&self, row: &FaultRow) -> Option<&Memslot> {
        let gpa = row.gpa?;
        let holds = |of: &&Memslot| {
            let offset = gpa.0.checked_sub(of.gpa);
            offset.is_some_and(|offset| offset < of.bytes)
        };
        self.at(row.slot?, row.time_ns).find(holds)
    }
}

#[cfg(test)]
mod tests {
    use events::{Gpa, Seq};

    use super::*;
    use crate::replay::blank_fault;

    #[test]
    fn a_fault_has_the_memslot_of_its_time() {
        let slot = |slot, gpa, from_ns, until_ns| Memslot {
            slot,
            gpa,
            bytes: 0x2000,
            hva: 0x7000_0000 + from_ns,
            from_ns,
            until_ns,
        };
        let slots = Memslots::of(&VmMeta {
            memslots: vec![
                slot(2, 0x1000, 0, None),
                slot(1, 0x5000, 100, None),
                slot(1, 0x1000, 0, Some(110)),
            ],
            ..VmMeta::default()
        });
        let of = |slot, gpa, time| {
            let row = FaultRow {
                slot: Some(Slot(slot)),
                gpa: Some(Gpa(gpa)),
                time_ns: TimeNs(time),
                ..blank_fault(Seq(0))
            };
            slots.of_fault(&row).map(|slot| slot.hva - 0x7000_0000)
        };
        assert_eq!(of(1, 0x1fff, 50), Some(0));
        assert_eq!(of(1, 0x1fff, 105), Some(0), "it may not have ended yet");
        assert_eq!(of(1, 0x1fff, 111), None);
        assert_eq!(of(1, 0x6fff, 105), Some(100));
        assert_eq!(of(1, 0x7000, 105), None);
        assert_eq!(of(2, 0x1000, 5_000), Some(0));
        assert_eq!(of(3, 0x1000, 5_000), None);
    }
}
