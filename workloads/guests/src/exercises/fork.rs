//! Copies an address space read-only, with copy-on-write in both.

use abi::{Gva, to_usize};

use crate::access::{load, store, try_store};
use crate::arena;
use crate::check::Check;
use crate::ground::Ground;
use crate::paging::{FLAGS, WRITABLE};
use crate::random::Random;
use crate::tables::Space;

use super::Values;

/// Error code of a store by CPL3 to a page without W.
const READ_ONLY: u64 = 4 | 2 | 1;
/// The first words of a page are used, and copied.
const WORDS: usize = 8;

/// One side's pages.
#[derive(Debug)]
struct Side {
    space: Space,
    frame_of: &'static mut [u64],
    writable: &'static mut [u64],
}

/// A parent that forks repeatedly; its pages have their own frames at first.
#[derive(Debug)]
pub struct Fork {
    ground: Ground,
    parent: Side,
    child: Side,
    /// How many sides use each frame.
    owners: &'static mut [u64],
    /// What each frame holds.
    content: &'static mut [u64],
    values: Values,
}

impl Fork {
    /// Maps the pages; the ground has two frames a page.
    pub fn new(ground: Ground, pages: u64, seed: u64) -> Self {
        let side = || Side {
            space: ground.space,
            frame_of: arena::take(pages),
            writable: arena::take(pages),
        };
        let fork = Self {
            ground,
            parent: side(),
            child: side(),
            owners: arena::take(2 * pages),
            content: arena::take(2 * pages),
            values: Values::new(seed),
        };
        for (page, frame) in (0..pages).zip(fork.parent.frame_of.iter_mut()) {
            *frame = page;
            fork.owners[to_usize(page)] = 1;
        }
        fork.parent.writable.fill(1);
        let frames = (0..pages).map(|page| ground.frame(page));
        ground.space.map_run(ground.base, frames);
        fork
    }

    fn pages(&self) -> u64 {
        self.parent.frame_of.len() as u64
    }

    fn gva(&self, page: u64) -> Gva {
        self.ground.gva(page)
    }

    /// Forks, stores `writes` times on either side, checks both, and ends the child.
    pub fn round(&mut self, writes: u64, random: &mut Random, check: &mut Check) {
        self.begin_child();
        let mut in_child = false;
        for _ in 0..writes {
            if random.once_in(4) {
                in_child = !in_child;
                self.side(in_child).space.load();
            }
            let page = random.below(self.pages());
            self.write(in_child, page, check);
        }
        for in_child in [true, false] {
            self.side(in_child).space.load();
            for page in 0..self.pages() {
                let frame = self.side(in_child).frame_of[to_usize(page)];
                check.value(page, load(self.gva(page)), self.content[to_usize(frame)]);
            }
        }
        self.end_child();
    }

    fn side(&mut self, is_child: bool) -> &mut Side {
        if is_child {
            &mut self.child
        } else {
            &mut self.parent
        }
    }

    /// Copies the parent's entries without W, and removes W from the parent's own.
    fn begin_child(&mut self) {
        let (ground, pages) = (self.ground, to_usize(self.pages()));
        self.child.space = Space::new();
        self.child.frame_of.copy_from_slice(self.parent.frame_of);
        for &frame in &*self.parent.frame_of {
            self.owners[to_usize(frame)] = 2;
        }
        for side in [&mut self.child, &mut self.parent] {
            side.writable[..pages].fill(0);
            let frames = side.frame_of.iter();
            let values = frames.map(|&frame| ground.frame(frame).0 | (FLAGS & !WRITABLE));
            side.space.fill(ground.base, values);
        }
        self.parent.space.load();
    }

    /// Stores to a page of the current side, with copy-on-write if the store faults.
    fn write(&mut self, in_child: bool, page: u64, check: &mut Check) {
        let (gva, value) = (self.gva(page), self.values.next());
        let writable = self.side(in_child).writable[to_usize(page)] == 1;
        let went = try_store(gva, value);
        check.access(page, went, (!writable).then_some(READ_ONLY));
        if went.is_err() {
            self.break_cow(in_child, page);
            check.access(page, try_store(gva, value), None);
        }
        let frame = self.side(in_child).frame_of[to_usize(page)];
        self.content[to_usize(frame)] = value;
    }

    /// Gives the side its own frame: a new one, or the old one if the other side does not use it.
    fn break_cow(&mut self, in_child: bool, page: u64) {
        let gva = self.gva(page);
        let old = self.side(in_child).frame_of[to_usize(page)];
        let alone = self.owners[to_usize(old)] == 1;
        let unused = self.owners.iter().position(|&owners| owners == 0);
        let new = match unused {
            Some(unused) if !alone => unused as u64,
            _ => old,
        };
        let mut words = [0; WORDS];
        for (index, word) in (0..).zip(&mut words) {
            *word = load(gva.add(8 * index));
        }
        self.owners[to_usize(old)] -= 1;
        self.owners[to_usize(new)] += 1;
        let value = self.ground.frame(new).0 | FLAGS;
        let side = self.side(in_child);
        side.frame_of[to_usize(page)] = new;
        side.writable[to_usize(page)] = 1;
        side.space.entry(gva, 1).set_and_invalidate(value, gva);
        if new != old {
            for (index, word) in (0..).zip(words) {
                store(gva.add(8 * index), word);
            }
        }
    }

    /// Ends the child; the parent must be current.
    fn end_child(&mut self) {
        self.child.space.end();
        for &frame in &*self.child.frame_of {
            self.owners[to_usize(frame)] -= 1;
        }
    }
}
