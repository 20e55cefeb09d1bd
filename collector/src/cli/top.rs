//! `collector top`.

use std::{process::ExitCode, time::Duration};

use clap::Args;

use super::{
    attach::TargetArgs,
    run::{RING_MIB, ring_bytes, seconds},
};
use crate::{
    failure::Failure,
    top::{self, Options},
};

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Look every SECONDS
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Stop after SECONDS [default: when the process's VMs end; q or Ctrl-C at any time]
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    time: Option<Duration>,
    /// Size of the BPF ring buffer in MiB, a power of two
    #[arg(long, value_name = "MIB", default_value_t = RING_MIB,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    ring_mib: u32,
    /// Print a JSON object for each look
    #[arg(long)]
    json: bool,
}

impl TopArgs {
    /// Shows what VMs do.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let (target, _) = self.target.target();
        top::top(&Options {
            target,
            interval: self.interval,
            time: self.time,
            ring_bytes: ring_bytes(self.ring_mib)?,
            json: self.json,
        })
    }
}
