//! Repeated stores to one upper-level table.

use abi::to_usize;

use crate::access::{load, store};
use crate::check::Check;
use crate::ground::Ground;
use crate::random::Random;
use crate::tables::Entry;

use super::Values;

/// Regions of 2 MiB below the table; the last one's entry is the one that is written.
pub const REGIONS: u64 = 4;
/// Pages used of each region.
const PAGES: u64 = 4;
/// Frames of the ground: the last region has two sets.
pub const FRAMES: u64 = (REGIONS + 1) * PAGES;

/// Regions that share a level-2 table; the last one has two page tables in turn.
#[derive(Debug)]
pub struct Flood {
    ground: Ground,
    /// The entry that is written, and the two values that it takes.
    entry: Entry,
    choices: [u64; 2],
    chosen: usize,
    content: [u64; FRAMES as usize],
    values: Values,
}

impl Flood {
    /// Maps the pages. The ground's base is a multiple of 2 MiB, and its regions lie in one GiB.
    pub fn new(ground: Ground, seed: u64) -> Self {
        let space = ground.space;
        let frames = |set: u64| (0..PAGES).map(move |page| ground.frame(set * PAGES + page));
        for region in 0..REGIONS {
            space.map_run(ground.gva(512 * region), frames(region));
        }
        let last = ground.gva(512 * (REGIONS - 1));
        let entry = space.entry(last, 2);
        let first = entry.get();
        entry.set(0);
        space.map_run(last, frames(REGIONS));
        Self {
            ground,
            entry,
            choices: [first, entry.get()],
            chosen: 1,
            content: [0; FRAMES as usize],
            values: Values::new(seed),
        }
    }

    /// `stores` stores to the entry, by the kernel or by CPL3 (`here`), then INVLPG, then uses all
    /// pages.
    pub fn round(&mut self, stores: u64, here: bool, random: &mut Random, check: &mut Check) {
        for _ in 0..stores {
            self.chosen = to_usize(random.below(2));
            let value = match random.below(3) {
                0 => 0,
                _ => self.choices[self.chosen],
            };
            self.write(value, here);
        }
        self.write(self.choices[self.chosen], here);
        // INVLPG also flushes the CPU's paging-structure caches.
        let last = self.ground.gva(512 * (REGIONS - 1));
        crate::service::invalidate(last, PAGES);
        self.use_pages(check);
    }

    fn write(&self, value: u64, here: bool) {
        if here {
            self.entry.set_here(value);
        } else {
            self.entry.set(value);
        }
    }

    fn use_pages(&mut self, check: &mut Check) {
        for region in 0..REGIONS {
            let second = region == REGIONS - 1 && self.chosen == 1;
            let set = if second { REGIONS } else { region };
            for index in 0..PAGES {
                let content = &mut self.content[to_usize(set * PAGES + index)];
                let page = 512 * region + index;
                check.value(page, load(self.ground.gva(page)), *content);
                *content = self.values.next();
                store(self.ground.gva(page), *content);
            }
        }
    }
}
