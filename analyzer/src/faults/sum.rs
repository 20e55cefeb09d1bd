//! What some faults add up to.

use std::collections::BTreeMap;

use events::{Class, Seq, TimeNs};
use serde::Serialize;
use trace::{FaultRow, Slot};

/// The sum of numbers that a trace claims: at most the highest, since it may claim any.
pub(crate) fn total(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

/// What the column `switched out` holds, and what it does to the order. One sentence wherever there
/// is such a column, so that it is printed once.
pub const SWITCHED_OUT: &str = "switched out: of that time, faults whose thread was switched out \
                                meanwhile, which holds other work; order and shares are those \
                                of the rest";

/// A record, by the number that `explain --seq` takes, and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Seen {
    /// Its number.
    pub seq: Seq,
    /// When, on the trace's clock.
    pub time_ns: TimeNs,
}

/// The fault that took longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Worst {
    /// How long, ns.
    pub ns: u64,
    /// Its number; the first of equal ones.
    pub seq: Seq,
}

impl Worst {
    /// Makes the slower of two the worst, the first of equal ones.
    pub fn add(worst: &mut Option<Self>, other: Self) {
        if worst.is_none_or(|worst| (worst.ns, other.seq) < (other.ns, worst.seq)) {
            *worst = Some(other);
        }
    }
}

/// What the faults of one key add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// How long they took together, ns.
    pub total_ns: u64,
    /// Of that, those whose thread was switched out meanwhile: other work is in it.
    pub switched_out_ns: u64,
    /// The one that took longest; absent without any.
    pub worst: Option<Worst>,
    /// First and last of them, by number.
    pub seen: Option<[Seen; 2]>,
    /// Faults by class, in the order of [`Class::ALL`].
    by_class: [u64; Class::ALL.len()],
    /// Lowest and highest memslot of their frames.
    pub slots: Option<[Slot; 2]>,
}

impl Sum {
    /// One fault.
    pub fn of_fault(row: &FaultRow) -> Self {
        let mut sum = Self::default();
        sum.add_fault(row);
        sum
    }

    /// Adds a fault.
    pub fn add_fault(&mut self, row: &FaultRow) {
        let (ns, seq) = (row.total_ns, row.seq);
        self.count = self.count.saturating_add(1);
        self.total_ns = self.total_ns.saturating_add(ns);
        self.switched_out_ns = self.switched_out_ns.saturating_add(switched_out_ns(row));
        Worst::add(&mut self.worst, Worst { ns, seq });
        let this = Seen {
            seq,
            time_ns: row.time_ns,
        };
        self.add_seen([this; 2]);
        if let Some(class) = self.by_class.get_mut(place(row.class)) {
            *class = class.saturating_add(1);
        }
        if let Some(slot) = row.slot {
            self.add_slots([slot; 2]);
        }
    }

    /// The time of the others, whose threads were not switched out: what an order goes by.
    pub fn own_ns(&self) -> u64 {
        self.total_ns.saturating_sub(self.switched_out_ns)
    }

    fn add_seen(&mut self, [first, last]: [Seen; 2]) {
        let [a, b] = self.seen.unwrap_or([first, last]);
        self.seen = Some([a.min(first), b.max(last)]);
    }

    fn add_slots(&mut self, [lowest, highest]: [Slot; 2]) {
        let [a, b] = self.slots.unwrap_or([lowest, highest]);
        self.slots = Some([a.min(lowest), b.max(highest)]);
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.switched_out_ns = self.switched_out_ns.saturating_add(other.switched_out_ns);
        if let Some(worst) = other.worst {
            Worst::add(&mut self.worst, worst);
        }
        if let Some(seen) = other.seen {
            self.add_seen(seen);
        }
        for (mine, theirs) in self.by_class.iter_mut().zip(other.by_class) {
            *mine = mine.saturating_add(theirs);
        }
        if let Some(slots) = other.slots {
            self.add_slots(slots);
        }
    }

    /// Faults of a class.
    pub fn of_class(&self, class: Class) -> u64 {
        self.by_class.get(place(class)).copied().unwrap_or_default()
    }

    /// Faults by class, without the classes that have none.
    pub fn classes(&self) -> BTreeMap<&'static str, u64> {
        let names = Class::ALL.iter().map(|class| class.name());
        let classes = names.zip(self.by_class);
        classes.filter(|(_, count)| *count > 0).collect()
    }
}

/// The time of a fault whose thread was switched out meanwhile; zero of any other.
pub fn switched_out_ns(row: &FaultRow) -> u64 {
    row.total_ns - own_time_ns(row).unwrap_or(0)
}

/// The time of a fault, ns; absent where its thread was switched out, so that it holds other work.
pub fn own_time_ns(row: &FaultRow) -> Option<u64> {
    match row.switches {
        Some(1..) => None,
        _ => Some(row.total_ns),
    }
}

/// Time of faults, ns: of all, and of those whose thread was switched out meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paid {
    /// Of all.
    pub total_ns: u64,
    /// Of those whose time holds other work.
    pub switched_out_ns: u64,
}

impl Paid {
    /// One more fault.
    pub fn add(&mut self, row: &FaultRow) {
        self.add_all(Self {
            total_ns: row.total_ns,
            switched_out_ns: switched_out_ns(row),
        });
    }

    /// What others paid.
    pub fn add_all(&mut self, other: Self) {
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.switched_out_ns = self.switched_out_ns.saturating_add(other.switched_out_ns);
    }

    /// Without those whose time holds other work: what an order goes by.
    pub fn own_ns(&self) -> u64 {
        self.total_ns.saturating_sub(self.switched_out_ns)
    }
}

/// Index of a class.
fn place(class: Class) -> usize {
    // Numbers begin with 1, and none is left out.
    (class as usize).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_place() {
        for (index, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(place(class), index);
        }
    }

    #[test]
    fn the_first_of_equally_slow_faults_is_the_worst() {
        let fault = |seq, ns| Sum {
            count: 1,
            total_ns: ns,
            worst: Some(Worst { ns, seq: Seq(seq) }),
            ..Sum::default()
        };
        let mut sum = fault(3, 10);
        for (seq, ns) in [(1, 10), (2, 9), (7, 10)] {
            sum.add(&fault(seq, ns));
        }
        assert_eq!((sum.count, sum.total_ns), (4, 39));
        let worst = Worst {
            ns: 10,
            seq: Seq(1),
        };
        assert_eq!(sum.worst, Some(worst));
    }
}
