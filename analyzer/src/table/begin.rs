//! Where replay may begin, so that it reads no more of a trace than it must.
//!
//! The list of segments says which stretches can hold a moment, and `marks` where keyframes end. A
//! keyframe has every shadow page and the root of every vCPU: replay that begins with the last one
//! before the moment comes to the same state as replay of everything. A trace whose keyframes have
//! no roots is read from its start.

use events::{Seq, VmId};
use polars::prelude::{DataFrame, PolarsResult};
use trace::{
    FaultRow, KeyframeMark, KeyframeRow, MarkRow, Part, RootRow, Row, Segment, Trace, TraceError,
};

use super::{Moment, SnapshotError};

/// A place to begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin {
    /// What to read.
    pub part: Part,
    /// The mark that ends the keyframe: before it nothing is known.
    pub mark: Seq,
    /// Faults of the VM before.
    pub faults: u64,
}

/// What a moment says of the records before it.
#[derive(Clone, Copy)]
struct Bound {
    /// None has a later time, ns.
    time: u64,
    /// None has a higher number.
    seq: u64,
    /// The last stretch with any of them.
    to: u32,
}

/// A keyframe's mark, and its stretch.
struct Mark {
    stretch: u32,
    seq: Seq,
    keyframe: KeyframeMark,
}

/// The nearest place to begin for all of `moments`; `None` where the trace must be read from its
/// start.
pub(super) fn nearest(
    trace: &Trace,
    vm: VmId,
    moments: &[Moment],
) -> Result<Option<Begin>, SnapshotError> {
    if !trace.meta().sees().keyframe_roots {
        return Ok(None);
    }
    let Some(bound) = earliest(trace, vm, moments)? else {
        return Ok(None);
    };
    let counts = moments
        .iter()
        .any(|moment| matches!(moment, Moment::Fault(_)));
    for segment in in_order::<MarkRow>(trace).into_iter().rev() {
        for mark in marks(trace, vm, segment, bound)? {
            let Some(from) = first_stretch(trace, vm, &mark)? else {
                continue;
            };
            let mut left_out = trace.segments().iter().filter(|other| other.segment < from);
            if left_out.any(|other| other.time_ns[1] > bound.time) {
                continue;
            }
            return Ok(Some(Begin {
                part: Part {
                    from,
                    to: bound.to,
                    tables_of: Some(vm),
                },
                mark: mark.seq,
                faults: match counts {
                    true => faults_before(trace, vm, from)?,
                    false => 0,
                },
            }));
        }
    }
    Ok(None)
}

/// The bound of the earliest moment, and the last stretch of any.
fn earliest(trace: &Trace, vm: VmId, moments: &[Moment]) -> Result<Option<Bound>, SnapshotError> {
    let mut earliest: Option<Bound> = None;
    for moment in moments {
        let Some(bound) = bound(trace, vm, moment)? else {
            return Ok(None);
        };
        earliest = Some(earliest.map_or(bound, |other| Bound {
            time: other.time.min(bound.time),
            seq: other.seq.min(bound.seq),
            to: other.to.max(bound.to),
        }));
    }
    Ok(earliest)
}

/// `None` where the trace must be read to know.
fn bound(trace: &Trace, vm: VmId, moment: &Moment) -> Result<Option<Bound>, SnapshotError> {
    let all = Bound {
        time: u64::MAX,
        seq: u64::MAX,
        to: u32::MAX,
    };
    // A stretch's records are passed on when the next has been read.
    let until = |stretch: Option<u32>| stretch.map_or(u32::MAX, |to| to.saturating_add(1));
    let first = |is_after: &dyn Fn(&Segment) -> bool| {
        let after = trace.segments().iter().filter(|segment| is_after(segment));
        until(after.map(|segment| segment.segment).min())
    };
    if let Some(time) = moment.clock(trace)? {
        let to = first(&|segment| segment.time_ns[1] > time);
        return Ok(Some(Bound { time, to, ..all }));
    }
    Ok(match moment {
        Moment::Seq(seq) => Some(Bound {
            seq: *seq,
            to: first(&|segment| segment.seq[1] > *seq),
            ..all
        }),
        Moment::Phase(name) => phase(trace, vm, name)?.map(|(stretch, seq)| Bound {
            seq: seq.0.saturating_sub(1),
            to: until(Some(stretch)),
            ..all
        }),
        Moment::Fault(index) => fault(trace, vm, *index)?.map(|(stretch, seq)| Bound {
            seq: seq.0.saturating_sub(1),
            to: until(Some(stretch)),
            ..all
        }),
        _ => Some(all),
    })
}

