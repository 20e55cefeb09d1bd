//! The layout of guest memory, and the selectors of the boot GDT.
//!
//! ```text
//! 0x000000            never mapped: a null pointer faults
//! 0x001000  GDT       0x002000 TSSs (one for each CPU)   0x003000 IDT (filled by the guest)
//! 0x004000  boot info 0x006000 host page (written by the VMM while the guest runs)
//! 0x010000  CPU 0's area, 64 KiB; CPU n's follows n areas later:
//!           +0x1000 mailbox, +0x1400 touches, +0x1800 batches
//!           +0x4000 kernel stack  +0xa000 user stack
//!           (4 pages a stack; the two pages below each are not mapped)
//! 0x100000  image, at most 1 MiB
//! 0x200000  boot page tables, 16 frames, written by the VMM
//! 0x210000  table pool: frames for the guest's own page tables
//!    …      work pool: frames for the work range, from the next multiple of 2 MiB
//! ```
//!
//! Everything except the work pool is identity-mapped with 4 KiB pages.

use crate::{Gpa, Gva, MAX_VCPUS, PAGE_BYTES};

/// The global descriptor table: one page.
pub const GDT: Gpa = Gpa(0x1000);
/// The task state segments: one page, RSP0 at byte 4 of each.
const TSS: Gpa = Gpa(0x2000);
/// Distance of two task state segments in bytes.
const TSS_DISTANCE: u64 = 128;
/// The interrupt descriptor table: one page, 256 gates of 16 bytes.
pub const IDT: Gpa = Gpa(0x3000);
/// The [`crate::BootInfo`]: one page, readable by CPL3.
pub const BOOT_INFO: Gpa = Gpa(0x4000);
/// The [`crate::HostPage`]: one page, readable by CPL3.
pub const HOST_PAGE: Gpa = Gpa(0x6000);
/// The area of CPU 0.
pub const CPU_AREAS: Gpa = Gpa(0x1_0000);
/// Bytes of a CPU's area.
pub const CPU_AREA_BYTES: u64 = 0x1_0000;
/// Frames of each stack.
pub const STACK_FRAMES: u64 = 4;

const fn cpu_area(cpu: u16) -> Gpa {
    CPU_AREAS.add(cpu as u64 * CPU_AREA_BYTES)
}

/// First byte after all CPUs' areas.
#[must_use]
pub const fn cpu_areas_end() -> Gpa {
    cpu_area(MAX_VCPUS)
}

/// A CPU's task state segment.
#[must_use]
pub const fn tss(cpu: u16) -> Gpa {
    TSS.add(cpu as u64 * TSS_DISTANCE)
}

/// A CPU's [`crate::Mailbox`]: one page, writable by CPL3.
#[must_use]
pub const fn mailbox(cpu: u16) -> Gpa {
    cpu_area(cpu).add(0x1000)
}

/// A CPU's [`crate::Touches`], in the page of its mailbox.
#[must_use]
pub const fn touches(cpu: u16) -> Gpa {
    mailbox(cpu).add(0x400)
}

/// A CPU's [`crate::Batches`], in the page of its mailbox.
#[must_use]
pub const fn batches(cpu: u16) -> Gpa {
    mailbox(cpu).add(0x800)
}

/// The guest kernel's stack on a CPU, lowest byte.
#[must_use]
pub const fn kernel_stack(cpu: u16) -> Gpa {
    cpu_area(cpu).add(0x4000)
}

/// First byte after the guest kernel's stack on a CPU: RSP0.
#[must_use]
pub const fn kernel_stack_top(cpu: u16) -> Gpa {
    kernel_stack(cpu).add_frames(STACK_FRAMES)
}

/// The CPL3 stack on a CPU, lowest byte.
#[must_use]
pub const fn user_stack(cpu: u16) -> Gpa {
    cpu_area(cpu).add(0xa000)
}

/// First byte after the CPL3 stack on a CPU.
#[must_use]
pub const fn user_stack_top(cpu: u16) -> Gpa {
    user_stack(cpu).add_frames(STACK_FRAMES)
}

