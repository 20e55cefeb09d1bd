//! The fault that represents a class: the first that is the workload's own work.

use events::{Class, Seq, VmId};
use polars::prelude::PolarsError;
use trace::{FaultRow, MarkRow, Row as _, Trace, TraceError};

/// Phases in which a guest sets itself up.
const BRING_UP: [&str; 2] = ["start", "map"];

/// The first fault of a class that is the workload's own work: on the range that it works on, or
/// else after the guest had set itself up. `None` if no workload is known, or no such fault.
pub(super) fn own_work(trace: &Trace, vm: VmId, class: Class) -> Result<Option<Seq>, TraceError> {
    let Some(workload) = trace.meta().workload.as_ref() else {
        return Ok(None);
    };
    let bytes = workload.range_pages.saturating_mul(4096);
    let outside = |gva: u64| {
        let offset = gva.checked_sub(workload.range_gva);
        offset.is_none_or(|offset| offset >= bytes)
    };
    let Some(up) = set_up(trace, vm)? else {
        return Ok(None);
    };
    let frame = trace.frame::<FaultRow>(Some(&["seq", "vm", "class", "gva"]))?;
    let column = |name: &str| {
        let column = frame.column(name);
        column.map_err(failed(trace, name))
    };
    let class = class.name();
    let seqs = column("seq")?.u64().map_err(failed(trace, "seq"))?;
    let vms = column("vm")?.u16().map_err(failed(trace, "vm"))?;
    let classes = column("class")?.str().map_err(failed(trace, "class"))?;
    let gvas = column("gva")?.u64().map_err(failed(trace, "gva"))?;
    let rows = seqs
        .iter()
        .zip(vms.iter())
        .zip(classes.iter())
        .zip(gvas.iter());
    let own = rows.filter_map(|(((seq, of), name), gva)| {
        let (seq, outside) = (seq?, outside(gva?));
        let wanted = of == Some(vm.0) && name == Some(class) && !(outside && seq < up.0);
        wanted.then_some((outside, Seq(seq)))
    });
    Ok(own.min().map(|(_, seq)| seq))
}

/// The mark at which the guest of a workload was set up.
fn set_up(trace: &Trace, vm: VmId) -> Result<Option<Seq>, TraceError> {
    let marks = trace.frame::<MarkRow>(None)?;
    let marks = MarkRow::from_frame(&marks, &trace.path().join(MarkRow::KIND))?;
    let work = marks.iter().filter(|mark| {
        mark.vm == vm && mark.keyframe.is_none() && !BRING_UP.contains(&mark.name.as_str())
    });
    Ok(work.map(|mark| mark.seq).min())
}

fn failed(trace: &Trace, column: &str) -> impl FnOnce(PolarsError) -> TraceError {
    let (path, column) = (trace.path().join(FaultRow::KIND), column.to_owned());
    move |error| TraceError::Column {
        path,
        column,
        why: error.to_string(),
    }
}
