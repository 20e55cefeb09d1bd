//! The sums of several traces.

use std::collections::BTreeMap;

use serde::Serialize;
use trace::Trace;

use crate::{
    faults::{ClassCost, FaultStep, total},
    refaults::CauseBill,
    study::Study,
    summary::Summary,
    verdict,
};

/// What `summary --json` prints of several traces.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Fleet {
    /// The traces that were read.
    pub traces: Vec<TraceLine>,
    /// Those that could not be.
    pub not_read: Vec<NotRead>,
    /// VMs.
    pub vms: u64,
    /// Records.
    pub records: u64,
    /// Records known to be missing.
    pub lost_records: u64,
    /// Faults.
    pub faults: u64,
    /// Traces whose times are added up: those of real machines, or all of them where all are of
    /// emulated CPUs.
    pub timed_traces: u64,
    /// Of those, the runs of the VMs together, ns; absent where one does not have it.
    pub run_ns: Option<u64>,
    /// Of those, the time in faults, ns.
    pub faults_ns: u64,
    /// By class.
    pub classes: BTreeMap<&'static str, MergedClass>,
    /// Entries that changed other than the leaves of faults, by cause.
    pub entries: BTreeMap<&'static str, u64>,
    /// Why addresses faulted again.
    pub refaults: BTreeMap<&'static str, MergedCause>,
}

/// One trace.
#[derive(Clone, Debug, Serialize)]
pub struct TraceLine {
    /// Its folder.
    pub trace: String,
    /// When it was recorded, s of the Unix epoch.
    pub started_unix_s: u64,
    /// Whether `verify` passes.
    pub exact: bool,
    /// Why it is not, in words; empty if it is.
    pub why: String,
    /// Whether its times are those of an emulated CPU.
    pub emulated: bool,
    /// Why reading ended early, if it did: what comes after is in no sum.
    pub damage: Option<String>,
    /// VMs.
    pub vms: u64,
    /// Records.
    pub records: u64,
    /// Records known to be missing.
    pub lost_records: u64,
    /// Faults.
    pub faults: u64,
    /// The runs of its VMs together, ns; absent where one has none.
    pub run_ns: Option<u64>,
    /// Their time in faults, ns.
    pub faults_ns: u64,
    #[serde(skip)]
    classes: Vec<(&'static str, ClassCost)>,
    #[serde(skip)]
    refaults: Vec<CauseBill>,
}

/// A trace that could not be read.
#[derive(Clone, Debug, Serialize)]
pub struct NotRead {
    /// Its folder.
    pub trace: String,
    /// Why.
    pub why: String,
}

/// One class of fault in all traces.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MergedClass {
    /// Faults, of all traces.
    pub count: u64,
    /// Faults whose times are added up.
    pub timed: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// The lowest and the highest median of a VM, ns.
    pub p50_ns: Option<[u64; 2]>,
    /// The longest, ns.
    pub max_ns: u64,
    /// The trace that has it.
    pub max_trace: Option<String>,
    /// Time in each step that one of the traces shows, in their order.
    pub steps: Vec<MergedStep>,
}

/// A step of a class in all traces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MergedStep {
    /// Its name.
    pub step: &'static str,
    /// Faults that have it: not all platforms show it.
    pub count: u64,
    /// Time in it, ns.
    pub total_ns: u64,
}

/// Refaults of one cause in all traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MergedCause {
    /// How often it removed or weakened entries.
    pub acts: u64,
    /// Entries removed.
    pub entries_removed: u64,
    /// Leaves that lost a right.
    pub entries_weakened: u64,
    /// Faults that came of it.
    pub refaults: u64,
    /// Of them, those whose times are added up.
    pub timed: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// Of `refaults`, those with missing records between the act and the fault.
    pub refaults_over_gap: u64,
}

/// The sum, if all are known.
fn all_of(numbers: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    let known: Option<Vec<u64>> = numbers.collect();
    known.map(|known| total(known.into_iter()))
}

