//! Pages that all CPUs share.
//!
//! Each page is owned by one CPU, which stores to it, moves it between its two frames, unmaps and
//! protects it in every space, and makes all CPUs flush the old translation. A page holds its
//! number and a count that only grows. The owner publishes the count that all CPUs must see *after*
//! all have flushed: a CPU that loads an older one has a stale translation.

use abi::layout::{FRAME_VIEW, WORK};
use abi::{FrameRange, Gpa, Gva, to_usize};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::access::{store, try_load, try_store};
use crate::arena;
use crate::check::Check;
use crate::paging::{FLAGS, WRITABLE};
use crate::random::Random;
use crate::tables::{Entry, Space};
use crate::{cpu, team};

/// Error codes of CPL3: a load where nothing is mapped, a store without W.
const MISSING: u64 = 4;
const READ_ONLY: u64 = 4 | 2 | 1;
/// The low bits of a value are the count.
const COUNT_BITS: u32 = 40;
/// Maximum number of spaces.
const MAX_SPACES: usize = 5;

/// The pages, and the spaces that map them. All CPUs have a copy.
#[derive(Clone, Copy, Debug)]
pub struct Joint {
    cpus: u64,
    frames: FrameRange,
    /// The first frame's number in the frame view.
    view: u64,
    spaces: [Space; MAX_SPACES],
    spaces_count: usize,
    /// Which of its two frames each page uses.
    which: &'static [AtomicU64],
    /// The last stored count.
    stored: &'static [AtomicU64],
    /// The count that all CPUs must see.
    seen_by_all: &'static [AtomicU64],
}

impl Joint {
    /// Maps `pages` pages at the start of the work range in each of `spaces`. There are two frames
    /// for each page, in the frame view from its frame `view` on.
    pub fn new(pages: u64, frames: FrameRange, view: u64, spaces: &[Space], cpus: u64) -> Self {
        let mut joint = Self {
            cpus,
            frames,
            view,
            spaces: [Space::BOOT; MAX_SPACES],
            spaces_count: spaces.len(),
            which: arena::take_shared(pages),
            stored: arena::take_shared(pages),
            seen_by_all: arena::take_shared(pages),
        };
        joint.spaces[..spaces.len()].copy_from_slice(spaces);
        for page in 0..pages {
            joint.write_frame(page, 0, 0);
        }
        for space in spaces {
            let entries = (0..pages).map(|page| joint.frame(page, 0).0 | FLAGS);
            space.fill(WORK, entries);
        }
        joint
    }

    fn pages(&self) -> u64 {
        self.which.len() as u64
    }

    fn frame(&self, page: u64, which: u64) -> Gpa {
        self.frames.start.add_frames(2 * page + which)
    }

    fn value(page: u64, count: u64) -> u64 {
        (page + 1) << COUNT_BITS | count
    }

    /// Stores to an unmapped frame, in the frame view.
    fn write_frame(&self, page: u64, which: u64, count: u64) {
        let at = FRAME_VIEW.add_pages(self.view + 2 * page + which);
        store(at, Self::value(page, count));
    }

    /// One random operation on a page; on another CPU's page, a load.
    pub fn step(&self, random: &mut Random, check: &mut Check) {
        let page = random.below(self.pages());
        let own = u64::from(cpu::number());
        if page % self.cpus != own {
            return self.load(page, check);
        }
        match random.below(8) {
            0 => self.unmap(page, check),
            1 => self.protect(page, check),
            2 => self.move_page(page, Entry::set),
            3 => self.move_page(page, Entry::set_here),
            _ => self.store(page, check),
        }
        self.load(page, check);
    }

    /// Loads a page. Another CPU's page may be unmapped at the moment.
    fn load(&self, page: u64, check: &mut Check) {
        let at_least = self.seen_by_all[to_usize(page)].load(Ordering::Acquire);
        let own = page % self.cpus == u64::from(cpu::number());
        match try_load(Self::gva(page)) {
            Ok(found) => {
                let stored = self.stored[to_usize(page)].load(Ordering::Acquire);
                let expected = Self::value(page, at_least);
                let right = (expected..=Self::value(page, stored)).contains(&found);
                check.value(page, found, if right { found } else { expected });
            }
            Err(refused) if own || refused.is_present() => {
                check.access(page, Err(refused), None);
            }
            Err(_) => {}
        }
    }

    fn gva(page: u64) -> Gva {
        WORK.add_pages(page)
    }

    fn next_count(&self, page: u64) -> u64 {
        self.stored[to_usize(page)].fetch_add(1, Ordering::AcqRel) + 1
    }

    fn all_see(&self, page: u64, count: u64) {
        self.seen_by_all[to_usize(page)].store(count, Ordering::Release);
    }

    fn store(&self, page: u64, check: &mut Check) {
        let count = self.next_count(page);
        let went = try_store(Self::gva(page), Self::value(page, count));
        check.access(page, went, None);
        self.all_see(page, count);
    }

    /// Moves a page to its other frame, which already holds the next count.
    fn move_page(&self, page: u64, set: fn(Entry, u64)) {
        let count = self.next_count(page);
        let which = 1 - self.which[to_usize(page)].load(Ordering::Relaxed);
        self.write_frame(page, which, count);
        self.which[to_usize(page)].store(which, Ordering::Relaxed);
        self.set_entries(page, self.frame(page, which).0 | FLAGS, set);
        team::invalidate_everywhere(Self::gva(page), self.cpus);
        self.all_see(page, count);
    }

    fn unmap(&self, page: u64, check: &mut Check) {
        self.set_entries(page, 0, Entry::set);
        team::invalidate_everywhere(Self::gva(page), self.cpus);
        let went = try_load(Self::gva(page)).map(|_| ());
        check.access(page, went, Some(MISSING));
        self.map_current_frame(page, FLAGS);
    }

    fn protect(&self, page: u64, check: &mut Check) {
        self.map_current_frame(page, FLAGS & !WRITABLE);
        team::invalidate_everywhere(Self::gva(page), self.cpus);
        let value = Self::value(page, self.stored[to_usize(page)].load(Ordering::Relaxed));
        let went = try_store(Self::gva(page), value);
        check.access(page, went, Some(READ_ONLY));
        // The permission grows: no flush is needed.
        self.map_current_frame(page, FLAGS);
    }

    fn map_current_frame(&self, page: u64, flags: u64) {
        let which = self.which[to_usize(page)].load(Ordering::Relaxed);
        self.set_entries(page, self.frame(page, which).0 | flags, Entry::set);
    }

    fn set_entries(&self, page: u64, value: u64, set: fn(Entry, u64)) {
        for space in &self.spaces[..self.spaces_count] {
            set(space.entry(Self::gva(page), 1), value);
        }
    }

    /// Loads all pages, when no CPU changes any.
    pub fn check(&self, check: &mut Check) {
        for page in 0..self.pages() {
            let stored = self.stored[to_usize(page)].load(Ordering::Acquire);
            check.load(page, try_load(Self::gva(page)), Self::value(page, stored));
        }
    }
}
