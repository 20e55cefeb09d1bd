//! Facts about this machine: for `doctor`, for the trace, and to choose probes.

use std::{collections::BTreeMap, fs, path::Path, thread};

use serde::{Deserialize, Serialize};
use trace::Host;

use crate::probes::Platform;

/// Modules of KVM whose parameters decide what is seen.
const MODULES: &[&str] = &["kvm", "kvm_intel", "kvm_amd", "kvm_pvm"];
/// Those parameters.
const PARAMETERS: &[&str] = &[
    "tdp_mmu",
    "mmio_caching",
    "nx_huge_pages",
    "ept",
    "npt",
    "pvm_native",
];

/// Which pages a VM's second level of translation uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Paging {
    /// KVM keeps shadow tables.
    Shadow,
    /// The hardware walks a second level (EPT or NPT): nothing is shadowed.
    TwoDimensional,
    /// No KVM.
    None,
}

/// Reads everything.
pub fn facts() -> Host {
    let uname = rustix::system::uname();
    Host {
        kernel: kernel_release(),
        kernel_version: uname.version().to_string_lossy().into_owned(),
        cpu: cpu_model(),
        cpus: thread::available_parallelism()
            .map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        hypervisor: vendor_module().unwrap_or("unknown").to_owned(),
        parameters: parameters(),
        lockdown: lockdown(),
    }
}

/// The vendor module in charge.
pub fn vendor_module() -> Option<&'static str> {
    // PVM first: it may stand beside a vendor module that found no hardware.
    ["kvm_pvm", "kvm_intel", "kvm_amd"]
        .into_iter()
        .find(|name| {
            Path::new("/sys/module")
                .join(name)
                .join("parameters")
                .exists()
        })
}

/// How a VM made now would be paged.
pub fn paging() -> Paging {
    let second_level = match vendor_module() {
        Some("kvm_pvm") => return Paging::Shadow,
        Some("kvm_intel") => parameter("kvm_intel", "ept"),
        Some("kvm_amd") => parameter("kvm_amd", "npt"),
        _ => return Paging::None,
    };
    match second_level.as_deref() {
        Some("N" | "0") => Paging::Shadow,
        _ => Paging::TwoDimensional,
    }
}

/// What turns the second level off, for a vendor module.
pub fn shadow_paging_command(module: &str) -> &'static str {
    match module {
        "kvm_amd" => "sudo modprobe -r kvm_amd && sudo modprobe kvm_amd npt=0",
        _ => "sudo modprobe -r kvm_intel && sudo modprobe kvm_intel ept=0",
    }
}

/// `uname -r`.
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// What decides which probes are tried.
pub fn platform() -> Platform {
    Platform {
        pvm: vendor_module() == Some("kvm_pvm"),
        kprobes: Path::new("/sys/bus/event_source/devices/kprobe").exists(),
    }
}

/// The guest's kernel is emulated instruction by instruction (PVM, for a guest that is not a PVM guest).
pub fn emulates_guest_kernel() -> bool {
    vendor_module() == Some("kvm_pvm")
}

/// The processor is emulated by software. Its model's name says so in a nested guest too, where the
/// hypervisor's CPUID leaf is that of KVM.
pub fn is_emulated() -> bool {
    is_emulator(&cpu_model())
}

/// Whether a processor of this model is QEMU's TCG.
fn is_emulator(model: &str) -> bool {
    model.contains("QEMU TCG")
}

/// Kernel lockdown mode: `none`, `integrity`, `confidentiality`, or `unknown`.
pub fn lockdown() -> String {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    selected(&text).unwrap_or("unknown").to_owned()
}

/// The word in brackets.
fn selected(text: &str) -> Option<&str> {
    let (_, after) = text.split_once('[')?;
    Some(after.split_once(']')?.0)
}

fn parameter(module: &str, name: &str) -> Option<String> {
    let path = Path::new("/sys/module")
        .join(module)
        .join("parameters")
        .join(name);
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn parameters() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for module in MODULES {
        for name in PARAMETERS {
            if let Some(value) = parameter(module, name) {
                found.insert(format!("{module}.{name}"), value);
            }
        }
    }
    found
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{is_emulator, selected};

    #[test]
    fn an_emulated_processor_is_known_by_its_model() {
        assert!(is_emulator("QEMU TCG CPU version 2.5+"));
        assert!(!is_emulator("AMD EPYC 7763 64-Core Processor"));
    }

    #[test]
    fn the_mode_in_force_is_the_one_in_brackets() {
        assert_eq!(
            selected("none [integrity] confidentiality\n"),
            Some("integrity")
        );
        assert_eq!(selected(""), None);
        assert_eq!(selected("none [integrity"), None);
    }
}
