//! `collector attach`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use super::run::{RING_MIB, every, ring_bytes, seconds, size};
use crate::{
    attach::{self, Options, Target},
    failure::Failure,
    keyframe::Every,
    record::{Keep, On},
};

/// Arguments of `attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Directory to create for the trace [default: PID.trace or all.trace]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Stop after SECONDS [default: when the process's VMs end; Ctrl-C at any time]
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    time: Option<Duration>,
    /// Also copy the kernel's shadow tables every SECONDS (always at start and end); the VMM's
    /// threads are stopped meanwhile. `auto`: for at most 1 % of the time
    #[arg(long, value_name = "SECONDS", value_parser = every)]
    keyframe_every: Option<Every>,
    /// Stop when the trace has SIZE bytes, with K, M, G for KiB, MiB, GiB. The last second and the
    /// last copy of the tables come on top
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    #[command(flatten)]
    keep: KeepArgs,
    /// Size of the BPF ring buffer in MiB, a power of two
    #[arg(long, value_name = "MIB", default_value_t = RING_MIB,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    ring_mib: u32,
    /// Also print the log of the probes
    #[arg(short, long)]
    verbose: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// The flight recorder.
#[derive(Debug, Args)]
struct KeepArgs {
    /// Keep only the last TIME, e.g. 60s or 10m, in a ring of segments on disk; a keyframe is taken
    /// each half of it
    #[arg(long, value_name = "TIME", value_parser = keep_time, conflicts_with = "max_size")]
    keep: Option<Duration>,
    /// Keep at most MIB of segments, though that be less than TIME; at most half of them for what
    /// comes after an event
    #[arg(long, value_name = "MIB", default_value_t = 1024, requires = "keep",
          value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    keep_mib: u64,
    /// End when this happens, with what was kept before it; comma-separated
    #[arg(
        long,
        value_name = "EVENT",
        value_enum,
        value_delimiter = ',',
        requires = "keep"
    )]
    on: Vec<On>,
    /// Record on for SECONDS after the event, unless --keep-mib is full sooner
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds,
          requires = "on")]
    after: Duration,
}

impl KeepArgs {
    fn keep(self) -> Option<Keep> {
        Some(Keep {
            time: self.keep?,
            bytes: self.keep_mib << 20,
            on: self.on,
            after: self.after,
        })
    }
}

/// A time of seconds, `60s`, or minutes, `10m`. Less than a second has no whole segment.
fn keep_time(text: &str) -> Result<Duration, String> {
    let (number, of) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let time = seconds(number)?;
    let time = time.checked_mul(of).ok_or("too long")?;
    match time >= Duration::from_secs(1) {
        true => Ok(time),
        false => Err("expected a second or more".to_owned()),
    }
}

/// Whose VMs.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// The VMs of this process
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Every VM of this machine, also those that appear later
    #[arg(long)]
    all: bool,
}

impl TargetArgs {
    /// Whose VMs, and that as a name.
    pub fn target(&self) -> (Target, String) {
        match self.pid {
            Some(pid) => (Target::Process(pid), pid.to_string()),
            None => (Target::All, "all".to_owned()),
        }
    }
}

impl AttachArgs {
    /// Records.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let (target, name) = self.target.target();
        attach::attach(&Options {
            target,
            output: self
                .output
                .unwrap_or_else(|| PathBuf::from(format!("{name}.trace"))),
            keyframe_every: self.keyframe_every,
            time: self.time,
            keep: self.keep.keep(),
            ring_bytes: ring_bytes(self.ring_mib)?,
            max_bytes: self.max_size,
            verbose: self.verbose,
            json: self.json,
        })
    }
}
