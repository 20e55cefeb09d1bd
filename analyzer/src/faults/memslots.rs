//! The memslots of a VM over time, by their ids.

use events::{Gpa, TimeNs};
use trace::{FaultRow, Memslot, Slot, VmMeta};

/// Earlier memslots of the same id that are looked at. A slot has one memslot at a time, so that
/// the first or the second is the one; bounds the work that a trace takes.
const MOST: usize = 64;

/// When memslots changed from one look at them to the next: one that was the same at both may have
/// moved away and back.
#[derive(Clone, Debug, Default)]
struct Changed(Vec<[u64; 2]>);

impl Changed {
    fn of(vm: &VmMeta) -> Self {
        let mut spans = vm.memslots_changed.clone();
        spans.sort_unstable();
        Self(spans)
    }

    /// Whether no memslot is known at a time. The VM was stopped at both looks.
    fn holds(&self, time: TimeNs) -> bool {
        let begun = self.0.partition_point(|[from, _]| *from < time.0);
        let last = self.0.get(..begun).and_then(<[_]>::last);
        last.is_some_and(|[_, until]| time.0 < *until)
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Memslots {
    slots: Vec<Memslot>,
    changed: Changed,
}

impl Memslots {
    /// Those of the metadata, in the order of their ids, then of their beginnings.
    pub fn of(vm: &VmMeta) -> Self {
        let mut slots = vm.memslots.clone();
        slots.sort_by_key(|slot| (slot.slot, slot.from_ns));
        Self {
            slots,
            changed: Changed::of(vm),
        }
    }

    /// Whether memslots changed at about a time, so that none is known.
    pub fn changed(&self, time: TimeNs) -> bool {
        self.changed.holds(time)
    }

    /// What a slot was at a time, the latest first: several, if the recorder noted an end late.
    pub fn at(&self, slot: Slot, time: TimeNs) -> impl Iterator<Item = &Memslot> {
        let begun = |of: &Memslot| (of.slot, of.from_ns) <= (slot.0, time.0);
        let begun = match self.changed(time) {
            true => None,
            false => self.slots.get(..self.slots.partition_point(begun)),
        };
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

/// Ranges of a GPA that are looked at. Memslots of one address space do not overlap: there is one,
/// or there are a few that followed each other; bounds the work that a trace takes.
const RANGES: usize = 16;
/// Memslots of one range that are looked at.
const SAME: usize = 8;

/// Memslots that had the same GPAs, in the order of their beginnings.
#[derive(Clone, Debug)]
struct Range {
    gpa: u64,
    bytes: u64,
    /// Where this range, or one before it, ends last.
    reach: u64,
    memslots: Vec<Memslot>,
}

impl Range {
    fn holds(&self, gpa: Gpa) -> bool {
        gpa.0
            .checked_sub(self.gpa)
            .is_some_and(|offset| offset < self.bytes)
    }
}

/// The memslots of a VM over time, by their GPAs.
#[derive(Clone, Debug, Default)]
pub struct SlotsByGpa {
    ranges: Vec<Range>,
    changed: Changed,
}

impl SlotsByGpa {
    /// Those of the metadata.
    pub fn of(vm: &VmMeta) -> Self {
        let mut all = vm.memslots.clone();
        all.sort_by_key(|of| (of.gpa, of.bytes, of.from_ns));
        let mut ranges: Vec<Range> = Vec::new();
        for of in all {
            let reach = ranges.last().map_or(0, |last| last.reach);
            let reach = reach.max(of.gpa.saturating_add(of.bytes));
            let place = (of.gpa, of.bytes);
            match ranges.last_mut() {
                Some(last) if (last.gpa, last.bytes) == place => last.memslots.push(of),
                _ => ranges.push(Range {
                    gpa: of.gpa,
                    bytes: of.bytes,
                    reach,
                    memslots: vec![of],
                }),
            }
        }
        Self {
            ranges,
            changed: Changed::of(vm),
        }
    }

    /// The memslot that held a GPA at a time, where exactly one did. For faults that KVM ended
    /// before it looked for their memslot.
    pub fn at(&self, gpa: Gpa, time: TimeNs) -> Option<Slot> {
        if self.changed.holds(time) {
            return None;
        }
        let begun = self.ranges.partition_point(|range| range.gpa <= gpa.0);
        let ranges = self.ranges.get(..begun).unwrap_or_default().iter().rev();
        let mut found = None;
        // The last range reaches as far as one before it.
        for (number, range) in ranges.take_while(|range| range.reach > gpa.0).enumerate() {
            if number == RANGES {
                return None;
            }
            if !range.holds(gpa) {
                continue;
            }
            let begun = range.memslots.partition_point(|of| of.from_ns <= time.0);
            let begun = range.memslots.get(..begun).unwrap_or_default();
            let held = |of: &&Memslot| of.until_ns.is_none_or(|until| time.0 <= until);
            for of in begun.iter().rev().take(SAME).filter(held) {
                // Two address spaces (SMM), or a slot that another replaced at about this time.
                if found.is_some_and(|found| found != of.slot) {
                    return None;
                }
                found = Some(of.slot);
            }
        }
        found.map(Slot)
    }
}

#[cfg(test)]
mod tests {
    use events::Seq;

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

    #[test]
    fn what_may_have_moved_away_and_back_is_not_known() {
        let slots = VmMeta {
            memslots: vec![Memslot {
                slot: 1,
                bytes: 0x2000,
                ..Memslot::default()
            }],
            memslots_changed: vec![[50, 60], [10, 20]],
            ..VmMeta::default()
        };
        let known = |time| {
            let by_id = Memslots::of(&slots).at(Slot(1), TimeNs(time)).count();
            let by_gpa = SlotsByGpa::of(&slots).at(Gpa(0x1000), TimeNs(time));
            assert_eq!(by_id == 1, by_gpa == Some(Slot(1)), "{time}");
            by_id == 1
        };
        let times = [0, 10, 11, 19, 20, 40, 55, 60, 100];
        let found = times.map(known);
        let expected = [true, true, false, false, true, true, false, true, true];
        assert_eq!(found, expected);
    }

    /// As each memslot compared one by one says.
    #[test]
    fn a_gpa_has_the_only_memslot_of_its_time() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let memslot = |_| Memslot {
                slot: random.u16(..4),
                gpa: random.u64(..6) * 0x1000,
                bytes: random.u64(1..4) * 0x1000,
                hva: 0,
                from_ns: random.u64(..50),
                until_ns: random.bool().then(|| random.u64(..60)),
            };
            let memslots: Vec<_> = (0..7).map(memslot).collect();
            let slots = SlotsByGpa::of(&VmMeta {
                memslots: memslots.clone(),
                ..VmMeta::default()
            });
            for (gpa, time) in (0..10).flat_map(|page| (0..60).map(move |time| (page << 12, time)))
            {
                let mut held: Vec<_> = memslots
                    .iter()
                    .filter(|of| of.gpa <= gpa && gpa < of.gpa + of.bytes)
                    .filter(|of| {
                        of.from_ns <= time && of.until_ns.is_none_or(|until| time <= until)
                    })
                    .map(|of| of.slot)
                    .collect();
                held.sort_unstable();
                held.dedup();
                let only = match held[..] {
                    [one] => Some(Slot(one)),
                    _ => None,
                };
                assert_eq!(slots.at(Gpa(gpa), TimeNs(time)), only, "{memslots:?}");
            }
        }
    }
}
