//! Hosts whose hardware walks a second level (EPT or NPT): only guests of guests have shadow
//! tables, so a recording begins when one runs.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use trace::Mode;

use super::Options;
use crate::{
    failure::Failure,
    host,
    recording::{Bar, Kernel, cannot},
    terminal,
    vms::{self, End, Holder, HolderError},
};

/// Whether this host's nested guests can be recorded.
pub fn check(mode: Mode) -> Result<(), Failure> {
    match mode {
        Mode::Shadow => Ok(()),
        Mode::NestedNpt if !host::tdp_mmu() => Err(Failure::host(anyhow!(
            "kvm.tdp_mmu is off: KVM keeps the tables of all guests alike, and those of nested \
             guests cannot be separated"
        ))
        .hint("with no VM running: modprobe -r kvm_amd kvm && modprobe kvm tdp_mmu=1")),
        Mode::NestedNpt if host::platform().kprobes => Ok(()),
        Mode::NestedNpt => Err(Failure::host(anyhow!(
            "with NPT only nested guests have shadow tables, and following those needs probes on \
             functions: this kernel was built without kprobes (CONFIG_KPROBE_EVENTS)"
        ))),
        Mode::NestedEpt => Err(Failure::host(anyhow!(
            "with EPT only nested guests have shadow tables, in the format of EPT, which is not \
             read yet"
        ))
        .hint("`modprobe kvm_intel ept=0`, with no VM running, makes KVM shadow every guest")),
    }
}

/// Whether the kernel has granted the probes that nested guests need.
pub fn check_probes(kernel: &Kernel) -> Result<(), Failure> {
    match kernel.probes.sees_nested() {
        true => Ok(()),
        false => Err(cannot(anyhow!(
            "following nested guests needs probes on functions, which this kernel refuses"
        ))),
    }
}

/// Waits until a VM of the target has run a nested guest; how long that took. No probe is attached
/// meanwhile, so that the VM pays nothing. `process` is the one that was named.
pub fn wait(
    kernel: &Kernel,
    options: &Options,
    process: Option<&Holder>,
) -> Result<Duration, Failure> {
    let begin = Instant::now();
    let mut bar = None;
    while !runs_nested(kernel, process)? {
        if options.time.is_some_and(|time| begin.elapsed() >= time) {
            return Err(Failure::failed(anyhow!(
                "no nested guest ran in {} s: nothing was recorded",
                begin.elapsed().as_secs()
            ))
            .hint("with EPT or NPT, KVM keeps shadow tables only for guests of guests"));
        }
        if bar.is_none() {
            terminal::say(format_args!(
                "no nested guest runs yet: with EPT or NPT, KVM keeps shadow tables only for guests \
                 of guests; the recording begins when one runs"
            ));
            bar = Some(Bar::of_work("waiting for a nested guest", options.json)?);
        }
        thread::sleep(options.target.look_every());
    }
    Ok(begin.elapsed())
}

fn runs_nested(kernel: &Kernel, process: Option<&Holder>) -> Result<bool, Failure> {
    let holders = match process {
        None => vms::all().map_err(Failure::failed)?,
        Some(process) => vec![still(process)?],
    };
    let mut found = vms::among(&holders, &kernel.probes);
    if process.is_some() && found.vms.is_empty() && !found.denied.is_empty() {
        let (_, error) = found.denied.swap_remove(0);
        return Err(Failure::failed(error));
    }
    Ok(found.vms.iter().any(|vm| vm.nested))
}

/// The process as it is now: its number may be another's by now, and its VM may be gone.
fn still(process: &Holder) -> Result<Holder, Failure> {
    let pid = process.number();
    let gone = |what| Failure::failed(anyhow!("process {pid} {what} before it ran a nested guest"));
    let now = match vms::of(pid) {
        Ok(now) => now,
        Err(HolderError::None(_)) => return Err(gone("ended")),
        Err(error) => return Err(Failure::failed(error)),
    };
    match (process.end(), now.has_vcpus()) {
        (End::NotYet, true) => Ok(now),
        (End::NotYet, false) => Err(gone("closed its VM")),
        (End::UnderWay | End::Over, _) => Err(gone("ended")),
    }
}
