//! How fast the analyzer replays a trace, on one core.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::{guest::Guest, spread::Spread};

/// Number of measurements.
const TIMES: usize = 5;

/// What `analyzer verify` did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    Measured {
        records: u64,
        /// From start to exit: reading, checking and replaying all of it.
        seconds: Spread,
        records_a_second: f64,
        /// Whether it found the trace exact.
        exact: bool,
    },
    /// Why there is no figure.
    Missing(String),
}

/// Records a long trace and replays it.
pub fn measure(guest: &Guest<'_>) -> anyhow::Result<Replay> {
    let analyzer = analyzer_of_this_build();
    if !analyzer.is_file() {
        let why = format!(
            "{} is not there: `cargo build --release` builds it",
            analyzer.display()
        );
        return Ok(Replay::Missing(why));
    }
    let recorded = guest
        .traced("long")?
        .recorded
        .context("a traced run recorded nothing")?;
    let mut seconds = Vec::new();
    let mut exact = true;
    for _ in 0..TIMES {
        let begin = Instant::now();
        let output = Command::new(&analyzer)
            .args(["verify", "--json"])
            .arg(&recorded.trace)
            .env("POLARS_MAX_THREADS", "1")
            .stdin(Stdio::null())
            .output()
            .context("while starting the analyzer")?;
        seconds.push(begin.elapsed().as_secs_f64());
        match output.status.code() {
            Some(0) => {}
            Some(1) if !output.stdout.is_empty() => exact = false,
            _ => {
                let said = String::from_utf8_lossy(&output.stderr);
                let why = format!(
                    "`analyzer verify` ended with {}: {}",
                    output.status,
                    said.trim()
                );
                return Ok(Replay::Missing(why));
            }
        }
    }
    let seconds = Spread::of(seconds);
    ensure!(seconds.median > 0.0, "the clock does not advance");
    Ok(Replay::Measured {
        records: recorded.records,
        records_a_second: recorded.records as f64 / seconds.median,
        seconds,
        exact,
    })
}

pub fn analyzer_of_this_build() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_collector")).with_file_name("analyzer")
}
