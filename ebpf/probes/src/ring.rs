//! The one way out: numbered records in one ring, and a count of what found no room.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    macros::map,
    maps::{Array, PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use events::{Header, Loss, Probe, RecordKind, Seq, TimeNs, VcpuId, VmId};

use crate::kernel::now;

/// Size is set by user space.
#[map]
static RING: RingBuf = RingBuf::with_byte_size(1 << 24, 0);

/// The next sequence number.
#[map]
static SEQ: Array<u64> = Array::with_max_entries(1, 0);

/// Indexed by [`Probe`].
#[map]
static LOSSES: PerCpuArray<Loss> = PerCpuArray::with_max_entries(Probe::ALL.len() as u32, 0);

/// Takes the next sequence number.
#[inline(always)]
pub fn next_seq() -> Seq {
    match SEQ.get_ptr_mut(0) {
        // SAFETY: a map value outlives the program run and is aligned; all users are atomic.
        // `AtomicU64::fetch_add` is not there on this target, which has no compare-and-swap in
        // its oldest instruction set; the instruction itself is.
        Some(seq) => Seq(unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(seq, 1) }),
        None => Seq(0),
    }
}

/// Counts something lost.
#[inline(always)]
pub fn lose(probe: Probe) {
    if let Some(loss) = LOSSES.get_ptr_mut(probe as u32) {
        let time = now();
        // SAFETY: the value belongs to this CPU. Where programs may be preempted, another one may
        // come between: the count is atomic, and either's time is true enough for the span.
        unsafe {
            if (*loss).count == 0 {
                (*loss).first = time;
            }
            atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(&raw mut (*loss).count, 1);
            (*loss).last = time;
        }
    }
}

/// Numbers a record, finds room for it and writes its header; without room, counts it as lost.
#[inline(always)]
pub fn reserve<T: 'static>(
    kind: RecordKind,
    probe: Probe,
    vm: VmId,
    vcpu: VcpuId,
    time: u64,
) -> Option<RingBufEntry<T>> {
    let entry = try_reserve(kind, vm, vcpu, time);
    if entry.is_none() {
        lose(probe);
    }
    entry
}

/// As [`reserve`], for a caller that counts the loss itself. The number is taken first, so that a
/// record without room leaves a gap.
#[inline(always)]
pub fn try_reserve<T: 'static>(
    kind: RecordKind,
    vm: VmId,
    vcpu: VcpuId,
    time: u64,
) -> Option<RingBufEntry<T>> {
    place(next_seq(), kind, vm, vcpu, time)
}

/// As [`try_reserve`], for a number that was taken before.
#[inline(always)]
pub fn place<T: 'static>(
    seq: Seq,
    kind: RecordKind,
    vm: VmId,
    vcpu: VcpuId,
    time: u64,
) -> Option<RingBufEntry<T>> {
    let mut entry = RING.reserve::<T>(0)?;
    let header = Header {
        seq,
        time: TimeNs(time),
        kind: kind as u16,
        vm,
        vcpu,
        reserved: 0,
    };
    // SAFETY: every record begins with a header (repr(C)).
    unsafe { entry.as_mut_ptr().cast::<Header>().write(header) };
    Some(entry)
}

/// Hands a record over. The reader polls: waking it up would cost more than the record.
#[inline(always)]
pub fn submit<T>(entry: RingBufEntry<T>) {
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
}

/// Whether `bytes` leave half of the ring to those who cannot wait.
#[inline(always)]
pub fn has_room(bytes: u64) -> bool {
    let used = RING.query(u64::from(BPF_RB_AVAIL_DATA));
    let size = RING.query(u64::from(BPF_RB_RING_SIZE));
    used + bytes < size / 2
}
