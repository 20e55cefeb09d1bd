//! The numbers of a trace: what `summary --json` promises, and the tables that people read.

mod counters;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use events::{Class, Gva};
use serde::Serialize;
use serde_json::Value;
use trace::{Trace, Tried};

use crate::{
    faults::{
        Account, ActCost, BetweenFaults, ClassCost, FaultStep, GuestClock, Reconciled, total,
    },
    figures,
    memory::PeakReport,
    paper::{self, Timed},
    pathologies::Finding,
    refaults::Refaulted,
    replay::{DifferenceKind, Drift, LateKind},
    study::{Exactness, Study, VmStudy},
    text::{
        plain,
        units::{bytes, ns, plural},
    },
    top::{self, Rank},
};

pub use counters::{absent_probes, counters};
pub use tables::{
    Detail, acts, changes, classes, clock, document, late, phases, range, recorded, refaults,
    steps, switched_out, times_of, title,
};

/// What `summary --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The folder.
    pub trace: String,
    /// Whether the recorder ended as it should; if not, the last moments are missing.
    pub complete: bool,
    /// Why reading ended early, if it did.
    pub damage: Option<String>,
    /// What was recorded: the workload's name, or none for VMs found running.
    pub workload: Option<String>,
    /// The CPU that an emulator made up for the host, if one did: then no time means anything.
    pub emulated: Option<String>,
    /// First to last record, ns.
    pub span_ns: u64,
    /// Records read.
    pub records: u64,
    /// Rows on disk by kind.
    pub rows: BTreeMap<String, u64>,
    /// Length of all segments.
    pub bytes: u64,
    /// Length of the segments of `faults` for each fault; absent without faults.
    pub bytes_per_fault: Option<f64>,
    /// What was lost.
    pub lost: Lost,
    /// Drift of all VMs together.
    pub drift: DriftSummary,
    /// Probes of the plan that record nothing, and why.
    pub absent: Vec<Absent>,
    /// The operation that `micro` timed; left out of other workloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro: Option<Timed>,
    /// What differs from the machine of the PVM paper.
    #[serde(skip)]
    pub differs: Vec<String>,
    /// Each VM.
    pub vms: Vec<VmSummary>,
    /// What was recorded, in one line.
    #[serde(skip)]
    pub about: String,
    /// VMs may have come and gone: there are several, shown or not, or they were found running.
    #[serde(skip)]
    pub come_and_go: bool,
}

/// A probe that records nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Absent {
    /// What it would show.
    pub name: String,
    /// Its first choice of a hook.
    pub hook: String,
    /// Why it is not there.
    pub why: String,
    /// Every hook that was tried, and what the kernel said.
    pub tried: Vec<Tried>,
}

/// What was lost.
#[derive(Clone, Debug, Serialize)]
pub struct Lost {
    /// Records known to be missing.
    pub records: u64,
    /// By the probes' own count.
    pub by_probe: BTreeMap<String, u64>,
    /// Stretches of missing sequence numbers.
    pub gaps: u64,
}

/// Drift of some keyframes together.
#[derive(Clone, Debug, Serialize)]
pub struct DriftSummary {
    /// SPTEs that differ.
    pub entries: u64,
    /// Shadow pages that differ.
    pub pages: u64,
    /// Keyframes compared.
    pub keyframes: u64,
    /// Differences by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// SPTEs that differ only in A and D, which hardware sets without a trace; not drift.
    pub accessed_dirty: u64,
    /// SPTEs whose change this host makes no record of; not drift.
    pub late: LateSummary,
}

/// Changes that only a keyframe showed: this host has no event to record them by.
#[derive(Clone, Debug, Serialize)]
pub struct LateSummary {
    /// SPTEs.
    pub entries: u64,
    /// By kind.
    pub kinds: BTreeMap<&'static str, LateKindSummary>,
}

/// Those of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct LateKindSummary {
    /// SPTEs.
    pub entries: u64,
    /// Functions of the kernel that do it.
    pub writers: &'static [&'static str],
    /// Why there is no record of it.
    pub why: &'static str,
}

