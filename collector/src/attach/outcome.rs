//! What is printed at the end.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use serde_json::json;
use trace::VmMeta;

use super::{Options, Reason, emulated};
use crate::{
    failure::Failure,
    program,
    recording::{self, Recorded},
    terminal::{width, wrap},
};

/// Prints what was recorded.
pub fn report(
    options: &Options,
    reason: Reason,
    elapsed: Duration,
    vms: &[VmMeta],
    recorded: Recorded,
) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    let written = if options.json {
        let vms: Vec<_> = vms
            .iter()
            .map(|vm| {
                json!({
                    "vm": vm.vm,
                    "pid": vm.pid,
                    "name": vm.name,
                    "vcpus": vm.vcpus,
                    "ended": vm.ended,
                    "emulated": emulated::explain(vm),
                })
            })
            .collect();
        let outcome = json!({
            "trace": options.output.to_string_lossy(),
            "reason": reason.name(),
            "elapsed_ns": recording::ns(elapsed),
            "vms": vms,
            "faults": recorded.faults,
            "records": recorded.records,
            "lost": recorded.lost,
            "bytes": recorded.bytes,
        });
        writeln!(out, "{outcome:#}")
    } else {
        text(&mut out, options, reason, elapsed, vms, recorded)
    };
    written.map_err(anyhow::Error::from)?;
    Ok(ExitCode::SUCCESS)
}

fn text(
    out: &mut impl Write,
    options: &Options,
    reason: Reason,
    elapsed: Duration,
    vms: &[VmMeta],
    recorded: Recorded,
) -> io::Result<()> {
    if vms.is_empty() {
        writeln!(out, "no VM ran in {:.1} s", elapsed.as_secs_f64())?;
    }
    for vm in vms {
        let ended = vm.ended.as_deref().unwrap_or("still runs");
        writeln!(
            out,
            "VM {}: {} (process {}), vCPUs: {}; {ended}",
            vm.vm,
            vm.name,
            vm.pid,
            vm.vcpus.len(),
        )?;
        if let Some(why) = emulated::explain(vm) {
            writeln!(out, "{}", wrap(&why, width(), "", "  "))?;
        }
    }
    writeln!(
        out,
        "{}: {:.1} s, {} faults, {} records, {} lost, {} KiB",
        options.output.display(),
        elapsed.as_secs_f64(),
        recorded.faults,
        recorded.records,
        recorded.lost,
        recorded.bytes >> 10,
    )?;
    if reason == Reason::Full {
        writeln!(out, "stopped, since the trace has the size of --max-size")?;
    }
    let next = program::analyzer_command("summary", &options.output);
    writeln!(out, "next: {next}")
}
