//! Reading a trace up to some moments.

use std::ops::ControlFlow;

use events::{Seq, TimeNs, VmId};
use trace::{MarkRow, Part, Record, Row as _, Trace, TraceError};

use super::{
    Between, Moment, Snapshot, SnapshotError, TableError,
    begin::{self, Begin},
};
use crate::{
    replay::{Gaps, Replay, ReplayOptions, VmReplay},
    study::{read_ahead, replay_options},
};

/// The tables of `vm` at each of some moments, in one reading: from the nearest keyframe before the
/// earliest of them, where the trace allows it. `progress` gets the number of records read.
pub fn snapshots(
    trace: &Trace,
    vm: VmId,
    moments: &[Moment],
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Snapshot>, SnapshotError> {
    Ok(nearest(trace, vm, moments, progress)?.snapshots)
}

/// The tables at two moments, and what the records between them say of each change.
pub fn difference(
    trace: &Trace,
    vm: VmId,
    moments: [Moment; 2],
    progress: &mut dyn FnMut(u64),
) -> Result<([Snapshot; 2], Between), SnapshotError> {
    let taken = nearest(trace, vm, &moments, progress)?;
    let Ok([before, after]) = <[Snapshot; 2]>::try_from(taken.snapshots) else {
        return Err(TableError::Backwards.into());
    };
    if before.seq > after.seq {
        return Err(TableError::Backwards.into());
    }
    Ok(([before, after], taken.between))
}

/// What one reading gives.
#[derive(Default)]
struct Taken {
    snapshots: Vec<Snapshot>,
    /// Of what came between the first and the last.
    between: Between,
}

fn nearest(
    trace: &Trace,
    vm: VmId,
    moments: &[Moment],
    progress: &mut dyn FnMut(u64),
) -> Result<Taken, SnapshotError> {
    if let Some(begin) = begin::nearest(trace, vm, moments)?
        && let Some(taken) = read(trace, vm, moments, Some(begin), progress)?
    {
        return Ok(taken);
    }
    Ok(read(trace, vm, moments, None, progress)?.unwrap_or_default())
}

/// The same from the first record on, which is what [`snapshots`] must agree with.
pub fn snapshots_from_the_start(
    trace: &Trace,
    vm: VmId,
    moments: &[Moment],
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Snapshot>, SnapshotError> {
    let taken = read(trace, vm, moments, None, progress)?;
    Ok(taken.unwrap_or_default().snapshots)
}

/// `None` where the tables are not known by the first moment.
fn read(
    trace: &Trace,
    vm: VmId,
    moments: &[Moment],
    begin: Option<Begin>,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<Taken>, SnapshotError> {
    let whole = Part {
        tables_of: Some(vm),
        ..Part::default()
    };
    let part = begin.map_or(whole, |begin| begin.part);
    let mut reading = Reading::new(trace, vm, moments, begin)?;
    let mut damage = None;
    read_ahead(trace, part, |chunk| {
        for record in &chunk.records {
            reading.record(record, progress)?;
        }
        damage = chunk.error;
        ControlFlow::Continue(())
    });
    match damage {
        Some(error) => Err(error.into()),
        None => reading.end(trace),
    }
}

/// A trace that is read up to some moments.
struct Reading<'a> {
    now: Now,
    /// Moments that have not come yet, with their numbers.
    waiting: Vec<(usize, Pending<'a>)>,
    taken: Vec<(usize, Snapshot)>,
    /// The last moments: nothing is read after them.
    at_last: Vec<(usize, Pending<'a>)>,
    between: Between,
}

impl<'a> Reading<'a> {
    fn new(
        trace: &Trace,
        vm: VmId,
        moments: &'a [Moment],
        begin: Option<Begin>,
    ) -> Result<Self, SnapshotError> {
        let mut waiting = Vec::new();
        for (number, moment) in moments.iter().enumerate() {
            moment.check(trace)?;
            let pending = Pending {
                moment,
                until: moment.clock(trace)?,
                faults: begin.map_or(0, |begin| begin.faults),
                now: false,
            };
            waiting.push((number, pending));
        }
        Ok(Self {
            now: Now::new(trace, vm, begin),
            waiting,
            taken: Vec::new(),
            at_last: Vec::new(),
            between: Between::default(),
        })
    }

    /// Breaks off once the rest of the trace is not needed.
    fn record(&mut self, record: &Record, progress: &mut dyn FnMut(u64)) -> ControlFlow<()> {
        let now = &mut self.now;
        now.read += 1;
        if now.read.is_multiple_of(1 << 16) {
            progress(now.read);
        }
        let due = |(_, pending): &mut (usize, Pending<'_>)| pending.is_before(record);
        let due: Vec<_> = self.waiting.extract_if(.., due).collect();
        if now.unknown_until.is_some() && !due.is_empty() {
            return ControlFlow::Break(());
        }
        if self.waiting.is_empty() {
            self.at_last = due;
            return ControlFlow::Break(());
        }
        let due = due.iter().map(|(number, _)| (*number, now.snapshot()));
        self.taken.extend(due);
        let is_own = record.vm() == now.vm;
        if is_own && !self.taken.is_empty() {
            self.between.saw(record, now.replay.vm(now.vm));
        }
        now.apply(record)?;
        if is_own {
            self.between.took(record, now.replay.vm(now.vm));
            let pending = self.waiting.iter_mut().map(|(_, pending)| pending);
            pending.for_each(|pending| pending.saw(record));
        }
        ControlFlow::Continue(())
    }

    /// After the last record that was needed.
    fn end(mut self, trace: &Trace) -> Result<Option<Taken>, SnapshotError> {
        let now = self.now;
        if now.unknown_until.is_some() {
            return Ok(None);
        }
        for (_, pending) in &self.waiting {
            pending.at_end(trace, now.vm)?;
        }
        // The last needs no copy.
        self.waiting.extend(self.at_last);
        let last = self.waiting.pop();
        let copies = self.waiting.iter();
        let copies = copies.map(|(number, _)| (*number, now.snapshot()));
        self.taken.extend(copies);
        let last = last.map(|(number, _)| (number, now.into_snapshot()));
        self.taken.extend(last);
        self.taken.sort_by_key(|(number, _)| *number);
        let snapshots = self.taken.into_iter().map(|(_, snapshot)| snapshot);
        Ok(Some(Taken {
            snapshots: snapshots.collect(),
            between: self.between,
        }))
    }
}

/// The tables as they are while the trace is read.
struct Now {
    vm: VmId,
    replay: Replay,
    gaps: Gaps,
    last: (Seq, TimeNs),
    start_ns: u64,
    read: u64,
    /// The mark of the keyframe that replay begins with, until it has come.
    unknown_until: Option<Seq>,
}

impl Now {
    fn new(trace: &Trace, vm: VmId, begin: Option<Begin>) -> Self {
        let [start_ns, _] = trace.span_ns().unwrap_or_default();
        let options = ReplayOptions {
            from_birth: replay_options(trace).from_birth && begin.is_none(),
            ..replay_options(trace)
        };
        Self {
            vm,
            replay: Replay::new(options),
            gaps: Gaps::of(trace),
            last: (Seq(0), TimeNs(start_ns)),
            start_ns,
            read: 0,
            unknown_until: begin.map(|begin| begin.mark),
        }
    }

    /// Breaks off if the keyframe that replay begins with is not complete.
    fn apply(&mut self, record: &Record) -> ControlFlow<()> {
        if matches!(record, Record::Loss(_)) {
            return ControlFlow::Continue(());
        }
        self.gaps.observe(record.seq(), record.time());
        self.last = (record.seq(), record.time());
        if record.vm() == self.vm {
            self.replay.apply(record);
            if matches!(record, Record::Mark(_)) && self.unknown_until == Some(record.seq()) {
                let whole = self.replay.vm(self.vm).and_then(VmReplay::whole_since);
                if whole != self.unknown_until.take() {
                    self.unknown_until = Some(record.seq());
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn snapshot(&self) -> Snapshot {
        self.with(self.replay.vm(self.vm).cloned())
    }

    fn into_snapshot(mut self) -> Snapshot {
        let replay = std::mem::take(&mut self.replay);
        let vm = replay.into_vm(self.vm);
        self.with(vm)
    }

    fn with(&self, vm: Option<VmReplay>) -> Snapshot {
        let vm = vm.unwrap_or_default();
        let (seq, time) = self.last;
        let since = vm.last_keyframe().unwrap_or(Seq(0));
        Snapshot {
            missing: self.gaps.missing_between(since, seq),
            vm,
            seq,
            time,
            start_ns: self.start_ns,
            read: self.read,
        }
    }
}

/// A moment that has not come yet.
struct Pending<'a> {
    moment: &'a Moment,
    /// For a moment given by time.
    until: Option<u64>,
    faults: u64,
    /// The record that was waited for has been applied.
    now: bool,
}

impl Pending<'_> {
    /// Whether the moment lies before this record.
    fn is_before(&self, record: &Record) -> bool {
        if let Moment::Seq(seq) = self.moment {
            return record.seq().0 > *seq;
        }
        self.now || self.until.is_some_and(|until| record.time().0 > until)
    }

    fn saw(&mut self, record: &Record) {
        match (self.moment, record) {
            (Moment::Fault(index), Record::Fault(_)) => {
                self.now = self.faults == *index;
                self.faults += 1;
            }
            (Moment::Phase(name), Record::Mark(row)) => self.now |= row.name == *name,
            _ => {}
        }
    }

    /// Fails if the trace has ended and the moment has not come.
    fn at_end(&self, trace: &Trace, vm: VmId) -> Result<(), SnapshotError> {
        match self.moment {
            Moment::Fault(index) if !self.now => Err(TableError::NoFault {
                index: *index,
                faults: self.faults,
            }
            .into()),
            Moment::Phase(name) if !self.now => Err(TableError::NoPhase {
                name: name.clone(),
                known: phases(trace, vm)?,
            }
            .into()),
            _ => Ok(()),
        }
    }
}

/// Names of the VM's phases, each once, in order.
fn phases(trace: &Trace, vm: VmId) -> Result<Vec<String>, TraceError> {
    let mut names: Vec<String> = Vec::new();
    for segment in trace.of_kind(MarkRow::KIND) {
        for row in trace.segment_rows::<MarkRow>(segment)? {
            if row.vm == vm && row.ends_keyframe().is_none() && !names.contains(&row.name) {
                names.push(row.name);
            }
        }
    }
    Ok(names)
}
