//! Where replay may begin, so that it reads no more of a trace than it must.
//!
//! The list of segments tells which stretches can hold a moment, and `marks` where keyframes end.
//! Replay that begins with the last keyframe in front of the moment comes to the same tables as
//! replay of everything, once that keyframe is whole. What keyframes do not carry is read beside
//! them: each vCPU's root, from `roots`. A trace that does not allow it is read from its start.

use std::collections::BTreeMap;

use events::{Seq, VcpuId, VmId};
use polars::prelude::{DataFrame, PolarsResult};
use trace::{FaultRow, KeyframeRow, MarkRow, Part, RootRow, Row, Segment, Trace, TraceError};

use super::{Moment, SnapshotError, TableError, users::users};
use crate::replay::CurrentRoot;

/// Name of a keyframe's row in `marks`.
const KEYFRAME: &str = "keyframe";
/// Level of a root that is no shadow page, of which keyframes say nothing.
const PAE_LEVEL: u8 = 3;
/// Keyframes tried before the trace is read from its start.
const TRIED: usize = 4;

/// A place to begin.
#[derive(Clone, Debug)]
pub(super) struct Begin {
    /// What to read.
    pub part: Part,
    /// The mark that ends the keyframe: before it nothing is known.
    pub mark: Seq,
    /// Each vCPU's root before.
    pub roots: BTreeMap<VcpuId, CurrentRoot>,
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
    keyframe: u32,
}

/// The places to begin for all of `moments`, the nearest first.
pub(super) fn begins(
    trace: &Trace,
    vm: VmId,
    moments: &[Moment],
    span: [u64; 2],
) -> Result<Vec<Begin>, SnapshotError> {
    let mut earliest: Option<Bound> = None;
    for moment in moments {
        let Some(bound) = bound(trace, vm, moment, span)? else {
            return Ok(Vec::new());
        };
        earliest = Some(earliest.map_or(bound, |other| Bound {
            time: other.time.min(bound.time),
            seq: other.seq.min(bound.seq),
            to: other.to.max(bound.to),
        }));
    }
    let Some(bound) = earliest else {
        return Ok(Vec::new());
    };
    let marks = marks(trace, vm, bound)?;
    if marks.is_empty() {
        return Ok(Vec::new());
    }
    let roots = roots(trace, vm, bound.to)?;
    if roots.iter().any(|(_, row)| row.level.0 <= PAE_LEVEL) {
        return Ok(Vec::new());
    }
    let counts = moments
        .iter()
        .any(|moment| matches!(moment, Moment::Fault(_)));
    let mut begins = Vec::new();
    for mark in marks {
        let from = first_stretch(trace, vm, &mark)?;
        let skipped = |segment: &Segment| segment.segment < from;
        let mut left_out = trace.segments().iter().filter(|segment| skipped(segment));
        if left_out.any(|segment| segment.time_ns[1] > bound.time) {
            continue;
        }
        begins.push(Begin {
            part: Part {
                from,
                to: bound.to,
                tables_of: Some(vm),
            },
            mark: mark.seq,
            roots: users(trace, vm, &roots, from)?,
            faults: match counts {
                true => faults_before(trace, vm, from)?,
                false => 0,
            },
        });
    }
    Ok(begins)
}

