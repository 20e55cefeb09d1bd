//! Copies of the kernel's own shadow pages.

use bytemuck::{Pod, Zeroable};

use crate::{Gfn, Header, Hpa, Role, Spte};

/// Entries in one page-table page.
pub const ENTRIES_PER_TABLE: usize = 512;
/// Pages that one run of the keyframe program copies at most; then user space calls again.
pub const KEYFRAME_BATCH: u32 = 32;

/// One shadow page as the kernel held it.
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
    /// `sp->unsync`.
    pub unsync: u32,
    /// The entries.
    pub entries: [Spte; ENTRIES_PER_TABLE],
}

const _: () = assert!(size_of::<KeyframePage>() == 56 + 8 * ENTRIES_PER_TABLE);

/// A shadow page that shadows a guest table, and what its leaves map.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct KeyframeTable {
    /// The page; its header's kind is that of this record.
    pub page: KeyframePage,
    /// `sp->shadowed_translation`: for each leaf the guest frame that it maps, shifted by the page
    /// size, `ACC_*` rights below. Whatever was there last where the entry is no leaf.
    pub translations: [u64; ENTRIES_PER_TABLE],
}

const _: () = assert!(size_of::<KeyframeTable>() == 56 + 16 * ENTRIES_PER_TABLE);

/// How far a keyframe has come, kept in a map between runs of its program.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct KeyframeCursor {
    /// Kernel address of the next `struct kvm_mmu_page`; 0 before the first run.
    pub next: u64,
    /// Pages copied so far.
    pub pages: u32,
    /// 1 once the list's head was reached.
    pub done: u32,
    /// Pages that could not be read or found no room in the ring.
    pub lost: u32,
    /// 1 if the list could not be read, or changed while it was.
    pub failed: u32,
    /// vCPUs whose root was recorded, and those that have none.
    pub vcpus: u32,
    /// Zero.
    pub reserved: u32,
}
