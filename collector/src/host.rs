//! Facts about this host: for `doctor`, for the trace, and to choose probes.

use std::{collections::BTreeMap, fs, path::Path, thread};

use serde::{Deserialize, Serialize};
use trace::{Host, Mode};

use crate::{probes::Platform, program::with_sudo};

/// Modules of KVM whose parameters decide what a recording sees.
const MODULES: &[&str] = &["kvm", "kvm_intel", "kvm_amd", "kvm_pvm"];
/// The parameters.
const PARAMETERS: &[&str] = &[
    "tdp_mmu",
    "mmio_caching",
    "nx_huge_pages",
    "ept",
    "npt",
    "pvm_native",
];

/// How KVM translates guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Paging {
    /// KVM keeps shadow tables.
    Shadow,
    /// The hardware walks a second level (EPT or NPT): there are no shadow tables.
    TwoDimensional,
    /// No KVM.
    None,
}

/// All facts of the trace's `meta.json`.
pub fn facts() -> Host {
    Host {
        kernel: kernel_release(),
        kernel_version: kernel_version(),
        cpu: cpu_model(),
        cpus: thread::available_parallelism()
            .map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        hypervisor: vendor_module().unwrap_or("unknown").to_owned(),
        parameters: parameters(),
        lockdown: lockdown(),
    }
}

/// Whether `/sys` shows the kernel's modules: in some containers it is empty.
pub fn has_sys() -> bool {
    Path::new("/sys/module").is_dir()
}

/// What is missing without it.
pub const NO_SYS: &str = "/sys is empty here (a container?): the kernel's types, its modules and \
                          their parameters are read from it";
/// What to do then.
pub const MOUNT_SYS: &str = "`mount -t sysfs sysfs /sys`, or give the container the host's: -v \
                             /sys:/sys:ro";

/// The vendor module in use.
pub fn vendor_module() -> Option<&'static str> {
    // PVM first: a vendor module that found no hardware may be loaded too.
    ["kvm_pvm", "kvm_intel", "kvm_amd"]
        .into_iter()
        .find(|name| {
            Path::new("/sys/module")
                .join(name)
                .join("parameters")
                .exists()
        })
}

/// The paging of a VM created now.
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

/// Whose tables KVM shadows on this host.
pub fn mode() -> Mode {
    match (paging(), vendor_module()) {
        (Paging::TwoDimensional, Some("kvm_intel")) => Mode::NestedEpt,
        (Paging::TwoDimensional, _) => Mode::NestedNpt,
        (Paging::Shadow | Paging::None, _) => Mode::Shadow,
    }
}

/// Whether guests that the hardware translates have tables of another kind (KVM's TDP MMU) than
/// nested guests; always so where the module does not say.
pub fn tdp_mmu() -> bool {
    !matches!(parameter("kvm", "tdp_mmu").as_deref(), Some("N" | "0"))
}

/// The command that makes a vendor module use shadow paging, for a user who is root or not.
pub fn shadow_paging_command(module: &str, is_root: bool) -> String {
    let (module, parameter) = match module {
        "kvm_amd" => ("kvm_amd", "npt=0"),
        _ => ("kvm_intel", "ept=0"),
    };
    let unload = with_sudo(&format!("modprobe -r {module}"), is_root);
    let load = with_sudo(&format!("modprobe {module} {parameter}"), is_root);
    format!("{unload} && {load}")
}

/// `uname -r`.
pub fn kernel_release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// `uname -v`.
pub fn kernel_version() -> String {
    rustix::system::uname()
        .version()
        .to_string_lossy()
        .into_owned()
}

/// What decides which probes are attached.
pub fn platform() -> Platform {
    Platform {
        pvm: vendor_module() == Some("kvm_pvm"),
        kprobes: Path::new("/sys/bus/event_source/devices/kprobe").exists(),
    }
}

/// Whether KVM emulates the guest's kernel instruction by instruction: PVM does, for a guest that
/// is not a PVM guest.
pub fn emulates_guest_kernel() -> bool {
    vendor_module() == Some("kvm_pvm")
}

/// Whether software emulates the processor. The name of its model says so in a nested guest too,
/// whose hypervisor CPUID leaf is KVM's.
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

/// Pages of 4 KiB of this host's memory.
pub fn memory_pages() -> u64 {
    let of = rustix::system::sysinfo();
    (u64::from(of.mem_unit)).saturating_mul(of.totalram) >> 12
}

#[cfg(test)]
mod tests {
    use super::{is_emulator, selected};

    #[test]
    fn an_emulated_processor_has_the_model_of_tcg() {
        assert!(is_emulator("QEMU TCG CPU version 2.5+"));
        assert!(!is_emulator("AMD EPYC 7763 64-Core Processor"));
    }

    #[test]
    fn the_current_mode_is_the_one_in_brackets() {
        assert_eq!(
            selected("none [integrity] confidentiality\n"),
            Some("integrity")
        );
        assert_eq!(selected(""), None);
        assert_eq!(selected("none [integrity"), None);
    }
}
