//! How many records a second replay alone takes, on one core: decoded before the clock starts.
//!
//! `replay_speed TRACE`

use std::{error::Error, path::PathBuf, time::Instant};

use analyzer::{replay::Replay, study::replay_options};
use trace::{Record, Trace};

/// Records decoded at most: 2 million take 0.9 GiB.
const MOST: usize = 2_000_000;
const ROUNDS: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(
        std::env::args_os()
            .nth(1)
            .ok_or("usage: replay_speed TRACE")?,
    );
    let trace = Trace::open(&path)?;
    let begun = Instant::now();
    let records: Vec<Record> = trace.records().take(MOST).collect::<Result<_, _>>()?;
    let decoding = begun.elapsed().as_secs_f64();
    let number = records.len() as f64;
    println!(
        "decoding: {:.2} million records a second",
        number / decoding / 1e6
    );
    for _ in 0..ROUNDS {
        let mut replay = Replay::new(replay_options(&trace));
        let begun = Instant::now();
        for record in &records {
            replay.apply(record);
        }
        let replaying = begun.elapsed().as_secs_f64();
        println!(
            "replay:   {:.2} million records a second",
            number / replaying / 1e6
        );
    }
    Ok(())
}
