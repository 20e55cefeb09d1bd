//! What the host has, as far as a recording depends on it.

use std::{collections::BTreeSet, fs, io};

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};
use trace::ProbeState;

use crate::{
    host::{self, Paging},
    privileges,
    probes::{KernelTypes, Probes, Room},
};

/// The capabilities that root needs, which a container may lack: to load BPF programs, to read the
/// kernel's memory, to read page frame numbers; for `attach` also to stop other processes and to
/// read their file descriptors.
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
    /// It exists, but this user may not use it.
    Denied,
    /// It cannot; the system's error.
    Missing(String),
}

/// The kernel's types, from BTF.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Types {
    /// BTF files read.
    pub parts: Vec<String>,
    /// How many of the fields that the probes use this kernel has, and how many there are; or why
    /// it cannot be recorded.
    pub fields: Result<[usize; 2], String>,
}

/// Whether the probes could be attached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trial {
    /// Not tried: only root may.
    Untried,
    /// None could be loaded, and why.
    Failed(String),
    /// Each was attached and detached again, without a VM.
    Done(Vec<ProbeState>),
}

/// Everything that the report depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -v`.
    #[serde(default)]
    pub version: String,
    /// `/dev/kvm`.
    pub kvm: Access,
    /// Nothing is known of modules and types: see [`host::has_sys`].
    #[serde(default)]
    pub no_sys: bool,
    /// The vendor module in use.
    pub hypervisor: Option<String>,
    /// The paging of a VM created now.
    pub paging: Paging,
    /// Whether the user is root.
    pub root: bool,
    /// Capabilities that root needs and does not have.
    pub lacking: Vec<String>,
    /// The lockdown mode.
    pub lockdown: String,
    /// The kernel's types, or why there are none.
    pub types: Result<Types, String>,
    /// See [`Trial`].
    pub trial: Trial,
}

impl Facts {
    /// Collects everything; changes nothing.
    pub fn collect() -> Self {
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
            version: host::kernel_version(),
            kvm: kvm(),
            no_sys: !host::has_sys(),
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
                        let present = resolved.offsets.values().flatten().count();
                        [present, resolved.offsets.len()]
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
    let (mut probes, _ring) = Probes::load(&config, Room::NONE, false, &BTreeSet::new())
        .map_err(|why| why.to_string())?;
    // The states say which required probe was refused.
    let _ = probes.attach(types, host::platform());
    Ok(probes.states().to_vec())
}
