//! The state in which a guest is entered: long mode, paging on, CPL0.
//!
//! Formats: Intel SDM vol. 3, chapters 3 (descriptors), 4 (paging), 8 (TSS). The guest needs no
//! `lgdt`, `lidt`, `ltr` or `mov cr`: `KVM_SET_SREGS` sets everything.

use abi::layout::{self, selector};
use abi::{BootInfo, Gpa, Gva, MAX_VCPUS, PAGE_BYTES, Shape, to_usize};
use kvm_bindings::{CpuId, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use kvm_ioctls::VcpuFd;
use workloads::Plan;

use super::error::VmmError;
use super::memory::Ram;

/// Three pages that KVM on Intel reserves without unrestricted guests (`KVM_SET_TSS_ADDR`): below
/// 4 GiB, above all guest memory.
pub(super) const TSS_ADDRESS: usize = 0xfffb_d000;

/// Removes nested virtualization and KVM's paravirtual interface from the guest's CPUID: it needs
/// neither, and a nested guest would use other tables than its own.
pub(super) fn hide_virtualization(cpuid: &mut CpuId) {
    const VMX: u32 = 1 << 5;
    const SVM: u32 = 1 << 2;
    cpuid.retain(|leaf| leaf.function >> 16 != 0x4000);
    for leaf in cpuid.as_mut_slice() {
        match leaf.function {
            1 => leaf.ecx &= !VMX,
            0x8000_0001 => leaf.ecx &= !SVM,
            _ => {}
        }
    }
}

/// Refuses a plan whose guest sets a bit of CR4 that KVM does not offer.
pub(super) fn check_features(cpuid: &CpuId, plan: &Plan) -> Result<(), VmmError> {
    let Some((name, word, bit)) = feature(plan) else {
        return Ok(());
    };
    let leaves = cpuid.as_slice().iter();
    let mut of = leaves.filter(|leaf| leaf.function == 7 && leaf.index == 0);
    let offered = of.any(|leaf| match word {
        Word::Ebx => leaf.ebx >> bit & 1 == 1,
        Word::Ecx => leaf.ecx >> bit & 1 == 1,
    });
    if offered {
        return Ok(());
    }
    Err(VmmError::NoFeature { name })
}

/// A register of CPUID leaf 7.
#[derive(Clone, Copy, Debug)]
enum Word {
    Ebx,
    Ecx,
}

/// The feature that a shape of `modes` needs, and its bit in CPUID leaf 7.
fn feature(plan: &Plan) -> Option<(&'static str, Word, u32)> {
    match plan.shape()? {
        Shape::La57 => Some(("five levels of paging (LA57)", Word::Ecx, 16)),
        Shape::Smep => Some(("SMEP", Word::Ebx, 7)),
        Shape::Smap => Some(("SMAP", Word::Ebx, 20)),
        Shape::Pae | Shape::Legacy32 | Shape::NoPaging | Shape::Wp | Shape::Nx | Shape::Smm => None,
    }
}

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ENTRIES: usize = 512;

/// PE, MP, ET, NE, WP, AM, PG.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18 | 1 << 31;
/// PAE.
const CR4: u64 = 1 << 5;
/// LME, LMA, NXE.
const EFER: u64 = 1 << 8 | 1 << 10 | 1 << 11;
/// The bit of RFLAGS that is always set; interrupts are off.
const RFLAGS: u64 = 1 << 1;

const TSS_BYTES: u16 = 104;
const GDT_ENTRIES: u16 = 8 + 2 * MAX_VCPUS;
/// One page.
const IDT_LIMIT: u16 = 0xfff;

/// Writes page tables, GDT, TSS and boot info into guest memory.
pub(super) fn write(ram: &Ram, info: &BootInfo) -> Result<(), VmmError> {
    let tables: Vec<u8> = page_tables(info.tables.end())
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect();
    let gdt: Vec<u8> = gdt().iter().flat_map(|entry| entry.to_le_bytes()).collect();
    ram.write(layout::BOOT_TABLES, &tables)?;
    ram.write(layout::GDT, &gdt)?;
    for cpu in 0..MAX_VCPUS {
        ram.write(layout::tss(cpu), &tss(cpu))?;
    }
    ram.write(layout::BOOT_INFO, &info.to_bytes())
}

/// Sets the vCPU's registers for the first instruction of the guest.
pub(super) fn set_registers(vcpu: &VcpuFd, cpu: u16, entry: Gva) -> Result<(), VmmError> {
    let mut sregs = vcpu.get_sregs().map_err(VmmError::GetSregs)?;
    fill_sregs(&mut sregs, cpu);
    vcpu.set_sregs(&sregs).map_err(VmmError::SetSregs)?;
    let regs = kvm_regs {
        rip: entry.0,
        // As after a call: 8 bytes below a multiple of 16.
        rsp: layout::kernel_stack_top(cpu).0 - 8,
        rdi: layout::BOOT_INFO.0,
        rsi: cpu.into(),
        rflags: RFLAGS,
        ..kvm_regs::default()
    };
    vcpu.set_regs(&regs).map_err(VmmError::SetRegs)
}

fn fill_sregs(sregs: &mut kvm_sregs, cpu: u16) {
    let data = segment(selector::USER_DATA);
    sregs.cs = segment(selector::KERNEL_CODE);
    sregs.ss = segment(selector::KERNEL_DATA);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (data, data, data, data);
    sregs.tr = kvm_segment {
        base: layout::tss(cpu).0,
        limit: u32::from(TSS_BYTES) - 1,
        selector: selector::tss(cpu),
        type_: 0xb,
        present: 1,
        ..kvm_segment::default()
    };
    sregs.ldt = kvm_segment {
        unusable: 1,
        ..kvm_segment::default()
    };
    let table = |base: Gpa, limit: u16| kvm_dtable {
        base: base.0,
        limit,
        ..kvm_dtable::default()
    };
    sregs.gdt = table(layout::GDT, GDT_ENTRIES * 8 - 1);
    sregs.idt = table(layout::IDT, IDT_LIMIT);
    sregs.cr0 = CR0;
    sregs.cr3 = layout::BOOT_TABLES.0;
    sregs.cr4 = CR4;
    sregs.efer = EFER;
}

/// The boot page tables, frame after frame: PML4, PDPT, PD, then page tables that
/// identity-map everything below `end` except the holes. Accessed and dirty bits are clear.
fn page_tables(end: Gpa) -> Vec<u64> {
    let frames = to_usize(layout::BOOT_TABLE_FRAMES);
    let table =
        |index: usize| layout::BOOT_TABLES.add_frames(index as u64).0 | PRESENT | WRITABLE | USER;
    let mut entries = vec![0; frames * ENTRIES];
    entries[0] = table(1);
    entries[ENTRIES] = table(2);
    for page_table in 3..frames {
        entries[2 * ENTRIES + page_table - 3] = table(page_table);
    }
    let leaves = &mut entries[3 * ENTRIES..];
    let pages = end.0.div_ceil(PAGE_BYTES);
    for (page, leaf) in (0..pages).zip(leaves) {
        let at = Gpa(page * PAGE_BYTES);
        *leaf = access(at).map_or(0, |access| at.0 | access);
    }
    entries
}

/// Flags of the identity mapping at `at`; `None` in the holes.
fn access(at: Gpa) -> Option<u64> {
    let user = PRESENT | WRITABLE | USER;
    let kernel = PRESENT | WRITABLE;
    match at {
        layout::BOOT_INFO => Some(PRESENT | USER),
        layout::HOST_PAGE => Some(PRESENT | USER),
        at if at < layout::GDT => None,
        at if at < layout::BOOT_INFO => Some(kernel),
        at if at < layout::CPU_AREAS => None,
        at if at < layout::cpu_areas_end() => cpu_area_access(at),
        at if at < layout::IMAGE => None,
        at if at < layout::IMAGE_END => Some(user),
        _ => Some(kernel),
    }
}

/// Flags in a CPU's area: only its mailbox and its stacks are mapped.
fn cpu_area_access(at: Gpa) -> Option<u64> {
    let cpu = layout::cpu_of(at);
    let kernel_stack = layout::kernel_stack(cpu)..layout::kernel_stack_top(cpu);
    let user_stack = layout::user_stack(cpu)..layout::user_stack_top(cpu);
    if at == layout::mailbox(cpu) || user_stack.contains(&at) {
        Some(PRESENT | WRITABLE | USER)
    } else {
        kernel_stack.contains(&at).then_some(PRESENT | WRITABLE)
    }
}

/// Flat segments, and a TSS of two entries for each CPU.
fn gdt() -> [u64; GDT_ENTRIES as usize] {
    let mut gdt = [0; GDT_ENTRIES as usize];
    gdt[slot(selector::KERNEL_CODE_32)] = 0x00cf_9b00_0000_ffff;
    gdt[slot(selector::KERNEL_CODE)] = 0x00af_9b00_0000_ffff;
    gdt[slot(selector::KERNEL_DATA)] = 0x00cf_9300_0000_ffff;
    gdt[slot(selector::USER_DATA)] = 0x00cf_f300_0000_ffff;
    gdt[slot(selector::USER_CODE)] = 0x00af_fb00_0000_ffff;
    // Present, 64-bit TSS, busy: as after `ltr`.
    for cpu in 0..MAX_VCPUS {
        let (base, at) = (layout::tss(cpu).0, slot(selector::tss(cpu)));
        gdt[at] = (u64::from(TSS_BYTES) - 1)
            | (base & 0xff_ffff) << 16
            | 0x8b << 40
            | (base >> 24 & 0xff) << 56;
        gdt[at + 1] = base >> 32;
    }
    gdt
}

/// A segment register after a load of `selector` from the GDT.
fn segment(selector: u16) -> kvm_segment {
    let descriptor = gdt()[slot(selector)];
    let bit = |at: u32| (descriptor >> at & 1) as u8;
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: (descriptor >> 40 & 0xf) as u8,
        s: bit(44),
        dpl: (descriptor >> 45 & 3) as u8,
        present: bit(47),
        l: bit(53),
        db: bit(54),
        g: bit(55),
        ..kvm_segment::default()
    }
}

