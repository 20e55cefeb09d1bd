//! `collector run`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use workloads::Plan;

use crate::{
    failure::Failure,
    keyframe::{AUTO, Every},
    program,
    run::{self, Options},
    vmm::Stops,
};

/// Default size of the ring buffer, MiB.
pub const RING_MIB: u32 = 32;

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Name of the workload (the command `workloads` lists them)
    workload: String,
    /// Directory to create for the trace [default: WORKLOAD.trace]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Parameter of the workload, NAME=VALUE; can be given several times
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, String)>,
    /// Number of vCPUs, short for `--param vcpus=N`
    #[arg(long, value_name = "N")]
    vcpus: Option<u16>,
    /// Also copy the kernel's shadow tables every SECONDS (always at start and end); `auto`: so that
    /// the guest is stopped for at most 1 % of the time
    #[arg(long, value_name = "SECONDS", value_parser = every)]
    keyframe_every: Option<Every>,
    /// Also copy them when the guest begins a phase
    #[arg(long)]
    keyframe_marks: bool,
    /// Stop a guest that is not done after SECONDS
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    timeout: Duration,
    /// Stop when the trace has SIZE bytes, with K, M, G for KiB, MiB, GiB. The last second and the
    /// last copy of the tables come on top
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "untraced")]
    max_size: Option<u64>,
    /// Size of the BPF ring buffer in MiB, a power of two
    #[arg(long, value_name = "MIB", default_value_t = RING_MIB,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    ring_mib: u32,
    /// The same in KiB, for tests with a ring buffer that is too small
    #[arg(long, value_name = "KIB", hide = true, conflicts_with = "ring_mib",
          value_parser = clap::value_parser!(u32).range(4..))]
    ring_kib: Option<u32>,
    /// Run the workload without probes and without a trace, for comparison
    #[arg(long, conflicts_with_all = ["output", "keyframe_every", "keyframe_marks"])]
    untraced: bool,
    /// Also print the log of the probes
    #[arg(short, long)]
    verbose: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    /// Runs and records.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let vcpus = self.vcpus.map(|n| ("vcpus".to_owned(), n.to_string()));
        let params: Vec<_> = self.params.into_iter().chain(vcpus).collect();
        let plan = plan(&self.workload, &params)?;
        let options = Options {
            plan,
            output: self
                .output
                .unwrap_or_else(|| default_output(&self.workload)),
            keyframes: Stops {
                every: self.keyframe_every,
                marks: self.keyframe_marks,
            },
            timeout: self.timeout,
            ring_bytes: match self.ring_kib {
                Some(kib) => kib.saturating_mul(1 << 10),
                None => ring_bytes(self.ring_mib)?,
            },
            max_bytes: self.max_size,
            verbose: self.verbose,
            json: self.json,
        };
        if self.untraced {
            run::untraced(&options)
        } else {
            run::traced(&options)
        }
    }
}

/// The workload of that name with these parameters.
pub fn plan(name: &str, params: &[(String, String)]) -> Result<Plan, Failure> {
    let workload = workloads::find(name).map_err(|error| {
        let command = program::command("workloads");
        Failure::usage(error).hint(format!("`{command}` describes them"))
    })?;
    workload.plan(params).map_err(|error| {
        let command = program::command(&format!("workloads {name}"));
        Failure::usage(error).hint(format!("`{command}` lists its parameters"))
    })
}

/// The trace's directory by default.
pub fn default_output(workload: &str) -> PathBuf {
    PathBuf::from(format!("{workload}.trace"))
}

/// Splits at the first `=`.
pub fn param(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// The size in bytes. The kernel takes powers of two only.
pub fn ring_bytes(mib: u32) -> Result<u32, Failure> {
    if mib.is_power_of_two() {
        return Ok(mib << 20);
    }
    let error = anyhow::anyhow!("--ring-mib {mib} is not a power of two");
    Err(Failure::usage(error))
}

/// A number of bytes above zero, with a binary unit or none.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((number, "K" | "k")) => (number, 10),
        Some((number, "M" | "m")) => (number, 20),
        Some((number, "G" | "g")) => (number, 30),
        _ => (text, 0),
    };
    let bytes = number.parse::<u64>().ok();
    let bytes = bytes.and_then(|number| number.checked_mul(1 << shift));
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "expected a number of bytes above zero, as 500M or 2G".to_owned())
}

/// A time above zero, in seconds; fractions are allowed.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("expected a time above zero".to_owned()),
    }
}

/// When keyframes are taken: a number of seconds, or `auto`.
pub fn every(text: &str) -> Result<Every, String> {
    match text {
        AUTO => Ok(Every::Auto),
        _ => seconds(text)
            .map(Every::Time)
            .map_err(|why| format!("{why}, or `{AUTO}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_are_split_at_the_first_equals_sign() {
        assert_eq!(param("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(param("a="), Ok(("a".to_owned(), String::new())));
        assert!(param("=b").is_err());
        assert!(param("ab").is_err());
    }

    #[test]
    fn sizes_have_binary_units() {
        let sizes = ["1", "3K", "500M", "2G"].map(|text| size(text).ok());
        assert_eq!(sizes, [Some(1), Some(3072), Some(500 << 20), Some(2 << 30)]);
        for bad in ["0", "0M", "-1", "M", "", "1.5G", "1T", "99999999999G", "1é"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_above_zero() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for bad in ["0", "-1", "x", "", "inf", "NaN", "1e300"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
