//! From file descriptors to VMs. Only the kernel knows which vCPU belongs to which VM, and whether
//! two descriptors refer to the same VM.

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
    /// Sorted by process and descriptor.
    pub vms: Vec<FoundVm>,
    /// Processes, by index, that may not be read, with the error.
    pub denied: Vec<(usize, HolderError)>,
}

/// A running VM.
#[derive(Debug)]
pub struct FoundVm {
    /// Index of its process among the holders.
    pub holder: usize,
    /// Its number in the trace, if it is traced.
    pub vm: Option<VmId>,
    /// It runs a nested guest, or has: a vCPU has a root for it.
    pub nested: bool,
    /// Number of vCPUs that its process holds.
    pub vcpus: usize,
    /// Its file descriptor in that process; a vCPU's if the VM's own was closed.
    pub descriptor: i32,
    /// A copy of the descriptor, which keeps the VM's structs in the kernel.
    pub kept: OwnedFd,
    /// What `kept` is.
    pub object: Object,
}

/// The VMs of these processes, in their order. A VM belongs to the process that holds most of its
/// vCPUs: other collectors hold descriptors of it too.
pub fn among(holders: &[Holder], probes: &Probes) -> Result<Found, RequestError> {
    let mut denied = Vec::new();
    let mut found: BTreeMap<u64, Vec<FoundVm>> = BTreeMap::new();
    for (index, holder) in holders.iter().enumerate() {
        for &(descriptor, object) in &holder.descriptors {
            let copy = match holder.duplicate(descriptor, object) {
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
                    vm.nested |= identity.has_nested != 0;
                    if object == Object::Vm && vm.object == Object::Vcpu {
                        (vm.descriptor, vm.kept, vm.object) = (descriptor, copy, object);
                    }
                }
                None => vms.push(FoundVm {
                    holder: index,
                    vm: (identity.vm != NO_VM).then_some(identity.vm),
                    nested: identity.has_nested != 0,
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
