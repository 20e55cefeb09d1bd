//! What every record begins with.

use bytemuck::{Pod, Zeroable};

/// Place of a record in the one order of all records of a recording.
///
/// Taken from one counter at the moment of the change (for SPTEs: under
/// `mmu_lock`), before room in the ring is asked for: a gap is a lost record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Seq(pub u64);

/// Nanoseconds of `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct TimeNs(pub u64);

/// A traced VM, counted from 0 in the order in which it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct VmId(pub u16);

/// The kernel's `vcpu_id` within its VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct VcpuId(pub u16);

/// The raw `vcpu` of a record that no vCPU's thread made (host invalidation, teardown).
pub const NO_VCPU: VcpuId = VcpuId(u16::MAX);

/// First bytes of every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    /// See [`Seq`].
    pub seq: Seq,
    /// For a fault, the first moment seen; otherwise the moment of the change.
    pub time: TimeNs,
    /// A [`RecordKind`].
    pub kind: u16,
    /// See [`VmId`].
    pub vm: VmId,
    /// See [`VcpuId`]; [`NO_VCPU`] where none was involved.
    pub vcpu: VcpuId,
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<Header>() == 24);

/// Which struct a record is. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordKind {
    /// [`crate::Fault`]
    Fault = 1,
    /// [`crate::Entry`]
    Entry = 2,
    /// [`crate::Page`]
    Page = 3,
    /// [`crate::Root`]
    Root = 4,
    /// [`crate::Mark`]
    Mark = 5,
    /// [`crate::KeyframePage`]
    KeyframePage = 6,
    /// [`crate::Write`]
    Write = 7,
    /// [`crate::Host`]
    Host = 8,
    /// [`crate::KeyframeTable`]
    KeyframeTable = 9,
}

impl RecordKind {
    /// The kind with this number, if there is one.
    pub const fn from_raw(raw: u16) -> Option<Self> {
        Some(match raw {
            1 => Self::Fault,
            2 => Self::Entry,
            3 => Self::Page,
            4 => Self::Root,
            5 => Self::Mark,
            6 => Self::KeyframePage,
            7 => Self::Write,
            8 => Self::Host,
            9 => Self::KeyframeTable,
            _ => return None,
        })
    }
}
