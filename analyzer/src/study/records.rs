//! What the records of one VM say by themselves, without the tables. It may be read on another
//! thread than replay.

use std::collections::BTreeSet;

use events::{Class, Gva, VcpuId};
use trace::{FaultRow, Record};

use super::Subject;
use crate::{
    faults::{
        Acts, Agreement, Between, BetweenFaults, ClassCost, FaultTimes, PhaseCost, by_class,
        by_phase,
    },
    figures::{HeatMap, KEPT_PHASES},
    top::Top,
};

/// The GVAs that a workload works on.
#[derive(Clone, Copy, Debug)]
struct Range {
    from: u64,
    bytes: u64,
}

/// Costs of the faults and acts of one VM, and its time.
#[derive(Clone, Debug, Default)]
pub struct RecordStudy {
    /// Its vCPUs: those of the metadata, and those that came later.
    pub vcpus: BTreeSet<u16>,
    /// That of the latest record of one: most follow one of the same.
    latest_vcpu: Option<u16>,
    /// Time of its first and last record, ns; absent without any.
    pub seen_ns: Option<[u64; 2]>,
    /// First record to last moment, the end of a fault included; absent without any.
    pub ran_ns: Option<[u64; 2]>,
    /// The time between the faults of each vCPU; absent without two.
    pub between: Option<BetweenFaults>,
    between_so_far: Between,
    /// What KVM did to the tables in one piece.
    pub acts: Acts,
    /// Cost of each class.
    pub costs: Vec<(Class, ClassCost)>,
    /// Cost of each class by phase.
    pub phase_costs: Vec<PhaseCost>,
    /// Its faults.
    pub times: FaultTimes,
    /// Addresses over time.
    pub heat: HeatMap,
    /// Whether the numbers of each fault agree.
    pub agreement: Agreement,
    /// Sums by keys that the fault's record has.
    pub(super) tops: Vec<(usize, Top)>,
    range: Option<Range>,
    phase: u16,
    /// Only whether the numbers of each fault agree, and its vCPUs.
    pub(super) only_checks: bool,
}

impl RecordStudy {
    /// Nothing was read yet.
    pub(super) fn new(subject: &Subject<'_>) -> Self {
        let vm = subject.meta;
        let range = subject
            .recording
            .workload
            .as_ref()
            .filter(|workload| workload.range_pages > 0)
            .map(|workload| Range {
                from: workload.range_gva,
                bytes: workload.range_pages.saturating_mul(4096),
            });
        Self {
            vcpus: vm.map_or_else(BTreeSet::new, |vm| vm.vcpus.iter().copied().collect()),
            acts: Acts::new(subject.recording.sees().acts),
            heat: HeatMap::new(subject.span_ns),
            agreement: Agreement::new(vm),
            range,
            ..Self::default()
        }
    }

    /// The next record.
    pub(super) fn add(&mut self, record: &Record) {
        if let Some(VcpuId(vcpu)) = vcpu(record)
            && self.latest_vcpu.replace(vcpu) != Some(vcpu)
        {
            self.vcpus.insert(vcpu);
        }
        if let Record::Fault(row) = record {
            self.agreement.add(row);
        }
        if self.only_checks {
            return;
        }
        let time = record.time().0;
        let mut end = time;
        match record {
            Record::Fault(row) => {
                end = time.saturating_add(row.total_ns);
                self.fault(row);
            }
            Record::Act(row) => {
                end = time.saturating_add(row.total_ns);
                self.acts.add(row);
            }
            Record::Mark(row) if row.ends_keyframe().is_none() => {
                self.phase = (self.phase + 1).min(KEPT_PHASES);
            }
            _ => {}
        }
        for (_, top) in &mut self.tops {
            top.before(record, None);
            top.after(record, None, None);
        }
        let [first, last] = self.seen_ns.unwrap_or([time; 2]);
        self.seen_ns = Some([first.min(time), last.max(time)]);
        let [first, last] = self.ran_ns.unwrap_or([time, end]);
        self.ran_ns = Some([first.min(time), last.max(end)]);
    }

    /// There are no more records.
    pub(super) fn finish(&mut self) {
        self.times.finish();
        self.costs = by_class(&self.times);
        self.phase_costs = by_phase(&self.times);
        self.between = std::mem::take(&mut self.between_so_far).finish();
        self.heat.finish();
    }

    fn fault(&mut self, row: &FaultRow) {
        self.times.add(row, self.phase, self.is_in_range(row.gva));
        self.between_so_far.fault(row);
        self.heat.fault(row);
        self.acts.fault(row);
    }

    fn is_in_range(&self, gva: Gva) -> bool {
        self.range.is_some_and(|range| {
            gva.0
                .checked_sub(range.from)
                .is_some_and(|offset| offset < range.bytes)
        })
    }

    /// Whether some addresses are in the workload's range.
    pub(super) fn has_range(&self, from: Gva, bytes: u64) -> bool {
        self.range.is_some_and(|range| {
            let end = range.from.saturating_add(range.bytes);
            range.from < from.0.saturating_add(bytes) && from.0 < end
        })
    }
}

/// The vCPU of a record that one made.
fn vcpu(record: &Record) -> Option<VcpuId> {
    match record {
        Record::Fault(row) => Some(row.vcpu),
        Record::Root(row) => Some(row.vcpu),
        Record::Write(row) => Some(row.vcpu),
        Record::Entry(row) => row.vcpu,
        Record::Page(row) => row.vcpu,
        Record::Mark(row) => row.vcpu,
        Record::Host(row) => row.vcpu,
        Record::Act(row) => row.vcpu,
        Record::Keyframe(_) | Record::Loss(_) => None,
    }
}
