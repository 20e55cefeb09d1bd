//! All kinds merged into the one order of their sequence numbers.

use std::collections::BTreeSet;

use events::{Gfn, Hpa, Level, Role, Seq, Spte, TimeNs, VmId};

use crate::{
    EntryRow, FaultRow, KeyframeRow, LossRow, MarkRow, PageRow, RootRow, Row, Trace, TraceError,
};

/// A record of any kind.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all records are faults: a box for each would cost more"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// From `faults`.
    Fault(FaultRow),
    /// From `entries`.
    Entry(EntryRow),
    /// From `pages`.
    Page(PageRow),
    /// From `roots`.
    Root(RootRow),
    /// From `marks`.
    Mark(MarkRow),
    /// From `keyframes`, one page.
    Keyframe(KeyframePage),
    /// From `losses`.
    Loss(LossRow),
}

/// One page of a keyframe with its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyframePage {
    /// See [`KeyframeRow::seq`].
    pub seq: Seq,
    /// See [`KeyframeRow::time_ns`].
    pub time: TimeNs,
    /// See [`KeyframeRow::vm`].
    pub vm: VmId,
    /// See [`KeyframeRow::keyframe`].
    pub keyframe: u32,
    /// See [`KeyframeRow::spt`].
    pub spt: Hpa,
    /// See [`KeyframeRow::gfn`].
    pub gfn: Gfn,
    /// See [`KeyframeRow::role`].
    pub role: Role,
    /// See [`KeyframeRow::level`].
    pub level: Level,
    /// No guest table behind it.
    pub direct: bool,
    /// Unsync.
    pub unsync: bool,
    /// See [`KeyframeRow::root_count`].
    pub root_count: u32,
    /// The entries that are not empty, by index.
    pub entries: Vec<(u16, Spte)>,
}

impl Record {
    /// Place in the order of all records.
    pub fn seq(&self) -> Seq {
        match self {
            Record::Fault(row) => row.seq,
            Record::Entry(row) => row.seq,
            Record::Page(row) => row.seq,
            Record::Root(row) => row.seq,
            Record::Mark(row) => row.seq,
            Record::Keyframe(page) => page.seq,
            Record::Loss(row) => row.seq,
        }
    }

    /// When.
    pub fn time(&self) -> TimeNs {
        match self {
            Record::Fault(row) => row.time_ns,
            Record::Entry(row) => row.time_ns,
            Record::Page(row) => row.time_ns,
            Record::Root(row) => row.time_ns,
            Record::Mark(row) => row.time_ns,
            Record::Keyframe(page) => page.time,
            Record::Loss(row) => row.time_ns,
        }
    }

    /// Which VM.
    pub fn vm(&self) -> VmId {
        match self {
            Record::Fault(row) => row.vm,
            Record::Entry(row) => row.vm,
            Record::Page(row) => row.vm,
            Record::Root(row) => row.vm,
            Record::Mark(row) => row.vm,
            Record::Keyframe(page) => page.vm,
            Record::Loss(row) => row.vm,
        }
    }
}

/// Iterator over [`Trace::records`].
///
/// A record gets its number under `mmu_lock` and may reach the ring a little later, so one
/// stretch of time is held back until the next has been read. What comes later still (a fault
/// without effect on the tables, closed by the next event of its vCPU) is passed on where it is.
#[derive(Debug)]
pub struct Records<'a> {
    trace: &'a Trace,
    numbers: std::vec::IntoIter<u32>,
    ready: std::vec::IntoIter<Record>,
    held: Vec<Record>,
    failed: bool,
}

impl<'a> Records<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        let numbers: BTreeSet<u32> = trace
            .segments()
            .iter()
            .map(|segment| segment.segment)
            .collect();
        Self {
            trace,
            numbers: numbers.into_iter().collect::<Vec<_>>().into_iter(),
            ready: Vec::new().into_iter(),
            held: Vec::new(),
            failed: false,
        }
    }

    fn load(&self, number: u32) -> Result<Vec<Record>, TraceError> {
        let mut records = Vec::new();
        for segment in self
            .trace
            .segments()
            .iter()
            .filter(|segment| segment.segment == number)
        {
            let trace = self.trace;
            match segment.kind.as_str() {
                FaultRow::KIND => {
                    records.extend(trace.rows_of(segment)?.into_iter().map(Record::Fault))
                }
                EntryRow::KIND => {
                    records.extend(trace.rows_of(segment)?.into_iter().map(Record::Entry))
                }
                PageRow::KIND => {
                    records.extend(trace.rows_of(segment)?.into_iter().map(Record::Page))
                }
                RootRow::KIND => {
                    records.extend(trace.rows_of(segment)?.into_iter().map(Record::Root))
                }
                MarkRow::KIND => {
                    records.extend(trace.rows_of(segment)?.into_iter().map(Record::Mark))
                }
                LossRow::KIND => {
                    records.extend(trace.rows_of(segment)?.into_iter().map(Record::Loss))
                }
                KeyframeRow::KIND => pages(trace.rows_of(segment)?, &mut records),
                // A kind that a later version added.
                _ => {}
            }
        }
        Ok(records)
    }

    /// Reads the next stretch and lets go of the one before.
    fn advance(&mut self) -> Result<bool, TraceError> {
        let Some(number) = self.numbers.next() else {
            let last = std::mem::take(&mut self.held);
            let more = !last.is_empty();
            self.ready = last.into_iter();
            return Ok(more);
        };
        let until = self.held.last().map(Record::seq);
        let mut loaded = self.load(number)?;
        let mut held = std::mem::take(&mut self.held);
        held.append(&mut loaded);
        held.sort_by_key(Record::seq);
        let split = match until {
            Some(until) => held.partition_point(|record| record.seq() <= until),
            None => 0,
        };
        self.held = held.split_off(split);
        self.ready = held.into_iter();
        Ok(true)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.next() {
                return Some(Ok(record));
            }
            if self.failed {
                return None;
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Rows of one page follow its own row and share its seq.
fn pages(rows: Vec<KeyframeRow>, records: &mut Vec<Record>) {
    let mut page: Option<KeyframePage> = None;
    for row in rows {
        if let (Some(page), Some(index), Some(spte)) = (&mut page, row.index, row.spte)
            && page.seq == row.seq
        {
            page.entries.push((index, spte));
            continue;
        }
        records.extend(page.take().map(Record::Keyframe));
        page = Some(KeyframePage {
            seq: row.seq,
            time: row.time_ns,
            vm: row.vm,
            keyframe: row.keyframe,
            spt: row.spt,
            gfn: row.gfn,
            role: row.role,
            level: row.level,
            direct: row.direct != 0,
            unsync: row.unsync != 0,
            root_count: row.root_count,
            entries: row.index.zip(row.spte).into_iter().collect(),
        });
    }
    records.extend(page.map(Record::Keyframe));
}
