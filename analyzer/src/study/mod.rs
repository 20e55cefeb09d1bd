//! One reading of a trace, from which every command takes its numbers.

mod ahead;
mod beside;
mod error;
mod follow;
mod known;
mod records;
mod vm;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    ops::ControlFlow,
    thread,
};

use events::{Probe, Seq, TimeNs, VmId};
use trace::{LossRow, Part, Record, Trace, TraceError, VmMeta};

use self::beside::Beside;
use crate::replay::{Gaps, Replay, ReplayOptions};

pub(crate) use ahead::read_ahead;
pub use error::StudyError;
pub use follow::{Follow, Subject};
pub use known::{KnownVm, known_vms, list};
pub use records::RecordStudy;
pub use vm::{Exactness, VmStudy};

/// Losses kept in full; one a second makes this 18 hours.
const KEPT_LOSSES: usize = 1 << 16;

/// VMs followed at a time. Bounds a hostile trace: it may name 65,536.
const MOST_VMS: usize = 1024;

/// VMs beyond the bound, none of which was followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Which ones, those of the metadata without records included.
    pub vms: BTreeSet<VmId>,
    /// Their records.
    pub records: u64,
}

/// What one reading of a trace gives.
#[derive(Debug)]
pub struct Study<F = VmStudy> {
    /// The VMs of the trace that were asked for, each with what followed it.
    pub vms: BTreeMap<VmId, F>,
    /// The tables at the end.
    pub replay: Replay,
    /// Missing sequence numbers.
    pub gaps: Gaps,
    /// Losses that the probes counted themselves.
    pub losses: Vec<LossRow>,
    /// Records read.
    pub records: u64,
    /// Why reading ended before the end of the trace.
    pub damage: Option<TraceError>,
    /// First and last time, ns.
    pub span_ns: [u64; 2],
    /// What was not followed.
    pub left_out: LeftOut,
}

/// Numbers of the VMs of a trace, by its metadata.
pub fn vm_numbers(trace: &Trace) -> Vec<u16> {
    trace.meta().vms.iter().map(|vm| vm.vm).collect()
}

/// What replay must know of a recording.
pub fn replay_options(trace: &Trace) -> ReplayOptions {
    let sees = trace.meta().sees();
    ReplayOptions {
        role: trace.meta().role_layout(),
        from_birth: sees.from_birth,
        sees_every_change: sees.every_change,
        keyframe_roots: sees.keyframe_roots,
    }
}

impl Study {
    /// Reads the whole trace; see [`Study::with`].
    pub fn of(
        trace: &Trace,
        only: Option<VmId>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, StudyError> {
        Self::with(trace, only, VmStudy::new, progress)
    }
}

impl<F: Follow> Study<F> {
    /// Reads the whole trace; `only` leaves the other VMs out, but not their place in the order of
    /// all records: what is lost is lost to every VM. `make` gives what follows a VM. `progress`
    /// gets the number of records read so far, now and then.
    pub fn with(
        trace: &Trace,
        only: Option<VmId>,
        make: impl Fn(&Subject<'_>) -> F,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, StudyError> {
        let mut study = Self {
            vms: BTreeMap::new(),
            replay: Replay::new(replay_options(trace)),
            gaps: Gaps::of(trace),
            losses: Vec::new(),
            records: 0,
            damage: None,
            span_ns: trace.span_ns().unwrap_or_default(),
            left_out: LeftOut::default(),
        };
        let span_ns = study.span_ns;
        let known = trace.meta().vms.iter().map(|meta| (VmId(meta.vm), meta));
        let known: BTreeMap<VmId, &VmMeta> = known.collect();
        let make = |vm: VmId| {
            make(&Subject {
                vm,
                recording: trace.meta(),
                meta: known.get(&vm).copied(),
                span_ns,
            })
        };
        let apart = thread::scope(|scope| {
            let mut beside = Beside::new(scope);
            read_ahead(trace, Part::default(), |chunk| {
                for record in &chunk.records {
                    study.add(only, record, &make, &mut beside);
                    if study.records.is_multiple_of(1 << 16) {
                        progress(study.records);
                    }
                }
                beside.pass(chunk.records);
                study.damage = chunk.error;
                ControlFlow::Continue(())
            });
            beside.end()
        });
        for (vm, records) in apart {
            if let Some(of) = study.vms.get_mut(&vm) {
                of.take_back(records);
            }
        }
        if let (Some(end), None) = (&trace.meta().end, &study.damage) {
            study.gaps.end(end.records, TimeNs(end.time_ns));
        }
        // Those without a record come last: they must not take the room of others.
        for vm in known
            .keys()
            .filter(|vm| only.is_none_or(|only| only == **vm))
        {
            if study.vms.len() < MOST_VMS {
                study.vms.entry(*vm).or_insert_with(|| make(*vm));
            } else if !study.vms.contains_key(vm) {
                study.left_out.vms.insert(*vm);
            }
        }
        for (vm, of) in &mut study.vms {
            of.finish(study.replay.vm(*vm), trace.meta().sees())?;
        }
        Ok(study)
    }

    fn add(
        &mut self,
        only: Option<VmId>,
        record: &Record,
        make: &impl Fn(VmId) -> F,
        beside: &mut Beside<'_, '_>,
    ) {
        self.records += 1;
        if let Record::Loss(row) = record {
            // A probe counts for all VMs together, so the row names none.
            if self.losses.len() < KEPT_LOSSES {
                self.losses.push(row.clone());
            }
            return;
        }
        self.gaps.observe(record.seq(), record.time());
        let vm = record.vm();
        if only.is_some_and(|only| only != vm) {
            return;
        }
        let is_full = self.vms.len() >= MOST_VMS;
        let of = match self.vms.entry(vm) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if is_full => {
                self.left_out.vms.insert(vm);
                self.left_out.records += 1;
                return;
            }
            Entry::Vacant(entry) => {
                let of = entry.insert(make(vm));
                if let Some(records) = of.part_with() {
                    beside.add(vm, records);
                }
                of
            }
        };
        of.before(record, self.replay.vm(vm));
        self.replay.apply(record);
        of.after(record, self.replay.vm(vm));
    }
}

impl<F> Study<F> {
    /// Records that are known to be missing: by their numbers, or by the probes' own count where
    /// that is higher.
    pub fn lost_records(&self) -> u64 {
        let counted = self
            .losses
            .iter()
            .map(|row| row.count)
            .fold(0, u64::saturating_add);
        self.gaps.missing().max(counted)
    }

