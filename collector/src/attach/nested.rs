//! Hosts whose hardware walks a second level (EPT or NPT): only guests of guests have shadow
//! tables, so a recording begins when one runs.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use trace::Mode;

use super::{Options, Target};
use crate::{
    failure::Failure,
    host,
    recording::{Bar, Kernel, cannot},
    vms::{self, HolderError},
};

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

/// Whether this host's nested guests can be recorded.
pub fn check(mode: Mode) -> Result<(), Failure> {
    match mode {
        Mode::Shadow => Ok(()),
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

/// Waits until a VM of the target has run a nested guest. No probe is attached meanwhile, so that
/// the VM pays nothing.
pub fn wait(kernel: &Kernel, options: &Options) -> Result<(), Failure> {
    let begin = Instant::now();
    let mut bar = None;
    loop {
        if runs_nested(kernel, options.target)? {
            return Ok(());
        }
        if options.time.is_some_and(|time| begin.elapsed() >= time) {
            return Err(Failure::failed(anyhow!(
                "no nested guest ran in {} s: nothing was recorded",
                begin.elapsed().as_secs()
            ))
            .hint("with EPT or NPT, KVM keeps shadow tables only for guests of guests"));
        }
        if bar.is_none() {
            eprintln!(
                "no nested guest runs yet: with EPT or NPT, KVM keeps shadow tables only for guests \
                 of guests; the recording begins when one runs"
            );
            bar = Some(Bar::of_work("waiting for a nested guest", options.json)?);
        }
        thread::sleep(LOOK);
    }
}

fn runs_nested(kernel: &Kernel, target: Target) -> Result<bool, Failure> {
    let holders = match target {
        Target::All => vms::all().map_err(Failure::failed)?,
        Target::Process(pid) => match vms::of(pid) {
            Ok(holder) => vec![holder],
            Err(HolderError::None(_)) => {
                let error = anyhow!("process {pid} ended before it ran a nested guest");
                return Err(Failure::failed(error));
            }
            Err(error) => return Err(Failure::failed(error)),
        },
    };
    let found = vms::among(&holders, &kernel.probes)?;
    Ok(found.vms.iter().any(|vm| vm.nested))
}
