//! KVM's counters of traced VMs, which `KVM_GET_STATS_FD` refuses to other processes.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel,
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use events::{COUNTER_WORDS, CounterWords, NO_VCPU, VcpuId, VcpuKey, VmId};

use crate::{
    kernel::{config, field, offset},
    vcpus,
};

/// Answer of [`counters`].
#[map]
static COUNTERS: Array<CounterWords> = Array::with_max_entries(1, vcpus::USER_READS);

/// Run by user space: copies the counters of vCPU `arg(1)` of VM `arg(0)`, or of the VM itself if
/// that is [`NO_VCPU`].
#[raw_tracepoint]
pub fn counters(ctx: RawTracePointContext) {
    let Some(answer) = COUNTERS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a map value; user space runs one request at a time.
    let answer = unsafe { &mut *answer };
    answer.read = 0;
    answer.used_mmu_pages = 0;
    let vm = VmId(ctx.arg::<u64>(0) as u16);
    let vcpu = VcpuId(ctx.arg::<u64>(1) as u16);
    let (object, [offset, bytes]) = if vcpu == NO_VCPU {
        (vcpus::kvm(vm), config!(vm_counters))
    } else {
        (
            vcpus::vcpu_struct(VcpuKey { vm, vcpu }),
            config!(vcpu_counters),
        )
    };
    let Some(object) = object else { return };
    if bytes > 8 * COUNTER_WORDS as u32 {
        return;
    }
    // SAFETY: within the words; the helper checks the address that it reads.
    let failed = unsafe {
        bpf_probe_read_kernel(
            answer.words.as_mut_ptr().cast(),
            bytes,
            (object + u64::from(offset)) as *const _,
        )
    };
    if failed != 0 {
        return;
    }
    if vcpu == NO_VCPU {
        answer.used_mmu_pages = field(object, offset!(kvm_used_mmu_pages)).unwrap_or(0);
    }
    answer.read = 1;
}
