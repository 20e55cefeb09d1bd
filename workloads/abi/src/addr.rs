//! Addresses as the guest sees them.

use crate::to_usize;

/// Bytes of a page, a page table and a frame.
pub const PAGE_BYTES: u64 = 4096;

/// A guest-physical address, in bytes.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gpa(pub u64);

/// A guest-virtual address, in bytes. It depends on CR3.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gva(pub u64);

impl Gpa {
    /// The address plus `bytes`.
    #[must_use]
    pub const fn add(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// The address plus `frames` frames.
    #[must_use]
    pub const fn add_frames(self, frames: u64) -> Self {
        Self(self.0 + frames * PAGE_BYTES)
    }
}

impl Gva {
    /// The address plus `bytes`.
    #[must_use]
    pub const fn add(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }

    /// The address plus `pages` pages.
    #[must_use]
    pub const fn add_pages(self, pages: u64) -> Self {
        Self(self.0 + pages * PAGE_BYTES)
    }

    /// Index into the guest page table of `level` (4 = PML4 … 1 = page table).
    #[must_use]
    pub const fn index(self, level: u32) -> usize {
        to_usize((self.0 >> (12 + 9 * (level - 1))) & 511)
    }
}

impl core::fmt::Display for Gpa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl core::fmt::Display for Gva {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_takes_nine_bits_a_level() {
        let gva = Gva(0x80_0000_0000 + (3 << 30) + (5 << 21) + (7 << 12) + 9);
        assert_eq!([4, 3, 2, 1].map(|level| gva.index(level)), [1, 3, 5, 7]);
    }
}
