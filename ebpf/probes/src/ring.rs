//! The only way out: numbered records in one ring, and a count of those that found no room.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    macros::map,
    maps::{Array, PerCpuArray, RingBuf, ring_buf::RingBufEntry},
};
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use events::{Header, Loss, Probe, Record, Seq, TimeNs, VcpuId, VmId};

use crate::kernel::now;

/// User space sets its size.
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
        // This target has no `AtomicU64::fetch_add`, since its oldest instruction set has no
        // compare-and-swap. It does have the instruction.
        Some(seq) => Seq(unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(seq, 1) }),
        None => Seq(0),
    }
}

/// Counts something lost.
#[inline(always)]
pub fn lose(probe: Probe) {
    if let Some(loss) = LOSSES.get_ptr_mut(probe as u32) {
        let time = now();
        // SAFETY: the value belongs to this CPU. Another program may preempt this one: the count
        // is atomic, and either program's time will do.
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
pub fn reserve<T: Record>(vm: VmId, vcpu: VcpuId, time: u64) -> Option<RingBufEntry<T>> {
    let entry = try_reserve(vm, vcpu, time);
    if entry.is_none() {
        lose(T::LOST_BY);
    }
    entry
}

/// As [`reserve`], for a caller that counts the loss itself. The number is taken first, so that a
/// record without room leaves a gap.
#[inline(always)]
pub fn try_reserve<T: Record>(vm: VmId, vcpu: VcpuId, time: u64) -> Option<RingBufEntry<T>> {
    place(next_seq(), vm, vcpu, time)
}

/// As [`try_reserve`], for a number that was taken before.
#[inline(always)]
pub fn place<T: Record>(seq: Seq, vm: VmId, vcpu: VcpuId, time: u64) -> Option<RingBufEntry<T>> {
    let mut entry = RING.reserve::<T>(0)?;
    let header = header::<T>(seq, vm, vcpu, time);
    // SAFETY: every `Record` begins with a header (repr(C)).
    unsafe { entry.as_mut_ptr().cast::<Header>().write(header) };
    Some(entry)
}

/// What a record begins with.
#[inline(always)]
pub fn header<T: Record>(seq: Seq, vm: VmId, vcpu: VcpuId, time: u64) -> Header {
    Header {
        seq,
        time: TimeNs(time),
        kind: T::KIND as u16,
        vm,
        vcpu,
        reserved: 0,
    }
}

/// Sends a record. The reader polls: to wake it up would cost more than the record.
#[inline(always)]
pub fn submit<T>(entry: RingBufEntry<T>) {
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
}

/// Sends a record of any length that is complete elsewhere, if there is room.
///
/// # Safety
///
/// `bytes` from `record` on must be one map value's.
#[inline(always)]
pub unsafe fn send(record: *const u8, bytes: usize) -> Option<()> {
    // SAFETY: the caller's.
    let record = unsafe { core::slice::from_raw_parts(record, bytes) };
    RING.output::<[u8]>(record, u64::from(BPF_RB_NO_WAKEUP))
        .ok()
}

/// Whether half of the ring stays free after `bytes`, for records that cannot wait.
#[inline(always)]
pub fn has_room(bytes: u64) -> bool {
    let used = RING.query(u64::from(BPF_RB_AVAIL_DATA));
    let size = RING.query(u64::from(BPF_RB_RING_SIZE));
    used + bytes < size / 2
}
