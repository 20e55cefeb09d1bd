//! When the host took frames away, as far as entries show it: what can make a fault be given up.

use std::collections::{BTreeMap, VecDeque};

use events::{Cause, TimeNs, VcpuId};
use trace::{EntryRow, FaultRow, Record};

use crate::explain::facts::Invalidation;

/// The latest ones are enough: a fault is short.
const MAX: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(in crate::explain) struct Invalidations {
    /// The latest moment known of each vCPU's thread.
    last: BTreeMap<VcpuId, TimeNs>,
    recent: VecDeque<Invalidation>,
}

impl Invalidations {
    /// Takes the next record of the VM.
    pub fn see(&mut self, record: &Record) {
        match record {
            Record::Fault(row) => self.alive(row.vcpu, end_of(row)),
            Record::Entry(row) => self.entry(row),
            Record::Page(row) => self.thread(row.vcpu, row.time_ns),
            Record::Root(row) => self.alive(row.vcpu, row.time_ns),
            Record::Write(row) => self.alive(row.vcpu, row.time_ns),
            Record::Host(row) => self.thread(row.vcpu, row.time_ns),
            Record::Act(row) => self.thread(row.vcpu, row.time_ns),
            Record::Mark(_) | Record::Keyframe(_) | Record::Loss(_) => {}
        }
    }

    fn entry(&mut self, row: &EntryRow) {
        let Some(vcpu) = row.vcpu else { return };
        // Without its old value it was found by reading the entry again, at the thread's next event:
        // it came in between. Of a thread that was not seen before, nothing is known.
        let from = match row.old {
            Some(_) => Some(row.time_ns),
            None => self.last.get(&vcpu).copied(),
        };
        if row.cause == Cause::HostUnmap
            && let Some(from) = from
        {
            if self.recent.len() == MAX {
                self.recent.pop_front();
            }
            self.recent.push_back(Invalidation {
                seq: row.seq,
                vcpu,
                from_ns: from.min(row.time_ns),
                until_ns: row.time_ns,
            });
        }
        self.alive(vcpu, row.time_ns);
    }

    fn thread(&mut self, vcpu: Option<VcpuId>, time: TimeNs) {
        if let Some(vcpu) = vcpu {
            self.alive(vcpu, time);
        }
    }

    fn alive(&mut self, vcpu: VcpuId, time: TimeNs) {
        let last = self.last.entry(vcpu).or_default();
        *last = (*last).max(time);
    }

    /// One on the thread of the fault, after the fault had begun: KVM's own lookup led to it.
    pub fn within(&self, row: &FaultRow) -> Option<&Invalidation> {
        let exit = row.exit_ns.unwrap_or_default();
        let begun = row.time_ns.0.saturating_add(exit);
        let mut latest = self.recent.iter().rev();
        latest.find(|of| of.vcpu == row.vcpu && of.until_ns.0 > begun && of.seq < row.seq)
    }

    /// One of another vCPU that may have come during the fault.
    pub fn beside(&self, row: &FaultRow) -> Option<&Invalidation> {
        let during = |of: &Invalidation| of.from_ns <= end_of(row) && of.until_ns >= row.time_ns;
        let mut latest = self.recent.iter().rev();
        latest.find(|of| of.vcpu != row.vcpu && during(of))
    }
}

fn end_of(row: &FaultRow) -> TimeNs {
    TimeNs(row.time_ns.0.saturating_add(row.total_ns))
}

#[cfg(test)]
mod tests {
    use events::{Class, Hpa, Level, Seq, Spte, VmId};

    use super::*;
    use crate::replay::blank_fault;

    fn fault(seq: u64, time: u64, vcpu: u16) -> FaultRow {
        FaultRow {
            time_ns: TimeNs(time),
            vcpu: VcpuId(vcpu),
            class: Class::Retried,
            total_ns: 10,
            ..blank_fault(Seq(seq))
        }
    }

    fn unmapped(seq: u64, time: u64, vcpu: u16) -> Record {
        Record::Entry(EntryRow {
            seq: Seq(seq),
            time_ns: TimeNs(time),
            vm: VmId(0),
            vcpu: Some(VcpuId(vcpu)),
            cause: Cause::HostUnmap,
            sptep: Hpa(0x1000),
            spte: Spte(0),
            old: None,
            level: Level(1),
            gfn: None,
        })
    }

    #[test]
    fn one_on_the_faults_own_thread_came_after_the_fault_had_begun() {
        let mut seen = Invalidations::default();
        seen.see(&Record::Fault(fault(0, 20, 0)));
        seen.see(&unmapped(1, 100, 0));
        assert_eq!(seen.within(&fault(2, 100, 0)), None, "it came before");
        let found = seen.within(&fault(2, 95, 0)).map(|of| of.seq);
        assert_eq!(found, Some(Seq(1)));
        let exited = FaultRow {
            exit_ns: Some(5),
            ..fault(2, 95, 0)
        };
        assert_eq!(seen.within(&exited), None, "before the fault's walk");
        assert_eq!(seen.within(&fault(2, 95, 1)), None, "another thread's");
        assert_eq!(seen.within(&fault(0, 95, 0)), None, "a later record");
    }

    #[test]
    fn one_of_another_vcpu_may_have_come_meanwhile_where_its_thread_was_not_seen() {
        let mut seen = Invalidations::default();
        seen.see(&Record::Fault(fault(0, 40, 1)));
        seen.see(&unmapped(1, 100, 1));
        for (time, meanwhile) in [
            (39, false),
            (40, true),
            (70, true),
            (100, true),
            (101, false),
        ] {
            let found = seen.beside(&fault(2, time, 0)).is_some();
            let ends = time + 10;
            assert_eq!(found, meanwhile || (ends >= 50 && time <= 100), "at {time}");
        }
        assert_eq!(seen.beside(&fault(2, 70, 1)), None, "its own thread");
        let mut seen = Invalidations::default();
        seen.see(&unmapped(1, 100, 1));
        assert_eq!(seen.beside(&fault(2, 70, 0)), None, "when is not known");
    }
}
