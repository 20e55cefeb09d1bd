//! What the two sides of the lab tell each other: the job on the way in, messages on the way out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the job lies in the initramfs.
pub const JOB: &str = "/job.json";
/// Folder of the kernel modules in the initramfs.
pub const MODULES: &str = "/modules";
/// Working folder of the lab's commands.
pub const WORK: &str = "/out";
/// Name of the virtio port on which the messages leave.
pub const PORT: &str = "shadowscope";
/// Longest message. A longer one is not from the lab's own init.
pub const MESSAGE_BYTES: u64 = 1 << 20;
/// What the other side says when it has heard the last message and all that follows it. The
/// machine stays on until then: a write to the port returns before its bytes have left.
pub const HEARD: u8 = b'!';
/// What is brought out is called so in the archive.
pub const OUTPUT: &str = "output";
/// The independent counts are called so in the archive.
pub const OBSERVED: &str = "observer.json";

/// The last entry of the archive, empty, is called so.
pub const WHOLE: &str = "whole";

/// The Linux guest's kernel in the lab.
pub const GUEST_KERNEL: &str = "/guest/kernel";
/// Its initramfs.
pub const GUEST_INITRAMFS: &str = "/guest/initramfs";
/// What it says before it powers off.
pub const GUEST_DONE: &str = "shadowscope: all work is done";

/// What the lab's init has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// For the port on which the messages leave, in the order in which they are loaded.
    pub port_modules: Vec<Module>,
    /// KVM, likewise.
    pub kvm_modules: Vec<Module>,
    /// KVM must shadow, and the emulator must get that right, before anything is recorded.
    pub shadow: bool,
    /// What runs.
    pub work: Work,
    /// What is brought out, if it is there in the end. The path is the one outside, so that what
    /// the command prints is true there too.
    pub output: Option<PathBuf>,
    /// A module to take out and load again as it says; then the command runs once more.
    pub reload: Option<Module>,
    /// Count KVM's events independently of the probes while the command runs.
    pub observe: bool,
}

/// What runs in the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// This same program with these arguments.
    Command(Vec<String>),
    /// A Linux guest.
    Linux(Linux),
}

/// A Linux guest on QEMU, as it was packed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linux {
    /// QEMU.
    pub qemu: PathBuf,
    /// Where its libraries are.
    pub library_path: String,
    /// CPUs of the guest.
    pub cpus: u16,
    /// Memory of the guest.
    pub memory_mib: u32,
    /// Arguments of this same program that record it, its process aside; nothing: it runs unrecorded.
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
    /// What is being done from here on.
    Stage(Stage),
    /// The command wrote to its standard output.
    Stdout(String),
    /// The command wrote to its standard error.
    Stderr(String),
    /// The command ended with this exit code.
    Ended(u8),
    /// The last message: the lab itself could not go on.
    Failed(Trouble),
    /// The last message: there are no results.
    NoResults,
    /// The last message: a tar archive follows.
    Results,
}

/// What the lab is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The kernel starts; up to the first message.
    #[default]
    Boot,
    /// KVM is loaded.
    Modules,
    /// Our own guests run unrecorded.
    SelfTest,
    /// The command runs.
    Command,
    /// What the command wrote leaves the lab.
    Results,
}

/// Why the lab could not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The emulator gets shadow paging wrong: what was tried, and what came of it.
    Emulator(String),
    /// Anything else.
    Other(String),
}
