//! The guest's stores that KVM emulated, those to shadowed page tables included.

use aya_ebpf::{
    helpers::bpf_probe_read_user, macros::kprobe, maps::ring_buf::RingBufEntry,
    programs::ProbeContext,
};
use events::{
    Act, Cause, Gfn, Gpa, Hva, NotRead, Probe, SHADOWS, Spte, Store, Vcpu, Write, number_then_read,
};

use crate::{
    causes, entries,
    kernel::{now, read},
    memslots, pages,
    ring::{lose, reserve, submit},
    vcpus,
};

// kvm_mmu_track_write(struct kvm_vcpu *vcpu, gpa_t gpa, const u8 *new, int bytes), Linux 6.1:
// kvm_mmu_pte_write, with one more argument at the end. The guest's memory holds the new value
// already.
#[kprobe]
pub fn guest_write_begins(ctx: ProbeContext) -> u32 {
    causes::enter(&ctx, Some(Cause::GuestWrite), Some(Act::WriteZap), None);
    let Some(vcpu) = vcpus::current() else {
        return 0;
    };
    let (Some(gpa), Some(new), Some(bytes)) =
        (ctx.arg::<u64>(1), ctx.arg::<u64>(2), ctx.arg::<u32>(3))
    else {
        return 0;
    };
    // Always eight bytes: the kernel's copy of the operand is that long.
    let Some(value) = read::<u64>(new) else {
        lose(Probe::Read);
        return 0;
    };
    let value = match bytes {
        0 => 0,
        1..=7 => value & ((1 << (8 * bytes)) - 1),
        _ => value,
    };
    if let Some(entry) = reserve::<Write>(vcpu.vm, vcpu.vcpu, now()) {
        send(entry, Gpa(gpa), value, bytes);
    }
    0
}

#[inline(always)]
fn send(mut entry: RingBufEntry<Write>, gpa: Gpa, value: u64, bytes: u32) {
    let record = entry.as_mut_ptr();
    // SAFETY: reserved room for one record.
    unsafe {
        (*record).gpa = gpa;
        (*record).value = value;
        (*record).bytes = bytes;
        (*record).reserved = 0;
    }
    submit(entry);
}

/// Where functions cannot be hooked: KVM is about to emulate a store to `gpa`. Answers whether it
/// goes to a table; then the entries of its shadow pages are kept until [`finish`].
#[inline(always)]
pub fn begin(vcpu: &mut Vcpu, gpa: Gpa) -> bool {
    finish(vcpu);
    let Some(tables) = pages::shadows(vcpu.vm, gpa.gfn()) else {
        return false;
    };
    let gpa = Gpa(gpa.0 & !7);
    for at in 0..SHADOWS {
        vcpu.store.old[at] = entry(tables.0[at], gpa).unwrap_or_default();
    }
    vcpu.store.gpa = gpa;
    vcpu.store.tables = tables;
    vcpu.storing = Store::BEGUN;
    true
}

/// Records the store, which has happened by now, unless it has its record already.
#[inline(always)]
pub fn record_store(vcpu: &mut Vcpu) {
    if vcpu.storing != Store::BEGUN {
        return;
    }
    vcpu.storing = Store::RECORDED;
    let gpa = vcpu.store.gpa;
    let Some(hva) = hva_of(vcpu, gpa.gfn()) else {
        return;
    };
    let hva = hva.0 + (gpa.0 & 0xfff);
    let number = || reserve::<Write>(vcpu.vm, vcpu.vcpu, now());
    // SAFETY: the helper checks the address. The vCPU's thread runs, so this is its VM's memory.
    let value = || unsafe { bpf_probe_read_user(hva as *const u64) }.ok();
    match number_then_read(number, value) {
        Ok((entry, value)) => send(entry, gpa, value, 8),
        Err(NotRead::NoRoom) => {}
        Err(NotRead::Unreadable(entry)) => {
            entry.discard(0);
            lose(Probe::Read);
        }
    }
}

/// Where the frame is in the process, by the memslot that holds it now: memslots may move.
#[inline(always)]
fn hva_of(vcpu: &Vcpu, gfn: Gfn) -> Option<Hva> {
    memslots::search(vcpu.vm, |place| place.hva_of(gfn).is_some())?.hva_of(gfn)
}

/// The store is over: records it, and its changes in the shadow pages of the table.
#[inline(always)]
pub fn finish(vcpu: &mut Vcpu) {
    if vcpu.storing == Store::NONE {
        return;
    }
    record_store(vcpu);
    vcpu.storing = Store::NONE;
    for at in 0..SHADOWS {
        let Some(new) = entry(vcpu.store.tables.0[at], vcpu.store.gpa) else {
            continue;
        };
        let old = vcpu.store.old[at];
        if new != old && !(new.is_empty() && old.is_empty()) {
            let sptep = vcpu.store.tables.0[at] + (vcpu.store.gpa.0 & 0xff8);
            entries::record_as_it_is(vcpu.vm, vcpu.vcpu, Cause::GuestWrite, sptep, None);
        }
    }
}

/// The entry of a shadow page for the guest's entry at `gpa`, if the page is still in use.
#[inline(always)]
fn entry(spt: u64, gpa: Gpa) -> Option<Spte> {
    pages::find(spt).filter(|table| table.zapped == 0)?;
    read(spt + (gpa.0 & 0xff8)).map(Spte)
}
