//! Stores of the guest's that KVM emulated, those to shadowed page tables among them.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use events::{Cause, Gpa, Probe, RecordKind, Write};

use crate::{
    causes,
    kernel::{now, read},
    ring::{lose, reserve, submit},
    vcpus,
};

// kvm_mmu_track_write(struct kvm_vcpu *vcpu, gpa_t gpa, const u8 *new, int bytes), Linux 6.1:
// kvm_mmu_pte_write, with one more argument behind. The guest's memory holds the new value already.
#[kprobe]
pub fn guest_write_begins(ctx: ProbeContext) -> u32 {
    causes::enter(Cause::GuestWrite);
    let Some(vcpu) = vcpus::current() else {
        return 0;
    };
    let (Some(gpa), Some(new), Some(bytes)) =
        (ctx.arg::<u64>(1), ctx.arg::<u64>(2), ctx.arg::<u32>(3))
    else {
        return 0;
    };
    // Eight bytes, whatever the store's length: they lie in the kernel's copy of the operand.
    let Some(value) = read::<u64>(new, 0) else {
        lose(Probe::Read);
        return 0;
    };
    let value = match bytes {
        0 => 0,
        1..=7 => value & ((1 << (8 * bytes)) - 1),
        _ => value,
    };
    let Some(mut entry) =
        reserve::<Write>(RecordKind::Write, Probe::Write, vcpu.vm, vcpu.vcpu, now())
    else {
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).gpa = Gpa(gpa);
        (*record).value = value;
        (*record).bytes = bytes;
        (*record).reserved = 0;
    }
    submit(entry);
    0
}
