//! Moments that user space names, in the order of all records.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use events::{Mark, NOT_SEEN, VcpuId, VmId};

use crate::{
    kernel::now,
    ring::{reserve, submit},
};

/// Run by user space: `arg` 0 mark, 1 VM, 2 vCPU, 3 keyframe, 4 value, 5 since when the VM is
/// stopped, or 0.
#[raw_tracepoint]
pub fn mark(ctx: RawTracePointContext) {
    let vm = VmId(ctx.arg::<u64>(1) as u16);
    let vcpu = VcpuId(ctx.arg::<u64>(2) as u16);
    let now = now();
    let Some(mut entry) = reserve::<Mark>(vm, vcpu, now) else {
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).mark = ctx.arg::<u64>(0) as u32;
        (*record).keyframe = ctx.arg::<u64>(3) as u32;
        (*record).value = ctx.arg(4);
        (*record).stopped_ns = match ctx.arg::<u64>(5) {
            0 => NOT_SEEN,
            since => now.saturating_sub(since),
        };
    }
    submit(entry);
}
