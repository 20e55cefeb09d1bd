//! One VM in one reading of a trace.

use std::{collections::BTreeMap, sync::Arc};

use events::{Cause, Class, Gpa, Gva, Seq};
use trace::{Mode, Record, Sees, Touches, VmMeta};

use super::{Follow, RecordStudy, StudyError, Subject};
use crate::{
    audit::Audit,
    faults::{Account, Counts, GuestClock, PhaseCost, Reconciled, Sum, reconcile, total},
    figures::{Phase, Timeline},
    listing::Faults,
    memory::{Growth, Owners},
    pathologies::Pathologies,
    playback::Playback,
    refaults::Refaults,
    replay::{Anomalies, Checks, Drift, VmReplay, is_unchanged},
    symbols::Symbols,
    top::{By, Payers},
};

/// What one reading of a trace gives of one VM.
#[derive(Clone, Debug)]
pub struct VmStudy {
    /// Its metadata; absent for a VM that only records name.
    pub meta: Option<VmMeta>,
    /// What its records say without the tables.
    pub records: RecordStudy,
    /// Another thread has them now.
    parted: bool,
    /// Where the time of its run went; absent without a record.
    pub account: Option<Account>,
    /// What the guest paid by its own clock; absent where it timed nothing.
    pub clock: Option<GuestClock>,
    /// Records by what they say.
    pub counts: Counts,
    /// Those from this number on, which KVM's counters count; `None` if they count all of them.
    counted: Option<(Seq, Counts)>,
    /// Faults and tables over time.
    pub timeline: Timeline,
    /// Its keyframes.
    pub checks: Checks,
    /// Transitions that cannot have been.
    pub anomalies: Anomalies,
    /// Invariants of the shadow MMU.
    pub audit: Audit,
    /// Shadow pages over time; of their events only.
    pub memory: Growth,
    /// Set against KVM's counters; `None` in a trace without the counters of the end.
    pub reconciliation: Option<Vec<Reconciled>>,
    /// What is wrong; only in what [`VmStudy::whole`] made.
    pub pathologies: Option<Pathologies>,
    /// Who pays, and why addresses faulted again; likewise.
    pub payers: Option<Payers>,
    /// The faults that took longest; only where a page lists them.
    pub worst: Option<Faults>,
    /// The tables after each record; only where a page shows them.
    pub playback: Option<Playback>,
    /// Which address spaces have the pages over time; only where a page shows them.
    pub owners: Option<Owners>,
    /// Records of entries, by cause, whose value had not changed: what was read again, or stored
    /// as it was.
    pub unchanged: BTreeMap<Cause, u64>,
    /// The record that is being read is one of these.
    is_unchanged: bool,
    touches: Option<Touches>,
    /// Only what is checked; see [`VmStudy::checked`].
    only_checks: bool,
}

/// Whether replay is proved exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// Compared with keyframes, no difference.
    Exact,
    /// Compared, different.
    Drifted,
    /// No keyframe to compare with.
    Unproved,
}

impl Follow for VmStudy {
    fn before(&mut self, record: &Record, replay: Option<&VmReplay>) {
        if self.only_checks {
            self.audit.before(record, replay);
            return;
        }
        if let Record::Entry(row) = record {
            self.is_unchanged = is_unchanged(row, replay);
            if self.is_unchanged {
                *self.unchanged.entry(row.cause).or_default() += 1;
            }
        }
        self.audit.before(record, replay);
        self.memory.before(record, replay);
        if let Some(pathologies) = &mut self.pathologies {
            pathologies.before(record, replay);
        }
        if let Some(payers) = &mut self.payers {
            payers.before(record, replay);
        }
        if let Some(owners) = &mut self.owners {
            owners.before(record, replay);
        }
    }

    fn after(&mut self, record: &Record, replay: Option<&VmReplay>) {
        self.audit.after(record, replay);
        self.counts.add(record, replay);
        if let Some((from, counts)) = &mut self.counted
            && record.seq() >= *from
        {
            counts.add(record, replay);
        }
        if !self.parted {
            self.records.add(record);
        }
        if self.only_checks {
            return;
        }
        self.memory.after(record, replay);
        if let Some(payers) = &mut self.payers {
            payers.after(record, replay);
        }
        if let Some(worst) = &mut self.worst {
            worst.after(record, replay);
        }
        if let Some(playback) = &mut self.playback {
            playback.after(record, replay);
        }
        match record {
            Record::Fault(row) => self.timeline.fault(row.time_ns.0, row.class),
            Record::Mark(row) if row.ends_keyframe().is_none() => {
                let phase = Phase {
                    name: row.name.clone(),
                    time_ns: row.time_ns.0,
                    seq: row.seq.0,
                    vcpu: row.vcpu,
                };
                self.timeline.phase(phase);
            }
            Record::Entry(_) if self.is_unchanged => {}
            Record::Entry(row) => self.timeline.change(row.time_ns.0, row.cause),
            Record::Page(row) if self.memory.counts(row.event) => {
                self.timeline.page(row.time_ns.0, row.event);
            }
            Record::Act(_) | Record::Keyframe(_) | Record::Loss(_) => return,
            _ => {}
        }
        if let Some(replay) = replay {
            self.timeline
                .tables(record.time().0, replay.tables().totals());
        }
    }

