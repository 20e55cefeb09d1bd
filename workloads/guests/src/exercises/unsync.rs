//! CPL3 writes its own leaf tables.

use abi::to_usize;

use crate::access::{try_load, try_store};
use crate::arena;
use crate::check::Check;
use crate::ground::Ground;
use crate::paging::{FLAGS, WRITABLE};
use crate::random::Random;
use crate::service;
use crate::tables::Entry;

use super::Values;

/// Error codes of CPL3: a load where nothing is mapped, a store there, a store without W.
const NO_LOAD: u64 = 4;
const NO_STORE: u64 = 4 | 2;
const READ_ONLY: u64 = 4 | 2 | 1;

/// How stale translations are flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// With a load of CR3.
    Root,
    /// With an INVLPG for each page.
    Page,
}

// What an entry allows.
const UNMAPPED: u64 = 0;
const ALLOWS_LOADS: u64 = 1;
const ALLOWS_STORES: u64 = 2;

/// Leaf tables with some used pages each, and two frames for each page.
#[derive(Debug)]
pub struct Unsync {
    ground: Ground,
    pages_per_table: u64,
    frame_of: &'static mut [u64],
    spare: &'static mut [u64],
    content: &'static mut [u64],
    allowed: &'static mut [u64],
    values: Values,
}

impl Unsync {
    /// Maps the pages. The ground's base is a multiple of 2 MiB, and it has two frames a page.
    pub fn new(ground: Ground, tables: u64, pages_per_table: u64, seed: u64) -> Self {
        let pages = tables * pages_per_table;
        let exercise = Self {
            ground,
            pages_per_table,
            frame_of: arena::take(pages),
            spare: arena::take(pages),
            content: arena::take(2 * pages),
            allowed: arena::take(pages),
            values: Values::new(seed),
        };
        for page in 0..pages {
            exercise.frame_of[to_usize(page)] = page;
            exercise.spare[to_usize(page)] = pages + page;
        }
        exercise.allowed.fill(ALLOWS_STORES);
        for table in 0..tables {
            let first = table * pages_per_table;
            let frames = (first..first + pages_per_table).map(|page| ground.frame(page));
            ground.space.map_run(exercise.gva(first), frames);
        }
        exercise
    }

    fn pages(&self) -> u64 {
        self.frame_of.len() as u64
    }

    fn gva(&self, page: u64) -> abi::Gva {
        let (table, index) = (page / self.pages_per_table, page % self.pages_per_table);
        self.ground.gva(512 * table + index)
    }

    fn entry(&self, page: u64) -> Entry {
        self.ground.space.entry(self.gva(page), 1)
    }

    /// Changes one entry in `one_in` at random, flushes, and uses all pages.
    pub fn round(&mut self, one_in: u64, flush: Flush, random: &mut Random, check: &mut Check) {
        for page in 0..self.pages() {
            if random.once_in(one_in) {
                self.change(page, random);
                if flush == Flush::Page {
                    service::invalidate(self.gva(page), 1);
                }
            }
        }
        if flush == Flush::Root {
            self.ground.space.load();
        }
        for page in 0..self.pages() {
            self.use_page(page, random.once_in(2), check);
        }
    }

    /// Clears the entry, changes its frame, removes W, or restores all permissions.
    fn change(&mut self, page: u64, random: &mut Random) {
        let at = to_usize(page);
        let entry = self.entry(page);
        match random.below(4) {
            0 => {
                self.allowed[at] = UNMAPPED;
                entry.set_here(0);
                return;
            }
            1 => {
                let spare = &mut self.spare[to_usize(random.below(self.frame_of.len() as u64))];
                core::mem::swap(spare, &mut self.frame_of[at]);
                self.allowed[at] = ALLOWS_STORES;
            }
            2 => self.allowed[at] = ALLOWS_LOADS,
            _ => self.allowed[at] = ALLOWS_STORES,
        }
        let flags = if self.allowed[at] == ALLOWS_STORES {
            FLAGS
        } else {
            FLAGS & !WRITABLE
        };
        entry.set_here(self.ground.frame(self.frame_of[at]).0 | flags);
    }

    fn use_page(&mut self, page: u64, store: bool, check: &mut Check) {
        let at = to_usize(page);
        let (gva, allowed) = (self.gva(page), self.allowed[at]);
        let content = &mut self.content[to_usize(self.frame_of[at])];
        if store {
            let value = self.values.next();
            let went = try_store(gva, value);
            if went.is_ok() {
                *content = value;
            }
            let expected = match allowed {
                UNMAPPED => Some(NO_STORE),
                ALLOWS_LOADS => Some(READ_ONLY),
                _ => None,
            };
            check.access(page, went, expected);
        }
        match (try_load(gva), allowed) {
            (found, UNMAPPED) => check.access(page, found.map(|_| ()), Some(NO_LOAD)),
            (found, _) => check.load(page, found, *content),
        }
    }
}
