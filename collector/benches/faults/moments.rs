//! How long the analyzer takes to show a shadow table at a moment of a long trace.
//!
//! The trace is that of several guests at once, by `attach`: one guest's faults are too few.

use std::{
    io,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::{
    guest::{COLLECTOR, meta},
    progress,
    replay::beside_the_collector,
    spread::Spread,
};

/// Guests at once, with three faults a page each.
const GUESTS: u32 = 4;
/// Seconds between two keyframes.
const KEYFRAMES: u32 = 2;
/// Moments asked for, evenly spread over the life of the first guest.
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
pub fn measure(pages: u64, folder: &Path) -> anyhow::Result<Option<Moments>> {
    let analyzer = beside_the_collector();
    if !analyzer.is_file() {
        return Ok(None);
    }
    let trace = folder.join("moments.trace");
    let first = record(pages, &trace)?;
    let meta = meta(&trace)?;
    let end = meta.end.context("the recording has no end")?;
    let vm = meta.vms.iter().find(|vm| vm.pid == first);
    let vm = vm.context("the first guest is not in the trace")?;
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
        .args(["--gva", "0x8000001000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("while starting the analyzer")?;
    ensure!(status.success(), "`analyzer table` ended with {status}");
    Ok(begin.elapsed().as_secs_f64())
}

/// Gives the first guest's process.
fn record(pages: u64, trace: &Path) -> anyhow::Result<u32> {
    let mut guests = Vec::new();
    for seed in 1..=GUESTS {
        guests.push(guest(pages, seed)?);
    }
    // They fill their tables first, which no probe sees.
    thread::sleep(Duration::from_secs(1));
    let mut recorder = Command::new(COLLECTOR)
        .args(["attach", "--all", "--ring-mib", "512", "--keyframe-every"])
        .arg(KEYFRAMES.to_string())
        .arg("--output")
        .arg(trace)
        .env_remove("SUDO_UID")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("while starting {COLLECTOR}"))?;
    let first = guests.first().map(Child::id).context("no guest")?;
    let mut ended = Ok(());
    for mut guest in guests {
        let status = guest.wait().context("while waiting for a guest")?;
        if !status.success() {
            ended = Err(anyhow::anyhow!(
                "`collector run linear` ended with {status}"
            ));
        }
    }
    let pid = libc::pid_t::try_from(recorder.id()).context("the recorder's process")?;
    // SAFETY: a signal to a child that was not waited for yet, so the number is still its own.
    if unsafe { libc::kill(pid, libc::SIGTERM) } != 0 {
        return Err(io::Error::last_os_error()).context("while stopping the recorder");
    }
    let status = recorder.wait().context("while waiting for the recorder")?;
    ended?;
    ensure!(status.success(), "`collector attach` ended with {status}");
    Ok(first)
}

fn guest(pages: u64, seed: u32) -> anyhow::Result<Child> {
    progress(&format!("a long trace: guest {seed} of {GUESTS}"));
    Command::new(COLLECTOR)
        .args(["run", "linear", "--untraced", "--param=write=false"])
        .arg(format!("--param=pages={pages}"))
        .arg(format!("--param=seed={seed}"))
        .args(["--timeout", "1200"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("while starting {COLLECTOR}"))
}