    fn part_with(&mut self) -> Option<RecordStudy> {
        if self.only_checks {
            return None;
        }
        self.parted = true;
        let mut records = std::mem::take(&mut self.records);
        if let Some(payers) = &mut self.payers {
            records.tops = payers.part_with();
        }
        Some(records)
    }

    fn take_back(&mut self, mut records: RecordStudy) {
        self.parted = false;
        if let Some(payers) = &mut self.payers {
            payers.take_back(std::mem::take(&mut records.tops));
        }
        self.records = records;
    }

    fn finish(&mut self, replay: Option<&VmReplay>, sees: Sees) -> Result<(), StudyError> {
        self.records.finish();
        self.balance();
        if let Some(pathologies) = &mut self.pathologies {
            pathologies.finish(replay, sees)?;
        }
        if let Some(payers) = &mut self.payers {
            payers.finish(replay, sees)?;
        }
        if let Some(owners) = &mut self.owners {
            owners.finish(replay, sees)?;
        }
        if let Some(replay) = replay {
            self.checks = replay.checks().clone();
            self.anomalies = replay.anomalies().clone();
        }
        self.audit.finish(replay, sees)?;
        self.reconciliation = self.meta.as_ref().and_then(|meta| {
            let counted = self.counted.as_ref().map(|(_, counts)| counts);
            reconcile(counted.unwrap_or(&self.counts), meta, sees, replay)
        });
        Ok(())
    }
}

impl VmStudy {
    /// As [`VmStudy::new`], with everything that a summary and a report show. `symbols` name the
    /// guest's functions.
    pub fn whole(subject: &Subject<'_>, symbols: &Arc<Symbols>) -> Self {
        if subject.recording.imported.is_some() {
            // Without tables nothing is known of what was there before a fault.
            return Self::new(subject);
        }
        Self {
            pathologies: Some(Pathologies::new(subject)),
            payers: Some(Payers::new(subject, symbols)),
            ..Self::new(subject)
        }
    }

    /// Nothing was read yet.
    pub fn new(subject: &Subject<'_>) -> Self {
        let (vm, span) = (subject.meta, subject.span_ns);
        let workload = subject.recording.workload.as_ref();
        Self {
            touches: workload.and_then(|workload| workload.touches.clone()),
            meta: vm.cloned(),
            records: RecordStudy::new(subject),
            parted: false,
            account: None,
            clock: None,
            counts: Counts::default(),
            counted: vm
                .and_then(|vm| vm.counters_seq)
                .map(|from| (Seq(from), Counts::default())),
            timeline: Timeline::new(span),
            checks: Checks::default(),
            anomalies: Anomalies::default(),
            audit: Audit::new(subject),
            memory: Growth::totals(subject),
            reconciliation: None,
            pathologies: None,
            payers: None,
            worst: None,
            playback: None,
            owners: None,
            unchanged: BTreeMap::new(),
            is_unchanged: false,
            only_checks: false,
        }
    }

    /// As [`VmStudy::new`], without costs, acts, what was over time: keyframes, invariants, the
    /// numbers of each fault and KVM's counters are checked, and nothing else is followed.
    pub fn checked(subject: &Subject<'_>) -> Self {
        let mut of = Self::new(subject);
        of.only_checks = true;
        of.records.only_checks = true;
        of
    }

    /// The faults on the tables of one CR3, where they are added up.
    pub fn of_cr3(&self, cr3: Gpa) -> Sum {
        let payers = self.payers.as_ref();
        let sum = payers.and_then(|payers| payers.sum_of(By::Cr3, cr3.0));
        sum.copied().unwrap_or_default()
    }

    /// Address spaces that had shadow pages of their own, the costliest first.
    pub fn spaces(&self) -> Vec<Gpa> {
        let owners = self.owners.as_ref();
        owners.map_or_else(Vec::new, |owners| {
            owners.spaces(|cr3| self.of_cr3(cr3).own_ns())
        })
    }

