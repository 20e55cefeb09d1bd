//! How long the analyzer takes to show a shadow table at a moment of a long trace.
//!
//! The trace is that of a guest whose dirty log is fetched all the time: 800 records a pass.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::{
    guest::{COLLECTOR, meta},
    replay::analyzer_of_this_build,
    session::progress,
    spread::Spread,
};

/// Moments asked for, evenly spread over the life of the guest.
const MOMENTS: u64 = 9;
/// How often each is asked for.
const TIMES: usize = 3;

/// What `analyzer table --at` took, from start to exit.
#[derive(Debug, Serialize)]
pub struct Moments {
    pub records: u64,
    /// Over all moments.
    pub seconds: Spread,
}

/// Records a long trace and asks for moments of it; `None` where there is no analyzer.
pub fn measure(passes: u64, folder: &Path) -> anyhow::Result<Option<Moments>> {
    let analyzer = analyzer_of_this_build();
    if !analyzer.is_file() {
        return Ok(None);
    }
    let trace = folder.join("moments.trace");
    record(passes, &trace)?;
    let meta = meta(&trace)?;
    let end = meta.end.context("the recording has no end")?;
    let vm = meta.vms.first().context("the guest is not in the trace")?;
    let mut seconds = Vec::new();
    let life = end.time_ns.saturating_sub(vm.from_ns);
    for moment in 1..=MOMENTS {
        let at = vm.from_ns + life / (MOMENTS + 1) * moment;
        for _ in 0..TIMES {
            seconds.push(ask(&analyzer, &trace, vm.vm, at)?);
        }
    }
    Ok(Some(Moments {
        records: end.records,
        seconds: Spread::of(seconds),
    }))
}

fn ask(analyzer: &Path, trace: &Path, vm: u16, at: u64) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let status = Command::new(analyzer)
        .arg("table")
        .arg(trace)
        .args(["--vm", &vm.to_string(), "--at", &at.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("while starting the analyzer")?;
    ensure!(status.success(), "`analyzer table` ended with {status}");
    Ok(begin.elapsed().as_secs_f64())
}

fn record(passes: u64, trace: &Path) -> anyhow::Result<()> {
    progress("a long trace");
    let status = Command::new(COLLECTOR)
        .args([
            "run",
            "dirty",
            "--keyframe-every",
            "0.5",
            "--ring-mib",
            "128",
        ])
        .arg(format!("--param=passes={passes}"))
        .args(["--timeout", "1200", "--output"])
        .arg(trace)
        .env_remove("SUDO_UID")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("while starting {COLLECTOR}"))?;
    ensure!(
        status.success(),
        "`collector run dirty` ended with {status}"
    );
    Ok(())
}