/// One VM.
#[derive(Clone, Debug, Serialize)]
pub struct VmSummary {
    /// Its number.
    pub vm: u16,
    /// Name of its VMM's process; empty where unknown.
    pub name: String,
    /// That process.
    pub pid: Option<u32>,
    /// Why it ended before the recording did, if it did.
    pub ended: Option<String>,
    /// What distinguishes it from other VMs, in words.
    #[serde(skip)]
    pub about: String,
    /// Ids of its vCPUs, those that came later included.
    pub vcpus: BTreeSet<u16>,
    /// Its first and last record, ns from the start of the trace; absent without any.
    pub seen_ns: Option<[u64; 2]>,
    /// Faults.
    pub faults: u64,
    /// Where the time of its run went: the classes' `total_ns` and `not_attributed_ns` together are
    /// its `total_ns`; absent where there is no record, or times that contradict each other.
    pub run: Option<Account>,
    /// Cost by class.
    pub classes: BTreeMap<&'static str, ClassCost>,
    /// What the guest paid by its own clock; absent for VMs found running, and where it timed
    /// nothing.
    pub guest_clock: Option<GuestClock>,
    /// From one fault of a vCPU to its next: what the world switches take at most; absent without
    /// two faults.
    pub between_faults: Option<BetweenFaults>,
    /// What KVM did to the tables in one piece, by kind; absent where that is not seen.
    pub acts: Option<BTreeMap<&'static str, ActCost>>,
    /// Steps that no fault has a time for.
    pub absent_steps: Vec<&'static str>,
    /// Entries that changed other than the leaves of faults, by cause.
    pub entries: BTreeMap<&'static str, u64>,
    /// Records of entries that had not changed, by cause: read again, or stored as they were.
    pub entries_unchanged: BTreeMap<&'static str, u64>,
    /// The guest's stores that KVM emulated.
    pub writes: u64,
    /// What the host did to ranges of the guest's frames.
    pub host: BTreeMap<&'static str, u64>,
    /// Faults in the workload's range, counted and expected.
    pub range: Option<RangeSummary>,
    /// Faults by phase.
    pub phases: Vec<PhaseSummary>,
    /// The moment with the most shadow pages; absent without any.
    pub memory: Option<PeakReport>,
    /// Records known to be missing in the whole trace; which VM they were of is not known.
    pub lost: Lost,
    /// Drift of its keyframes.
    pub drift: DriftSummary,
    /// `exact`, `drifted` or `unproved`.
    pub replay: &'static str,
    /// Impossible transitions by kind.
    pub anomalies: BTreeMap<&'static str, u64>,
    /// Faults whose own numbers disagree.
    pub disagreeing_faults: u64,
    /// Against KVM's counters; absent in a trace without those of the end.
    pub reconciliation: Option<Vec<Reconciled>>,
    /// Why addresses faulted again.
    pub refaults: Option<Refaulted>,
    /// What is wrong.
    pub pathologies: Vec<Finding>,
    /// Who pays most, by each key of `top`: as `top --json` has it.
    pub payers: Vec<Value>,
    /// The same, in order.
    #[serde(skip)]
    pub ranks: Vec<Rank>,
}

/// Faults in the workload's range.
#[derive(Clone, Debug, Serialize)]
pub struct RangeSummary {
    /// First GVA.
    pub gva: Gva,
    /// Length in 4 KiB pages.
    pub pages: u64,
    /// Guest's own faults.
    pub guest: u64,
    /// Guest's own faults that theory gives, if it gives any.
    pub expected_guest: Option<u64>,
    /// Shadow faults.
    pub shadow: u64,
    /// Shadow faults that theory gives, if it gives any.
    pub expected_shadow: Option<u64>,
    /// Retried faults.
    pub retried: u64,
    /// Retried faults that theory gives, if it gives any.
    pub expected_retried: Option<u64>,
    /// Faults of the other classes, of which theory says nothing.
    pub others: u64,
}

/// A phase.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseSummary {
    /// Its name.
    pub name: String,
    /// The same with its vCPU, where several marked one of this name.
    #[serde(skip)]
    pub label: String,
    /// Its beginning, ns from the start of the trace.
    pub from_ns: u64,
    /// Its length, ns.
    pub length_ns: u64,
    /// Faults by class.
    pub classes: BTreeMap<&'static str, u64>,
    /// Time of its faults, ns.
    pub total_ns: u64,
}

impl RangeSummary {
    /// Name, count and expected count of each class that theory speaks of, and of the others.
    fn classes(&self) -> impl Iterator<Item = (&'static str, u64, Option<u64>)> {
        let classes = [
            (Class::Guest.name(), self.guest, self.expected_guest),
            (Class::Shadow.name(), self.shadow, self.expected_shadow),
            (Class::Retried.name(), self.retried, self.expected_retried),
        ];
        let others = (self.others > 0).then_some(("others", self.others, None));
        classes.into_iter().chain(others)
    }
}

/// What to know before reading a time of this trace; none for a real machine's.
pub fn times(trace: &Trace) -> Option<String> {
    let meta = trace.meta();
    meta.sees()
        .emulated
        .then(|| emulated(&plain(&meta.host.cpu)))
}

