//! The guest's page tables, as its kernel writes them: four levels, 4 KiB pages.

use abi::{FrameRange, Gpa, Gva, PAGE_BYTES};

use crate::cpu;

/// The entry is present.
pub const PRESENT: u64 = 1 << 0;
/// Stores are allowed.
pub const WRITABLE: u64 = 1 << 1;
/// CPL3 is allowed.
pub const USER: u64 = 1 << 2;
/// At level 2: a page of 2 MiB.
pub const LARGE: u64 = 1 << 7;
/// No instruction may be fetched.
pub const NO_EXECUTE: u64 = 1 << 63;
/// Flags of a new entry. Accessed and dirty are clear: the hardware or KVM's walker sets them at
/// the first access.
pub const FLAGS: u64 = PRESENT | WRITABLE | USER;
/// Bits 51:12 of an entry.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// A region that contains no address.
const NO_REGION: (u64, Gpa) = (u64::MAX, Gpa(0));

type Table = [u64; 512];

/// No frame is left in a pool.
#[derive(Debug)]
pub struct OutOfFrames;

/// Frames, allocated in ascending order.
#[derive(Debug)]
pub struct FramePool {
    next: Gpa,
    end: Gpa,
}

impl FramePool {
    /// Without frames.
    pub const EMPTY: Self = Self {
        next: Gpa(0),
        end: Gpa(0),
    };

    /// With all frames of `range`.
    pub const fn new(range: FrameRange) -> Self {
        Self {
            next: range.start,
            end: range.end(),
        }
    }

    /// Allocates the next frame.
    #[inline(always)]
    pub fn take(&mut self) -> Result<Gpa, OutOfFrames> {
        if self.next >= self.end {
            return Err(OutOfFrames);
        }
        let frame = self.next;
        self.next = frame.add_frames(1);
        Ok(frame)
    }

    /// Takes all frames that are not allocated.
    pub fn give(&mut self) -> FrameRange {
        let start = core::mem::replace(&mut self.next, self.end);
        FrameRange {
            start,
            frames: (self.end.0 - start.0) / PAGE_BYTES,
        }
    }
}

/// Adds pages to the current page tables. Code that runs for each page is inlined: at CPL0 an
/// instruction may cost a microsecond.
#[derive(Debug)]
pub struct Mapper {
    root: Gpa,
    tables: FramePool,
    /// The 2 MiB region of the last page (GVA / 2 MiB) and its page table: consecutive pages need
    /// no walk from the root.
    last: (u64, Gpa),
}

impl Mapper {
    /// Before the kernel's start.
    pub const EMPTY: Self = Self {
        root: Gpa(0),
        tables: FramePool::EMPTY,
        last: NO_REGION,
    };

    /// `tables` must be identity-mapped, zeroed and unused.
    pub fn new(tables: FrameRange) -> Self {
        Self {
            root: Gpa(cpu::page_table_root()),
            tables: FramePool::new(tables),
            last: NO_REGION,
        }
    }

    /// Takes the unused frames for tables.
    pub fn give_tables(&mut self) -> FrameRange {
        self.tables.give()
    }

    /// Maps the page of `gva` to `frame`, for CPL3, writable.
    #[inline(always)]
    pub fn map(&mut self, gva: Gva, frame: Gpa) -> Result<(), OutOfFrames> {
        let region = gva.0 >> 21;
        if self.last.0 != region {
            self.last = (region, self.page_table(gva)?);
        }
        *entry(self.last.1, gva, 1) = frame.0 | FLAGS;
        Ok(())
    }

    /// The page table with `gva`'s entry; missing tables are allocated.
    #[cold]
    #[inline(never)]
    fn page_table(&mut self, gva: Gva) -> Result<Gpa, OutOfFrames> {
        let mut table = self.root;
        for level in [4, 3, 2] {
            let entry = entry(table, gva, level);
            if *entry & PRESENT == 0 {
                *entry = self.tables.take()?.0 | FLAGS;
            }
            table = Gpa(*entry & ADDRESS);
        }
        Ok(table)
    }
}

/// The entry of `gva` in the table at `table`, which is of `level`.
#[inline(always)]
fn entry(table: Gpa, gva: Gva, level: u32) -> &'static mut u64 {
    let table = core::ptr::with_exposed_provenance_mut::<Table>(table.0 as usize);
    // SAFETY: tables come from the boot tables or the table pool, both identity-mapped and
    // writable; an index has 9 bits. The reference ends before the next one is made, and
    // nothing but this module refers to page tables.
    unsafe { &mut (*table)[gva.index(level)] }
}
