//! What every `meta.json` says.

use std::{
    env,
    time::{Duration, Instant, SystemTime},
};

use rustix::time::{ClockId, clock_gettime};
use trace::{End, Meta, ProgramCost, SCHEMA_VERSION, Sees, Tool, TraceWriter};

use super::Kernel;
use crate::host;

/// At the start; the VMs are added by the caller. `from_birth`: see [`Sees::from_birth`].
pub fn start(kernel: &Kernel, ring_bytes: u32, from_birth: bool) -> Meta {
    // One after the other: their distance is how far the two clocks differ.
    let started_ns = now_ns();
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let unix = unix.unwrap_or_default();
    Meta {
        schema: SCHEMA_VERSION,
        tool: Tool {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        command: command(),
        started_unix_s: unix.as_secs(),
        started_unix_subsec_ns: Some(unix.subsec_nanos()),
        started_ns,
        clock: "CLOCK_MONOTONIC".to_owned(),
        complete: false,
        host: host::facts(),
        sees: Some(Sees {
            every_change: kernel.probes.sees_every_change(),
            stores: kernel.probes.stores(),
            from_birth,
            emulated: host::is_emulated(),
            keyframe_roots: true,
            acts: kernel.probes.sees_acts(),
        }),
        probes: kernel.probes.states().to_vec(),
        offsets: kernel.resolved.offsets.clone(),
        role: kernel.resolved.role.clone(),
        vms: Vec::new(),
        workload: None,
        ring_bytes: u64::from(ring_bytes),
        end: None,
        kept: None,
        imported: None,
    }
}

/// After everything is written.
pub fn end(
    reason: String,
    records: events::Seq,
    trace: &TraceWriter,
    programs: Vec<ProgramCost>,
) -> End {
    End {
        time_ns: now_ns(),
        reason,
        records: records.0,
        segments: trace.segments(),
        rows: trace.rows(),
        programs,
    }
}

/// The command line, the program by its name alone.
fn command() -> Vec<String> {
    let mut words: Vec<String> = env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    if let Some(program) = words.first_mut() {
        *program = env!("CARGO_PKG_NAME").to_owned();
    }
    words
}

/// A moment that is over, on the trace's clock.
pub fn at_ns(moment: Instant) -> u64 {
    now_ns().saturating_sub(ns(moment.elapsed()))
}

/// A time in ns.
pub fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Now on the trace's clock.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither part of the monotonic clock is negative.
    let [s, ns] = [now.tv_sec, now.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    s * 1_000_000_000 + ns
}