fn emulated(cpu: &str) -> String {
    format!("Times are those of an emulated CPU ({cpu}), not of a real machine.")
}

impl Summary {
    /// What to know before reading a time; empty for a real machine's.
    pub fn times(&self) -> String {
        self.emulated.as_deref().map(emulated).unwrap_or_default()
    }

    /// The numbers of a trace.
    pub fn of(trace: &Trace, study: &Study) -> Self {
        let meta = trace.meta();
        let mut rows = BTreeMap::new();
        for segment in trace.segments() {
            *rows.entry(segment.kind.clone()).or_insert(0_u64) += segment.rows;
        }
        let of_faults = trace
            .segments()
            .iter()
            .filter(|segment| segment.kind == "faults");
        let fault_bytes = total(of_faults.map(|segment| segment.bytes));
        let faults = rows.get("faults").copied().unwrap_or_default();
        let bytes_per_fault = (faults > 0).then(|| fault_bytes as f64 / faults as f64);
        let mut drift = Drift::default();
        let mut keyframes = 0;
        for vm in study.vms.values() {
            drift.add(vm.drift());
            keyframes += vm.verified();
        }
        Self {
            trace: trace.path().display().to_string(),
            complete: !trace.was_cut(),
            damage: study.damage.as_ref().map(ToString::to_string),
            emulated: meta.sees().emulated.then(|| plain(&meta.host.cpu)),
            workload: meta.workload.as_ref().map(|workload| workload.name.clone()),
            span_ns: study.span_ns[1].saturating_sub(study.span_ns[0]),
            records: study.records,
            rows,
            bytes: trace.bytes(),
            bytes_per_fault,
            lost: lost(study),
            drift: drift_summary(&drift, keyframes),
            absent: absent(trace),
            micro: Timed::of(meta),
            differs: paper::differs(meta),
            about: about(trace, study, bytes_per_fault),
            come_and_go: meta.workload.is_none() || meta.vms.len().max(study.vms.len()) > 1,
            vms: study
                .vms
                .iter()
                .map(|(vm, of)| vm_summary(vm.0, of, trace, study))
                .collect(),
        }
    }
}

/// `workload demand (pages=4096): 9,034 records in 75.7 ms, 431 KiB on disk, 28.8 bytes a fault`.
fn about(trace: &Trace, study: &Study, bytes_per_fault: Option<f64>) -> String {
    let what = match &trace.meta().workload {
        Some(workload) => {
            let params = workload.params.iter();
            let params: Vec<_> = params
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            match params.join(", ") {
                none if none.is_empty() => format!("workload {}", workload.name),
                params => format!("workload {} ({params})", workload.name),
            }
        }
        None => {
            let vms = trace.meta().vms.len().max(study.vms.len());
            format!("{} found running", plural(vms as u64, "VM"))
        }
    };
    let [from, to] = study.span_ns;
    let emulated = match trace.meta().sees().emulated {
        true => " of an emulated CPU",
        false => "",
    };
    let each =
        bytes_per_fault.map_or_else(String::new, |each| format!(", {each:.1} bytes a fault"));
    plain(&format!(
        "{what}: {} in {}{emulated}, {} on disk{each}",
        plural(study.records, "record"),
        ns(to.saturating_sub(from)),
        bytes(trace.bytes()),
    ))
}

fn absent(trace: &Trace) -> Vec<Absent> {
    let probes = trace.meta().probes.iter().filter(|probe| !probe.attached);
    probes
        .map(|probe| Absent {
            name: probe.name.clone(),
            hook: probe.hook.clone(),
            why: probe.note.clone(),
            tried: probe.tried.clone(),
        })
        .collect()
}

fn lost(study: &Study) -> Lost {
    Lost {
        records: study.lost_records(),
        by_probe: study
            .lost_by_probe()
            .into_iter()
            .map(|(probe, count)| (probe.to_owned(), count))
            .collect(),
        gaps: study.gaps.gaps().len() as u64,
    }
}

/// Drift by kind.
pub fn drift_summary(drift: &Drift, keyframes: u64) -> DriftSummary {
    let kinds = DifferenceKind::DRIFT.map(|kind| (kind.name(), drift.of(kind)));
    let late = LateKind::ALL.map(|kind| {
        let summary = LateKindSummary {
            entries: drift.late.of(kind),
            writers: kind.writers(),
            why: kind.why(),
        };
        (kind.name(), summary)
    });
    DriftSummary {
        entries: drift.entries(),
        pages: drift.pages(),
        keyframes,
        kinds: kinds.into_iter().filter(|(_, count)| *count > 0).collect(),
        accessed_dirty: drift.accessed_dirty,
        late: LateSummary {
            entries: drift.late.total(),
            kinds: late
                .into_iter()
                .filter(|(_, summary)| summary.entries > 0)
                .collect(),
        },
    }
}

