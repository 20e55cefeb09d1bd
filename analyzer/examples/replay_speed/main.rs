//! Where the time of reading a trace goes, step by step, on one core.
//!
//! `replay_speed TRACE`

use std::{error::Error, hint::black_box, path::PathBuf, time::Instant};

use analyzer::{replay::Replay, study::replay_options};
use trace::{
    ActRow, EntryRow, FaultRow, HostRow, KeyframeRow, LossRow, MarkRow, PageRow, Record, RootRow,
    Row, Trace, WriteRow,
};

/// Records kept in memory at most: 2 million take 0.9 GiB.
const MOST: usize = 2_000_000;
const ROUNDS: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(
        std::env::args_os()
            .nth(1)
            .ok_or("usage: replay_speed TRACE")?,
    );
    let trace = Trace::open(&path)?;
    columns(&trace)?;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let mut number = 0_u64;
        for record in trace.records() {
            black_box(record?);
            number += 1;
        }
        say("records from disk, in order", number, begun);
    }
    let records: Vec<Record> = trace.records().take(MOST).collect::<Result<_, _>>()?;
    for _ in 0..ROUNDS {
        let mut replay = Replay::new(replay_options(&trace));
        let begun = Instant::now();
        for record in &records {
            replay.apply(record);
        }
        say("replay from memory", records.len() as u64, begun);
    }
    Ok(())
}

fn say(what: &str, number: u64, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{what:<30} {number:>10} in {seconds:.3} s, {:.2} million a second",
        number as f64 / seconds / 1e6
    );
}

/// Each kind in its columns.
fn columns(trace: &Trace) -> Result<(), Box<dyn Error>> {
    kind::<FaultRow>(trace)?;
    kind::<EntryRow>(trace)?;
    kind::<PageRow>(trace)?;
    kind::<RootRow>(trace)?;
    kind::<MarkRow>(trace)?;
    kind::<KeyframeRow>(trace)?;
    kind::<WriteRow>(trace)?;
    kind::<HostRow>(trace)?;
    kind::<ActRow>(trace)?;
    kind::<LossRow>(trace)
}

fn kind<R: Row>(trace: &Trace) -> Result<(), Box<dyn Error>> {
    if trace.rows(R::KIND) == 0 {
        return Ok(());
    }
    let begun = Instant::now();
    let frame = trace.frame::<R>(None)?;
    say(
        &format!("columns of {}", R::KIND),
        frame.height() as u64,
        begun,
    );
    let begun = Instant::now();
    // A slice at a time, as records are made.
    for start in (0..frame.height()).step_by(1024) {
        black_box(R::from_frame(
            &frame.slice(i64::try_from(start)?, 1024),
            trace.path(),
        )?);
    }
    say(
        &format!("rows of {}", R::KIND),
        frame.height() as u64,
        begun,
    );
    Ok(())
}
