//! Which thread is which vCPU, and the state of its fault.

use aya_ebpf::{
    bindings::BPF_F_RDONLY,
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task},
    macros::{map, raw_tracepoint},
    maps::{Array, HashMap},
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use events::{Outcomes, Probe, Vcpu, VcpuId, VcpuKey, VmId};

use crate::{
    kernel::{field, offset, read},
    ring::lose,
    unsync,
};

/// Flag of a map that user space may read only.
pub const USER_READS: u32 = BPF_F_RDONLY;

/// Keyed by thread id. Threads that are not in here are not traced. A thread that ends leaves it
/// (`sched_process_exit`), so that the next thread with its id is not taken for the vCPU.
#[map]
static VCPUS: HashMap<u32, Vcpu> = HashMap::with_max_entries(1 << 14, USER_READS);

/// `struct kvm` of each traced VM.
#[map]
static VMS: HashMap<VmId, u64> = HashMap::with_max_entries(1 << 14, USER_READS);

/// The reverse of [`VMS`].
#[map]
static TRACED: HashMap<u64, VmId> = HashMap::with_max_entries(1 << 14, USER_READS);

/// `struct kvm_vcpu` of each vCPU of a traced VM that was seen so far.
#[map]
static VCPU_STRUCTS: HashMap<VcpuKey, u64> = HashMap::with_max_entries(1 << 16, USER_READS);

/// Zeros, which a new thread begins with: too many for the stack.
#[map]
static NOTHING: Array<Vcpu> = Array::with_max_entries(1, 0);

/// Answer of [`resolve`].
#[map]
static RESOLVED: Array<u64> = Array::with_max_entries(1, 0);

/// The vCPU whose thread runs, if it is traced.
#[inline(always)]
pub fn current() -> Option<&'static mut Vcpu> {
    let thread = bpf_get_current_pid_tgid() as u32;
    let vcpu = VCPUS.get_ptr_mut(thread)?;
    // SAFETY: only programs on this very thread take the value, each once.
    Some(unsafe { &mut *vcpu })
}

/// `struct kvm` of a traced VM.
#[inline(always)]
pub fn kvm(vm: VmId) -> Option<u64> {
    // SAFETY: the value is copied at once.
    unsafe { VMS.get(vm) }.copied()
}

/// The VM with this `struct kvm`, if it is traced.
#[inline(always)]
pub fn traced(kvm: u64) -> Option<VmId> {
    // SAFETY: the value is copied at once.
    unsafe { TRACED.get(kvm) }.copied()
}

/// From now on `kvm` is VM `vm`.
#[inline(always)]
pub fn trace(vm: VmId, kvm: u64) -> bool {
    VMS.insert(vm, kvm, 0).is_ok() && TRACED.insert(kvm, vm, 0).is_ok()
}

/// `struct kvm_vcpu` of a vCPU that was seen.
#[inline(always)]
pub fn vcpu_struct(key: VcpuKey) -> Option<u64> {
    // SAFETY: the value is copied at once.
    unsafe { VCPU_STRUCTS.get(key) }.copied()
}

/// Remembers `struct kvm_vcpu` of a traced VM's vCPU.
#[inline(always)]
pub fn remember(key: VcpuKey, vcpu_ptr: u64) {
    if VCPU_STRUCTS.insert(key, vcpu_ptr, 0).is_err() {
        lose(Probe::PageMap);
    }
}

/// The calling thread is about to run this vCPU. From now on its events belong to the vCPU if the
/// VM is traced, else to none.
#[inline(always)]
pub fn runs(vcpu_ptr: u64) {
    let known = current();
    if let Some(vcpu) = &known
        && vcpu.vcpu_ptr == vcpu_ptr
        && vcpu.step != Vcpu::IDLE
    {
        return;
    }
    let Some(kvm) = field::<u64>(vcpu_ptr, offset!(vcpu_kvm)) else {
        return;
    };
    let Some(vm) = traced(kvm) else {
        if known.is_some() {
            // The thread ran another vCPU before.
            forget_current();
        }
        return;
    };
    // Between two KVM_RUNs nothing is under way. Faults that another thread took meanwhile are
    // counted already; if they were not, the emulator's first walk would pass for one.
    let (Some(outcomes), Some(id)) = (
        field::<Outcomes>(vcpu_ptr, offset!(vcpu_pf_taken)),
        field::<u32>(vcpu_ptr, offset!(vcpu_id)),
    ) else {
        lose(Probe::Read);
        return;
    };
    if let Some(vcpu) = known
        && vcpu.vcpu_ptr == vcpu_ptr
    {
        vcpu.outcomes = outcomes;
        return;
    }
    let vcpu = VcpuId(id as u16);
    remember(VcpuKey { vm, vcpu }, vcpu_ptr);
    match enter(vcpu_ptr, VcpuKey { vm, vcpu }) {
        Some(entered) => {
            entered.outcomes = outcomes;
            unsync::begin(entered);
        }
        None => lose(Probe::PageMap),
    }
}

