//! The bits of an SPTE for shadow paging (legacy page-table format, not EPT).
//!
//! Source: `arch/x86/kvm/mmu/spte.h`, the same in Linux 6.1 to 7.2.

use core::fmt;

use bytemuck::{Pod, Zeroable};

use crate::{Gpte, Gva, Hpa, Pfn, Spte};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const PAGE_SIZE: u64 = 1 << 7;
/// `shadow_host_writable_mask`.
const HOST_WRITABLE: u64 = 1 << 9;
/// `shadow_mmu_writable_mask`.
const MMU_WRITABLE: u64 = 1 << 10;
/// `SPTE_MMU_PRESENT_MASK`: the only test for "this is a shadow entry".
const MMU_PRESENT: u64 = 1 << 11;
const NX: u64 = 1 << 63;
/// Bits 51:12, the frame.
const FRAME: u64 = ((1 << 52) - 1) & !0xfff;
/// `SHADOW_NONPRESENT_VALUE` since Linux 6.10: bit 63 (no #VE). Zero before.
const EMPTY_BIT: u64 = 1 << 63;

impl Spte {
    /// KVM's `is_shadow_present_pte`: bit 11. Bit 0 alone is not enough, since a
    /// PVM root holds copies of host entries and an MMIO entry may have bit 0.
    pub const fn is_shadow_present(self) -> bool {
        self.0 & MMU_PRESENT != 0
    }

    /// Bit 0, the hardware's own P.
    pub const fn has_present_bit(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Neither present nor a marker of any kind.
    pub const fn is_empty(self) -> bool {
        self.0 == 0 || self.0 == EMPTY_BIT
    }

    /// Maps memory (at `level`) instead of pointing to another table.
    pub const fn is_leaf(self, level: Level) -> bool {
        self.is_shadow_present() && (level.0 == 1 || self.0 & PAGE_SIZE != 0)
    }

    /// The frame it maps, or the child table's frame.
    pub const fn pfn(self) -> Pfn {
        Hpa(self.0 & FRAME).pfn()
    }

    /// The child table, for an entry that is no leaf.
    pub const fn child(self) -> Hpa {
        Hpa(self.0 & FRAME)
    }

    /// The guest may write.
    pub const fn is_writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    /// The guest may execute.
    pub const fn is_executable(self) -> bool {
        self.0 & NX == 0
    }

    /// Reachable from CPL 3.
    pub const fn is_user(self) -> bool {
        self.0 & USER != 0
    }

    /// Set by hardware, or by KVM on a demand fault.
    pub const fn is_accessed(self) -> bool {
        self.0 & ACCESSED != 0
    }

    /// Set by hardware, or by KVM on a write fault.
    pub const fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    /// `is_mmu_writable_spte`: write-protected only for dirty logging, if at all.
    pub const fn is_mmu_writable(self) -> bool {
        self.0 & MMU_WRITABLE != 0
    }

    /// The host maps the frame writable.
    pub const fn is_host_writable(self) -> bool {
        self.0 & HOST_WRITABLE != 0
    }

    /// The entry as KVM leaves it to protect a guest page table (`spte_write_protect` with
    /// `pt_protect`): neither the guest nor KVM's fast path may make it writable.
    pub const fn without_write(self) -> Spte {
        Spte(self.0 & !(WRITABLE | MMU_WRITABLE))
    }

    /// The entry without the bits that the hardware sets by itself.
    pub const fn without_accessed_dirty(self) -> Spte {
        Spte(self.0 & !(ACCESSED | DIRTY))
    }
}

impl Gpte {
    /// The P bit of a 64-bit guest entry.
    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// The PS bit: the entry maps a large page at levels 2 and 3.
    pub const fn is_large(self) -> bool {
        self.0 & PAGE_SIZE != 0
    }

    /// The W bit.
    pub const fn is_writable(self) -> bool {
        self.0 & WRITABLE != 0
    }

    /// The U bit.
    pub const fn is_user(self) -> bool {
        self.0 & USER != 0
    }

    /// The A bit.
    pub const fn is_accessed(self) -> bool {
        self.0 & ACCESSED != 0
    }

    /// The D bit.
    pub const fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    /// Bit 63, no-execute.
    pub const fn is_no_execute(self) -> bool {
        self.0 & NX != 0
    }

    /// The GPA of the next table or of the page, bits 51:12.
    pub const fn gpa(self) -> crate::Gpa {
        crate::Gpa(self.0 & FRAME)
    }
}

/// A page-table level: 1 is the leaf table (4 KiB pages), 4 or 5 the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct Level(pub u8);

impl Level {
    /// Which entry of a table at this level translates `gva`; `None` above level 5 or below 1.
    pub const fn index(self, gva: Gva) -> Option<u16> {
        match self.0 {
            1..=5 => Some(((gva.0 >> (12 + 9 * (self.0 as u32 - 1))) & 511) as u16),
            _ => None,
        }
    }

    /// The number of 4 KiB pages that one entry at this level spans.
    pub const fn pages(self) -> u64 {
        match self.0 {
            0 | 1 => 1,
            level => 1 << (9 * (if level > 5 { 5 } else { level } as u32 - 1)),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
