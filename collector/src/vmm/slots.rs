//! Memslots as KVM has them, and had them before.

use std::sync::Mutex;

use abi::Gpa;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use rustix::time::{ClockId, clock_gettime};

use super::memory::Ram;
use super::{VmmError, lock};

/// A part of guest memory as KVM knows it, or knew it for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memslot {
    /// KVM's slot number.
    pub id: u16,
    /// First guest-physical byte.
    pub gpa: Gpa,
    /// Size in bytes.
    pub bytes: u64,
    /// Where it starts in this process: the host-virtual address of `gpa`.
    pub hva: u64,
    /// Since when, ns of `CLOCK_MONOTONIC`: just before KVM was told.
    pub from_ns: u64,
    /// Until when, if it went: just after KVM had done it.
    pub until_ns: Option<u64>,
}

/// What a memslot is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: u16,
    pub(super) gpa: Gpa,
    pub(super) bytes: u64,
    pub(super) hva: u64,
}

/// Every memslot of a VM since it was made, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Slots {
    times: Mutex<Vec<Memslot>>,
}

impl Slots {
    /// Makes guest memory the VM's memory.
    pub(super) fn of(ram: &Ram, vm: &VmFd) -> Result<Self, VmmError> {
        let slots = Self::default();
        for (slot, hva) in ram.slots() {
            let place = Place {
                id: slot.id,
                gpa: slot.gpa,
                bytes: slot.bytes,
                hva,
            };
            // SAFETY: `ram` is mapped as long as the `Vmm` lives.
            unsafe { slots.set(vm, place, 0) }?;
        }
        Ok(slots)
    }

    /// Adds a memslot, or moves it, or changes its flags.
    ///
    /// # Safety
    /// `place.bytes` bytes at `place.hva` are guest memory as long as the memslot is there.
    pub(super) unsafe fn set(&self, vm: &VmFd, place: Place, flags: u32) -> Result<(), VmmError> {
        let from_ns = now_ns();
        // SAFETY: as the caller says.
        unsafe { tell(vm, place, flags) }?;
        let until_ns = now_ns();
        let mut times = lock(&self.times);
        if let Some(before) = there(&mut times, place.id) {
            if before.gpa == place.gpa {
                return Ok(());
            }
            before.until_ns = Some(until_ns);
        }
        times.push(Memslot {
            id: place.id,
            gpa: place.gpa,
            bytes: place.bytes,
            hva: place.hva,
            from_ns,
            until_ns: None,
        });
        Ok(())
    }

    /// Deletes a memslot.
    pub(super) fn delete(&self, vm: &VmFd, place: Place) -> Result<(), VmmError> {
        // SAFETY: no memory at all.
        unsafe { tell(vm, Place { bytes: 0, ..place }, 0) }?;
        if let Some(slot) = there(&mut lock(&self.times), place.id) {
            slot.until_ns = Some(now_ns());
        }
        Ok(())
    }

    pub(super) fn times(&self) -> Vec<Memslot> {
        lock(&self.times).clone()
    }
}

fn there(times: &mut [Memslot], id: u16) -> Option<&mut Memslot> {
    times
        .iter_mut()
        .rev()
        .find(|slot| slot.id == id && slot.until_ns.is_none())
}

/// `KVM_SET_USER_MEMORY_REGION`.
///
/// # Safety
/// As [`Slots::set`].
unsafe fn tell(vm: &VmFd, place: Place, flags: u32) -> Result<(), VmmError> {
    let region = kvm_userspace_memory_region {
        slot: place.id.into(),
        flags,
        guest_phys_addr: place.gpa.0,
        memory_size: place.bytes,
        userspace_addr: place.hva,
    };
    // SAFETY: as the caller says. KVM itself refuses memslots that overlap.
    unsafe { vm.set_user_memory_region(region) }.map_err(|source| VmmError::SetMemory {
        slot: place.id,
        gpa: place.gpa.0,
        bytes: place.bytes,
        flags,
        source,
    })
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither part of the monotonic clock is negative.
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
