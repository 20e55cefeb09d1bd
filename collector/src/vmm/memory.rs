//! Guest RAM: one mapping of this process for each memslot of the plan.

use std::sync::atomic::Ordering;

use abi::layout::HOST_PAGE;
use abi::{Batches, FrameRange, Gpa, Mailbox, PAGE_BYTES, Touches, to_usize};
use libc::{MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use rustix::mm::Advice;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};
use workloads::{Backing, Slot};

use super::error::VmmError;
use super::mapping::Mapping;

/// Guest memory, at the guest-physical addresses that it has at the start.
///
/// The host allocates a page when the guest first accesses it.
#[derive(Debug)]
pub(super) struct Ram {
    memory: GuestMemoryMmap,
    parts: Vec<(Slot, Mapping)>,
}

impl Ram {
    /// Reserves the memory of the memslots.
    pub(super) fn new(slots: &[Slot]) -> Result<Self, VmmError> {
        let mut slots = slots.to_vec();
        slots.sort_unstable_by_key(|slot| slot.gpa);
        let (mut parts, mut regions) = (Vec::new(), Vec::new());
        for slot in slots {
            let mapping = reserve(&slot)?;
            regions.push(region(&slot, &mapping)?);
            parts.push((slot, mapping));
        }
        let memory = GuestMemoryMmap::from_regions(regions)
            .map_err(|error| VmmError::plan(format!("memslots do not fit together: {error}")))?;
        Ok(Self { memory, parts })
    }

    /// The memslots of the plan, with the host-virtual address of each.
    pub(super) fn slots(&self) -> impl Iterator<Item = (Slot, u64)> {
        self.parts.iter().map(|(slot, at)| (*slot, at.hva()))
    }

    /// A pointer to a range; `None` unless one memslot contains all of it.
    pub(super) fn pointer(&self, range: FrameRange) -> Option<*mut libc::c_void> {
        let (slot, mapping) = self.part(range)?;
        Some(mapping.at(to_usize(range.start.0 - slot.gpa.0)))
    }

    /// The memslot that contains all of a range.
    pub(super) fn slot_of(&self, range: FrameRange) -> Option<Slot> {
        self.part(range).map(|(slot, _)| *slot)
    }

    fn part(&self, range: FrameRange) -> Option<&(Slot, Mapping)> {
        let bytes = range.frames.checked_mul(PAGE_BYTES)?;
        self.parts.iter().find(|(slot, _)| {
            let offset = range.start.0.checked_sub(slot.gpa.0);
            offset
                .and_then(|offset| offset.checked_add(bytes))
                .is_some_and(|end| end <= slot.bytes)
        })
    }

    pub(super) fn write(&self, to: Gpa, bytes: &[u8]) -> Result<(), VmmError> {
        let failed = failed(to, bytes.len());
        self.memory
            .write_slice(bytes, GuestAddress(to.0))
            .map_err(failed)
    }

    pub(super) fn read(&self, from: Gpa, bytes: &mut [u8]) -> Result<(), VmmError> {
        let failed = failed(from, bytes.len());
        self.memory
            .read_slice(bytes, GuestAddress(from.0))
            .map_err(failed)
    }

    /// A copy of a CPU's mailbox, unchecked. The guest cannot change the copy.
    pub(super) fn mailbox(&self, cpu: u16) -> Result<Mailbox, VmmError> {
        let mut bytes = [0; Mailbox::BYTES];
        self.read(abi::layout::mailbox(cpu), &mut bytes)?;
        Ok(Mailbox::from_bytes(&bytes))
    }

    /// A copy of what a CPU's clock says of its accesses, unchecked.
    pub(super) fn touches(&self, cpu: u16) -> Result<Touches, VmmError> {
        let mut bytes = [0; Touches::BYTES];
        self.read(abi::layout::touches(cpu), &mut bytes)?;
        Ok(Touches::from_bytes(&bytes))
    }

    /// A copy of the times of CPU 0's batches, unchecked.
    pub(super) fn batches(&self) -> Result<Batches, VmmError> {
        let mut bytes = [0; Batches::BYTES];
        self.read(abi::layout::batches(0), &mut bytes)?;
        Ok(Batches::from_bytes(&bytes))
    }

