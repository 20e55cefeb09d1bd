//! Looking at the host.

use std::{fs, io};

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};
use trace::ProbeState;

use crate::{
    host::{self, Paging},
    privileges,
    probes::{KernelTypes, Probes},
};

/// Size of the ring for the trial: one page.
const TRIAL_RING: u32 = 4096;

/// What root needs of its powers, which a container may have taken: for programs, for reading the
/// kernel's memory, for the frame behind a page; for `attach` also to stop other processes and to read
/// their descriptors.
const NEEDED: [(CapabilitySet, &str); 5] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
    (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE"),
    (CapabilitySet::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
];

/// Whether something could be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// It can.
    Open,
    /// It is there, but not for this user.
    Denied,
    /// It cannot; what the system said.
    Missing(String),
}

/// What the kernel says of its types.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Types {
    /// Files of BTF read.
    pub parts: Vec<String>,
    /// Fields that the probes use, and how many of them this kernel has; or why it will not do.
    pub fields: Result<[usize; 2], String>,
}

/// What became of the probes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trial {
    /// Not tried, since this user may not.
    Untried,
    /// None could be tried; why.
    Failed(String),
    /// Each was attached for a moment, to no VM.
    Done(Vec<ProbeState>),
}

/// All that the report depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// `/dev/kvm`.
    pub kvm: Access,
    /// The vendor module in charge.
    pub hypervisor: Option<String>,
    /// How a VM made now would be paged.
    pub paging: Paging,
    /// Whether the user is root.
    pub root: bool,
    /// Capabilities that root needs and does not have.
    pub lacking: Vec<String>,
    /// Lockdown mode in force.
    pub lockdown: String,
    /// The kernel's types, or why there are none.
    pub types: Result<Types, String>,
    /// See [`Trial`].
    pub trial: Trial,
}

impl Facts {
    /// Looks at everything, changes nothing.
    pub fn look() -> Self {
        let types = KernelTypes::running();
        let trial = match &types {
            Ok(types) if privileges::is_root() => match attach(types) {
                Ok(states) => Trial::Done(states),
                Err(why) => Trial::Failed(why),
            },
            Err(why) => Trial::Failed(why.to_string()),
            Ok(_) => Trial::Untried,
        };
        Self {
            kernel: host::kernel_release(),
            kvm: kvm(),
            hypervisor: host::vendor_module().map(str::to_owned),
            paging: host::paging(),
            root: privileges::is_root(),
            lacking: lacking(),
            lockdown: host::lockdown(),
            types: types.map_err(|why| why.to_string()).map(|types| Types {
                parts: types.names().map(str::to_owned).collect(),
                fields: types
                    .resolve()
                    .map(|resolved| {
                        let there = resolved.offsets.values().flatten().count();
                        [there, resolved.offsets.len()]
                    })
                    .map_err(|why| why.to_string()),
            }),
            trial,
        }
    }
}

fn kvm() -> Access {
    let device = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm");
    match device {
        Ok(_) => Access::Open,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Access::Denied,
        Err(error) => Access::Missing(error.to_string()),
    }
}

fn lacking() -> Vec<String> {
    // A kernel without capabilities gives root everything.
    let Ok(sets) = rustix::thread::capabilities(None) else {
        return Vec::new();
    };
    NEEDED
        .into_iter()
        .filter(|(capability, _)| !sets.effective.contains(*capability))
        .map(|(_, name)| name.to_owned())
        .collect()
}

fn attach(types: &KernelTypes) -> Result<Vec<ProbeState>, String> {
    let config = types.resolve().map_err(|why| why.to_string())?.config;
    let (mut probes, _ring) =
        Probes::load(&config, TRIAL_RING, false).map_err(|why| why.to_string())?;
    // A required probe that is refused stands among the states.
    let _ = probes.attach(types, host::platform());
    Ok(probes.states().to_vec())
}
