//! The moments of a fault, where functions can be hooked.

use aya_ebpf::{
    macros::{kprobe, kretprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use events::{ErrorCode, Gva, Moment, Outcomes, Probe, Vcpu, errno_of};

use crate::{
    causes,
    faults::{self, End, begin, close, emit, injected, send, since, until},
    kernel::{field, now, offset},
    nested,
    ring::lose,
    roots, vcpus,
};

/// Notes that `moment` is now, if it comes for the first time in this fault.
#[inline(always)]
fn note(vcpu: &mut Vcpu, moment: Moment) {
    note_at(vcpu, moment, now());
}

#[inline(always)]
fn note_at(vcpu: &mut Vcpu, moment: Moment, time: u64) {
    if vcpu.fault.moments[moment as usize] == events::NOT_SEEN {
        vcpu.fault.moments[moment as usize] = until(vcpu, time);
    }
}

/// The vCPU, if KVM is looking up the frame for its fault.
#[inline(always)]
fn looking_up() -> Option<&'static mut Vcpu> {
    let vcpu = vcpus::current()?;
    matches!(vcpu.step, Vcpu::CALLED | Vcpu::WALKING | Vcpu::WALKED).then_some(vcpu)
}

// TP_PROTO(struct kvm_vcpu *vcpu, u32 isa): the guest left.
#[raw_tracepoint]
pub fn kvm_exit(_: RawTracePointContext) {
    if let Some(vcpu) = vcpus::current() {
        vcpu.exit = now();
    }
}

// TP_PROTO(struct kvm_vcpu *vcpu, bool force_immediate_exit): the guest runs again.
#[raw_tracepoint]
pub fn kvm_entry(_: RawTracePointContext) {
    let Some(vcpu) = vcpus::current() else { return };
    vcpu.entries_seen = 1;
    vcpu.exit = 0;
    if vcpu.step == Vcpu::IDLE && vcpu.decided == 0 {
        return;
    }
    let time = now();
    decide(vcpu);
    note_at(vcpu, Moment::Entry, time);
    send(vcpu, End::Now);
    vcpu.step = Vcpu::IDLE;
}

#[inline(always)]
fn decide(vcpu: &mut Vcpu) {
    match field::<Outcomes>(vcpu.vcpu_ptr, offset!(vcpu_pf_taken)) {
        Some(outcomes) => {
            close(vcpu, &outcomes);
            // A guest without paging has no walk that would notice the counter: the emulator's next
            // one, once paging is on, would pass for a fault's.
            vcpu.outcomes = outcomes;
        }
        None => lose(Probe::Read),
    }
}

// kvm_mmu_page_fault(struct kvm_vcpu *vcpu, gpa_t cr2_or_gpa, u64 error_code, void *insn, int
// insn_len)
#[kprobe]
pub fn fault_begins(ctx: ProbeContext) -> u32 {
    let Some(vcpu) = vcpus::current() else {
        return 0;
    };
    let (Some(gva), Some(error_code)) = (ctx.arg::<u64>(1), ctx.arg::<u64>(2)) else {
        return 0;
    };
    causes::clear();
    let Some(outcomes) = field::<Outcomes>(vcpu.vcpu_ptr, offset!(vcpu_pf_taken)) else {
        lose(Probe::Read);
        return 0;
    };
    close(vcpu, &outcomes);
    emit(vcpu);
    vcpu.outcomes = outcomes;
    if !nested::shadows(vcpu.vcpu_ptr) {
        return 0;
    }
    begin(vcpu, now(), Gva(gva), ErrorCode(error_code as u32));
    vcpu.step = Vcpu::CALLED;
    if roots::update(vcpu).is_none() {
        lose(Probe::Read);
    }
    0
}

// Return of kvm_mmu_page_fault. The guest's own fault has its outcome when it is injected: KVM has
// handed a nested guest's to the guest hypervisor by now.
#[kretprobe]
pub fn fault_ends(ctx: RetProbeContext) -> u32 {
    let Some(vcpu) = vcpus::current() else {
        return 0;
    };
    match vcpu.step {
        Vcpu::IDLE => {}
        Vcpu::REFUSED if nested::only() => injected(vcpu, now()),
        Vcpu::REFUSED => {}
        _ => {
            vcpu.fault.errno = errno_of(ctx.ret());
            decide(vcpu);
        }
    }
    0
}

// hva_to_pfn(...): the memslot gave the HVA.
#[kprobe]
pub fn hva_known(_: ProbeContext) -> u32 {
    if let Some(vcpu) = looking_up() {
        note(vcpu, Moment::HvaKnown);
    }
    0
}

// Return of kvm_mmu_faultin_pfn(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault, unsigned int
// access), up to Linux 6.12 kvm_faultin_pfn.
#[kretprobe]
pub fn pfn_known(_: RetProbeContext) -> u32 {
    if let Some(vcpu) = looking_up() {
        // A lookup that could not sleep is made again: the last return counts.
        vcpu.fault.moments[Moment::PfnKnown as usize] = since(vcpu);
    }
    0
}

// Return of x86_emulate_instruction(struct kvm_vcpu *vcpu, gpa_t cr2_or_gpa, ...).
#[kretprobe]
pub fn emulated(_: RetProbeContext) -> u32 {
    if let Some(vcpu) = vcpus::current()
        && faults::is_open(vcpu)
    {
        note(vcpu, Moment::Emulated);
    }
    0
}