    /// Sets the number of passes that the actors have finished, which the guest reads from
    /// [`abi::HostPage`].
    pub(super) fn set_passes(&self, passes: u64) -> Result<(), VmmError> {
        let at = GuestAddress(HOST_PAGE.0);
        self.memory
            .store(passes, at, Ordering::Release)
            .map_err(failed(HOST_PAGE, size_of::<u64>()))
    }
}

fn failed(gpa: Gpa, bytes: usize) -> impl FnOnce(vm_memory::GuestMemoryError) -> VmmError {
    move |source| VmmError::GuestMemory {
        gpa: gpa.0,
        bytes,
        source,
    }
}

fn reserve(slot: &Slot) -> Result<Mapping, VmmError> {
    let bytes = slot.bytes;
    let place = match slot.backing {
        Backing::Small | Backing::Huge => slot.gpa.0,
        Backing::Shifted => slot.gpa.0 + PAGE_BYTES,
    };
    let mapping = Mapping::new(to_usize(bytes), place)
        .map_err(|source| VmmError::ReserveMemory { bytes, source })?;
    let advice = match slot.backing {
        Backing::Small => Advice::LinuxNoHugepage,
        Backing::Huge | Backing::Shifted => Advice::LinuxHugepage,
    };
    mapping.advise(advice).map_err(VmmError::HugePages)?;
    Ok(mapping)
}

/// The mapping as a region of guest memory.
fn region(slot: &Slot, mapping: &Mapping) -> Result<GuestRegionMmap, VmmError> {
    let flags = MAP_ANONYMOUS | MAP_NORESERVE | MAP_PRIVATE;
    // SAFETY: the mapping has this size and these flags; `Ram` keeps both, and drops the region
    // first.
    let region = unsafe {
        MmapRegion::build_raw(
            mapping.at(0),
            to_usize(slot.bytes),
            PROT_READ | PROT_WRITE,
            flags,
        )
    };
    let wrong = |why: String| VmmError::plan(format!("memslot {}: {why}", slot.id));
    let region = region.map_err(|error| wrong(error.to_string()))?;
    GuestRegionMmap::new(region, GuestAddress(slot.gpa.0))
        .ok_or_else(|| wrong("it wraps around the end of addresses".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(id: u16, gpa: u64, bytes: u64) -> Slot {
        Slot {
            id,
            gpa: Gpa(gpa),
            bytes,
            backing: Backing::Small,
        }
    }

    fn frames(start: u64, frames: u64) -> FrameRange {
        FrameRange {
            start: Gpa(start),
            frames,
        }
    }

    #[test]
    fn accesses_past_the_end_fail() {
        let ram = Ram::new(&[slot(0, 0, 0x10_0000)]).unwrap();
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
    fn accesses_may_cross_memslots() {
        let ram = Ram::new(&[slot(3, 0x8000, 0x4000), slot(0, 0, 0x8000)]).unwrap();
        ram.write(Gpa(0x7ffe), &[1, 2, 3, 4]).unwrap();
        let mut bytes = [0; 4];
        ram.read(Gpa(0x7ffe), &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4]);
        for (range, id) in [
            (frames(0, 8), Some(0)),
            (frames(0x8000, 4), Some(3)),
            (frames(0x7000, 2), None),
            (frames(0x8000, 5), None),
            (frames(0, u64::MAX), None),
        ] {
            assert_eq!(ram.slot_of(range).map(|slot| slot.id), id, "{range:?}");
            assert_eq!(ram.pointer(range).is_some(), id.is_some());
        }
        assert!(Ram::new(&[slot(0, 0, 0x8000), slot(1, 0x7000, 0x1000)]).is_err());
    }

    #[test]
    fn mailbox_and_passes_are_at_the_addresses_of_the_contract() {
        let ram = Ram::new(&[slot(0, 0, 0x10_0000)]).unwrap();
        for cpu in 0..abi::MAX_VCPUS {
            ram.write(abi::layout::mailbox(cpu), &abi::MAGIC.to_le_bytes())
                .unwrap();
            assert_eq!(ram.mailbox(cpu).unwrap().magic, abi::MAGIC);
        }
        ram.set_passes(5).unwrap();
        let mut passes = [0; 8];
        ram.read(HOST_PAGE, &mut passes).unwrap();
        assert_eq!(u64::from_le_bytes(passes), 5);
    }
}