    /// What the probes counted as lost, by probe.
    pub fn lost_by_probe(&self) -> BTreeMap<&str, u64> {
        let mut lost = BTreeMap::new();
        for row in &self.losses {
            let count: &mut u64 = lost.entry(row.probe.as_str()).or_default();
            *count = count.saturating_add(row.count);
        }
        lost
    }

    /// Stretches in which records are missing, of any VM, ns on the trace's clock; in order, none
    /// overlaps another.
    pub fn lost_spans(&self) -> Vec<[u64; 2]> {
        let gaps = self.gaps.gaps();
        let gaps = gaps.map(|gap| [gap.from_time.0, gap.to_time.0]);
        let losses = self.losses.iter().filter_map(lost_without_gap);
        let mut spans: Vec<_> = gaps.chain(losses).collect();
        spans.sort_unstable();
        spans.dedup_by(|next, last| {
            let overlaps = next[0] <= last[1];
            last[1] = last[1].max(if overlaps { next[1] } else { 0 });
            overlaps
        });
        spans
    }

    /// Missing records between two others: what is between may be wrong.
    pub fn missing_between(&self, from: Seq, to: Seq) -> u64 {
        self.gaps.missing_between(from, to)
    }
}

/// When records were lost that had taken no number, so that there is no gap where they were. The
/// kernel keeps when the latest was lost: of one, that is the moment.
fn lost_without_gap(row: &LossRow) -> Option<[u64; 2]> {
    let probe = Probe::from_name(&row.probe);
    if probe.is_some_and(Probe::takes_a_number) {
        return None;
    }
    let from = if row.count == 1 {
        row.time_ns
    } else {
        row.from_ns
    };
    Some([from.0.min(row.time_ns.0), row.time_ns.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_with_a_gap_is_no_stretch_of_its_own() {
        let span = |probe: &str, count| {
            lost_without_gap(&LossRow {
                seq: Seq(9),
                time_ns: TimeNs(500),
                vm: VmId(0),
                vcpu: None,
                probe: probe.to_owned(),
                count,
                from_ns: TimeNs(100),
            })
        };
        for probe in Probe::ALL {
            let expected = (!probe.takes_a_number()).then_some([100, 500]);
            assert_eq!(span(probe.name(), 7), expected, "{}", probe.name());
        }
        // Since the one before it, nothing was lost until then.
        assert_eq!(span("unsync", 1), Some([500, 500]));
        assert_eq!(span("of a later recorder", 2), Some([100, 500]));
    }
}
