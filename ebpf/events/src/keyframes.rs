//! Copies of the kernel's own shadow pages.

use bytemuck::{Pod, Zeroable};

use crate::{Gfn, Gpa, Header, Hpa, Role, Spte};

/// Entries in one page-table page.
pub const ENTRIES_PER_TABLE: usize = 512;
/// Pages that one run of the keyframe program visits at most; then user space calls again. The
/// program cannot be preempted meanwhile: half a millisecond.
pub const KEYFRAME_BATCH: u32 = 512;
/// Most threads that copy one keyframe. A power of two.
pub const KEYFRAME_WORKERS: u32 = 4;

/// One shadow page as the kernel held it. `count` times [`KeyframeEntry`] follow in its record.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct KeyframePage {
    /// See [`Header`].
    pub header: Header,
    /// The page of 512 entries (`sp->spt`).
    pub spt: Hpa,
    /// See [`crate::Page::gfn`].
    pub gfn: Gfn,
    /// See [`Role`].
    pub role: Role,
    /// Number of the keyframe, from 0.
    pub keyframe: u32,
    /// `sp->root_count`: how many vCPUs hold it as a root.
    pub root_count: u32,
    /// Entries that are not empty.
    pub count: u16,
    /// `sp->unsync`.
    pub unsync: u8,
    /// Not 0: the entries have the guest frames of the leaves (`sp->shadowed_translation`).
    pub has_frames: u8,
}

const _: () = assert!(size_of::<KeyframePage>() == 56);

/// An entry of a shadow page that is not empty.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct KeyframeEntry {
    /// The entry.
    pub spte: Spte,
    /// Its index below bit 12, where there is room: the guest frame is shifted by the page size.
    pub place: u64,
}

const _: () = assert!(size_of::<KeyframeEntry>() == 16);

impl KeyframeEntry {
    const INDEX: u64 = 0xfff;

    /// The entry at `index`; `translation` is what KVM keeps for it: the guest frame that a leaf
    /// maps, shifted by the page size, `ACC_*` rights below. Whatever was there last where the entry
    /// is no leaf.
    #[inline(always)]
    pub const fn new(index: u16, spte: Spte, translation: u64) -> Self {
        let place = translation & !Self::INDEX | index as u64;
        Self { spte, place }
    }

    /// Which entry.
    pub const fn index(self) -> u16 {
        (self.place & 0x1ff) as u16
    }

    /// The guest frame.
    pub const fn gfn(self) -> Gfn {
        Gpa(self.place).gfn()
    }
}

/// How far one thread has come with a keyframe, kept in a map between runs of its program.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct KeyframeCursor {
    /// Kernel address of the next `sp->link`.
    pub next: u64,
    /// Of the one before it.
    pub before: u64,
    /// [`page_share`] of each of this thread's pages, added up.
    pub sum: u64,
    /// Pages passed so far, those of other threads too.
    pub listed: u32,
    /// Pages of this thread that could not be read or found no room in the ring.
    pub lost: u32,
    /// 1 once the list's head was reached.
    pub done: u32,
    /// 1 if the list could not be read, or changed while it was.
    pub failed: u32,
    /// vCPUs whose root was recorded, and those that have none.
    pub vcpus: u32,
    /// Zero.
    pub reserved: u32,
}

/// A shadow page's part of a sum that is the same for the same pages in any order. The address is
/// mixed (the steps of splitmix64): addresses themselves have equal sums for many sets of pages,
/// such as neighbours of one set.
pub const fn page_share(spt: u64) -> u64 {
    let mixed = (spt ^ (spt >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::page_share;

    /// One page lost and another not forgotten, twice: the addresses have the same sum.
    #[test]
    fn other_pages_have_another_sum() {
        let sum = |pages: [u64; 2]| {
            let shares = pages.map(|page| page_share(0xffff_8880_0000_0000 + (page << 12)));
            shares.into_iter().fold(0_u64, u64::wrapping_add)
        };
        assert_eq!(sum([3, 8]), sum([8, 3]));
        assert_ne!(sum([3, 8]), sum([4, 7]));
        assert_ne!(sum([3, 8]), sum([2, 9]));
    }
}
