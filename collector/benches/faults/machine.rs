//! Where and when this was measured.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::guest::meta;

#[derive(Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: u32,
    pub kernel: String,
    pub hypervisor: String,
    /// UTC.
    pub date: String,
    /// Of every run.
    pub niceness: i32,
    /// Threads that wanted to run in the last minute before the first run, on average.
    pub load: f64,
}

impl Machine {
    /// As a trace made here has it.
    pub fn of(trace: &Path, niceness: i32, load: f64) -> anyhow::Result<Self> {
        let host = meta(trace)?.host;
        let date = Command::new("date")
            .args(["-u", "+%Y-%m-%d %H:%M"])
            .output()
            .context("while starting date")?;
        ensure!(date.status.success(), "date ended with {}", date.status);
        Ok(Self {
            cpu: host.cpu,
            cpus: host.cpus,
            kernel: host.kernel,
            hypervisor: host.hypervisor,
            date: String::from_utf8_lossy(&date.stdout).trim().to_owned(),
            niceness,
            load,
        })
    }
}

/// The load of this machine in the last minute.
pub fn load() -> anyhow::Result<f64> {
    let path = "/proc/loadavg";
    let text = fs::read_to_string(path).with_context(|| format!("while reading {path}"))?;
    let minute = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    minute.with_context(|| format!("no load in {path}"))
}
