//! The protocol between host and lab: a job on the way in, messages on the way out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The job's file in the initramfs.
pub const JOB: &str = "/job.json";
/// Directory of the kernel modules in the initramfs.
pub const MODULES: &str = "/modules";
/// Working directory of the lab's commands.
pub const WORK: &str = "/out";
/// Name of the virtio port through which the lab sends messages.
pub const PORT: &str = "shadowscope";
/// Maximum size of a message. The lab's init sends no larger one.
pub const MESSAGE_BYTES: u64 = 1 << 20;
/// The host's acknowledgement of the last message and the data after it. The machine stays on until
/// then: a write to the port returns before its bytes have left.
pub const ACKNOWLEDGED: u8 = b'!';
/// Name of the output in the archive.
pub const OUTPUT: &str = "output";
/// Name of the observer's counts in the archive.
pub const OBSERVED: &str = "observer.json";
/// Name of the empty last entry of the archive: the archive is complete.
pub const WHOLE: &str = "whole";

/// The Linux guest's kernel in the lab.
pub const GUEST_KERNEL: &str = "/guest/kernel";
/// The Linux guest's initramfs in the lab.
pub const GUEST_INITRAMFS: &str = "/guest/initramfs";
/// This program in the initramfs of a guest hypervisor.
pub const GUEST_COLLECTOR: &str = "/bin/collector";
/// What the init of a guest hypervisor prints when its first nested guest has run.
pub const GUEST_READY: &str = "shadowscope: nested guests run";
/// What it prints after the workload, before the workload's exit code.
pub const GUEST_ENDED: &str = "shadowscope: the nested guest ended with";
/// What the guest's init prints before it powers off.
pub const GUEST_DONE: &str = "shadowscope: all work is done";

/// What the lab's init has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The device through which messages are sent.
    pub port: Port,
    /// Its modules, in load order.
    pub port_modules: Vec<Module>,
    /// Modules of KVM, in load order.
    pub kvm_modules: Vec<Module>,
    /// The file that must say N: KVM uses shadow paging. Then the lab checks first that the emulator
    /// executes it correctly.
    pub shadow: Option<PathBuf>,
    /// What runs.
    pub work: Work,
    /// Time limit of the whole lab, seconds: nothing in it gives up long before.
    pub limit_s: u64,
    /// What is copied out, if it exists at the end. The path is the one on the host, so that the
    /// command's messages are right there too.
    pub output: Option<PathBuf>,
    /// A module to unload and load again with these parameters; then the command runs again.
    pub reload: Option<Module>,
    /// Count KVM's events independently of the probes while the command runs.
    pub observe: bool,
    /// The name by which the user called this program, for messages.
    pub program: String,
    /// The analyzer's command on the host, for messages.
    pub analyzer: String,
}

/// A device through which the lab sends its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Port {
    /// A virtio port.
    Virtio,
    /// The PC's first parallel port.
    Parallel,
}

impl Port {
    /// The modules of its driver.
    pub fn modules(self) -> &'static [&'static str] {
        match self {
            Port::Virtio => &["virtio_pci", "virtio_console"],
            // The lab's init drives it itself.
            Port::Parallel => &[],
        }
    }
}

/// What runs in the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// This program with these arguments.
    Command(Vec<String>),
    /// A Linux guest.
    Linux(Linux),
    /// A Linux guest that runs a workload in a guest of its own.
    Nested(Linux),
}

/// A Linux guest on QEMU, as packed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linux {
    /// QEMU.
    pub qemu: PathBuf,
    /// Directories of its libraries, separated by colons.
    pub library_path: String,
    /// Number of CPUs of the guest.
    pub cpus: u16,
    /// Memory of the guest, MiB.
    pub memory_mib: u32,
    /// Arguments of this program that record it, without the process id; `None`: it is not
    /// recorded.
    pub attach: Option<Vec<String>>,
}

/// A kernel module, packed as `NAME.ko`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// `name=value`, separated by spaces.
    pub parameters: String,
}

/// A line of JSON from the lab's init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A stage begins.
    Stage(Stage),
    /// The command wrote to its standard output.
    Stdout(String),
    /// The command wrote to its standard error.
    Stderr(String),
    /// The command ended with this exit code.
    Ended(u8),
    /// The last message: the lab failed.
    Failed(Trouble),
    /// The last message: there are no results.
    NoResults,
    /// The last message: a tar archive follows.
    Results,
}

/// The stages of a lab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The kernel starts. Lasts until the first message.
    #[default]
    Boot,
    /// KVM is loaded.
    Modules,
    /// The built-in guests run unrecorded.
    SelfTest,
    /// The command runs.
    Command,
    /// The results are sent.
    Results,
}

/// Why the lab failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The emulator executes shadow paging incorrectly: what was tried, and the result.
    Emulator(String),
    /// Anything else.
    Other(String),
}
