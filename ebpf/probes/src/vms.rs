//! VMs of other processes: programs that the collector runs on file descriptors that it holds.

use aya_ebpf::{
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use bytemuck::Zeroable as _;
use events::{Identity, NO_VCPU, NO_VM, VcpuId, VcpuKey, VmId};

use crate::{
    kernel::{field, offset},
    roots, vcpus,
};

/// Answer of [`identify`].
#[map]
static IDENTITY: Array<Identity> = Array::with_max_entries(1, vcpus::USER_READS);

/// Run by user space: which VM or vCPU file descriptor `arg(0)` belongs to. It is a vCPU's if
/// `arg(1)` is not 0, else a VM's. The vCPU of a traced VM is remembered.
#[raw_tracepoint]
pub fn identify(ctx: RawTracePointContext) {
    let Some(answer) = IDENTITY.get_ptr_mut(0) else {
        return;
    };
    let found = identity(ctx.arg(0), ctx.arg::<u64>(1) != 0);
    // SAFETY: a map value; user space runs one request at a time.
    unsafe { *answer = found.unwrap_or(Identity::zeroed()) };
}

/// Run by user space: from now on the VM of file descriptor `arg(0)` (see [`identify`]) is traced
/// as VM `arg(2)`. The descriptor must stay open until [`forget`], since it keeps `struct kvm`.
#[raw_tracepoint]
pub fn follow(ctx: RawTracePointContext) {
    let Some(found) = identity(ctx.arg(0), ctx.arg::<u64>(1) != 0) else {
        return;
    };
    let vm = VmId(ctx.arg::<u64>(2) as u16);
    // User space asks `identify` whether it worked.
    let entered = vcpus::trace(vm, found.kvm);
    debug!(&ctx, "vm {} is {:x}: {}", vm.0, found.kvm, entered as u32);
}

/// Run by user space for each thread `arg(1)` and vCPU `arg(2)` of VM `arg(0)`: stops tracing
/// them.
#[raw_tracepoint]
pub fn forget(ctx: RawTracePointContext) {
    let vm = VmId(ctx.arg::<u64>(0) as u16);
    let vcpu = VcpuId(ctx.arg::<u64>(2) as u16);
    vcpus::forget(vm, ctx.arg::<u64>(1) as u32, vcpu);
}

#[inline(always)]
fn identity(descriptor: u64, is_vcpu: bool) -> Option<Identity> {
    let object = vcpus::private_data(descriptor)?;
    if !is_vcpu {
        return Some(Identity {
            kvm: object,
            vm: vcpus::traced(object).unwrap_or(NO_VM),
            vcpu: NO_VCPU,
            has_nested: 0,
            reserved: [0; 3],
        });
    }
    let kvm: u64 = field(object, offset!(vcpu_kvm))?;
    let vcpu = VcpuId(field::<u32>(object, offset!(vcpu_id))? as u16);
    let vm = vcpus::traced(kvm);
    if let Some(vm) = vm {
        vcpus::remember(VcpuKey { vm, vcpu }, object);
    }
    Some(Identity {
        kvm,
        vm: vm.unwrap_or(NO_VM),
        vcpu,
        has_nested: u8::from(roots::has_nested(object)),
        reserved: [0; 3],
    })
}
