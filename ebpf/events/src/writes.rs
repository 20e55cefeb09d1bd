//! A store of the guest's that KVM emulated.

use bytemuck::{Pod, Zeroable};

use crate::{Gpa, Header};

/// Where functions can be hooked, every emulated store to memory (`kvm_mmu_track_write`), also one
/// to a page that is no table; elsewhere those to shadowed tables, as the eight bytes of the entry
/// afterwards. Stores to unsync tables are not emulated, so not among them.
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
