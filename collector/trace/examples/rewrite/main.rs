//! Writes traces again: how many bytes a record takes, and how much CPU time writing it. For what
//! a change of the encoding does to recordings that are there.
//!
//! `rewrite TRACE OUTPUT` leaves the new trace in the folder OUTPUT.

use std::{error::Error, path::Path, time::Duration};

use trace::{Batch, Row, Segment, Trace, TraceError, TraceWriter};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [from, to] = arguments.as_slice() else {
        return Err("usage: rewrite TRACE OUTPUT".into());
    };
    let trace = Trace::open(Path::new(from))?;
    let mut writer = TraceWriter::create(Path::new(to), trace.meta())?;
    let mut spent = Duration::ZERO;
    let numbers: std::collections::BTreeSet<u32> = trace
        .segments()
        .iter()
        .map(|segment| segment.segment)
        .collect();
    for number in numbers {
        let batch = stretch(&trace, number)?;
        let before = cpu_time()?;
        writer.write(&batch)?;
        spent += cpu_time()? - before;
    }
    let mut meta = trace.meta().clone();
    if let Some(end) = &mut meta.end {
        end.segments = writer.segments();
    }
    writer.meta_file().write(&meta)?;
    let (rows, faults) = (trace.listed_rows(), trace.rows(trace::FaultRow::KIND));
    println!(
        "{rows} rows, {faults} faults: {} bytes before, {} now; {:.3} s of CPU to write",
        trace.bytes(),
        writer.bytes(),
        spent.as_secs_f64()
    );
    Ok(())
}

/// The rows of all kinds in one stretch.
fn stretch(trace: &Trace, number: u32) -> Result<Batch, TraceError> {
    fn rows<R: Row>(trace: &Trace, number: u32) -> Result<Vec<R>, TraceError> {
        let of = |segment: &&Segment| segment.segment == number;
        let segment = trace.of_kind(R::KIND).find(of);
        segment.map_or(Ok(Vec::new()), |segment| trace.segment_rows(segment))
    }
    Ok(Batch {
        faults: rows(trace, number)?,
        entries: rows(trace, number)?,
        pages: rows(trace, number)?,
        roots: rows(trace, number)?,
        marks: rows(trace, number)?,
        keyframes: rows(trace, number)?,
        writes: rows(trace, number)?,
        host: rows(trace, number)?,
        acts: rows(trace, number)?,
        losses: rows(trace, number)?,
    })
}

/// CPU time of this process so far.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the clock exists on every Linux, and `time` is ours.
    if unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(Duration::new(
        time.tv_sec.try_into()?,
        time.tv_nsec.try_into()?,
    ))
}
