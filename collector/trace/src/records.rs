//! All kinds merged into the one order of their sequence numbers.

use std::{fmt, vec};

use events::{Gfn, Hpa, Level, Role, Seq, Spte, TimeNs, VmId};

use crate::{
    ActRow, EntryRow, FaultRow, HostRow, LossRow, MarkRow, PageRow, RootRow, Stretch, TraceError,
    WriteRow, kinds::each_kind, stream::Stream,
};

macro_rules! record {
    ($($field:ident $kind:ident $row:ident $item:ident)+) => {
        /// A record of any kind.
        #[expect(
            clippy::large_enum_variant,
            reason = "nearly all records are faults: a box for each would cost more"
        )]
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Record {
            $(
                #[doc = concat!("From `", stringify!($field), "`.")]
                $kind($item),
            )+
        }

        impl Record {
            /// Place in the order of all records.
            pub fn seq(&self) -> Seq {
                match self {
                    $(Record::$kind(row) => row.seq,)+
                }
            }

            /// When.
            pub fn time(&self) -> TimeNs {
                match self {
                    $(Record::$kind(row) => row.time_ns,)+
                }
            }

            /// Which VM.
            pub fn vm(&self) -> VmId {
                match self {
                    $(Record::$kind(row) => row.vm,)+
                }
            }
        }
    };
}
each_kind!(record);

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
    /// It shadows no guest table.
    pub direct: bool,
    /// Unsync.
    pub unsync: bool,
    /// See [`crate::KeyframeRow::root_count`].
    pub root_count: u32,
    /// The entries that are not empty, by index.
    pub entries: Vec<(u16, Spte)>,
    /// Guest frames of the leaves among them, by index, as far as they are known.
    pub gfns: Vec<(u16, Gfn)>,
}

/// The records of some stretches, in order.
///
/// A record may reach the ring later than its number was taken, so one stretch of time is held
/// back until the next has been read. Most come microseconds late. A fault of any class waits for
/// the re-entry or the next event of its vCPU, however long that takes; its number is that of the
/// store of its leaf or, without one, of the moment when its outcome was known. What comes later
/// than one stretch is passed on where it is.
pub struct Records<'a> {
    stretches: Box<dyn Iterator<Item = Result<Stretch, TraceError>> + Send + 'a>,
    /// Highest number of the stretch held back.
    held: Option<u64>,
    streams: Streams,
    ended: bool,
    /// What the iterator gives next.
    run: vec::IntoIter<Record>,
    /// What it gives after that.
    failed: Option<TraceError>,
}

/// Records that the iterator takes at a time.
const RUN: usize = 64;

macro_rules! streams {
    ($($field:ident $kind:ident $row:ident $item:ident)+) => {
        /// Kinds of record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Kind {
            $($kind,)+
        }

        impl Kind {
            const ALL: &[Self] = &[$(Self::$kind),+];
        }

        /// The rows of each kind, in order.
        #[derive(Default)]
        struct Streams {
            $($field: Stream<$item>,)+
        }

        impl Streams {
            /// Takes the next stretch and passes on what is numbered up to `until`.
            fn load(&mut self, stretch: Stretch, until: Option<u64>) -> Result<(), TraceError> {
                $(self.$field.load(stretch.$field, until)?;)+
                Ok(())
            }

            /// Passes on all that was held back.
            fn end(&mut self) -> Result<(), TraceError> {
                $(self.$field.load(None, Some(u64::MAX))?;)+
                Ok(())
            }

            /// The lowest number of a kind of those that were passed on.
            fn peek(&mut self, kind: Kind) -> Result<Option<Seq>, TraceError> {
                match kind {
                    $(Kind::$kind => self.$field.peek(),)+
                }
            }

            /// Takes the records of a kind that come before `others`, at most `most`.
            fn take(
                &mut self,
                kind: Kind,
                (others, most): (Seq, usize),
                into: &mut Vec<Record>,
            ) -> Result<(), TraceError> {
                match kind {
                    $(Kind::$kind => {
                        let each = |row| into.push(Record::$kind(row));
                        self.$field.take(others, most, each)
                    })+
                }
            }
        }
    };
}
each_kind!(streams);

impl<'a> Records<'a> {
    /// Merges stretches that come in order.
    pub fn new(stretches: impl Iterator<Item = Result<Stretch, TraceError>> + Send + 'a) -> Self {
        Self {
            stretches: Box::new(stretches),
            held: None,
            streams: Streams::default(),
            ended: false,
            run: Vec::new().into_iter(),
            failed: None,
        }
    }

    /// Takes the next stretch and passes on the one before; `false` after the last.
    fn advance(&mut self) -> Result<bool, TraceError> {
        let Some(stretch) = self.stretches.next().transpose()? else {
            let more = self.held.take().is_some();
            if more {
                self.streams.end()?;
            }
            return Ok(more);
        };
        let until = self.held.replace(stretch.last);
        self.streams.load(stretch, until)?;
        Ok(true)
    }

    /// Whose turn it is: the kind with the lowest number, and the lowest number of another kind.
    fn choose(&mut self) -> Result<Option<(Kind, Seq)>, TraceError> {
        let mut lowest: Option<(Seq, Kind)> = None;
        let mut others = Seq(u64::MAX);
        for &kind in Kind::ALL {
            let Some(front) = self.streams.peek(kind)? else {
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
        Ok(lowest.map(|(_, kind)| (kind, others)))
    }

    /// Adds the next records to `into` until it has `most`, or there is no further one: then it ends
    /// with less. After an error nothing follows.
    pub fn fill(&mut self, into: &mut Vec<Record>, most: usize) -> Result<(), TraceError> {
        while !self.ended && into.len() < most {
            // Where something fails, this is the end.
            self.ended = true;
            self.ended = match self.choose()? {
                Some((kind, others)) => {
                    // Records of one kind come in runs.
                    let room = most - into.len();
                    self.streams.take(kind, (others, room), into)?;
                    false
                }
                None => !self.advance()?,
            };
        }
        Ok(())
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.run.next() {
                return Some(Ok(record));
            }
            if let Some(error) = self.failed.take() {
                return Some(Err(error));
            }
            if self.ended {
                return None;
            }
            let mut run = Vec::with_capacity(RUN);
            self.failed = self.fill(&mut run, RUN).err();
            self.run = run.into_iter();
        }
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
