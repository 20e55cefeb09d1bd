//! What the kernel side keeps for each vCPU's thread while a fault is under way.

use bytemuck::{Pod, Zeroable};

use crate::{Fault, Gpa, SHADOWS, Shadows, Spte, VcpuId, VmId};

/// The start of `kvm_vcpu.stat.pf_*`, in the kernel's order. KVM counts `taken` before it walks
/// the guest's tables and one of the others when the fault is dealt with, so they separate a fault's
/// walk from the emulator's and name the outcome where no tracepoint does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Outcomes {
    /// `pf_taken`
    pub taken: u64,
    /// `pf_fixed`
    pub fixed: u64,
    /// `pf_emulate`
    pub emulate: u64,
    /// `pf_spurious`
    pub spurious: u64,
    /// `pf_fast`
    pub fast: u64,
}

/// Value of the map of vCPUs, keyed by thread id. User space may only read it.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Vcpu {
    /// Kernel address of `struct kvm_vcpu`.
    pub vcpu_ptr: u64,
    /// See [`VmId`].
    pub vm: VmId,
    /// See [`VcpuId`].
    pub vcpu: VcpuId,
    /// How far the fault has come: one of the constants of this type.
    pub step: u8,
    /// The fault's outcome is known and `fault` is whole but for later moments.
    pub decided: u8,
    /// A shadow page was looked up since upper entries were last recorded.
    pub linking: u8,
    /// A leaf table went unsync in this fault.
    pub unsync: u8,
    /// KVM's counters when the fault began; see [`Outcomes`].
    pub outcomes: Outcomes,
    /// When the guest left, ns; 0 once that is used, and where exits are not seen.
    pub exit: u64,
    /// How often the thread was switched out when the fault began.
    pub switches: u64,
    /// Level of the shadow root.
    pub root_level: u8,
    /// This kernel announces re-entries, so a record waits for the fault's.
    pub entries_seen: u8,
    /// RIP and roots of this fault were read: later, the emulator has moved on.
    pub rooted: u8,
    /// The guest stores to a shadowed table: see [`Store`]. One of the constants of that type.
    pub storing: u8,
    /// The host takes a page away on this thread: `unmapping` holds something.
    pub unmaps: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Kernel address of the shadow page that was synced last, until its copy is not needed, plus 1
    /// once its entries were compared; 0: none.
    pub synced: u64,
    /// `stat.invlpg` at the last event with unsync pages.
    pub invlpgs: u64,
    /// `stat.insn_emulation` then.
    pub emulated: u64,
    /// Kernel addresses of the entries of that page, until the vCPU's next event.
    pub unmapping: [u64; SHADOWS],
    /// The store, while `storing` is not 0.
    pub store: Store,
    /// The record, as far as it is known. Its roots outlive it: they are those last recorded.
    pub fault: Fault,
}

impl Vcpu {
    /// Nothing under way.
    pub const IDLE: u8 = 0;
    /// KVM was called to deal with a fault (`kvm_mmu_page_fault`).
    pub const CALLED: u8 = 6;
    /// Guest entries are being read.
    pub const WALKING: u8 = 1;
    /// Its walk is over and nothing has come of it yet; other walks are the emulator's.
    pub const WALKED: u8 = 5;
    /// The guest's own tables refuse the access.
    pub const REFUSED: u8 = 2;
    /// Upper levels are linked; the leaf comes next.
    pub const REQUESTED: u8 = 3;
    /// The leaf is stored; neighbours may follow.
    pub const MAPPED: u8 = 4;
}

/// A store of the guest's to a shadowed table, emulated, from the walk that gives its address
/// until the vCPU's next event. For kernels whose functions cannot be hooked.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Store {
    /// The guest's entry.
    pub gpa: Gpa,
    /// The shadow pages of its table.
    pub tables: Shadows,
    /// Their entries before.
    pub old: [Spte; SHADOWS],
}

impl Store {
    /// There is none.
    pub const NONE: u8 = 0;
    /// It is about to happen, or has.
    pub const BEGUN: u8 = 1;
    /// It has happened and has its record; its changes of the shadow tables have none yet.
    pub const RECORDED: u8 = 2;
}

const _: () =
    assert!(size_of::<Vcpu>() == 104 + 8 * SHADOWS + size_of::<Store>() + size_of::<Fault>());
