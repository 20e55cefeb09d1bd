//! From descriptors to VMs. Only the kernel knows which vCPU belongs to which VM, and whether two
//! descriptors are the same VM's.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
};

use events::{NO_VM, VmId};

use super::{Holder, HolderError};
use crate::probes::{Object, Probes, RequestError};

/// The VMs of some processes.
#[derive(Debug, Default)]
pub struct Found {
    /// By process and descriptor.
    pub vms: Vec<FoundVm>,
    /// Processes, by index, that may not be read, with what the system said.
    pub denied: Vec<(usize, HolderError)>,
}

/// A VM that runs.
#[derive(Debug)]
pub struct FoundVm {
    /// Index of its process among those asked.
    pub holder: usize,
    /// Its number, if it is traced.
    pub vm: Option<VmId>,
    /// vCPUs that its process holds.
    pub vcpus: usize,
    /// Its number in that process; that of a vCPU if the VM's own was closed.
    pub descriptor: i32,
    /// What keeps its structs in the kernel.
    pub kept: OwnedFd,
    /// What `kept` is.
    pub object: Object,
}

/// The VMs of these processes, in their order. A VM belongs to the process that holds most of its
/// vCPUs: other collectors hold VMs too, to keep the kernel's structs.
pub fn among(holders: &[Holder], probes: &Probes) -> Result<Found, RequestError> {
    let mut denied = Vec::new();
    let mut found: BTreeMap<u64, Vec<FoundVm>> = BTreeMap::new();
    for (index, holder) in holders.iter().enumerate() {
        for &(descriptor, object) in &holder.descriptors {
            let copy = match holder.copy(descriptor, object) {
                Ok(Some(copy)) => copy,
                Ok(None) => continue,
                Err(error) => {
                    denied.push((index, error));
                    break;
                }
            };
            let identity = probes.identify(copy.as_fd(), object)?;
            let vms = found.entry(identity.kvm).or_default();
            let vcpus = usize::from(object == Object::Vcpu);
            match vms.iter_mut().find(|vm| vm.holder == index) {
                Some(vm) => {
                    vm.vcpus += vcpus;
                    if object == Object::Vm && vm.object == Object::Vcpu {
                        (vm.descriptor, vm.kept, vm.object) = (descriptor, copy, object);
                    }
                }
                None => vms.push(FoundVm {
                    holder: index,
                    vm: (identity.vm != NO_VM).then_some(identity.vm),
                    vcpus,
                    descriptor,
                    kept: copy,
                    object,
                }),
            }
        }
    }
    let most = |vms: Vec<FoundVm>| vms.into_iter().rev().max_by_key(|vm| vm.vcpus);
    let mut vms: Vec<FoundVm> = found
        .into_values()
        .filter_map(most)
        .filter(|vm| vm.vcpus > 0)
        .collect();
    vms.sort_by_key(|vm| (vm.holder, vm.descriptor));
    Ok(Found { vms, denied })
}
