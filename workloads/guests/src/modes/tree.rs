//! Page tables of any format, written at CPL0 where they are identity-mapped.

use abi::{Gpa, Gva};

use super::Task;
use crate::paging::{ADDRESS, FLAGS, PRESENT};

/// A format of page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Levels, from the root down to 1.
    levels: u32,
    /// Bits of an address that a level translates.
    bits: u32,
    /// Bytes of an entry.
    pub entry_bytes: u64,
}

impl Format {
    /// Long mode.
    pub const LONG: Self = Self::of_eight_bytes(4);
    /// Long mode with CR4.LA57.
    pub const LONG_57: Self = Self::of_eight_bytes(5);
    /// 32-bit paging with CR4.PAE.
    pub const PAE: Self = Self::of_eight_bytes(3);
    /// 32-bit paging without it.
    pub const LEGACY: Self = Self {
        levels: 2,
        bits: 10,
        entry_bytes: 4,
    };

    const fn of_eight_bytes(levels: u32) -> Self {
        Self {
            levels,
            bits: 9,
            entry_bytes: 8,
        }
    }

    /// Pages that an entry of `level` spans.
    pub const fn pages(self, level: u32) -> u64 {
        1 << (self.bits * (level - 1))
    }

    const fn index(self, gva: Gva, level: u32) -> u64 {
        (gva.0 >> (12 + self.bits * (level - 1))) & ((1 << self.bits) - 1)
    }

    /// Flags of an entry above the leaves. A PDPTE of 32-bit paging has no bits of access.
    fn link(self, level: u32) -> u64 {
        if self == Self::PAE && level == self.levels {
            PRESENT
        } else {
            FLAGS
        }
    }
}

/// An address space.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    /// Its format.
    pub format: Format,
    /// Its root, for CR3.
    pub root: Gpa,
}

impl Tree {
    /// An empty one.
    pub fn new(format: Format, task: &mut Task) -> Self {
        let root = task.take();
        Self { format, root }
    }

    /// Where the entry of `gva` in its table of `level` is; missing tables are added.
    pub fn entry(&self, gva: Gva, level: u32, task: &mut Task) -> Gpa {
        let mut table = self.root;
        for above in (level + 1..=self.format.levels).rev() {
            let at = self.place(table, gva, above);
            if self.get(at) & PRESENT == 0 {
                self.set(at, task.take().0 | self.format.link(above));
            }
            table = Gpa(self.get(at) & ADDRESS);
        }
        self.place(table, gva, level)
    }

    /// Maps the page of `gva`.
    pub fn map(&self, gva: Gva, frame: Gpa, flags: u64, task: &mut Task) {
        let at = self.entry(gva, 1, task);
        self.set(at, frame.0 | flags);
    }

    const fn place(&self, table: Gpa, gva: Gva, level: u32) -> Gpa {
        table.add(self.format.entry_bytes * self.format.index(gva, level))
    }

    /// The entry at `at`.
    pub fn get(&self, at: Gpa) -> u64 {
        let at = at.0 as usize;
        // SAFETY: tables come from the table pool, which is identity-mapped for CPL0 in every
        // space and belongs to no Rust object; `place` stays inside a table.
        unsafe {
            if self.format.entry_bytes == 4 {
                u64::from(core::ptr::with_exposed_provenance::<u32>(at).read_volatile())
            } else {
                core::ptr::with_exposed_provenance::<u64>(at).read_volatile()
            }
        }
    }

    /// Stores to the entry at `at`.
    pub fn set(&self, at: Gpa, value: u64) {
        let to = at.0 as usize;
        // SAFETY: as in `get`.
        unsafe {
            if self.format.entry_bytes == 4 {
                // No frame is above 4 GiB, and no flag of these tables above bit 31.
                core::ptr::with_exposed_provenance_mut::<u32>(to).write_volatile(value as u32);
            } else {
                core::ptr::with_exposed_provenance_mut::<u64>(to).write_volatile(value);
            }
        }
    }
}
