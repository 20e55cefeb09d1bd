//! The memslots of a VM, past ones included.

use std::sync::Mutex;

use abi::Gpa;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use rustix::time::{ClockId, clock_gettime};

use super::error::VmmError;
use super::lock::lock;
use super::memory::Ram;

/// The address space of all modes but system management mode.
const ORDINARY: u32 = 0;

/// A memslot at one guest-physical address, and its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memslot {
    /// KVM's slot number.
    pub id: u16,
    /// First guest-physical byte.
    pub gpa: Gpa,
    /// Size in bytes.
    pub bytes: u64,
    /// Host-virtual address of `gpa`, in this process.
    pub hva: u64,
    /// Begin of its lifetime, ns of `CLOCK_MONOTONIC`: just before the ioctl.
    pub from_ns: u64,
    /// End of its lifetime, just after the ioctl; `None` while it exists.
    pub until_ns: Option<u64>,
}

/// Arguments of `KVM_SET_USER_MEMORY_REGION`, without the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) id: u16,
    pub(super) gpa: Gpa,
    pub(super) bytes: u64,
    pub(super) hva: u64,
}

impl Placement {
    /// Where the plan has each memslot.
    fn all(ram: &Ram) -> impl Iterator<Item = Self> {
        ram.slots().map(|(slot, hva)| Self {
            id: slot.id,
            gpa: slot.gpa,
            bytes: slot.bytes,
            hva,
        })
    }
}

/// Every memslot of a VM since its creation, in the order of creation.
#[derive(Debug, Default)]
pub(super) struct Slots {
    memslots: Mutex<Vec<Memslot>>,
}

impl Slots {
    /// Gives guest memory to the VM.
    pub(super) fn of(ram: &Ram, vm: &VmFd) -> Result<Self, VmmError> {
        let slots = Self::default();
        for placement in Placement::all(ram) {
            // SAFETY: `ram` is mapped as long as the `Vmm` lives.
            unsafe { slots.set(vm, placement, 0) }?;
        }
        Ok(slots)
    }

    /// Adds a memslot, or moves it, or changes its flags.
    ///
    /// # Safety
    /// `placement.bytes` bytes at `placement.hva` must be guest memory as long as the memslot
    /// exists.
    pub(super) unsafe fn set(
        &self,
        vm: &VmFd,
        placement: Placement,
        flags: u32,
    ) -> Result<(), VmmError> {
        let from_ns = now_ns();
        // SAFETY: the caller's promise.
        unsafe { set_region(vm, ORDINARY, placement, flags) }?;
        let until_ns = now_ns();
        let mut memslots = lock(&self.memslots);
        if let Some(before) = current(&mut memslots, placement.id) {
            if before.gpa == placement.gpa {
                return Ok(());
            }
            before.until_ns = Some(until_ns);
        }
        memslots.push(Memslot {
            id: placement.id,
            gpa: placement.gpa,
            bytes: placement.bytes,
            hva: placement.hva,
            from_ns,
            until_ns: None,
        });
        Ok(())
    }

    /// Deletes a memslot.
    pub(super) fn delete(&self, vm: &VmFd, placement: Placement) -> Result<(), VmmError> {
        // SAFETY: a region without memory.
        unsafe {
            set_region(
                vm,
                ORDINARY,
                Placement {
                    bytes: 0,
                    ..placement
                },
                0,
            )
        }?;
        if let Some(slot) = current(&mut lock(&self.memslots), placement.id) {
            slot.until_ns = Some(now_ns());
        }
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<Memslot> {
        lock(&self.memslots).clone()
    }
}

/// Gives the same memory to the address space of system management mode, which KVM keeps apart: it
/// has the same memslots at the same addresses.
pub(super) fn also_in_smm(ram: &Ram, vm: &VmFd) -> Result<(), VmmError> {
    /// Address space 1, in the upper half of a slot's number.
    const SMM: u32 = 1 << 16;
    for placement in Placement::all(ram) {
        // SAFETY: `ram` is mapped as long as the `Vmm` lives.
        unsafe { set_region(vm, SMM, placement, 0) }?;
    }
    Ok(())
}

/// The memslot of this number that exists now.
fn current(memslots: &mut [Memslot], id: u16) -> Option<&mut Memslot> {
    memslots
        .iter_mut()
        .rev()
        .find(|slot| slot.id == id && slot.until_ns.is_none())
}

/// `KVM_SET_USER_MEMORY_REGION`.
///
/// # Safety
/// As [`Slots::set`].
unsafe fn set_region(
    vm: &VmFd,
    space: u32,
    placement: Placement,
    flags: u32,
) -> Result<(), VmmError> {
    let region = kvm_userspace_memory_region {
        slot: space | u32::from(placement.id),
        flags,
        guest_phys_addr: placement.gpa.0,
        memory_size: placement.bytes,
        userspace_addr: placement.hva,
    };
    // SAFETY: the caller's promise. KVM refuses memslots that overlap.
    unsafe { vm.set_user_memory_region(region) }.map_err(|source| VmmError::SetMemory {
        slot: placement.id,
        gpa: placement.gpa.0,
        bytes: placement.bytes,
        flags,
        source,
    })
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither part of the monotonic clock is negative.
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
