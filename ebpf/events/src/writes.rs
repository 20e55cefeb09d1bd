//! A store of the guest's to a page table that is shadowed.

use bytemuck::{Pod, Zeroable};

use crate::{Gpa, Header};

/// Seen by KVM because it emulated the store (`kvm_mmu_track_write`); a store to an unsync table
/// is not.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Write {
    /// See [`Header`].
    pub header: Header,
    /// Where it went.
    pub gpa: Gpa,
    /// What was stored, the first eight bytes, zero beyond `bytes`.
    pub value: u64,
    /// How many bytes were stored.
    pub bytes: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Write>() == 48);
