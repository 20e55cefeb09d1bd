//! Address spaces, looked after at CPL3: entries are read in the view of the page tables, and
//! written by the kernel or, where a workload wants that, in the view too.

use abi::layout::{BOOT_TABLES, TABLE_VIEW};
use abi::{FrameRange, Gpa, Gva, ResultCode};

use crate::lock::Lock;
use crate::paging::{ADDRESS, FLAGS, LARGE, PRESENT};
use crate::{access, call, kernel, service};

/// Frames given back, at most; more are lost, which only costs memory.
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

/// Takes the table frames over from the kernel. On CPU 0, before any space is made.
pub fn start() {
    POOL.with(|pool| pool.fresh = kernel::give_tables());
}

/// A frame for a table, all zero.
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

/// Gives a table's frame back, with what is in it. No entry may point to it any more.
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

    /// Its value, with what the CPU has set in it.
    pub fn get(self) -> u64 {
        access::load(self.view())
    }

    /// Has the kernel store to it.
    pub fn set(self, value: u64) {
        service::store(self.0, value);
    }

    /// Has the kernel store to it, and forget the translation of `gva` on this CPU.
    pub fn set_and_invalidate(self, value: u64, gva: Gva) {
        service::store_and_invalidate(self.0, value, gva);
    }

    /// Stores to it from CPL3.
    pub fn set_here(self, value: u64) {
        access::store(self.view(), value);
    }

    /// The table that it points to; `None` if it is not present or maps a large page.
    pub fn table(self) -> Option<Gpa> {
        let value = self.get();
        (value & (PRESENT | LARGE) == PRESENT).then_some(Gpa(value & ADDRESS))
    }
}

/// A tree of page tables, of which what the boot tables map (and the view) is shared by all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    root: Gpa,
}

impl Space {
    /// The one that the CPUs start in.
    pub const BOOT: Self = Self { root: BOOT_TABLES };
    /// Its PML4 entries that a new space shares: the boot tables' and the two views.
    const SHARED_SLOTS: [u64; 3] = [0, 2, 3];

    /// A new one, with nothing of its own.
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

    /// The one whose root is there.
    pub fn at(root: Gpa) -> Self {
        Self { root }
    }

    /// Has `other`'s level-3 table for the 512 GiB of `gva`.
    pub fn share(self, other: Self, gva: Gva) {
        let entry = entry_of(other.root, gva, 4);
        entry_of(self.root, gva, 4).set(entry.get());
    }

    /// The address of the root, as for CR3.
    pub fn root(self) -> Gpa {
        self.root
    }

    /// Makes it the current one of this CPU; all translations are forgotten, even if it is
    /// that already.
    pub fn load(self) {
        service::load_root(self.root);
    }

    /// The entry of `gva` in the table of `level`, made with all above it if it is missing.
    /// No large page may lie there.
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

    /// Maps the pages from `gva` on, one for each frame, none of which was present.
    pub fn map_run(self, gva: Gva, frames: impl Iterator<Item = Gpa>) {
        self.fill(gva, frames.map(|frame| frame.0 | FLAGS));
    }

    /// Has the kernel store `values` to the entries of the pages from `gva` on.
    pub fn fill(self, gva: Gva, values: impl Iterator<Item = u64>) {
        const ROOM: usize = 64;
        let mut run = [0; ROOM];
        let (mut first, mut length) = (gva, 0);
        for value in values {
            run[length] = value;
            length += 1;
            let next = first.add_pages(length as u64);
            if length == ROOM || next.index(1) == 0 {
                service::copy(self.entry(first, 1).0, &run[..length]);
                (first, length) = (next, 0);
            }
        }
        if length > 0 {
            service::copy(self.entry(first, 1).0, &run[..length]);
        }
    }

    /// Gives all its tables back but those that it shares. It must not be any CPU's current one.
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
