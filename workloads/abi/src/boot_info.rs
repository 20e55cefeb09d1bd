//! What the VMM passes to the guest at its start.

use crate::{ABI_VERSION, Gpa, MAGIC};

/// Consecutive frames of guest memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameRange {
    /// First byte; page-aligned.
    pub start: Gpa,
    /// Number of 4 KiB frames.
    pub frames: u64,
}

impl FrameRange {
    /// First byte after the range.
    #[must_use]
    pub const fn end(self) -> Gpa {
        self.start.add_frames(self.frames)
    }
}

/// Maximum number of a workload's parameters.
pub const MAX_PARAMS: usize = 16;

/// The guest's task, at [`crate::layout::BOOT_INFO`]. The VMM writes it before the guest starts.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootInfo {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`].
    pub version: u32,
    /// A [`crate::WorkloadId`].
    pub workload: u32,
    /// Number of CPUs, 1 to [`crate::MAX_VCPUS`]; each enters the image.
    pub vcpus: u32,
    /// Zero.
    pub reserved: u32,
    /// Guest memory in bytes, from guest-physical address 0.
    pub memory_bytes: u64,
    /// Frames for the guest's page tables: identity-mapped, zeroed.
    pub tables: FrameRange,
    /// Frames for the work range: zeroed, not mapped yet.
    pub work: FrameRange,
    /// The workload's parameters, in the catalogue's order: a number as it is, a flag as 0 or 1, a
    /// choice as its index in the list of choices. The rest is zero.
    pub params: [u64; MAX_PARAMS],
}

const _: () = assert!(size_of::<BootInfo>() == BootInfo::BYTES);

impl BootInfo {
    /// Size in bytes.
    pub const BYTES: usize = 64 + 8 * MAX_PARAMS;

    /// As in guest memory: little-endian, fields in order.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let words = [
            self.magic,
            pair(self.version, self.workload),
            pair(self.vcpus, self.reserved),
            self.memory_bytes,
            self.tables.start.0,
            self.tables.frames,
            self.work.start.0,
            self.work.frames,
        ];
        let mut bytes = [0; Self::BYTES];
        let words = words.into_iter().chain(self.params);
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Whether magic and version are those of this crate.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        self.magic == MAGIC && self.version == ABI_VERSION
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn bytes_are_at_the_offsets_of_the_fields() {
        let mut params = [0; MAX_PARAMS];
        params[0] = 3;
        params[MAX_PARAMS - 1] = 4;
        let info = BootInfo {
            magic: MAGIC,
            version: ABI_VERSION,
            workload: 2,
            vcpus: 5,
            reserved: 0,
            memory_bytes: 9,
            tables: FrameRange {
                start: Gpa(10),
                frames: 11,
            },
            work: FrameRange {
                start: Gpa(12),
                frames: 13,
            },
            params,
        };
        let bytes = info.to_bytes();
        for (offset, value) in [
            (offset_of!(BootInfo, workload), 2),
            (offset_of!(BootInfo, vcpus), 5),
            (offset_of!(BootInfo, memory_bytes), 9),
            (offset_of!(BootInfo, tables), 10),
            (offset_of!(BootInfo, work) + 8, 13),
            (offset_of!(BootInfo, params), 3),
            (BootInfo::BYTES - 8, 4),
        ] {
            assert_eq!(bytes[offset], value, "offset {offset}");
        }
        assert!(info.is_current());
    }
}
