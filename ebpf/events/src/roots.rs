//! Which table a vCPU runs on.

use bytemuck::{Pod, Zeroable};

use crate::{Gpa, Header, Hpa};

/// Seen at the first fault after a vCPU changed its guest or shadow root.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Root {
    /// See [`Header`].
    pub header: Header,
    /// The guest's CR3.
    pub cr3: Gpa,
    /// The shadow root (`vcpu->arch.mmu->root.hpa`).
    pub root: Hpa,
    /// Level of the shadow root.
    pub level: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Zero.
    pub reserved_word: u32,
}

const _: () = assert!(size_of::<Root>() == 48);
