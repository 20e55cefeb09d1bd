//! What every record begins with.

use bytemuck::{Pod, Zeroable};

/// Place of a record in the order of all records of a recording.
///
/// Taken from one counter at the moment of the change (for SPTEs under `mmu_lock`, or before the
/// entry is read), and before room in the ring is asked for: a gap is a lost record.
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
    /// A [`crate::RecordKind`].
    pub kind: u16,
    /// See [`VmId`].
    pub vm: VmId,
    /// See [`VcpuId`]; [`NO_VCPU`] where none was involved.
    pub vcpu: VcpuId,
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<Header>() == 24);
