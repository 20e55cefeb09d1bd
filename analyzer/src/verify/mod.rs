//! Replay compared with the kernel, in full.

mod tables;
mod witnesses;

use std::collections::{BTreeMap, BTreeSet};

use events::{Hpa, Spte, VmId};
use serde::Serialize;
use trace::{Trace, TraceError};

use crate::{
    audit::{Doubt, VmAudit},
    faults::Reconciled,
    replay::{Difference, KeyframeCheck, KeyframeUse},
    study::{Study, VmStudy},
    summary::{DriftSummary, drift_summary},
    verdict,
};

pub use tables::{document, keyframes};
use witnesses::Witnesses;

/// What `verify --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Everything is as it should be.
    pub exact: bool,
    /// Whether the recorder ended as it should; if not, the last moments are missing.
    pub complete: bool,
    /// Why reading ended early, if it did.
    pub damage: Option<String>,
    /// Records known to be missing.
    pub lost: u64,
    /// Spans in which records may be missing.
    pub unvouched: Vec<Unvouched>,
    /// Each VM.
    pub vms: Vec<VmVerification>,
}

/// A span of the trace in which records may be missing.
#[derive(Clone, Debug, Serialize)]
pub struct Unvouched {
    /// Beginning, ns from the start of the trace.
    pub from_ns: u64,
    /// End, ns from the start of the trace.
    pub to_ns: u64,
    /// Why.
    pub why: String,
}

/// One VM.
#[derive(Clone, Debug, Serialize)]
pub struct VmVerification {
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
    /// Records known to be missing in the whole trace; which VM they were of is not known.
    pub lost: u64,
    /// Keyframes in all.
    pub keyframes_taken: u64,
    /// Each keyframe; of very many only the first ones, and of the rest those that differ.
    pub keyframes: Vec<KeyframeSummary>,
    /// Drift of all of them.
    pub drift: DriftSummary,
    /// The first impossible transitions.
    pub anomalies: Vec<AnomalySummary>,
    /// Impossible transitions by kind.
    pub anomaly_counts: BTreeMap<&'static str, u64>,
    /// Invariants of the shadow MMU.
    pub audit: VmAudit,
    /// Whether the numbers of each fault agree.
    pub faults: Vec<CheckSummary>,
    /// Against KVM's counters.
    pub reconciliation: Option<Vec<Reconciled>>,
}

/// One keyframe.
#[derive(Clone, Debug, Serialize)]
pub struct KeyframeSummary {
    /// Its number.
    pub number: u32,
    /// Its place in the order of all records.
    pub seq: u64,
    /// When, ns from the start of the trace.
    pub time_ns: u64,
    /// Pages that arrived.
    pub pages: u64,
    /// Pages that the collector copied.
    pub announced: u64,
    /// How long the VM had been stopped for it, ns; null if it did not run.
    pub stopped_ns: Option<u64>,
    /// Shadow-present entries.
    pub entries: u64,
    /// Entries that are no SPTEs: MMIO markers, and a PVM root's copies of host entries.
    pub foreign: u64,
    /// `set`, `verified` or `incomplete`.
    pub used: &'static str,
    /// What differs.
    pub drift: DriftSummary,
    /// The first differences.
    pub first: Vec<DifferenceSummary>,
    /// The first changes that were seen late: they came between `after` and this keyframe.
    pub late: Vec<DifferenceSummary>,
}

/// One difference.
#[derive(Clone, Debug, Serialize)]
pub struct DifferenceSummary {
    /// What differs.
    pub kind: &'static str,
    /// The entry, or the page.
    pub place: Hpa,
    /// Level of the table.
    pub level: u8,
    /// Replay's entry.
    pub replayed: Spte,
    /// The kernel's entry.
    pub kernel: Spte,
    /// For a change seen late, its kind.
    pub late: Option<&'static str>,
    /// The record after which it began: the last record of the entry or the page, or the mark of
    /// the keyframe before.
    pub after_seq: Option<u64>,
    /// Its time, ns from the start of the trace.
    pub after_ns: Option<u64>,
}

/// One impossible transition.
#[derive(Clone, Debug, Serialize)]
pub struct AnomalySummary {
    /// The record.
    pub seq: u64,
    /// When, ns from the start of the trace.
    pub time_ns: u64,
    /// What is impossible.
    pub kind: &'static str,
    /// The same, as a sentence.
    pub meaning: String,
    /// The entry or page.
    pub place: Hpa,
}

/// One check of all faults.
#[derive(Clone, Debug, Serialize)]
pub struct CheckSummary {
    /// What is checked.
    pub check: &'static str,
    /// Faults that have what it compares.
    pub checked: u64,
    /// Faults for which it does not hold.
    pub wrong: u64,
    /// The first of those.
    pub first_seq: Option<u64>,
}