/// Segments of a kind by their stretch.
fn in_order<R: Row>(trace: &Trace) -> Vec<&Segment> {
    let mut segments: Vec<_> = trace.of_kind(R::KIND).collect();
    segments.sort_by_key(|segment| segment.segment);
    segments
}

/// The first mark of a name.
fn phase(trace: &Trace, vm: VmId, name: &str) -> Result<Option<(u32, Seq)>, TraceError> {
    for segment in in_order::<MarkRow>(trace) {
        let rows = trace.segment_rows::<MarkRow>(segment)?;
        let named = rows.iter().filter(|row| row.vm == vm && row.name == name);
        if let Some(seq) = named.map(|row| row.seq).min() {
            return Ok(Some((segment.segment, seq)));
        }
    }
    Ok(None)
}

/// The keyframes of a segment of `marks` that end within the bound, the latest first.
fn marks(
    trace: &Trace,
    vm: VmId,
    segment: &Segment,
    bound: Bound,
) -> Result<Vec<Mark>, TraceError> {
    if segment.segment > bound.to || segment.seq[0] > bound.seq {
        return Ok(Vec::new());
    }
    let mut rows = trace.segment_rows::<MarkRow>(segment)?;
    rows.retain(|row| row.vm == vm && row.seq.0 <= bound.seq && row.time_ns.0 <= bound.time);
    rows.sort_by_key(|row| std::cmp::Reverse(row.seq));
    let marks = rows.iter().filter_map(|row| {
        Some(Mark {
            stretch: segment.segment,
            seq: row.seq,
            keyframe: row.ends_keyframe()?,
        })
    });
    Ok(marks.collect())
}

/// The stretch from which on the order of the records is the same whatever was read before: all
/// earlier ones hold only numbers below that of the keyframe's first record. `None` for a keyframe
/// that lost pages.
fn first_stretch(trace: &Trace, vm: VmId, mark: &Mark) -> Result<Option<u32>, TraceError> {
    let mut first = First {
        stretch: mark.stretch,
        seq: mark.seq.0,
        rows: 0,
    };
    // The roots come after the pages, but there may be no page.
    first.look_at::<RootRow>(trace, vm, mark, &["seq", "vm", "keyframe"])?;
    first.rows = 0;
    first.look_at::<KeyframeRow>(trace, vm, mark, &["seq", "vm", "keyframe", "index"])?;
    if first.rows < u64::from(mark.keyframe.pages) {
        return Ok(None);
    }
    let mixed = trace.segments().iter();
    let mixed =
        mixed.filter(|segment| segment.segment < first.stretch && segment.seq[1] >= first.seq);
    let lowest = mixed.map(|segment| segment.segment).min();
    Ok(Some(lowest.unwrap_or(first.stretch)))
}

/// Where a keyframe begins.
struct First {
    stretch: u32,
    /// Its lowest number.
    seq: u64,
    /// Rows of pages or of roots.
    rows: u64,
}

