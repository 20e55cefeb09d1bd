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
/// What is brought out is called so in the archive.
pub const OUTPUT: &str = "output";
/// The independent counts are called so in the archive.
pub const OBSERVED: &str = "observer.json";

/// What the lab's init has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// For the port on which the messages leave, in the order in which they are loaded.
    pub port_modules: Vec<Module>,
    /// KVM, likewise.
    pub kvm_modules: Vec<Module>,
    /// KVM must shadow, and the emulator must get that right, before anything is recorded.
    pub shadow: bool,
    /// Arguments of this same program.
    pub command: Vec<String>,
    /// What is brought out, if it is there in the end. The path is the one outside, so that what
    /// the command prints is true there too.
    pub output: Option<PathBuf>,
    /// Count KVM's events independently of the probes while the command runs.
    pub observe: bool,
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
    /// The lab itself could not go on.
    Failed(Trouble),
    /// What follows, up to the end, is a tar archive.
    Results,
}

/// What the lab is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The kernel starts; up to the first message.
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
