//! Which table a vCPU runs on.

use bytemuck::{Pod, Zeroable};

use crate::{Gpa, Header, Hpa, Spte};

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

/// Entries of a PAE root.
pub const PDPTES: usize = 4;

/// As [`Root`], where the root is a PAE root: also when a vCPU loads it again, since its address
/// stays the same while its entries change.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct PaeRoot {
    /// The root; its header's kind is that of this record.
    pub root: Root,
    /// `mmu->pae_root`, raw: no shadow page holds these entries.
    pub pdptes: [Spte; PDPTES],
}

const _: () = assert!(size_of::<PaeRoot>() == size_of::<Root>() + 8 * PDPTES);

/// The root of one vCPU, as part of a keyframe.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct KeyframeRoot {
    /// The root; its header's kind is that of this record.
    pub root: Root,
    /// `mmu->pae_root`, raw, if the root's level is 3: no shadow page holds these entries.
    /// Otherwise zero.
    pub pdptes: [Spte; PDPTES],
    /// Number of the keyframe, from 0.
    pub keyframe: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<KeyframeRoot>() == size_of::<Root>() + 8 * PDPTES + 8);
