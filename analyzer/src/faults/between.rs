//! The time from one fault of a vCPU to its next one, whose shortest bound what a world switch takes.

use std::collections::BTreeMap;

use events::VcpuId;
use serde::Serialize;
use trace::FaultRow;

use super::Times;

/// The time between faults of the same vCPU.
///
/// A guest that faults again at once shows the world switches around a fault, into the guest and
/// out of it, and little else. So a low percentile is what they take at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BetweenFaults {
    /// How many pairs of faults.
    pub count: u64,
    /// 5th percentile, ns; absent of fewer than 20 pairs.
    pub p5_ns: Option<u64>,
    /// Median, ns.
    pub p50_ns: u64,
    /// From re-entry to the next exit, so without KVM's own work. False: from the last moment seen
    /// to the first, with what KVM does outside of the probes.
    pub from_entry_to_exit: bool,
}

/// Gathers them.
#[derive(Clone, Debug, Default)]
pub struct Between {
    /// When the last fault of each vCPU ended, and whether that was its re-entry.
    last: BTreeMap<VcpuId, (u64, bool)>,
    in_guest: Times,
    others: Times,
}

impl Between {
    /// Adds a fault.
    pub fn fault(&mut self, row: &FaultRow) {
        let end = row.time_ns.0.saturating_add(row.total_ns);
        let this = (end, row.entry_ns.is_some());
        let before = self.last.insert(row.vcpu, this);
        let gap = before.and_then(|(end, enters)| {
            let ns = row.time_ns.0.checked_sub(end)?;
            Some((ns, enters && row.exit_ns.is_some()))
        });
        let Some((ns, in_guest)) = gap else { return };
        let to = if in_guest {
            &mut self.in_guest
        } else {
            &mut self.others
        };
        // The longest are not asked for.
        to.add(ns.min(u32::MAX.into()), ());
    }

    /// Those within the guest, where there are any; `None` without two faults of a vCPU.
    pub fn finish(self) -> Option<BetweenFaults> {
        let from_entry_to_exit = self.in_guest.count() > 0;
        let mut times = if from_entry_to_exit {
            self.in_guest
        } else {
            self.others
        };
        times.finish();
        (times.count() > 0).then(|| BetweenFaults {
            count: times.count(),
            p5_ns: times.percentile(5),
            p50_ns: times.quantile(0.5),
            from_entry_to_exit,
        })
    }
}

#[cfg(test)]
mod tests {
    use events::{Seq, TimeNs};

    use super::*;
    use crate::replay::blank_fault;

    fn fault(vcpu: u16, time_ns: u64, total_ns: u64) -> FaultRow {
        FaultRow {
            vcpu: VcpuId(vcpu),
            time_ns: TimeNs(time_ns),
            total_ns,
            ..blank_fault(Seq(0))
        }
    }

    fn between(faults: &[FaultRow]) -> Option<BetweenFaults> {
        let mut between = Between::default();
        for row in faults {
            between.fault(row);
        }
        between.finish()
    }

    #[test]
    fn each_vcpu_has_its_own_faults() {
        let faults = [
            fault(0, 100, 20),
            fault(1, 110, 50),
            fault(0, 130, 5),
            fault(1, 260, 1),
            fault(0, 2135, 1),
        ];
        let found = between(&faults).expect("three pairs");
        assert_eq!((found.count, found.p5_ns, found.p50_ns), (3, None, 100));
        assert!(!found.from_entry_to_exit);
        assert_eq!(between(&faults[..2]), None);
    }

    #[test]
    fn from_entry_to_exit_where_both_are_seen() {
        let seen = |time_ns| FaultRow {
            exit_ns: Some(1),
            entry_ns: Some(1),
            ..fault(0, time_ns, 10)
        };
        // The third ends before its re-entry was seen.
        let unseen = fault(0, 200, 1);
        let found = between(&[seen(100), seen(150), unseen, seen(203)]).expect("pairs");
        assert_eq!((found.count, found.p50_ns), (1, 40));
        assert!(found.from_entry_to_exit);
    }

    #[test]
    fn times_that_overlap_are_left_out() {
        assert_eq!(between(&[fault(0, 100, 50), fault(0, 120, 5)]), None);
    }
}
