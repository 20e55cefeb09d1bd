//! `collector attach`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use super::run::{RING_MIB, ring_bytes, seconds, size};
use crate::{
    attach::{self, Options, Target},
    failure::Failure,
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
    /// threads are stopped meanwhile
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    keyframe_every: Option<Duration>,
    /// Stop when the trace has SIZE bytes, with K, M, G for KiB, MiB, GiB. The last second and the
    /// last copy of the tables come on top
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
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

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// Trace the VMs of this process
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Trace every VM of this machine, also those that appear later
    #[arg(long)]
    all: bool,
}

impl AttachArgs {
    /// Records.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let (target, name) = match self.target.pid {
            Some(pid) => (Target::Process(pid), pid.to_string()),
            None => (Target::All, "all".to_owned()),
        };
        attach::attach(&Options {
            target,
            output: self
                .output
                .unwrap_or_else(|| PathBuf::from(format!("{name}.trace"))),
            keyframe_every: self.keyframe_every,
            time: self.time,
            ring_bytes: ring_bytes(self.ring_mib)?,
            max_bytes: self.max_size,
            verbose: self.verbose,
            json: self.json,
        })
    }
}
