//! All kinds merged into the one order of their sequence numbers.

use std::fmt;

use events::{Gfn, Hpa, Level, Role, Seq, Spte, TimeNs, VmId};

use crate::{
    EntryRow, FaultRow, HostRow, LossRow, MarkRow, PageRow, RootRow, Stretch, TraceError, WriteRow,
    stream::Stream,
};

/// Kinds of record, numbered in the order of [`Record`].
const KINDS: u8 = 9;

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
    /// See [`crate::KeyframeRow::seq`].
    pub seq: Seq,
    /// See [`crate::KeyframeRow::time_ns`].
    pub time_ns: TimeNs,
    /// See [`crate::KeyframeRow::vm`].
    pub vm: VmId,
    /// See [`crate::KeyframeRow::keyframe`].
    pub keyframe: u32,
    /// See [`crate::KeyframeRow::spt`].
    pub spt: Hpa,
    /// See [`crate::KeyframeRow::gfn`].
    pub gfn: Gfn,
    /// See [`crate::KeyframeRow::role`].
    pub role: Role,
    /// See [`crate::KeyframeRow::level`].
    pub level: Level,
    /// No guest table behind it.
    pub direct: bool,
    /// Unsync.
    pub unsync: bool,
    /// See [`crate::KeyframeRow::root_count`].
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
            Record::Keyframe(page) => page.time_ns,
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

/// The records of some stretches, in order.
///
/// A record gets its number under `mmu_lock` and may reach the ring a little later, so one
/// stretch of time is held back until the next has been read. What comes later still (a fault
/// without effect on the tables, closed by the next event of its vCPU) is passed on where it is.
pub struct Records<'a> {
    stretches: Box<dyn Iterator<Item = Result<Stretch, TraceError>> + Send + 'a>,
    /// Highest number of the stretch held back.
    held: Option<u64>,
    faults: Stream<FaultRow>,
    entries: Stream<EntryRow>,
    pages: Stream<PageRow>,
    roots: Stream<RootRow>,
    marks: Stream<MarkRow>,
    keyframes: Stream<KeyframePage>,
    writes: Stream<WriteRow>,
    host: Stream<HostRow>,
    losses: Stream<LossRow>,
    /// The kind that is taken from now, and the lowest number of all others.
    turn: Option<(u8, Seq)>,
    ended: bool,
}

impl<'a> Records<'a> {
    /// Merges stretches that come in order.
    pub fn new(stretches: impl Iterator<Item = Result<Stretch, TraceError>> + Send + 'a) -> Self {
        Self {
            stretches: Box::new(stretches),
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
            turn: None,
            ended: false,
        }
    }

    /// Takes the next stretch and lets go of the one before; `false` after the last.
    fn advance(&mut self) -> Result<bool, TraceError> {
        let Some(stretch) = self.stretches.next().transpose()? else {
            let Some(_) = self.held.take() else {
                return Ok(false);
            };
            let all = Some(u64::MAX);
            self.faults.load(None, all)?;
            self.entries.load(None, all)?;
            self.pages.load(None, all)?;
            self.roots.load(None, all)?;
            self.marks.load(None, all)?;
            self.keyframes.load(None, all)?;
            self.writes.load(None, all)?;
            self.host.load(None, all)?;
            self.losses.load(None, all)?;
            return Ok(true);
        };
        let until = self.held.replace(stretch.last);
        self.faults.load(stretch.faults, until)?;
        self.entries.load(stretch.entries, until)?;
        self.pages.load(stretch.pages, until)?;
        self.roots.load(stretch.roots, until)?;
        self.marks.load(stretch.marks, until)?;
        self.keyframes.load(stretch.keyframes, until)?;
        self.writes.load(stretch.writes, until)?;
        self.host.load(stretch.host, until)?;
        self.losses.load(stretch.losses, until)?;
        Ok(true)
    }

    /// The lowest number of a kind of those that were let go.
    fn front(&mut self, kind: u8) -> Result<Option<Seq>, TraceError> {
        match kind {
            0 => self.faults.peek(),
            1 => self.entries.peek(),
            2 => self.pages.peek(),
            3 => self.roots.peek(),
            4 => self.marks.peek(),
            5 => self.keyframes.peek(),
            6 => self.writes.peek(),
            7 => self.host.peek(),
            _ => self.losses.peek(),
        }
    }

    /// Whose turn it is: the kind with the lowest number, and up to which number of another kind.
    fn choose(&mut self) -> Result<Option<u8>, TraceError> {
        // Records of one kind come in runs: then one number is compared, not nine.
        if let Some((kind, others)) = self.turn
            && self.front(kind)?.is_some_and(|front| front < others)
        {
            return Ok(Some(kind));
        }
        let mut lowest: Option<(Seq, u8)> = None;
        let mut others = Seq(u64::MAX);
        for kind in 0..KINDS {
            let Some(front) = self.front(kind)? else {
                continue;
            };
            match lowest {
                Some((low, _)) if low <= front => others = others.min(front),
                _ => {
                    others = lowest.map_or(others, |(low, _)| low);
                    lowest = Some((front, kind));
                }
            }
        }
        self.turn = lowest.map(|(_, kind)| (kind, others));
        Ok(lowest.map(|(_, kind)| kind))
    }

    /// The lowest number of those that were let go.
    fn pop(&mut self) -> Result<Option<Record>, TraceError> {
        Ok(match self.choose()? {
            Some(0) => self.faults.next().map(Record::Fault),
            Some(1) => self.entries.next().map(Record::Entry),
            Some(2) => self.pages.next().map(Record::Page),
            Some(3) => self.roots.next().map(Record::Root),
            Some(4) => self.marks.next().map(Record::Mark),
            Some(5) => self.page()?.map(Record::Keyframe),
            Some(6) => self.writes.next().map(Record::Write),
            Some(7) => self.host.next().map(Record::Host),
            Some(_) => self.losses.next().map(Record::Loss),
            None => None,
        })
    }

    /// A keyframe's page with all its parts, which share its number.
    fn page(&mut self) -> Result<Option<KeyframePage>, TraceError> {
        let Some(mut page) = self.keyframes.next() else {
            return Ok(None);
        };
        while self.keyframes.peek()? == Some(page.seq)
            && let Some(part) = self.keyframes.next()
        {
            page.entries.extend(part.entries);
            page.gfns.extend(part.gfns);
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

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("held", &self.held)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Records<'_> {
    /// After an error nothing follows.
    fn fail(&mut self, error: TraceError) -> TraceError {
        self.ended = true;
        error
    }
}