impl First {
    /// Goes back through the segments of a kind that a keyframe's rows are in.
    fn look_at<R: Row>(
        &mut self,
        trace: &Trace,
        vm: VmId,
        mark: &Mark,
        columns: &[&str],
    ) -> Result<(), TraceError> {
        let segments = in_order::<R>(trace).into_iter().rev();
        for segment in segments.filter(|segment| segment.segment <= mark.stretch) {
            let frame = trace.segment::<R>(segment, Some(columns))?;
            let part = part_of(&frame, vm, mark.keyframe).map_err(strange(trace, segment))?;
            match part.lowest {
                Some(seq) => {
                    self.stretch = self.stretch.min(segment.segment);
                    self.seq = self.seq.min(seq);
                }
                None if segment.segment < self.stretch => break,
                None => {}
            }
            self.rows += part.rows;
        }
        Ok(())
    }
}

/// What a segment has of a keyframe.
#[derive(Default)]
struct KeyframePart {
    /// The lowest number of its rows.
    lowest: Option<u64>,
    /// Rows, those of entries left out.
    rows: u64,
}

fn part_of(frame: &DataFrame, vm: VmId, keyframe: KeyframeMark) -> PolarsResult<KeyframePart> {
    let vms = frame.column("vm")?.u16()?.iter();
    let keyframes = frame.column("keyframe")?.u32()?.iter();
    let numbers = frame.column("seq")?.u64()?.iter();
    let is_entry: Vec<bool> = match frame.column("index") {
        Ok(indexes) => indexes.u16()?.iter().map(|index| index.is_some()).collect(),
        Err(_) => vec![false; frame.height()],
    };
    let mut part = KeyframePart::default();
    for ((of, number), (seq, is_entry)) in vms.zip(keyframes).zip(numbers.zip(is_entry)) {
        if of == Some(vm.0) && number == Some(keyframe.number) {
            part.lowest = [part.lowest, seq].into_iter().flatten().min();
            part.rows += u64::from(!is_entry);
        }
    }
    Ok(part)
}

/// Where the VM's fault of a number is.
fn fault(trace: &Trace, vm: VmId, index: u64) -> Result<Option<(u32, Seq)>, TraceError> {
    let mut before = 0;
    for segment in in_order::<FaultRow>(trace) {
        let mut numbers = fault_numbers(trace, vm, segment)?;
        let within = usize::try_from(index - before).unwrap_or(usize::MAX);
        if within < numbers.len() {
            numbers.sort_unstable();
            return Ok(numbers.get(within).map(|seq| (segment.segment, Seq(*seq))));
        }
        before += numbers.len() as u64;
    }
    Ok(None)
}

/// How many faults the VM has in the stretches before one.
fn faults_before(trace: &Trace, vm: VmId, stretch: u32) -> Result<u64, TraceError> {
    let mut faults = 0;
    for segment in in_order::<FaultRow>(trace) {
        if segment.segment >= stretch {
            break;
        }
        faults += fault_numbers(trace, vm, segment)?.len() as u64;
    }
    Ok(faults)
}

/// Sequence numbers of the VM's faults in a segment.
fn fault_numbers(trace: &Trace, vm: VmId, segment: &Segment) -> Result<Vec<u64>, TraceError> {
    let frame = trace.segment::<FaultRow>(segment, Some(&["seq", "vm"]))?;
    let numbers = |frame: &DataFrame| -> PolarsResult<Vec<u64>> {
        let numbers = frame.column("seq")?.u64()?.iter();
        let vms = frame.column("vm")?.u16()?.iter();
        let own = numbers.zip(vms).filter(|(_, of)| *of == Some(vm.0));
        Ok(own.filter_map(|(seq, _)| seq).collect())
    };
    numbers(&frame).map_err(strange(trace, segment))
}

/// A column is not what the schema says.
fn strange(
    trace: &Trace,
    segment: &Segment,
) -> impl FnOnce(polars::prelude::PolarsError) -> TraceError {
    let path = trace.path().join(&segment.kind);
    move |error| TraceError::Encode {
        path,
        why: error.to_string(),
    }
}
