//! Which thread is which vCPU, and how far its fault has come.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task},
    macros::{map, raw_tracepoint},
    maps::{Array, HashMap},
    programs::RawTracePointContext,
};
use aya_log_ebpf::warn;
use events::Vcpu;

use crate::kernel::{offset, read};

/// Keyed by thread id; filled by user space. What is not in here is not traced.
#[map]
static VCPUS: HashMap<u32, Vcpu> = HashMap::with_max_entries(1024, 0);

/// Answer of [`resolve`].
#[map]
static RESOLVED: Array<u64> = Array::with_max_entries(1, 0);

/// The vCPU whose thread runs, if it is traced.
#[inline(always)]
pub fn current() -> Option<&'static mut Vcpu> {
    let thread = bpf_get_current_pid_tgid() as u32;
    let vcpu = VCPUS.get_ptr_mut(thread)?;
    // SAFETY: only programs on this very thread take the value, one after another.
    Some(unsafe { &mut *vcpu })
}

/// Run by user space, which finds the answer in `RESOLVED`, or its own 0. With `arg(1)` 0:
/// `struct file.private_data` of its own file descriptor `arg(0)`, which is the `struct kvm` of a
/// VM's and the `struct kvm_vcpu` of a vCPU's descriptor. Else: the eight bytes at kernel address
/// `arg(1)`.
#[raw_tracepoint]
pub fn resolve(ctx: RawTracePointContext) {
    let found = match ctx.arg::<u64>(1) {
        0 => private_data(ctx.arg(0)),
        address => read(address, 0),
    };
    match (found, RESOLVED.get_ptr_mut(0)) {
        // SAFETY: a map value; user space runs one request at a time.
        (Some(value), Some(answer)) => unsafe { *answer = value },
        _ => {
            warn!(&ctx, "nothing behind descriptor {} or address {:x}", ctx.arg::<u64>(0), ctx.arg::<u64>(1));
        }
    }
}

#[inline(always)]
fn private_data(descriptor: u64) -> Option<u64> {
    // SAFETY: the helper takes nothing and cannot fail.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read(task, offset!(task_files))?;
    let table: u64 = read(files, offset!(files_fdt))?;
    let array: u64 = read(table, offset!(fdt_fd))?;
    let file: u64 = read(array + 8 * (descriptor & 0xffff_ffff), 0)?;
    read(file, offset!(file_private_data))
}
