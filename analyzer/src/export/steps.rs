//! Where the steps of a fault lie in time.

use trace::FaultRow;

use crate::faults::{self, FaultStep};

/// A step in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub step: FaultStep,
    /// Its start, ns after the fault's.
    pub from: u64,
    /// Its length, ns.
    pub ns: u64,
    /// Its part that has a name of its own, if one has: the end of it.
    pub part: Option<(FaultStep, u64)>,
}

/// The steps of a fault that the trace has a time for, one after the other.
///
/// Each begins where the one before ends, so the time that none covers is where one is absent: at the
/// start, where KVM did not walk the guest's tables; else before the re-entry, which ends the fault.
/// None where the steps are longer than the fault, which no recorder writes.
pub(super) fn placed(row: &FaultRow) -> Option<Vec<Placed>> {
    let total = row.total_ns;
    let whole = FaultStep::ALL.into_iter();
    let whole = whole.filter(|step| step.part_of().is_none());
    let steps: Vec<_> = whole
        .filter_map(|step| Some((step, step.counted(row)?)))
        .collect();
    let covered = faults::total(steps.iter().map(|(_, ns)| *ns));
    let rest = total.checked_sub(covered)?;
    let mut from = match row.walk_ns {
        Some(_) => 0,
        None => rest,
    };
    let mut placed = Vec::with_capacity(steps.len());
    for (step, ns) in steps {
        if step == FaultStep::Entry {
            from = total - ns;
        }
        placed.push(Placed {
            step,
            from,
            ns,
            part: part(row, step, ns)?,
        });
        from += ns;
    }
    Some(placed)
}

/// The named part of a step; `None` where it is longer than the step.
fn part(row: &FaultRow, whole: FaultStep, ns: u64) -> Option<Option<(FaultStep, u64)>> {
    let mut parts = FaultStep::ALL.into_iter();
    let Some(part) = parts.find(|part| part.part_of() == Some(whole)) else {
        return Some(None);
    };
    match part.of(row) {
        Some(of) if of > ns => None,
        of => Some(of.map(|of| (part, of))),
    }
}

/// When a fault stored its leaf, ns after its start: at the end of the step that does.
pub(super) fn stored(steps: &[Placed]) -> Option<u64> {
    let write = steps.iter().find(|of| of.step == FaultStep::Write)?;
    Some(write.from + write.ns)
}

#[cfg(test)]
mod tests {
    use events::Seq;

    use super::*;
    use crate::replay::blank_fault;

    fn places(row: &FaultRow) -> Option<Vec<(&'static str, u64, u64)>> {
        let placed = placed(row)?.into_iter();
        let place = |of: Placed| (of.step.name(), of.from, of.from + of.ns);
        Some(placed.map(place).collect())
    }

    #[test]
    fn the_time_of_an_absent_step_is_where_it_would_be() {
        let walked = FaultRow {
            total_ns: 100,
            exit_ns: Some(10),
            walk_ns: Some(20),
            entry_ns: Some(30),
            ..blank_fault(Seq(0))
        };
        let expected = vec![("exit", 0, 10), ("walk", 10, 30), ("entry", 70, 100)];
        assert_eq!(places(&walked), Some(expected));
        let direct = FaultRow {
            total_ns: 100,
            hva_ns: Some(5),
            tables_ns: Some(10),
            write_ns: Some(20),
            ..blank_fault(Seq(0))
        };
        let expected = vec![("pfn", 65, 70), ("tables", 70, 80), ("write", 80, 100)];
        assert_eq!(places(&direct), Some(expected));
        assert_eq!(stored(&placed(&direct).unwrap()), Some(100));
    }

    #[test]
    fn steps_longer_than_their_fault_have_no_place() {
        let row = FaultRow {
            total_ns: 10,
            walk_ns: Some(11),
            ..blank_fault(Seq(0))
        };
        assert_eq!(places(&row), None);
        let part = FaultRow {
            total_ns: 10,
            walk_ns: Some(0),
            pfn_ns: Some(2),
            hva_ns: Some(3),
            ..blank_fault(Seq(0))
        };
        assert_eq!(places(&part), None);
    }
}
