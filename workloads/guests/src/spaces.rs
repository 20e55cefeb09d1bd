//! `switch` and `recycle`: many address spaces, and many tables.

use abi::layout::WORK;
use abi::{BootInfo, Phase};

use crate::access::{load, store};
use crate::check::Check;
use crate::tables::Space;
use crate::{arena, call};

/// Loads many address spaces in turn: stores to each page at first, later loads it.
pub fn switch(info: &BootInfo, check: &mut Check) {
    let [count, pages, rounds, shared, seed, ..] = info.params;
    let roots = arena::take(count);
    let mut first = None;
    for (number, root) in (0..count).zip(roots.iter_mut()) {
        let space = Space::new();
        match first {
            Some(first) if shared == 1 => space.share(first, WORK),
            _ => {
                let start = info.work.start.add_frames(number * pages);
                let frames = (0..pages).map(|page| start.add_frames(page));
                space.map_run(WORK, frames);
                first = Some(space);
            }
        }
        *root = space.root().0;
    }
    call::mark(Phase::Touch);
    let value = |number: u64, page: u64| {
        let number = if shared == 1 { 0 } else { number };
        abi::value(number * pages + page, seed)
    };
    for (number, root) in (0..count).zip(&*roots) {
        Space::at(abi::Gpa(*root)).load();
        for page in 0..pages {
            store(WORK.add_pages(page), value(number, page));
        }
    }
    call::mark(Phase::Check);
    for _ in 0..rounds {
        for (number, root) in (0..count).zip(&*roots) {
            Space::at(abi::Gpa(*root)).load();
            for page in 0..pages {
                let found = load(WORK.add_pages(page));
                check.value(page, found, value(number, page));
            }
        }
    }
}

/// Accesses one page of each of many tables, in several passes.
pub fn recycle(info: &BootInfo, check: &mut Check) {
    let [tables, passes, _mmu_pages, seed, ..] = info.params;
    let at = |table: u64| WORK.add_pages(512 * table);
    for table in 0..tables {
        Space::BOOT.map(at(table), info.work.start.add_frames(table));
    }
    call::mark(Phase::Touch);
    for table in 0..tables {
        store(at(table), abi::value(table, seed));
    }
    call::mark(Phase::Check);
    for _ in 0..passes {
        for table in 0..tables {
            check.value(table, load(at(table)), abi::value(table, seed));
        }
    }
}
