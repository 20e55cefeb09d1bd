//! Named moments: the guest's phases, and the collector's keyframes.

use bytemuck::{Pod, Zeroable};

use crate::Header;
#[cfg(doc)]
use crate::NOT_SEEN;

/// Marks from here on are the collector's own: `COLLECTOR_MARK_BASE` is a keyframe,
/// complete. Below it are the guest's phases (`abi::Phase`).
pub const COLLECTOR_MARK_BASE: u32 = 0x1_0000;

/// A moment that somebody named.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Mark {
    /// See [`Header`].
    pub header: Header,
    /// A guest phase, or [`COLLECTOR_MARK_BASE`].
    pub mark: u32,
    /// For a keyframe, its number from 0.
    pub keyframe: u32,
    /// For a phase, the guest's TSC; for a keyframe, the number of pages copied.
    pub value: u64,
    /// For a keyframe, how long the VM has been stopped for it by now, ns; [`NOT_SEEN`] if it was
    /// not.
    pub stopped_ns: u64,
}

const _: () = assert!(size_of::<Mark>() == 48);
