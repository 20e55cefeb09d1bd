//! All kinds merged into the one order of their sequence numbers.

use std::collections::BTreeMap;

use events::{Gfn, Hpa, Level, Role, Seq, Spte, TimeNs, VmId};

use crate::{
    EntryRow, FaultRow, HostRow, KeyframeRow, LossRow, MarkRow, PageRow, RootRow, Row, Segment,
    Trace, TraceError, WriteRow, stream::Stream,
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
    /// From `writes`.
    Write(WriteRow),
    /// From `host`.
    Host(HostRow),
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
    /// Guest frames of the leaves among them, by index, as far as the trace tells them.
    pub gfns: Vec<(u16, Gfn)>,
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
            Record::Write(row) => row.seq,
            Record::Host(row) => row.seq,
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
            Record::Write(row) => row.time_ns,
            Record::Host(row) => row.time_ns,
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
            Record::Write(row) => row.vm,
            Record::Host(row) => row.vm,
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
    stretches: std::vec::IntoIter<Vec<&'a Segment>>,
    /// Highest number of the stretch held back.
    held: Option<u64>,
    faults: Stream<FaultRow>,
    entries: Stream<EntryRow>,
    pages: Stream<PageRow>,
    roots: Stream<RootRow>,
    marks: Stream<MarkRow>,
    keyframes: Stream<KeyframeRow>,
    writes: Stream<WriteRow>,
    host: Stream<HostRow>,
    losses: Stream<LossRow>,
    ended: bool,
}

impl<'a> Records<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        let mut stretches = BTreeMap::<u32, Vec<&Segment>>::new();
        for segment in trace.segments() {
            stretches.entry(segment.segment).or_default().push(segment);
        }
        Self {
            trace,
            stretches: stretches.into_values().collect::<Vec<_>>().into_iter(),
            held: None,
            faults: Stream::default(),
            entries: Stream::default(),
            pages: Stream::default(),
            roots: Stream::default(),
            marks: Stream::default(),
            keyframes: Stream::default(),
            writes: Stream::default(),
            host: Stream::default(),
            losses: Stream::default(),
            ended: false,
        }
    }

    /// Reads the next stretch and lets go of the one before; `false` after the last.
    fn advance(&mut self) -> Result<bool, TraceError> {
        let segments = self.stretches.next();
        let until = match &segments {
            Some(segments) => {
                let last = segments.iter().map(|segment| segment.seq[1]).max();
                std::mem::replace(&mut self.held, last)
            }
            None => self.held.take().map(|_| u64::MAX),
        };
        let segment = |kind| {
            segments
                .iter()
                .flatten()
                .find(|segment| segment.kind == kind)
                .copied()
        };
        let trace = self.trace;
        self.faults.load(trace, segment(FaultRow::KIND), until)?;
        self.entries.load(trace, segment(EntryRow::KIND), until)?;
        self.pages.load(trace, segment(PageRow::KIND), until)?;
        self.roots.load(trace, segment(RootRow::KIND), until)?;
        self.marks.load(trace, segment(MarkRow::KIND), until)?;
        self.keyframes
            .load(trace, segment(KeyframeRow::KIND), until)?;
        self.writes.load(trace, segment(WriteRow::KIND), until)?;
        self.host.load(trace, segment(HostRow::KIND), until)?;
        self.losses.load(trace, segment(LossRow::KIND), until)?;
        Ok(segments.is_some() || until.is_some())
    }

    /// The lowest number of those that were let go.
    fn pop(&mut self) -> Result<Option<Record>, TraceError> {
        let fronts = [
            self.faults.peek()?,
            self.entries.peek()?,
            self.pages.peek()?,
            self.roots.peek()?,
            self.marks.peek()?,
            self.keyframes.peek()?,
            self.writes.peek()?,
            self.host.peek()?,
            self.losses.peek()?,
        ];
        let lowest = (0..)
            .zip(fronts)
            .filter_map(|(kind, seq)| Some((seq?, kind)))
            .min();
        Ok(match lowest.map(|(_, kind)| kind) {
            Some(0) => self.faults.next().map(Record::Fault),
            Some(1) => self.entries.next().map(Record::Entry),
            Some(2) => self.pages.next().map(Record::Page),
            Some(3) => self.roots.next().map(Record::Root),
            Some(4) => self.marks.next().map(Record::Mark),
            Some(5) => self.page()?.map(Record::Keyframe),
            Some(6) => self.writes.next().map(Record::Write),
            Some(7) => self.host.next().map(Record::Host),
            Some(8) => self.losses.next().map(Record::Loss),
            _ => None,
        })
    }

    /// A keyframe's page: its own row, and those of its entries, which share its number.
    fn page(&mut self) -> Result<Option<KeyframePage>, TraceError> {
        let Some(row) = self.keyframes.next() else {
            return Ok(None);
        };
        let mut page = KeyframePage {
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
            gfns: row.index.zip(row.leaf_gfn).into_iter().collect(),
        };
        while self.keyframes.peek()? == Some(page.seq)
            && let Some(row) = self.keyframes.next()
        {
            page.entries.extend(row.index.zip(row.spte));
            page.gfns.extend(row.index.zip(row.leaf_gfn));
        }
        Ok(Some(page))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            match self.pop() {
                Ok(Some(record)) => return Some(Ok(record)),
                Ok(None) => match self.advance() {
                    Ok(more) => self.ended = !more,
                    Err(error) => return Some(Err(self.fail(error))),
                },
                Err(error) => return Some(Err(self.fail(error))),
            }
        }
        None
    }
}

impl Records<'_> {
    /// After an error nothing follows.
    fn fail(&mut self, error: TraceError) -> TraceError {
        self.ended = true;
        error
    }
}
