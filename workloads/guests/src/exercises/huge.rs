//! Splits 2 MiB pages into tables, and merges them again.

use abi::layout::{BOOT_TABLE_FRAMES, BOOT_TABLES, TABLE_VIEW};
use abi::{Gva, to_usize};

use crate::access::{load, store};
use crate::arena;
use crate::check::Check;
use crate::ground::Ground;
use crate::paging::{FLAGS, LARGE};
use crate::random::Random;
use crate::service;
use crate::tables::{self, Entry, entry_of};

use super::Values;

/// 4 KiB pages of a region.
pub const REGION_PAGES: u64 = 512;
/// Pages used of each region, spread over it.
const USED: u64 = 16;

/// Regions of 2 MiB, each over its own aligned frames.
#[derive(Debug)]
pub struct Huge {
    ground: Ground,
    /// Each region's page table while it is split; otherwise 0.
    table: &'static mut [u64],
    /// The used frame of each used page; while a region is split, pages can swap their frames.
    frame_of: &'static mut [u64],
    content: &'static mut [u64],
    values: Values,
}

impl Huge {
    /// Maps the regions with large pages. The ground's base and frames are multiples of 2 MiB.
    pub fn new(ground: Ground, regions: u64, seed: u64) -> Self {
        let exercise = Self {
            ground,
            table: arena::take(regions),
            frame_of: arena::take(regions * USED),
            content: arena::take(regions * USED),
            values: Values::new(seed),
        };
        for region in 0..regions {
            exercise.level_2(region).set(exercise.large(region));
        }
        for (frame, number) in exercise.frame_of.iter_mut().zip(0..) {
            *frame = number;
        }
        exercise
    }

    fn level_2(&self, region: u64) -> Entry {
        self.ground.space.entry(self.base(region), 2)
    }

    fn base(&self, region: u64) -> Gva {
        self.ground.gva(region * REGION_PAGES)
    }

    /// The entry that maps the region as one page.
    fn large(&self, region: u64) -> u64 {
        self.ground.frame(region * REGION_PAGES).0 | FLAGS | LARGE
    }

    /// The page (or frame) number of a used page.
    fn used(number: u64) -> u64 {
        number * (REGION_PAGES / USED)
    }

    /// Splits or merges a region and uses it. If it is split, also swaps two pages and uses it
    /// again.
    pub fn turn(&mut self, region: u64, random: &mut Random, check: &mut Check) {
        if self.table[to_usize(region)] == 0 {
            self.split(region);
        } else {
            self.merge(region);
        }
        self.use_region(region, check);
        if self.table[to_usize(region)] != 0 {
            self.swap(region, random.below(USED), random.below(USED));
            self.use_region(region, check);
        }
    }

    fn split(&mut self, region: u64) {
        let (base, table) = (self.base(region), tables::take());
        for page in 0..REGION_PAGES {
            let frame = self.ground.frame(region * REGION_PAGES + page);
            entry_of(table, base.add_pages(page), 1).set_here(frame.0 | FLAGS);
        }
        self.table[to_usize(region)] = table.0;
        let value = table.0 | FLAGS;
        self.level_2(region).set_and_invalidate(value, base);
    }

    fn merge(&mut self, region: u64) {
        self.level_2(region).set(self.large(region));
        // Up to 512 translations are stale.
        self.ground.space.load();
        tables::give(abi::Gpa(core::mem::take(&mut self.table[to_usize(region)])));
        for number in region * USED..(region + 1) * USED {
            self.frame_of[to_usize(number)] = number;
        }
    }

    fn swap(&mut self, region: u64, one: u64, other: u64) {
        let (one, other) = (region * USED + one, region * USED + other);
        self.frame_of.swap(to_usize(one), to_usize(other));
        for number in [one, other] {
            let gva = self.ground.gva(Self::used(number));
            let frame = Self::used(self.frame_of[to_usize(number)]);
            let value = self.ground.frame(frame).0 | FLAGS;
            self.ground.space.entry(gva, 1).set(value);
            service::invalidate(gva, 1);
        }
    }

    /// Splits a region and stores to each of its pages.
    pub fn split_and_fill(&mut self, region: u64, check: &mut Check) {
        self.split(region);
        for page in region * REGION_PAGES..(region + 1) * REGION_PAGES {
            let value = self.values.next();
            store(self.ground.gva(page), value);
            check.value(page, load(self.ground.gva(page)), value);
        }
    }

    /// Maps the 2 MiB of the first page tables in place of region `region`, and loads an entry of
    /// each boot table there and where it is mapped otherwise.
    pub fn check_tables(&self, region: u64, check: &mut Check) {
        self.level_2(region).set(BOOT_TABLES.0 | FLAGS | LARGE);
        for table in 0..BOOT_TABLE_FRAMES {
            let here = load(self.base(region).add_pages(table));
            let there = load(TABLE_VIEW.add_pages(table));
            // The processor may set A and D in between.
            const ACCESSED_DIRTY: u64 = 1 << 5 | 1 << 6;
            check.value(table, here | ACCESSED_DIRTY, there | ACCESSED_DIRTY);
        }
    }

    /// Loads and stores all its used pages.
    pub fn use_region(&mut self, region: u64, check: &mut Check) {
        for number in region * USED..(region + 1) * USED {
            let page = Self::used(number);
            let content = &mut self.content[to_usize(self.frame_of[to_usize(number)])];
            check.value(page, load(self.ground.gva(page)), *content);
            *content = self.values.next();
            store(self.ground.gva(page), *content);
        }
    }
}