fn vm_summary(vm: u16, of: &VmStudy, trace: &Trace, study: &Study) -> VmSummary {
    let start = study.span_ns[0];
    let payers = of.payers.as_ref();
    let ranks = payers.map_or_else(Vec::new, |payers| payers.ranks(trace.meta()));
    VmSummary {
        vm,
        name: of
            .meta
            .as_ref()
            .map(|meta| meta.name.clone())
            .unwrap_or_default(),
        pid: of.meta.as_ref().map(|meta| meta.pid),
        ended: of.meta.as_ref().and_then(|meta| meta.ended.clone()),
        about: of.about(),
        vcpus: of.records.vcpus.clone(),
        seen_ns: of
            .records
            .seen_ns
            .map(|seen| seen.map(|ns| ns.saturating_sub(start))),
        faults: of.counts.faults(),
        run: of.account,
        classes: of
            .records
            .costs
            .iter()
            .map(|(class, cost)| (class.name(), cost.clone()))
            .collect(),
        guest_clock: of.clock.clone(),
        between_faults: of.records.between,
        acts: of.records.acts.are_seen().then(|| of.records.acts.costs()),
        absent_steps: figures::absent(&figures::steps(&of.records.costs))
            .into_iter()
            .map(FaultStep::name)
            .collect(),
        entries: of
            .counts
            .causes
            .iter()
            .map(|(cause, number)| {
                let unchanged = of.unchanged.get(cause).copied().unwrap_or_default();
                (cause.name(), number.saturating_sub(unchanged))
            })
            .collect(),
        entries_unchanged: of
            .unchanged
            .iter()
            .map(|(cause, number)| (cause.name(), *number))
            .collect(),
        writes: of.counts.writes,
        host: of
            .counts
            .host
            .iter()
            .map(|(event, number)| (event.name(), *number))
            .collect(),
        range: range_summary(of, trace),
        phases: phase_summaries(of, study.span_ns),
        memory: PeakReport::of(&of.memory),
        lost: lost(study),
        drift: drift_summary(of.drift(), of.verified()),
        replay: match of.exactness() {
            Exactness::Exact => "exact",
            Exactness::Drifted => "drifted",
            Exactness::Unproved => "unproved",
        },
        anomalies: of
            .anomalies
            .counts()
            .iter()
            .map(|(kind, count)| (kind.name(), *count))
            .collect(),
        disagreeing_faults: of.records.agreement.wrong(),
        reconciliation: of.reconciliation.clone(),
        refaults: of.refaults().map(|of| of.bill(&study.gaps)),
        pathologies: match (&of.pathologies, &of.payers) {
            (Some(pathologies), Some(payers)) => pathologies.findings(payers, &study.gaps),
            _ => Vec::new(),
        },
        payers: top::first(&ranks, start),
        ranks,
    }
}

/// Faults in the range of the workload, if one was recorded.
fn range_summary(of: &VmStudy, trace: &Trace) -> Option<RangeSummary> {
    let workload = trace.meta().workload.as_ref()?;
    Some(RangeSummary {
        gva: Gva(workload.range_gva),
        pages: workload.range_pages,
        guest: of.in_range(Class::Guest),
        expected_guest: workload.expected_guest_faults,
        shadow: of.in_range(Class::Shadow),
        expected_shadow: workload.expected_shadow_faults,
        retried: of.in_range(Class::Retried),
        expected_retried: workload.expected_retried_faults,
        others: {
            let spoken_of = [Class::Guest, Class::Shadow, Class::Retried];
            let others = of
                .records
                .costs
                .iter()
                .filter(|(class, _)| !spoken_of.contains(class));
            others.map(|(_, cost)| cost.in_range).sum()
        },
    })
}

fn phase_summaries(of: &VmStudy, [start, end]: [u64; 2]) -> Vec<PhaseSummary> {
    let phases = of.phases(end).into_iter().map(|phase| PhaseSummary {
        name: phase.name.to_owned(),
        label: phase.label,
        from_ns: phase.from_ns.saturating_sub(start),
        length_ns: phase.length_ns,
        classes: phase
            .costs
            .iter()
            .map(|cost| (cost.class.name(), cost.count))
            .collect(),
        total_ns: total(phase.costs.iter().map(|cost| cost.total_ns)),
    });
    phases.collect()
}
