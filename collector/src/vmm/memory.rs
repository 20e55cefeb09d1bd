//! Guest RAM: one mapping of this process, one memslot of the VM.

use std::io;

use abi::{Gpa, Mailbox};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use rustix::mm::{Advice, madvise};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::{Memslot, VmmError};

const SLOT: u32 = 0;

/// Guest memory from guest-physical address 0 on.
///
/// Private, anonymous, `MAP_NORESERVE`, never a huge page and not prefaulted: a page of
/// the host appears when the guest's first access makes KVM ask for it, one by one.
#[derive(Debug)]
pub(super) struct Ram {
    memory: GuestMemoryMmap,
    slot: Memslot,
}

impl Ram {
    pub(super) fn new(bytes: u64) -> Result<Self, VmmError> {
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        // vm-memory maps MAP_ANONYMOUS | MAP_NORESERVE | MAP_PRIVATE.
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), size)])
            .map_err(|source| VmmError::ReserveMemory { bytes, source })?;
        let start =
            memory
                .get_host_address(GuestAddress(0))
                .map_err(|source| VmmError::GuestMemory {
                    gpa: 0,
                    bytes: size,
                    source,
                })?;
        // SAFETY: the range is exactly the mapping that `memory` owns, and this advice
        // changes no byte of it.
        unsafe { madvise(start.cast(), size, Advice::LinuxNoHugepage) }
            .or_else(unsupported_is_fine)
            .map_err(|error| VmmError::NoHugePages(error.into()))?;
        let slot = Memslot {
            id: SLOT,
            base: GuestAddress(0),
            bytes,
            hva: start.addr() as u64,
        };
        Ok(Self { memory, slot })
    }

    /// Makes it the VM's memory. The VM must be dropped before `self`.
    pub(super) fn register(&self, vm: &VmFd) -> Result<(), VmmError> {
        let Memslot {
            id: slot, bytes, ..
        } = self.slot;
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: self.slot.base.0,
            memory_size: bytes,
            userspace_addr: self.slot.hva,
        };
        // SAFETY: the mapping is `bytes` long and lives as long as `self`, which `Vmm`
        // drops after the VM; it is the only memslot, so nothing overlaps.
        unsafe { vm.set_user_memory_region(region) }.map_err(|source| VmmError::SetMemory {
            slot,
            bytes,
            source,
        })
    }

    pub(super) fn memslot(&self) -> Memslot {
        self.slot
    }

    pub(super) fn write(&self, to: Gpa, bytes: &[u8]) -> Result<(), VmmError> {
        self.memory
            .write_slice(bytes, GuestAddress(to.0))
            .map_err(|source| VmmError::GuestMemory {
                gpa: to.0,
                bytes: bytes.len(),
                source,
            })
    }

    /// A copy of the mailbox, whatever stands there; the guest cannot change it any more.
    pub(super) fn mailbox(&self) -> Result<Mailbox, VmmError> {
        let from = abi::layout::mailbox(0);
        let mut bytes = [0; Mailbox::BYTES];
        self.memory
            .read_slice(&mut bytes, GuestAddress(from.0))
            .map_err(|source| VmmError::GuestMemory {
                gpa: from.0,
                bytes: Mailbox::BYTES,
                source,
            })?;
        Ok(Mailbox::from_bytes(&bytes))
    }
}

/// A kernel without transparent huge pages knows no such advice, and needs none.
fn unsupported_is_fine(error: rustix::io::Errno) -> Result<(), rustix::io::Errno> {
    if io::Error::from(error).raw_os_error() == Some(libc::EINVAL) {
        Ok(())
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_ends_where_it_ends() {
        let ram = Ram::new(0x10_0000).unwrap();
        assert_eq!(ram.memslot().bytes, 0x10_0000);
        ram.write(Gpa(0xf_fff8), &[1; 8]).unwrap();
        assert!(matches!(
            ram.write(Gpa(0xf_fff9), &[1; 8]),
            Err(VmmError::GuestMemory {
                gpa: 0xf_fff9,
                bytes: 8,
                ..
            })
        ));
        assert!(ram.write(Gpa(u64::MAX), &[1]).is_err());
    }

    #[test]
    fn the_mailbox_is_read_where_the_contract_says() {
        let ram = Ram::new(0x10_0000).unwrap();
        ram.write(abi::layout::mailbox(0), &abi::MAGIC.to_le_bytes())
            .unwrap();
        assert_eq!(ram.mailbox().unwrap().magic, abi::MAGIC);
    }
}