/// The thread that ran a vCPU last runs it from now on, unless a program has seen what it runs. For
/// VMs that are not stopped: it may be in a KVM_RUN that began before.
#[inline(always)]
pub fn seat(of: VcpuKey) -> Option<()> {
    let vcpu_ptr = vcpu_struct(of)?;
    let pid: u64 = field(vcpu_ptr, offset!(vcpu_pid)).filter(|pid| *pid != 0)?;
    // The number of a thread that has ended may be another one's now.
    field::<u64>(pid, offset!(pid_tasks)).filter(|first| *first != 0)?;
    // Of the first PID namespace, as programs see it.
    let thread: u32 = field(pid, offset!(pid_numbers))?;
    let outcomes: Outcomes = field(vcpu_ptr, offset!(vcpu_pf_taken))?;
    // SAFETY: only asks whether there is one.
    if unsafe { VCPUS.get(thread) }.is_some() {
        return None;
    }
    let entered = enter_as(thread, vcpu_ptr, of)?;
    entered.outcomes = outcomes;
    unsync::begin(entered);
    Some(())
}

/// From now on the calling thread runs this vCPU, with nothing under way.
#[inline(always)]
fn enter(vcpu_ptr: u64, of: VcpuKey) -> Option<&'static mut Vcpu> {
    enter_as(bpf_get_current_pid_tgid() as u32, vcpu_ptr, of)
}

#[inline(always)]
fn enter_as(thread: u32, vcpu_ptr: u64, of: VcpuKey) -> Option<&'static mut Vcpu> {
    VCPUS.insert(thread, NOTHING.get(0)?, 0).ok()?;
    let entered = VCPUS.get_ptr_mut(thread)?;
    // SAFETY: a map value. Another thread's programs may use it at the same time, if `seat` has made
    // it: then a step of the fault under way is wrong, and no memory is.
    let entered = unsafe { &mut *entered };
    entered.vcpu_ptr = vcpu_ptr;
    entered.vm = of.vm;
    entered.vcpu = of.vcpu;
    Some(entered)
}

/// The calling thread is no vCPU's any more.
#[inline(always)]
pub fn forget_current() {
    // It fails if there is no entry, which is the aim.
    let _ = VCPUS.remove(bpf_get_current_pid_tgid() as u32);
}

/// Stops tracing a VM with vCPU `vcpu`, and `thread`, which ran one of its vCPUs.
#[inline(always)]
pub fn forget(vm: VmId, thread: u32, vcpu: VcpuId) {
    // Each may be gone already: user space calls this for every thread and every vCPU.
    if let Some(kvm) = kvm(vm) {
        let _ = TRACED.remove(kvm);
        let _ = VMS.remove(vm);
    }
    let _ = VCPU_STRUCTS.remove(VcpuKey { vm, vcpu });
    // SAFETY: the number is copied at once.
    if unsafe { VCPUS.get(thread) }.is_some_and(|entry| entry.vm == vm) {
        let _ = VCPUS.remove(thread);
    }
}

/// Run by user space on the vCPU's thread: from now on records what the thread does as vCPU
/// `arg(3)` of VM `arg(2)`. Their file descriptors are `arg(0)` (VM) and `arg(1)` (vCPU). The
/// thread's id is taken here, since user space may see another one (PID namespaces).
#[raw_tracepoint]
pub fn enrol(ctx: RawTracePointContext) {
    let (Some(kvm), Some(vcpu_ptr)) = (private_data(ctx.arg(0)), private_data(ctx.arg(1))) else {
        lose(Probe::Read);
        return;
    };
    let vm = VmId(ctx.arg::<u64>(2) as u16);
    let vcpu = VcpuId(ctx.arg::<u64>(3) as u16);
    remember(VcpuKey { vm, vcpu }, vcpu_ptr);
    let entered = trace(vm, kvm) && enter(vcpu_ptr, VcpuKey { vm, vcpu }).is_some();
    debug!(
        &ctx,
        "vm {} vcpu {} is this thread: {}", vm.0, vcpu.0, entered as u32
    );
}

/// Run by user space, which sets `RESOLVED` to 0 before and finds the answer there. With `arg(1)`
/// 0: `struct file.private_data` of its file descriptor `arg(0)`, which is the `struct kvm` of a
/// VM's and the `struct kvm_vcpu` of a vCPU's descriptor. Else: the eight bytes at kernel address
/// `arg(1)`. This program is loaded only in an instance that ends before root is given up.
#[raw_tracepoint]
pub fn resolve(ctx: RawTracePointContext) {
    let found = match ctx.arg::<u64>(1) {
        0 => private_data(ctx.arg(0)),
        address => read(address),
    };
    // Without an answer user space reports what it asked for.
    if let (Some(value), Some(answer)) = (found, RESOLVED.get_ptr_mut(0)) {
        // SAFETY: a map value; user space runs one request at a time.
        unsafe { *answer = value };
    }
}

/// `struct file.private_data` of the calling process's file descriptor.
#[inline(always)]
pub fn private_data(descriptor: u64) -> Option<u64> {
    // SAFETY: the helper takes nothing and cannot fail.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = field(task, offset!(task_files))?;
    let table: u64 = field(files, offset!(files_fdt))?;
    let array: u64 = field(table, offset!(fdt_fd))?;
    let file: u64 = read(array + 8 * (descriptor & 0xffff_ffff))?;
    field(file, offset!(file_private_data))
}
