//! Address spaces whose tables CPL3 changes: it reads entries in its view of the page tables, and
//! writes them through the kernel or in the view.

use abi::layout::{BOOT_TABLES, TABLE_VIEW};
use abi::{FrameRange, Gpa, Gva, ResultCode};

use crate::lock::Lock;
use crate::paging::{ADDRESS, FLAGS, LARGE, PRESENT};
use crate::{access, call, kernel, service};

/// Maximum number of returned frames; further ones are lost, which only costs memory.
const RETURNED: usize = 1024;

struct Pool {
    fresh: FrameRange,
    returned: [Gpa; RETURNED],
    returned_count: usize,
}

static POOL: Lock<Pool> = Lock::new(Pool {
    fresh: FrameRange {
        start: Gpa(0),
        frames: 0,
    },
    returned: [Gpa(0); RETURNED],
    returned_count: 0,
});

/// Takes the table frames over from the kernel. On CPU 0, before the first new space.
pub fn start() {
    POOL.with(|pool| pool.fresh = kernel::give_tables());
}

/// Allocates a frame for a table, all zero.
pub fn take() -> Gpa {
    POOL.with(|pool| {
        if let Some(last) = pool.returned_count.checked_sub(1) {
            pool.returned_count = last;
            return pool.returned[last];
        }
        if pool.fresh.frames == 0 {
            call::done(ResultCode::OutOfFrames, &[]);
        }
        let frame = pool.fresh.start;
        pool.fresh = FrameRange {
            start: frame.add_frames(1),
            frames: pool.fresh.frames - 1,
        };
        frame
    })
}

/// Clears a table and returns its frame. No entry may point to it any more.
pub fn give(table: Gpa) {
    for index in 0..512 {
        let entry = Entry(table.add(8 * index));
        if entry.get() != 0 {
            entry.set_here(0);
        }
    }
    POOL.with(|pool| {
        if let Some(to) = pool.returned.get_mut(pool.returned_count) {
            *to = table;
            pool.returned_count += 1;
        }
    });
}

/// An entry of a page table, by its guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(Gpa);

impl Entry {
    fn view(self) -> Gva {
        TABLE_VIEW.add(self.0.0 - BOOT_TABLES.0)
    }

    /// Its guest-physical address.
    pub fn gpa(self) -> Gpa {
        self.0
    }

    /// Its value, with the bits that the CPU has set.
    pub fn get(self) -> u64 {
        access::load(self.view())
    }

    /// Stores to it through the kernel.
    pub fn set(self, value: u64) {
        service::store(self.0, value);
    }

    /// Stores to it through the kernel, with an INVLPG of `gva` on this CPU.
    pub fn set_and_invalidate(self, value: u64, gva: Gva) {
        service::store_and_invalidate(self.0, value, gva);
    }

    /// Stores to it from CPL3, in the view.
    pub fn set_here(self, value: u64) {
        access::store(self.view(), value);
    }

    /// The table that it points to; `None` if it is not present or maps a large page.
    pub fn table(self) -> Option<Gpa> {
        let value = self.get();
        (value & (PRESENT | LARGE) == PRESENT).then_some(Gpa(value & ADDRESS))
    }
}

/// An address space. All of them share what the boot tables map, and the views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    root: Gpa,
}

impl Space {
    /// The space in which the CPUs start.
    pub const BOOT: Self = Self { root: BOOT_TABLES };
    /// Its PML4 entries that a new space shares: the boot tables' and the two views.
    const SHARED_SLOTS: [u64; 3] = [0, 2, 3];

    /// A new space, with only the shared entries.
    pub fn new() -> Self {
        let space = Self { root: take() };
        for slot in Self::SHARED_SLOTS {
            let from = Entry(BOOT_TABLES.add(8 * slot)).get();
            if from != 0 {
                Entry(space.root.add(8 * slot)).set(from);
            }
        }
        space
    }

    /// The space with this root.
    pub fn at(root: Gpa) -> Self {
        Self { root }
    }

    /// Shares `other`'s level-3 table for the 512 GiB of `gva`.
    pub fn share(self, other: Self, gva: Gva) {
        let entry = entry_of(other.root, gva, 4);
        entry_of(self.root, gva, 4).set(entry.get());
    }

    /// The address of the root, for CR3.
    pub fn root(self) -> Gpa {
        self.root
    }

    /// Loads it on this CPU, which flushes all translations, even if it is the current one.
    pub fn load(self) {
        service::load_root(self.root);
    }

    /// The entry of `gva` in the table of `level`; missing tables are allocated. No large page may
    /// map `gva`.
    pub fn entry(self, gva: Gva, level: u32) -> Entry {
        let mut table = self.root;
        for above in (level + 1..=4).rev() {
            let entry = entry_of(table, gva, above);
            table = entry.table().unwrap_or_else(|| {
                let table = take();
                entry.set(table.0 | FLAGS);
                table
            });
        }
        entry_of(table, gva, level)
    }

    /// Maps the page of `gva`, whose entry was not present.
    pub fn map(self, gva: Gva, frame: Gpa) {
        self.entry(gva, 1).set(frame.0 | FLAGS);
    }

    /// Maps consecutive pages from `gva` on to `frames`; none of them was present.
    pub fn map_run(self, gva: Gva, frames: impl Iterator<Item = Gpa>) {
        self.fill(gva, frames.map(|frame| frame.0 | FLAGS));
    }

    /// Stores `values` to the entries of the pages from `gva` on, through the kernel.
    pub fn fill(self, gva: Gva, values: impl Iterator<Item = u64>) {
        const BUFFER: usize = 64;
        let mut run = [0; BUFFER];
        let (mut first, mut length) = (gva, 0);
        for value in values {
            run[length] = value;
            length += 1;
            let next = first.add_pages(length as u64);
            if length == BUFFER || next.index(1) == 0 {
                service::copy(self.entry(first, 1).0, &run[..length]);
                (first, length) = (next, 0);
            }
        }
        if length > 0 {
            service::copy(self.entry(first, 1).0, &run[..length]);
        }
    }

    /// Frees all its tables except the shared ones. It must not be the current space of any CPU.
    pub fn end(self) {
        for slot in 0..512 {
            let entry = Entry(self.root.add(8 * slot));
            if let Some(table) = entry.table()
                && !Self::SHARED_SLOTS.contains(&slot)
            {
                give_tree(table, 3);
            }
        }
        give(self.root);
    }
}

fn give_tree(table: Gpa, level: u32) {
    for index in 0..512 {
        if level > 1
            && let Some(below) = Entry(table.add(8 * index)).table()
        {
            give_tree(below, level - 1);
        }
    }
    give(table);
}

/// The entry of `gva` in the table at `table`, which is of `level`.
pub fn entry_of(table: Gpa, gva: Gva, level: u32) -> Entry {
    Entry(table.add(8 * gva.index(level) as u64))
}
