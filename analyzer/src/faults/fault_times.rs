//! The times of a VM's faults, gathered while the trace is read once.

use events::{Class, Seq};
use trace::FaultRow;

use super::{FaultStep, Times, own_time_ns};

/// Classes of fault.
pub(super) const CLASSES: usize = Class::ALL.len();

/// The faults of one class.
#[derive(Clone, Debug, Default)]
pub(super) struct OfClass {
    /// Each with the record of the first fault that took so long.
    pub(super) total: Times<Seq>,
    /// Those whose thread was switched out meanwhile.
    pub(super) switched: Times,
    /// Those in the workload's range.
    pub(super) in_range: u64,
    pub(super) in_range_ns: u64,
    /// Empty for a step that no fault of the class has.
    pub(super) steps: [Times; FaultStep::COUNT],
    /// Time in each step of those whose thread was not switched out, ns.
    pub(super) own_steps_ns: [u64; FaultStep::COUNT],
}

/// How many there are of a class, and their time, ns.
pub(super) type CountAndTime = (u64, u64);

/// The faults of one VM, by class.
#[derive(Clone, Debug, Default)]
pub struct FaultTimes {
    /// In the order of [`Class::ALL`].
    pub(super) classes: [OfClass; CLASSES],
    /// Each stretch of faults in one phase.
    pub(super) phases: Vec<(u16, [CountAndTime; CLASSES])>,
    /// Some fault says whether its thread was switched out meanwhile.
    pub(super) knows_switches: bool,
}

/// The numbers of the classes have no hole.
fn place(class: Class) -> usize {
    class as usize - Class::ALL[0] as usize
}

impl FaultTimes {
    /// Adds a fault that happened in the `phase`th phase.
    pub fn add(&mut self, row: &FaultRow, phase: u16, in_range: bool) {
        let (ns, class) = (row.total_ns, place(row.class));
        self.knows_switches |= row.switches.is_some();
        if self.phases.last().is_none_or(|(last, _)| *last != phase) {
            self.phases.push((phase, [(0, 0); CLASSES]));
        }
        let phase = self.phases.last_mut();
        if let Some((count, total_ns)) = phase.and_then(|(_, of)| of.get_mut(class)) {
            *count += 1;
            *total_ns = total_ns.saturating_add(ns);
        }
        let Some(of) = self.classes.get_mut(class) else {
            return;
        };
        of.total.add(ns, row.seq);
        let is_own = own_time_ns(row).is_some();
        if !is_own {
            of.switched.add(ns, ());
        }
        if in_range {
            of.in_range += 1;
            of.in_range_ns = of.in_range_ns.saturating_add(ns);
        }
        let steps = of.steps.iter_mut().zip(&mut of.own_steps_ns);
        for ((times, own_ns), step) in steps.zip(FaultStep::ALL) {
            if let Some(ns) = step.counted(row) {
                times.add(ns, ());
                *own_ns = own_ns.saturating_add(if is_own { ns } else { 0 });
            }
        }
    }

    /// There are no more faults.
    pub fn finish(&mut self) {
        for of in &mut self.classes {
            of.total.finish();
            of.switched.finish();
            of.steps.iter_mut().for_each(Times::finish);
        }
    }

    /// No fault at all.
    pub fn is_empty(&self) -> bool {
        self.phases.is_empty()
    }

    /// Classes that occur, in the order of [`Class::ALL`].
    pub(super) fn classes(&self) -> impl Iterator<Item = (Class, &OfClass)> {
        let classes = Class::ALL.into_iter().zip(&self.classes);
        classes.filter(|(_, of)| of.total.count() > 0)
    }

    /// Every time that faults of a class took, from the shortest on, and how many took it.
    pub fn totals(&self, class: Class) -> impl Iterator<Item = (u64, u64)> {
        let of = self.classes.get(place(class)).into_iter();
        of.flat_map(|of| of.total.each().map(|(ns, count, _)| (ns, count)))
    }

    /// Record of the first fault of a class that took so long.
    pub fn seq(&self, class: Class, total_ns: u64) -> Option<Seq> {
        let (_, first) = self.classes.get(place(class))?.total.of(total_ns)?;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_classes_have_no_hole() {
        assert!((0..).zip(Class::ALL).all(|(at, class)| at == place(class)));
    }
}
