//! Unmaps pages and maps them again to other frames.

use abi::to_usize;

use crate::access::{load, store, try_load};
use crate::arena;
use crate::check::Check;
use crate::ground::Ground;
use crate::paging::FLAGS;
use crate::random::Random;
use crate::tables::Entry;

use super::Values;

/// Error code of a load by CPL3 where nothing is mapped.
const MISSING: u64 = 4;
/// One in this many times the unmapped page is loaded, which must be refused.
const REFUSED_ONCE_IN: u64 = 16;

/// `pages` pages over twice as many frames.
#[derive(Debug)]
pub struct Remap {
    ground: Ground,
    /// The frame of each page.
    frame_of: &'static mut [u64],
    /// The unused frames.
    spare: &'static mut [u64],
    /// What each frame holds.
    content: &'static mut [u64],
    values: Values,
}

impl Remap {
    /// Maps the pages; the ground has two frames a page.
    pub fn new(ground: Ground, pages: u64, seed: u64) -> Self {
        let (frame_of, spare) = (arena::take(pages), arena::take(pages));
        for (page, (frame, spare)) in (0..pages).zip(frame_of.iter_mut().zip(spare.iter_mut())) {
            (*frame, *spare) = (page, pages + page);
        }
        let frames = (0..pages).map(|page| ground.frame(page));
        ground.space.map_run(ground.base, frames);
        Self {
            ground,
            frame_of,
            spare,
            content: arena::take(2 * pages),
            values: Values::new(seed),
        }
    }

    fn pages(&self) -> u64 {
        self.frame_of.len() as u64
    }

    fn entry(&self, page: u64) -> Entry {
        self.ground.space.entry(self.ground.gva(page), 1)
    }

    /// Unmaps and maps `page` with an INVLPG, then loads and stores.
    pub fn move_page(&mut self, page: u64, random: &mut Random, check: &mut Check) {
        let entry = self.entry(page);
        entry.set_and_invalidate(0, self.ground.gva(page));
        self.maybe_refused(page, random, check);
        self.map(page, entry, random);
        self.use_page(page, check);
    }

    /// Unmaps `count` pages from `first` on, loads CR3, and maps and uses them.
    pub fn move_batch(&mut self, first: u64, count: u64, random: &mut Random, check: &mut Check) {
        let batch = first..self.pages().min(first + count);
        for page in batch.clone() {
            self.entry(page).set(0);
        }
        self.ground.space.load();
        for page in batch {
            self.maybe_refused(page, random, check);
            self.map(page, self.entry(page), random);
            self.use_page(page, check);
        }
    }

    fn maybe_refused(&self, page: u64, random: &mut Random, check: &mut Check) {
        if random.once_in(REFUSED_ONCE_IN) {
            let went = try_load(self.ground.gva(page)).map(|_| ());
            check.access(page, went, Some(MISSING));
        }
    }

    fn map(&mut self, page: u64, entry: Entry, random: &mut Random) {
        let spare = &mut self.spare[to_usize(random.below(self.frame_of.len() as u64))];
        core::mem::swap(spare, &mut self.frame_of[to_usize(page)]);
        let frame = self.ground.frame(self.frame_of[to_usize(page)]);
        entry.set(frame.0 | FLAGS);
    }

    /// Checks that the page has the content of its new frame, then stores a new value.
    fn use_page(&mut self, page: u64, check: &mut Check) {
        self.check_page(page, check);
        let value = self.values.next();
        store(self.ground.gva(page), value);
        self.content[to_usize(self.frame_of[to_usize(page)])] = value;
    }

    /// Loads a page.
    pub fn check_page(&self, page: u64, check: &mut Check) {
        let expected = self.content[to_usize(self.frame_of[to_usize(page)])];
        check.value(page, load(self.ground.gva(page)), expected);
    }

    /// Loads all pages.
    pub fn check(&self, check: &mut Check) {
        for page in 0..self.pages() {
            self.check_page(page, check);
        }
    }
}