impl Verification {
    /// Everything about a trace; reads it a second time if something differs.
    pub fn of(trace: &Trace, study: &Study) -> Result<Self, TraceError> {
        let start = study.span_ns[0];
        let witnesses = Witnesses::of(trace, study)?;
        Ok(Self {
            exact: verdict::is_exact(trace, study),
            complete: !trace.was_cut(),
            damage: study.damage.as_ref().map(ToString::to_string),
            lost: study.lost_records(),
            unvouched: unvouched(study, start),
            vms: study
                .vms
                .iter()
                .map(|(vm, of)| vm_verification(*vm, of, study, &witnesses))
                .collect(),
        })
    }
}

fn unvouched(study: &Study, start: u64) -> Vec<Unvouched> {
    let gaps = study.gaps.gaps().map(|gap| Unvouched {
        from_ns: gap.from_time.0.saturating_sub(start),
        to_ns: gap.to_time.0.saturating_sub(start),
        why: format!(
            "seq {} to {} missing",
            gap.from.0,
            gap.to.0.saturating_sub(1)
        ),
    });
    let losses = study.losses.iter().map(|row| Unvouched {
        from_ns: row.from_ns.0.saturating_sub(start),
        to_ns: row.time_ns.0.saturating_sub(start),
        why: format!(
            "probe {} lost {}",
            crate::text::plain(&row.probe),
            row.count
        ),
    });
    let mut spans: Vec<_> = gaps.chain(losses).collect();
    spans.sort_by_key(|span| (span.from_ns, span.to_ns));
    spans
}

fn vm_verification(vm: VmId, of: &VmStudy, study: &Study, witnesses: &Witnesses) -> VmVerification {
    let start = study.span_ns[0];
    VmVerification {
        vm: vm.0,
        name: of
            .meta
            .as_ref()
            .map(|meta| meta.name.clone())
            .unwrap_or_default(),
        pid: of.meta.as_ref().map(|meta| meta.pid),
        ended: of.meta.as_ref().and_then(|meta| meta.ended.clone()),
        about: of.about(),
        vcpus: of.records.vcpus.clone(),
        lost: study.lost_records(),
        keyframes_taken: of.checks.total(),
        keyframes: of
            .checks
            .kept()
            .iter()
            .map(|check| KeyframeSummary::of(vm, check, start, witnesses))
            .collect(),
        drift: drift_summary(of.drift(), of.verified()),
        anomalies: of
            .anomalies
            .first()
            .iter()
            .map(|anomaly| AnomalySummary {
                seq: anomaly.seq.0,
                time_ns: anomaly.time.0.saturating_sub(start),
                kind: anomaly.kind.name(),
                meaning: anomaly.kind.to_string(),
                place: anomaly.place,
            })
            .collect(),
        anomaly_counts: of
            .anomalies
            .counts()
            .iter()
            .map(|(kind, count)| (kind.name(), *count))
            .collect(),
        audit: VmAudit::of(vm, &of.audit, &Doubt::of(study), start),
        faults: of
            .records
            .agreement
            .tallies()
            .map(|(check, tally)| CheckSummary {
                check: check.name(),
                checked: tally.checked,
                wrong: tally.wrong,
                first_seq: tally.first.map(|seq| seq.0),
            })
            .collect(),
        reconciliation: of.reconciliation.clone(),
    }
}

/// The keyframes of a VM, without the records that differences came after.
pub fn keyframe_summaries(study: &Study, vm: VmId, of: &VmStudy) -> Vec<KeyframeSummary> {
    let none = Witnesses::default();
    let checks = of.checks.kept().iter();
    checks
        .map(|check| KeyframeSummary::of(vm, check, study.span_ns[0], &none))
        .collect()
}

impl KeyframeSummary {
    fn of(vm: VmId, check: &KeyframeCheck, start: u64, witnesses: &Witnesses) -> Self {
        let verified = u64::from(check.used == KeyframeUse::Verified);
        let summary = |difference: &Difference| {
            let witness = witnesses.last(vm, check, difference);
            DifferenceSummary {
                kind: difference.kind.name(),
                place: difference.place,
                level: difference.level.0,
                replayed: difference.replayed,
                kernel: difference.kernel,
                late: difference.late.map(|kind| kind.name()),
                after_seq: witness.map(|witness| witness.seq.0),
                after_ns: witness.map(|witness| witness.time.0.saturating_sub(start)),
            }
        };
        Self {
            number: check.number,
            seq: check.seq.0,
            time_ns: check.time.0.saturating_sub(start),
            pages: check.pages,
            announced: check.announced,
            stopped_ns: check.stopped_ns,
            entries: check.entries,
            foreign: check.foreign,
            used: match check.used {
                KeyframeUse::Set => "set",
                KeyframeUse::Verified => "verified",
                KeyframeUse::Incomplete => "incomplete",
            },
            drift: drift_summary(&check.drift, verified),
            first: check.first.iter().map(summary).collect(),
            late: check.late.iter().map(summary).collect(),
        }
    }
}