    /// Sets the classes against the run.
    fn balance(&mut self) {
        let faults_ns = total(self.records.costs.iter().map(|(_, cost)| cost.total_ns));
        let vcpus = self.records.vcpus.len() as u64;
        let ran = self.records.ran_ns;
        self.account = ran.and_then(|ran| Account::of(ran, vcpus, faults_ns));
        for (_, cost) in &mut self.records.costs {
            let account = self.account.as_ref();
            cost.run_percent = account.map(|account| account.percent(cost.total_ns));
        }
        if self.records.acts.has_every_kind() {
            let acts_ns = self.records.acts.outside_ns();
            self.account = self.account.map(|account| account.with_acts(acts_ns));
            for (class, cost) in &mut self.records.costs {
                cost.sync_ns = Some(self.records.acts.sync_ns(*class));
            }
        }
        let faults = self
            .records
            .costs
            .iter()
            .map(|(_, cost)| cost.in_range)
            .sum();
        let seen_ns = total(self.records.costs.iter().map(|(_, cost)| cost.in_range_ns));
        let touches = self.touches.as_ref();
        self.clock = touches.and_then(|touches| {
            GuestClock::of(touches, faults, seen_ns, self.records.between.as_ref())
        });
    }

    /// Whether some addresses are in the workload's range.
    pub fn has_range(&self, from: Gva, bytes: u64) -> bool {
        self.records.has_range(from, bytes)
    }

    /// Drift of all keyframes together.
    pub fn drift(&self) -> &Drift {
        self.checks.drift()
    }

    /// Keyframes that replay was compared with.
    pub fn verified(&self) -> u64 {
        self.checks.verified()
    }

    /// Why addresses faulted again, where that was asked for.
    pub fn refaults(&self) -> Option<&Refaults> {
        self.payers.as_ref()?.refaults()
    }

    /// Whether replay is proved exact.
    pub fn exactness(&self) -> Exactness {
        if !self.drift().is_exact() || self.anomalies.total() > 0 {
            Exactness::Drifted
        } else if self.verified() == 0 {
            Exactness::Unproved
        } else {
            Exactness::Exact
        }
    }

    /// Counters of KVM that the trace does not agree with.
    pub fn unreconciled(&self) -> usize {
        self.reconciliation
            .iter()
            .flatten()
            .filter(|line| !line.agrees)
            .count()
    }

    /// Faults of one class in the workload's range.
    pub fn in_range(&self, class: Class) -> u64 {
        self.records
            .costs
            .iter()
            .find(|(of, _)| *of == class)
            .map_or(0, |(_, cost)| cost.in_range)
    }

    /// What distinguishes it from other VMs.
    pub fn about(&self) -> String {
        let name = self.meta.as_ref().map_or("", |meta| &meta.name);
        let pid = self.meta.as_ref().map(|meta| meta.pid);
        let about = super::known::about(name, pid, &self.records.vcpus);
        match self.meta.as_ref().map(|meta| meta.mode) {
            Some(Mode::NestedNpt) => format!("{about}, its nested guests, NPT"),
            Some(Mode::NestedEpt) => format!("{about}, its nested guests, EPT"),
            Some(Mode::Shadow) | None => about,
        }
    }

    /// Phases with their number, length in ns (to the next mark or the end), and costs by class.
    pub fn phases(&self, end_ns: u64) -> Vec<PhaseSpan<'_>> {
        let marks = &self.timeline.phases;
        if marks.is_empty() {
            return Vec::new();
        }
        let name = "(before the first mark)";
        let before = (0_u16, name, name.to_owned(), self.timeline.start_ns());
        let named = (1_u16..).zip(marks).map(|(number, mark)| {
            let label = self.timeline.label(mark);
            (number, mark.name.as_str(), label, mark.time_ns)
        });
        let starts: Vec<_> = std::iter::once(before).chain(named).collect();
        let ends = starts
            .iter()
            .skip(1)
            .map(|(.., start)| *start)
            .chain(std::iter::once(end_ns));
        starts
            .iter()
            .zip(ends)
            .map(|((number, name, label, from_ns), to_ns)| PhaseSpan {
                number: *number,
                name,
                label: label.clone(),
                from_ns: *from_ns,
                length_ns: to_ns.saturating_sub(*from_ns),
                costs: self
                    .records
                    .phase_costs
                    .iter()
                    .filter(|cost| cost.phase == *number)
                    .copied()
                    .collect(),
            })
            .filter(|span| !span.costs.is_empty() || span.number > 0)
            .collect()
    }
}

/// One phase and its faults.
#[derive(Clone, Debug)]
pub struct PhaseSpan<'a> {
    /// From 0, which is the time before the first mark.
    pub number: u16,
    /// Name of the mark that began it.
    pub name: &'a str,
    /// The same with its vCPU, where several marked one of this name.
    pub label: String,
    /// Its beginning, ns.
    pub from_ns: u64,
    /// Its length, ns.
    pub length_ns: u64,
    /// Faults by class.
    pub costs: Vec<PhaseCost>,
}
