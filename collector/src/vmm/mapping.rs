//! Memory of this process that can be given to a guest.

use std::io;
use std::ptr::null_mut;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// A huge page of the host.
const HUGE_BYTES: usize = 2 << 20;

/// A private, anonymous mapping that is not prefaulted; unmapped when dropped.
///
/// Its address has the same offset into 2 MiB as the guest-physical address that it is for, as
/// a huge page in both asks for.
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
        // SAFETY: a new anonymous mapping disturbs nothing.
        let reserved = unsafe {
            mmap_anonymous(
                null_mut(),
                spare,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        // Dropped with all of it, if what is too much cannot be unmapped.
        let mut mapping = Self {
            start: reserved.expose_provenance(),
            bytes: spare,
        };
        let offset = gpa as usize % HUGE_BYTES;
        let before = (HUGE_BYTES + offset - mapping.start % HUGE_BYTES) % HUGE_BYTES;
        mapping.cut_front(before)?;
        mapping.cut_back(bytes)?;
        Ok(mapping)
    }

    fn cut_front(&mut self, bytes: usize) -> io::Result<()> {
        if bytes > 0 {
            // SAFETY: the mapping's own first bytes, of which nobody knows yet.
            unsafe { munmap(self.at(0), bytes) }?;
            self.start += bytes;
            self.bytes -= bytes;
        }
        Ok(())
    }

    fn cut_back(&mut self, to: usize) -> io::Result<()> {
        if to < self.bytes {
            // SAFETY: the mapping's own last bytes, of which nobody knows yet.
            unsafe { munmap(self.at(to), self.bytes - to) }?;
            self.bytes = to;
        }
        Ok(())
    }

    /// Advises the kernel about all of it, where it knows the advice: a kernel without
    /// transparent huge pages has none of theirs.
    pub(super) fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is exactly this mapping, and advice on huge pages changes no byte.
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
        // SAFETY: the owner gives up what was mapped for it. `munmap` of a whole mapping fails
        // only where it would have to split another, and then leaves it.
        let _ = unsafe { munmap(self.at(0), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_pages_fit_on_both_sides() {
        for (bytes, gpa) in [(4096, 0), (3 << 20, 0x20_1000), (1 << 20, 0x1234_5000)] {
            let mapping = Mapping::new(bytes, gpa).unwrap();
            assert_eq!(
                mapping.hva() as usize % HUGE_BYTES,
                gpa as usize % HUGE_BYTES
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
