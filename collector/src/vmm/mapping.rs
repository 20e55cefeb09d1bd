//! Memory of this process for a guest.

use std::io;
use std::ptr::null_mut;

use abi::to_usize;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// A huge page of the host.
const HUGE_BYTES: usize = 2 << 20;

/// A private, anonymous mapping that is not prefaulted; unmapped when dropped.
///
/// Its address has the same offset into 2 MiB as the guest-physical address that it backs: a huge
/// page can be mapped in both only then.
#[derive(Debug)]
pub(super) struct Mapping {
    start: usize,
    bytes: usize,
}

impl Mapping {
    /// `MAP_NORESERVE`, readable and writable.
    pub(super) fn new(bytes: usize, gpa: u64) -> io::Result<Self> {
        let spare = bytes
            .checked_add(HUGE_BYTES)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new anonymous mapping affects no other memory.
        let reserved = unsafe {
            mmap_anonymous(
                null_mut(),
                spare,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        // If the surplus cannot be unmapped, all of it is dropped.
        let mut mapping = Self {
            start: reserved.expose_provenance(),
            bytes: spare,
        };
        let offset = to_usize(gpa) % HUGE_BYTES;
        let before = (HUGE_BYTES + offset - mapping.start % HUGE_BYTES) % HUGE_BYTES;
        mapping.cut_front(before)?;
        mapping.cut_back(bytes)?;
        Ok(mapping)
    }

    fn cut_front(&mut self, bytes: usize) -> io::Result<()> {
        if bytes > 0 {
            // SAFETY: the first bytes of this mapping, to which there is no pointer yet.
            unsafe { munmap(self.at(0), bytes) }?;
            self.start += bytes;
            self.bytes -= bytes;
        }
        Ok(())
    }

    fn cut_back(&mut self, to: usize) -> io::Result<()> {
        if to < self.bytes {
            // SAFETY: the last bytes of this mapping, to which there is no pointer yet.
            unsafe { munmap(self.at(to), self.bytes - to) }?;
            self.bytes = to;
        }
        Ok(())
    }

    /// `madvise` for all of it. A kernel without transparent huge pages does not know the advice
    /// about them, which is not an error.
    pub(super) fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is this mapping, and advice on huge pages changes no byte.
        match unsafe { madvise(self.at(0), self.bytes, advice) } {
            Err(rustix::io::Errno::INVAL) => Ok(()),
            other => Ok(other?),
        }
    }

    /// The host-virtual address of the first byte.
    pub(super) fn hva(&self) -> u64 {
        self.start as u64
    }

    /// A pointer to a byte of it.
    pub(super) fn at<T>(&self, offset: usize) -> *mut T {
        std::ptr::with_exposed_provenance_mut(self.start + offset)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the owner does not use the mapping any more. `munmap` of a whole mapping fails
        // only where it would have to split another, and then leaves it mapped.
        let _ = unsafe { munmap(self.at(0), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_and_guest_physical_address_have_the_same_alignment() {
        for (bytes, gpa) in [(4096, 0), (3 << 20, 0x20_1000), (1 << 20, 0x1234_5000)] {
            let mapping = Mapping::new(bytes, gpa).unwrap();
            assert_eq!(
                to_usize(mapping.hva()) % HUGE_BYTES,
                to_usize(gpa) % HUGE_BYTES
            );
            mapping.advise(Advice::LinuxHugepage).unwrap();
            for offset in [0, bytes - 1] {
                // SAFETY: inside the mapping, and nobody else uses it.
                unsafe { mapping.at::<u8>(offset).write(7) };
            }
        }
        assert!(Mapping::new(usize::MAX, 0).is_err());
    }
}
