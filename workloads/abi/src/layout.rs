//! Where things stand in guest memory, and the selectors of the boot GDT.
//!
//! ```text
//! 0x000000            never mapped: a null pointer faults
//! 0x001000  GDT       0x002000 TSS   0x003000 IDT (filled by the guest)
//! 0x004000  boot info 0x005000 mailbox
//! 0x008000  kernel stack (4 pages; the two pages below it are not mapped)
//! 0x00e000  user stack   (4 pages; the two pages below it are not mapped)
//! 0x100000  image, at most 1 MiB
//! 0x200000  boot page tables, 16 frames, made by the VMM
//! 0x210000  table pool: frames for the guest's own page tables
//!    …      work pool: frames behind the work range, from the next 2 MiB on
//! ```
//!
//! All but the work pool is identity-mapped with 4 KiB pages.

use crate::{Gpa, Gva, PAGE_BYTES};

/// The global descriptor table: one page.
pub const GDT: Gpa = Gpa(0x1000);
/// The task state segment: one page, RSP0 at byte 4.
pub const TSS: Gpa = Gpa(0x2000);
/// The interrupt descriptor table: one page, 256 gates of 16 bytes.
pub const IDT: Gpa = Gpa(0x3000);
/// The [`crate::BootInfo`]: one page, readable by CPL3.
pub const BOOT_INFO: Gpa = Gpa(0x4000);
/// The [`crate::Mailbox`]: one page, writable by CPL3.
pub const MAILBOX: Gpa = Gpa(0x5000);
/// The guest kernel's stack, lowest byte.
pub const KERNEL_STACK: Gpa = Gpa(0x8000);
/// First byte after the guest kernel's stack: RSP0.
pub const KERNEL_STACK_TOP: Gpa = KERNEL_STACK.add_frames(STACK_FRAMES);
/// The CPL3 stack, lowest byte.
pub const USER_STACK: Gpa = Gpa(0xe000);
/// First byte after the CPL3 stack.
pub const USER_STACK_TOP: Gpa = USER_STACK.add_frames(STACK_FRAMES);
/// Frames of each stack.
pub const STACK_FRAMES: u64 = 4;
/// Load address of the image.
pub const IMAGE: Gpa = Gpa(0x10_0000);
/// First byte after the room for the image.
pub const IMAGE_END: Gpa = BOOT_TABLES;
/// Page tables made by the VMM; the first frame is the PML4 (CR3).
pub const BOOT_TABLES: Gpa = Gpa(0x20_0000);
/// Frames for the VMM's page tables: PML4, PDPT, PD and 13 page tables (26 MiB).
pub const BOOT_TABLE_FRAMES: u64 = 16;
/// Frames for the guest's own page tables start here.
pub const TABLE_POOL: Gpa = BOOT_TABLES.add_frames(BOOT_TABLE_FRAMES);
/// The work pool starts at a multiple of this: 2 MiB, one guest page table's reach.
pub const WORK_POOL_ALIGN: u64 = 512 * PAGE_BYTES;

/// First byte of the work range: PML4 slot 1, which the boot tables leave empty.
pub const WORK: Gva = Gva(0x80_0000_0000);

/// Selectors of the boot GDT. Their numbers are Linux's own on x86-64: a KVM-PVM host
/// runs CPL3 with its own user segments loaded.
pub mod selector {
    /// 64-bit code, DPL 0.
    pub const KERNEL_CODE: u16 = 0x10;
    /// Data, DPL 0.
    pub const KERNEL_DATA: u16 = 0x18;
    /// Data, DPL 3.
    pub const USER_DATA: u16 = 0x2b;
    /// 64-bit code, DPL 3.
    pub const USER_CODE: u16 = 0x33;
    /// The TSS: two slots.
    pub const TSS: u16 = 0x40;
}

const _: () = {
    assert!(MAILBOX.0 + PAGE_BYTES < KERNEL_STACK.0);
    assert!(KERNEL_STACK_TOP.0 < USER_STACK.0);
    assert!(USER_STACK_TOP.0 <= IMAGE.0);
    assert!(WORK.index(4) == 1);
};
