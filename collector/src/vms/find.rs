//! From file descriptors to VMs. Only the kernel knows which vCPU belongs to which VM, and whether
//! two descriptors refer to the same VM.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use events::{Identity, NO_PROCESS, NO_VM, VmId};

use super::{Holder, HolderError};
use crate::probes::{Object, Probes, RequestError};

/// The VMs of some processes.
#[derive(Debug, Default)]
pub struct Found {
    /// Sorted by process and descriptor.
    pub vms: Vec<FoundVm>,
    /// Processes, by index, of which not every VM could be found, with the error.
    pub denied: Vec<(usize, HolderError)>,
    /// Processes, by index, that have descriptors of a VM which another process runs.
    pub copies: Vec<(usize, u32)>,
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
    /// See [`events::Identity::owner`].
    owner: u32,
}

/// The VMs of these processes, in their order. A VM belongs to the process whose memory it has:
/// others may have descriptors too (the children of a server that forks, monitors, collectors).
/// Where the kernel does not keep that, it belongs to the process that holds most of its vCPUs.
/// What cannot be read or identified is in `denied`, and the others are found all the same.
pub fn among(holders: &[Holder], probes: &Probes) -> Found {
    identified(holders, |descriptor, object| {
        probes.identify(descriptor, object)
    })
}

fn identified(
    holders: &[Holder],
    identify: impl Fn(BorrowedFd<'_>, Object) -> Result<Identity, RequestError>,
) -> Found {
    let mut denied = Vec::new();
    let mut found_vms: BTreeMap<u64, Vec<FoundVm>> = BTreeMap::new();
    for (index, holder) in holders.iter().enumerate() {
        for found_in in &holder.descriptors {
            let (descriptor, object) = (found_in.number, found_in.object);
            let copy = match holder.duplicate(found_in) {
                Ok(Some(copy)) => copy,
                Ok(None) => continue,
                Err(error) => {
                    denied.push((index, error));
                    break;
                }
            };
            let identity = match identify(copy.as_fd(), object) {
                Ok(identity) => identity,
                Err(source) => {
                    let error = HolderError::Unidentified {
                        pid: holder.number(),
                        name: holder.name.clone(),
                        descriptor,
                        source: Box::new(source),
                    };
                    denied.push((index, error));
                    continue;
                }
            };
            let vms = found_vms.entry(identity.kvm).or_default();
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
                    owner: identity.owner,
                }),
            }
        }
    }
    let mut found = Found {
        denied,
        ..Found::default()
    };
    for vms in found_vms.into_values() {
        let (owned, copies) = of_owner(vms, holders);
        found.vms.extend(owned.filter(|vm| vm.vcpus > 0));
        found.copies.extend(copies);
    }
    found.vms.sort_by_key(|vm| (vm.holder, vm.descriptor));
    found.copies.sort_unstable();
    found.copies.dedup();
    found
}

/// What its owner has of a VM, and who has copies, with the owner.
fn of_owner(vms: Vec<FoundVm>, holders: &[Holder]) -> (Option<FoundVm>, Vec<(usize, u32)>) {
    let owner = vms.first().map_or(0, |vm| vm.owner);
    match owner {
        0 => (vms.into_iter().rev().max_by_key(|vm| vm.vcpus), Vec::new()),
        // Nobody can run it any more, whoever holds it.
        NO_PROCESS => (None, Vec::new()),
        owner => {
            let is_owner = |vm: &FoundVm| {
                let holder = holders.get(vm.holder);
                holder.is_some_and(|holder| holder.number() == owner)
            };
            let (owned, copies): (Vec<_>, Vec<_>) = vms.into_iter().partition(is_owner);
            let copies = copies.iter().map(|vm| (vm.holder, owner)).collect();
            (owned.into_iter().next(), copies)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kvm_ioctls::Kvm;

    use super::*;
    use crate::{failure::chain, vms};

    #[test]
    #[ignore = "needs /dev/kvm"]
    fn kvm_a_descriptor_that_cannot_be_identified_hides_no_other() {
        let kvm = Kvm::new().expect("/dev/kvm");
        let machines = [(); 3].map(|()| kvm.create_vm().expect("a VM"));
        let vcpus = machines
            .iter()
            .map(|vm| vm.create_vcpu(0).expect("a vCPU"))
            .collect::<Vec<_>>();
        let this = vms::of(std::process::id()).expect("this process");
        let seen = Cell::new(0);
        // Each vCPU is another VM's; the first one's struct is not found.
        let identify = |_: BorrowedFd<'_>, object: Object| {
            if object == Object::Vcpu {
                seen.set(seen.get() + 1);
                if seen.get() == 1 {
                    return Err(RequestError::Empty("identify"));
                }
            }
            Ok(Identity {
                kvm: seen.get(),
                vm: NO_VM,
                owner: this.number(),
                ..Identity::default()
            })
        };
        let found = identified(std::slice::from_ref(&this), identify);
        assert!(seen.get() >= vcpus.len() as u64);
        assert_eq!(found.vms.len() as u64, seen.get() - 1);
        let [(0, error)] = found.denied.as_slice() else {
            panic!("{:?}", found.denied);
        };
        let text = chain(error);
        assert!(text.starts_with("descriptor "), "{text}");
        assert!(text.contains("`identify` found nothing"), "{text}");
    }
}
