//! A trace in its stretches of time, each kind in its columns.

use std::{collections::BTreeMap, path::PathBuf};

use events::VmId;
use polars::prelude::*;

use crate::{
    ActRow, EntryRow, FaultRow, HostRow, KeyframeRow, LossRow, MarkRow, PageRow, RootRow, Row,
    Segment, Trace, TraceError, WriteRow, kinds::each_kind,
};

/// Which part of a trace is read. By default all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First stretch; a segment's number is that of its stretch.
    pub from: u32,
    /// Last stretch; of this one only the kinds that may come before the end of the one before.
    pub to: u32,
    /// Only what changes the tables of this VM: of faults, the guest's entries, the slot and the
    /// time of each step are null, and the keyframes of other VMs have pages without entries.
    pub tables_of: Option<VmId>,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            from: 0,
            to: u32::MAX,
            tables_of: None,
        }
    }
}

/// What `faults` has for [`Part::tables_of`].
const FAULTS_OF_TABLES: [&str; 17] = [
    "seq",
    "time_ns",
    "vm",
    "vcpu",
    "class",
    "gva",
    "error_code",
    "cr3",
    "root",
    "gpa",
    "sptep",
    "spte",
    "level",
    "created",
    "reused",
    "zapped",
    "total_ns",
];

/// The rows of one kind in one stretch, and the file that they are from.
pub(crate) type Columns = Option<(DataFrame, PathBuf)>;

macro_rules! stretch {
    ($($field:ident $kind:ident $row:ident $item:ident)+) => {
        /// One stretch of time.
        #[derive(Debug)]
        pub struct Stretch {
            /// Highest sequence number, by the list of segments.
            pub(crate) last: u64,
            $(pub(crate) $field: Columns,)+
        }

        impl Stretches<'_> {
            fn read(&self, segments: &[&Segment], last: u64) -> Result<Stretch, TraceError> {
                Ok(Stretch {
                    last,
                    $($field: self.kind::<$row>(segments)?,)+
                })
            }
        }
    };
}
each_kind!(stretch);

/// The stretches of a [`Part`], in order.
#[derive(Debug)]
pub struct Stretches<'a> {
    trace: &'a Trace,
    part: Part,
    rest: std::vec::IntoIter<Vec<&'a Segment>>,
    /// Highest number of the stretch before.
    before: u64,
}

impl<'a> Stretches<'a> {
    pub(crate) fn new(trace: &'a Trace, part: Part) -> Self {
        let mut stretches = BTreeMap::<u32, Vec<&Segment>>::new();
        for segment in trace.segments() {
            if (part.from..=part.to).contains(&segment.segment) {
                stretches.entry(segment.segment).or_default().push(segment);
            }
        }
        Self {
            trace,
            part,
            rest: stretches.into_values().collect::<Vec<_>>().into_iter(),
            before: u64::MAX,
        }
    }

    fn kind<R: Row>(&self, segments: &[&Segment]) -> Result<Columns, TraceError> {
        let segment = segments.iter().find(|segment| segment.kind == R::KIND);
        let Some(segment) = segment else {
            return Ok(None);
        };
        let path = self.trace.path().join(segment.file());
        let Some(vm) = self.part.tables_of else {
            return Ok(Some((self.trace.segment::<R>(segment, None)?, path)));
        };
        let columns = (R::KIND == FaultRow::KIND).then_some(FAULTS_OF_TABLES.as_slice());
        let mut frame = self.trace.segment::<R>(segment, columns)?;
        if R::KIND == KeyframeRow::KIND {
            let own = without_other_entries(&frame, vm);
            frame = own.map_err(|error| TraceError::Encode {
                path: path.clone(),
                why: error.to_string(),
            })?;
        }
        Ok(Some((frame, path)))
    }
}

impl Iterator for Stretches<'_> {
    type Item = Result<Stretch, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut segments = self.rest.next()?;
        let last = segments.iter().map(|segment| segment.seq[1]).max();
        let before = std::mem::replace(&mut self.before, last.unwrap_or_default());
        // Its rows would be held back for a stretch that does not come.
        let all = self.part.to == u32::MAX;
        let to = self.part.to;
        segments.retain(|segment| all || segment.segment < to || segment.seq[0] <= before);
        Some(self.read(&segments, last.unwrap_or_default()))
    }
}

/// A keyframe's rows without the entries of other VMs' pages; the pages stay, for their numbers.
fn without_other_entries(frame: &DataFrame, vm: VmId) -> PolarsResult<DataFrame> {
    let vms = frame.column("vm")?.u16()?;
    if vms.iter().all(|other| other == Some(vm.0)) {
        return Ok(frame.clone());
    }
    let pages = frame.column("index")?.is_null();
    frame.filter(&(vms.equal(vm.0) | pages))
}