/// `None` where the trace must be read to know.
fn bound(
    trace: &Trace,
    vm: VmId,
    moment: &Moment,
    span: [u64; 2],
) -> Result<Option<Bound>, SnapshotError> {
    let all = Bound {
        time: u64::MAX,
        seq: u64::MAX,
        to: u32::MAX,
    };
    // A stretch is let go when the next has been read.
    let until = |stretch: Option<u32>| stretch.map_or(u32::MAX, |to| to.saturating_add(1));
    let first = |is_after: &dyn Fn(&Segment) -> bool| {
        let after = trace.segments().iter().filter(|segment| is_after(segment));
        until(after.map(|segment| segment.segment).min())
    };
    if let Some(time) = moment.time(span)? {
        let to = first(&|segment| segment.time_ns[1] > time);
        return Ok(Some(Bound { time, to, ..all }));
    }
    let last = trace.segments().iter().map(|segment| segment.seq[1]).max();
    if let (Moment::Seq(seq), Some(last)) = (moment, last)
        && *seq > last
    {
        return Err(TableError::NoSeq { seq: *seq, last }.into());
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
pub(super) fn in_order<R: Row>(trace: &Trace) -> Vec<&Segment> {
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

/// The last keyframes that end within the bound, the latest first.
fn marks(trace: &Trace, vm: VmId, bound: Bound) -> Result<Vec<Mark>, TraceError> {
    let mut marks = Vec::new();
    for segment in in_order::<MarkRow>(trace).into_iter().rev() {
        if segment.segment > bound.to || segment.seq[0] > bound.seq {
            continue;
        }
        let mut rows = trace.segment_rows::<MarkRow>(segment)?;
        rows.retain(|row| {
            row.vm == vm
                && row.name == KEYFRAME
                && row.seq.0 <= bound.seq
                && row.time_ns.0 <= bound.time
        });
        rows.sort_by_key(|row| std::cmp::Reverse(row.seq));
        marks.extend(rows.iter().filter_map(|row| {
            Some(Mark {
                stretch: segment.segment,
                seq: row.seq,
                keyframe: row.keyframe?,
            })
        }));
        if marks.len() >= TRIED {
            marks.truncate(TRIED);
            break;
        }
    }
    Ok(marks)
}

/// The stretch from which on the order of the records is the same whatever was read before: all
/// earlier ones hold only numbers below that of the keyframe's first page.
fn first_stretch(trace: &Trace, vm: VmId, mark: &Mark) -> Result<u32, TraceError> {
    let mut first = (mark.stretch, mark.seq.0);
    for segment in in_order::<KeyframeRow>(trace).into_iter().rev() {
        if segment.segment > mark.stretch {
            continue;
        }
        let frame = trace.segment::<KeyframeRow>(segment, Some(&["seq", "vm", "keyframe"]))?;
        let lowest = lowest_of(&frame, vm, mark.keyframe).map_err(strange(trace, segment))?;
        match lowest {
            Some(seq) => first = (segment.segment, first.1.min(seq)),
            None if segment.segment < first.0 => break,
            None => {}
        }
    }
    let (stretch, seq) = first;
    let mixed = trace.segments().iter();
    let mixed = mixed.filter(|segment| segment.segment < stretch && segment.seq[1] >= seq);
    Ok(mixed
        .map(|segment| segment.segment)
        .min()
        .unwrap_or(stretch))
}

/// The lowest number of a keyframe's rows.
fn lowest_of(frame: &DataFrame, vm: VmId, keyframe: u32) -> PolarsResult<Option<u64>> {
    let vms = frame.column("vm")?.u16()?.iter();
    let keyframes = frame.column("keyframe")?.u32()?.iter();
    let numbers = frame.column("seq")?.u64()?.iter();
    let own = vms
        .zip(keyframes)
        .zip(numbers)
        .filter(|((of, number), _)| *of == Some(vm.0) && *number == Some(keyframe));
    Ok(own.filter_map(|(_, seq)| seq).min())
}

/// What was told of the VM's roots up to a stretch, each with its own.
fn roots(trace: &Trace, vm: VmId, to: u32) -> Result<Vec<(u32, RootRow)>, TraceError> {
    let mut roots = Vec::new();
    for segment in in_order::<RootRow>(trace) {
        if segment.segment > to {
            break;
        }
        let mut rows = trace.segment_rows::<RootRow>(segment)?;
        rows.sort_by_key(|row| row.seq);
        // Of a stretch only the last of each vCPU counts for those after it.
        let latest: BTreeMap<_, _> = rows
            .into_iter()
            .filter(|row| row.vm == vm)
            .map(|row| ((row.vcpu, row.level.0 <= PAE_LEVEL), row))
            .collect();
        roots.extend(latest.into_values().map(|row| (segment.segment, row)));
    }
    Ok(roots)
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
pub(super) fn strange(
    trace: &Trace,
    segment: &Segment,
) -> impl FnOnce(polars::prelude::PolarsError) -> TraceError {
    let path = trace.path().join(&segment.kind);
    move |error| TraceError::Encode {
        path,
        why: error.to_string(),
    }
}