impl Fleet {
    /// Adds a trace that was read. What is added up of its times is known at the end.
    pub fn add(&mut self, trace: &Trace, study: &Study) {
        let summary = Summary::of(trace, study);
        let line = verdict::line(trace, study);
        let runs = summary.vms.iter().map(|vm| vm.run.map(|run| run.total_ns));
        let classes = summary.vms.iter().flat_map(|vm| &vm.classes);
        let refaults = summary.vms.iter().filter_map(|vm| vm.refaults.as_ref());
        let refaults = refaults.flat_map(|refaults| &refaults.causes);
        let classes: Vec<_> = classes.map(|(name, cost)| (*name, cost.clone())).collect();
        self.traces.push(TraceLine {
            trace: summary.trace.clone(),
            started_unix_s: trace.meta().started_unix_s,
            exact: line.good,
            why: if line.good { String::new() } else { line.text },
            emulated: summary.emulated.is_some(),
            damage: summary.damage.clone(),
            vms: summary.vms.len() as u64,
            records: summary.records,
            lost_records: summary.lost.records,
            faults: summary.vms.iter().map(|vm| vm.faults).sum(),
            run_ns: all_of(runs),
            faults_ns: total(classes.iter().map(|(_, cost)| cost.total_ns)),
            classes,
            refaults: refaults.cloned().collect(),
        });
        for (cause, count) in summary.vms.iter().flat_map(|vm| &vm.entries) {
            *self.entries.entry(cause).or_default() += count;
        }
    }

    /// A trace that cannot be read.
    pub fn fail(&mut self, trace: String, why: String) {
        self.not_read.push(NotRead { trace, why });
    }

    /// All were added.
    pub fn finish(&mut self) {
        let real = self.traces.iter().any(|of| !of.emulated);
        let is_timed = |of: &TraceLine| !(real && of.emulated);
        for of in &self.traces {
            self.vms += of.vms;
            self.records += of.records;
            self.lost_records = self.lost_records.saturating_add(of.lost_records);
            self.faults += of.faults;
            for (class, cost) in &of.classes {
                let merged = self.classes.entry(class).or_default();
                merged.add(cost, is_timed(of).then_some(of.trace.as_str()));
            }
            for bill in &of.refaults {
                let merged = self.refaults.entry(bill.cause.name()).or_default();
                merged.add(bill, is_timed(of));
            }
        }
        let timed: Vec<_> = self.traces.iter().filter(|of| is_timed(of)).collect();
        self.timed_traces = timed.len() as u64;
        self.run_ns = all_of(timed.iter().map(|of| of.run_ns));
        self.faults_ns = total(timed.iter().map(|of| of.faults_ns));
    }

    /// Whether all of all traces is in the sums.
    pub fn is_whole(&self) -> bool {
        self.not_read.is_empty() && self.traces.iter().all(|of| of.damage.is_none())
    }
}

impl MergedClass {
    /// `trace`: where its times count.
    fn add(&mut self, cost: &ClassCost, trace: Option<&str>) {
        self.count += cost.count;
        let Some(trace) = trace else { return };
        self.timed += cost.count;
        self.total_ns += cost.total_ns;
        let [low, high] = self.p50_ns.unwrap_or([cost.p50_ns; 2]);
        self.p50_ns = Some([low.min(cost.p50_ns), high.max(cost.p50_ns)]);
        if self.max_trace.is_none() || cost.max_ns > self.max_ns {
            self.max_ns = cost.max_ns;
            self.max_trace = Some(trace.to_owned());
        }
        for step in &cost.steps {
            let name = step.step.name();
            match self.steps.iter_mut().find(|of| of.step == name) {
                Some(of) => {
                    of.count += step.count;
                    of.total_ns += step.total_ns;
                }
                None => self.steps.push(MergedStep {
                    step: name,
                    count: step.count,
                    total_ns: step.total_ns,
                }),
            }
        }
        let place = |of: &MergedStep| {
            FaultStep::ALL
                .iter()
                .position(|step| step.name() == of.step)
        };
        self.steps.sort_by_key(place);
    }
}

impl MergedCause {
    fn add(&mut self, bill: &CauseBill, timed: bool) {
        self.acts += bill.acts;
        self.entries_removed += bill.entries_removed;
        self.entries_weakened += bill.entries_weakened;
        self.refaults += bill.refaults;
        if timed {
            self.timed += bill.refaults;
            self.total_ns += bill.total_ns;
        }
        self.refaults_over_gap += bill.refaults_over_gap;
    }
}