/// The CPU whose area contains `gpa`; for a stack pointer, the current CPU.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the areas of all CPUs are below `IMAGE`; no other address has a CPU"
)]
pub const fn cpu_of(gpa: Gpa) -> u16 {
    ((gpa.0 - CPU_AREAS.0) / CPU_AREA_BYTES) as u16
}

/// Load address of the image.
pub const IMAGE: Gpa = Gpa(0x10_0000);
/// First byte after the space for the image.
pub const IMAGE_END: Gpa = BOOT_TABLES;
/// Page tables written by the VMM; the first frame is the PML4 (CR3).
pub const BOOT_TABLES: Gpa = Gpa(0x20_0000);
/// Frames of these page tables: PML4, PDPT, PD and 13 page tables (26 MiB).
pub const BOOT_TABLE_FRAMES: u64 = 16;
/// Frames for the guest's own page tables start here.
pub const TABLE_POOL: Gpa = BOOT_TABLES.add_frames(BOOT_TABLE_FRAMES);
/// The work pool starts at a multiple of this: 2 MiB, which one guest page table maps.
pub const WORK_POOL_ALIGN: u64 = 512 * PAGE_BYTES;

/// First byte of the work range: PML4 entry 1, which the boot tables do not use.
pub const WORK: Gva = Gva(0x80_0000_0000);
/// The same for guests with 32-bit addresses: the second GiB.
pub const WORK_32: Gva = Gva(0x4000_0000);
/// The same for guests with five levels: PML5 entry 1.
pub const WORK_57: Gva = Gva(1 << 48);

/// The view of the page tables at CPL3, from [`BOOT_TABLES`] on: PML4 entry 2. Mapped by guests
/// that change their tables at CPL3.
pub const TABLE_VIEW: Gva = Gva(0x100_0000_0000);
/// The view of the work pool at CPL3, frame after frame: PML4 entry 3. Mapped by guests that use
/// it.
pub const FRAME_VIEW: Gva = Gva(0x180_0000_0000);

/// Selectors of the boot GDT. The numbers are those of Linux on x86-64: a KVM-PVM host runs CPL3
/// with the host's user segments.
pub mod selector {
    /// 32-bit code, DPL 0.
    pub const KERNEL_CODE_32: u16 = 0x08;
    /// 64-bit code, DPL 0.
    pub const KERNEL_CODE: u16 = 0x10;
    /// Data, DPL 0.
    pub const KERNEL_DATA: u16 = 0x18;
    /// Data, DPL 3.
    pub const USER_DATA: u16 = 0x2b;
    /// 64-bit code, DPL 3.
    pub const USER_CODE: u16 = 0x33;
    /// CPU 0's TSS: two entries.
    pub const TSS: u16 = 0x40;

    /// A CPU's TSS.
    #[must_use]
    pub const fn tss(cpu: u16) -> u16 {
        TSS + 16 * cpu
    }
}

const _: () = {
    assert!(HOST_PAGE.0 + PAGE_BYTES <= CPU_AREAS.0);
    assert!(mailbox(0).0 + PAGE_BYTES < kernel_stack(0).0);
    assert!(mailbox(0).0 + crate::Mailbox::BYTES as u64 <= touches(0).0);
    assert!(touches(0).0 + crate::Touches::BYTES as u64 <= batches(0).0);
    assert!(batches(0).0 + crate::Batches::BYTES as u64 <= mailbox(0).0 + PAGE_BYTES);
    assert!(kernel_stack_top(0).0 < user_stack(0).0);
    assert!(cpu_areas_end().0 <= IMAGE.0);
    assert!(MAX_VCPUS as u64 * TSS_DISTANCE <= PAGE_BYTES);
    assert!(WORK.index(4) == 1);
    assert!(BOOT_TABLES.0.is_multiple_of(WORK_POOL_ALIGN));
    assert!(TABLE_VIEW.index(4) == 2 && FRAME_VIEW.index(4) == 3);
};
