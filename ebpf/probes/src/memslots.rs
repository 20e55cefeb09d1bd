//! The memslots of traced VMs, which only their process knows.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use bytemuck::Zeroable as _;
use events::{
    Gfn, Hva, SlotAnswer, VmId,
    constants::{HLIST_NODE_BYTES, memslot_bucket},
};

use crate::{
    kernel::{field, offset, read},
    vcpus,
};

/// Longest chain of a bucket in which a number is searched.
const LONGEST: u64 = 64;
/// Longest chain that is listed. KVM has at most 32,767 memslots, which are 256 a bucket.
const LISTED: u64 = 512;

/// Answer of [`memslot`].
#[map]
static MEMSLOT: Array<SlotAnswer> = Array::with_max_entries(1, vcpus::USER_READS);

/// Run by user space while the VM is stopped: the memslot at place `arg(2)` in the chain of bucket
/// `arg(1)` of VM `arg(0)`. Without one there, the generation alone.
#[raw_tracepoint]
pub fn memslot(ctx: RawTracePointContext) {
    let Some(answer) = MEMSLOT.get_ptr_mut(0) else {
        return;
    };
    let vm = VmId(ctx.arg::<u64>(0) as u16);
    let mut found = find(vm, ctx.arg(1), ctx.arg(2)).unwrap_or(SlotAnswer::zeroed());
    // Zero where it cannot be read: then nothing says that memslots are as before.
    found.generation = generation(vm).unwrap_or_default();
    // SAFETY: a map value; user space runs one request at a time.
    unsafe { *answer = found };
}

#[inline(always)]
fn generation(vm: VmId) -> Option<u64> {
    let slots: u64 = field(vcpus::kvm(vm)?, offset!(kvm_memslots))?;
    field(slots, offset!(memslots_generation))
}

/// The chain of a bucket: its first node, and how many bytes a node is into its memslot.
#[inline(always)]
fn chain(vm: VmId, bucket: u64) -> Option<(u64, u64)> {
    let slots: u64 = field(vcpus::kvm(vm)?, offset!(kvm_memslots))?;
    // Each memslot has a node for each of two sets, of which one is active.
    let set: u32 = field(slots, offset!(memslots_node_idx))?;
    let first: u64 = field(slots + 8 * bucket, offset!(memslots_id_hash))?;
    let within = HLIST_NODE_BYTES * u64::from(set & 1);
    Some((first, offset!(slot_id_node).of(within)?))
}

/// `struct kvm_memory_slot` of a VM's memslot, by its number (`id_to_memslot`).
#[inline(always)]
pub fn by_id(vm: VmId, id: u16) -> Option<u64> {
    let (mut node, within) = chain(vm, memslot_bucket(id))?;
    for _ in 0..LONGEST {
        if node == 0 {
            return None;
        }
        if field::<u16>(node - within, offset!(slot_id)) == Some(id) {
            return Some(node - within);
        }
        // `hlist_node.next` is the first field.
        node = read(node)?;
    }
    None
}

/// Where a memslot is.
#[derive(Clone, Copy)]
pub struct Place {
    /// `struct kvm_memory_slot`.
    pub slot: u64,
    /// First frame.
    pub base: Gfn,
    /// Frames.
    pub pages: u64,
    /// Where it starts in its process.
    pub hva: Hva,
}

impl Place {
    #[inline(always)]
    fn of(slot: u64) -> Option<Self> {
        Some(Self {
            slot,
            base: Gfn(field(slot, offset!(slot_base_gfn))?),
            pages: field(slot, offset!(slot_npages))?,
            hva: Hva(field(slot, offset!(slot_userspace_addr))?),
        })
    }

    /// Where `gfn` is in the process, if it is in this memslot.
    #[inline(always)]
    pub fn hva_of(&self, gfn: Gfn) -> Option<Hva> {
        let within = gfn.0.wrapping_sub(self.base.0);
        (within < self.pages).then(|| Hva(self.hva.0 + (within << 12)))
    }

    /// The frame at `hva`, if it is in this memslot.
    #[inline(always)]
    pub fn gfn_of(&self, hva: Hva) -> Option<Gfn> {
        let within = hva.0.wrapping_sub(self.hva.0) >> 12;
        (within < self.pages).then(|| Gfn(self.base.0 + within))
    }
}

/// Memslots that are searched for one that holds an address: the first ones by number. Changes in
/// others are seen in keyframes only.
const SEARCHED: u16 = 8;

/// The first memslot for which `holds` answers true.
#[inline(always)]
pub fn search(vm: VmId, holds: impl Fn(&Place) -> bool) -> Option<Place> {
    for id in 0..SEARCHED {
        if let Some(place) = by_id(vm, id).and_then(Place::of)
            && holds(&place)
        {
            return Some(place);
        }
    }
    None
}

#[inline(always)]
fn find(vm: VmId, bucket: u64, place: u64) -> Option<SlotAnswer> {
    let (mut node, within) = chain(vm, bucket)?;
    for step in 0..LISTED {
        if node == 0 || step == place {
            break;
        }
        node = read(node)?;
    }
    if node == 0 || place >= LISTED {
        return None;
    }
    let slot = node - within;
    Some(SlotAnswer {
        base: Gfn(field(slot, offset!(slot_base_gfn))?),
        pages: field(slot, offset!(slot_npages))?,
        hva: Hva(field(slot, offset!(slot_userspace_addr))?),
        generation: 0,
        id: field(slot, offset!(slot_id))?,
        reserved: [0; 6],
    })
}
