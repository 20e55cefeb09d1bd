//! `collector list`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;

use crate::{
    attach::list::{self, Listed},
    failure::Failure,
};

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    /// Prints the VMs that run now.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let vms = list::list()?;
        let mut out = io::stdout().lock();
        let written = if self.json {
            serde_json::to_writer_pretty(&mut out, &vms)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out))
        } else {
            print(&mut out, &vms)
        };
        written.map_err(anyhow::Error::from)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, vms: &[Listed]) -> io::Result<()> {
    if vms.is_empty() {
        return writeln!(out, "no VM runs now");
    }
    writeln!(
        out,
        "{:>8}  {:<16} {:>4} {:>6}  {:<6} {:>13} {:>9}",
        "process", "name", "fd", "vCPUs", "mode", "shadow pages", "faults/s"
    )?;
    for vm in vms {
        writeln!(
            out,
            "{:>8}  {:<16} {:>4} {:>6}  {:<6} {:>13} {:>9.0}",
            vm.pid,
            vm.name,
            vm.descriptor,
            vm.vcpus,
            vm.mode,
            vm.shadow_pages,
            vm.faults_per_second
        )?;
    }
    Ok(())
}
