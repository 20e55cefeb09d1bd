//! The shadow tables of a VM at a moment.

mod change;
mod json;
mod moment;
mod ranges;
mod tree;

use std::ops::ControlFlow;

use events::{Hpa, Seq, TimeNs, VmId};
use trace::{Record, Trace, TraceError};

use crate::{
    replay::{Gaps, Replay, VmReplay},
    study::{read_ahead, replay_options},
};

pub use change::{Change, changes};
pub(crate) use change::{json as changes_json, text as changes_text};
pub use json::json;
pub use moment::{Moment, TableError};
pub use ranges::ranges;
pub use tree::{translation, tree};

/// The tables at a moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The replayed VM.
    pub vm: VmReplay,
    /// The last record applied.
    pub seq: Seq,
    /// Its time.
    pub time: TimeNs,
    /// First time of the trace, ns.
    pub start_ns: u64,
    /// Missing records since the tables were last known to be right, of whichever VM.
    pub missing: u64,
}

/// What can go wrong while taking a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There is no such moment.
    #[error(transparent)]
    Moment(#[from] TableError),
    /// The trace could not be read that far.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

/// The tables of `vm` at each of some moments, in one reading.
pub fn snapshots(
    trace: &Trace,
    vm: VmId,
    moments: &[Moment],
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Snapshot>, SnapshotError> {
    let span = trace.span_ns().unwrap_or_default();
    let mut waiting: Vec<(usize, Watch<'_>)> = Vec::new();
    for (number, moment) in moments.iter().enumerate() {
        let until = moment.time(span)?;
        waiting.push((
            number,
            Watch {
                moment,
                until,
                faults: 0,
                now: false,
            },
        ));
    }
    let mut now = Now {
        vm,
        replay: Replay::new(replay_options(trace)),
        gaps: Gaps::default(),
        last: (Seq(0), TimeNs(span[0])),
        start_ns: span[0],
    };
    let mut taken: Vec<(usize, Snapshot)> = Vec::new();
    let mut read = 0;
    let mut damage = None;
    read_ahead(trace, |record| {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                damage = Some(error);
                return ControlFlow::Break(());
            }
        };
        read += 1;
        if u64::is_multiple_of(read, 1 << 16) {
            progress(read);
        }
        waiting.retain(|(number, watch)| {
            let due = watch.is_before(&record);
            if due {
                taken.push((*number, now.snapshot()));
            }
            !due
        });
        if waiting.is_empty() {
            return ControlFlow::Break(());
        }
        now.apply(&record);
        if record.vm() == vm {
            waiting.iter_mut().for_each(|(_, watch)| watch.saw(&record));
        }
        ControlFlow::Continue(())
    });
    if let Some(error) = damage {
        return Err(error.into());
    }
    for (number, watch) in waiting {
        watch.at_end()?;
        taken.push((number, now.snapshot()));
    }
    taken.sort_by_key(|(number, _)| *number);
    Ok(taken.into_iter().map(|(_, snapshot)| snapshot).collect())
}

/// The tables as they are while the trace is read.
struct Now {
    vm: VmId,
    replay: Replay,
    gaps: Gaps,
    last: (Seq, TimeNs),
    start_ns: u64,
}

impl Now {
    fn apply(&mut self, record: &Record) {
        if matches!(record, Record::Loss(_)) {
            return;
        }
        self.gaps.observe(record.seq(), record.time());
        self.last = (record.seq(), record.time());
        if record.vm() == self.vm {
            self.replay.apply(record);
        }
    }

    fn snapshot(&self) -> Snapshot {
        let vm = self.replay.vm(self.vm).cloned().unwrap_or_default();
        let (seq, time) = self.last;
        let since = vm.last_keyframe().unwrap_or(Seq(0));
        Snapshot {
            missing: self.gaps.missing_between(since, seq),
            vm,
            seq,
            time,
            start_ns: self.start_ns,
        }
    }
}

/// A moment that has not come yet.
struct Watch<'a> {
    moment: &'a Moment,
    /// For a moment given by time.
    until: Option<u64>,
    faults: u64,
    /// The record that was waited for has been applied.
    now: bool,
}

impl Watch<'_> {
    /// Whether the moment lies before this record.
    fn is_before(&self, record: &Record) -> bool {
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

    fn at_end(&self) -> Result<(), TableError> {
        match self.moment {
            Moment::Fault(index) if !self.now => Err(TableError::NoFault {
                index: *index,
                faults: self.faults,
            }),
            Moment::Phase(name) if !self.now => Err(TableError::NoPhase { name: name.clone() }),
            _ => Ok(()),
        }
    }
}

impl Snapshot {
    /// Roots to show: all, or the one asked for.
    pub fn roots(&self, only: Option<Hpa>) -> Result<Vec<Hpa>, TableError> {
        let roots = self.vm.table_roots().all();
        match only {
            None => Ok(roots),
            Some(root) if self.is_table(root) => Ok(vec![root]),
            Some(root) => Err(TableError::NoRoot { root, known: roots }),
        }
    }

    /// Whether `root` is a shadow page or a PAE root.
    pub(super) fn is_table(&self, root: Hpa) -> bool {
        self.vm.tables().page(root.table()).is_some() || self.vm.pdptes(root).is_some()
    }
}