fn slot(selector: u16) -> usize {
    usize::from(selector >> 3)
}

/// RSP0, and an I/O permission map past the end: CPL3 may not use any port.
fn tss(cpu: u16) -> [u8; TSS_BYTES as usize] {
    let mut tss = [0; TSS_BYTES as usize];
    tss[4..12].copy_from_slice(&layout::kernel_stack_top(cpu).0.to_le_bytes());
    tss[102..104].copy_from_slice(&TSS_BYTES.to_le_bytes());
    tss
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::MAX_PAGES;

    /// Walks the tables as the CPU does: the leaf entry of `gva`, or 0.
    fn walk(tables: &[u64], gva: Gva) -> u64 {
        let mut frame = 0;
        for level in [4, 3, 2, 1] {
            let entry = tables[frame * ENTRIES + gva.index(level)];
            if level == 1 || entry & PRESENT == 0 {
                return entry;
            }
            frame = to_usize((entry & !0xfff) - layout::BOOT_TABLES.0) / 4096;
        }
        0
    }

    #[test]
    fn the_identity_map_has_its_holes() {
        let end = Gpa(0x21_3000);
        let tables = page_tables(end);
        let user = PRESENT | WRITABLE | USER;
        for (at, flags) in [
            (Gpa(0), 0),
            (layout::GDT, PRESENT | WRITABLE),
            (layout::BOOT_INFO, PRESENT | USER),
            (layout::HOST_PAGE, PRESENT | USER),
            (Gpa(0x7000), 0),
            (layout::mailbox(0), user),
            (layout::mailbox(0).add_frames(1), 0),
            (layout::kernel_stack(1), PRESENT | WRITABLE),
            (layout::kernel_stack_top(1), 0),
            (layout::user_stack(3), user),
            (layout::user_stack_top(3), 0),
            (layout::IMAGE, user),
            (layout::BOOT_TABLES, PRESENT | WRITABLE),
            (Gpa(0x21_2000), PRESENT | WRITABLE),
            (end, 0),
        ] {
            let expected = if flags == 0 { 0 } else { at.0 | flags };
            assert_eq!(walk(&tables, Gva(at.0)), expected, "{at}");
        }
        assert_eq!(
            walk(&tables, layout::WORK),
            0,
            "the guest maps its work range itself"
        );
    }

    #[test]
    fn the_largest_table_pool_is_mapped() {
        let given = [("pages".to_owned(), MAX_PAGES.to_string())];
        let plan = workloads::find("demand").unwrap().plan(&given).unwrap();
        let last = Gpa(plan.boot_info.tables.end().0 - PAGE_BYTES);
        let tables = page_tables(plan.boot_info.tables.end());
        assert_eq!(walk(&tables, Gva(last.0)), last.0 | PRESENT | WRITABLE);
    }

    #[test]
    fn segments_match_their_descriptors() {
        let code = segment(selector::KERNEL_CODE);
        assert_eq!(
            (code.type_, code.s, code.dpl, code.l, code.db, code.g),
            (0xb, 1, 0, 1, 0, 1)
        );
        let data = segment(selector::USER_DATA);
        assert_eq!(
            (data.type_, data.s, data.dpl, data.l, data.db, data.present),
            (3, 1, 3, 0, 1, 1)
        );
    }
}
