//! Loads pages and stores to them repeatedly, while the host changes their memory.

use core::ops::Range;

use abi::to_usize;

use crate::access::{load, store};
use crate::arena;
use crate::check::Check;
use crate::ground::Ground;

use super::Values;

/// Pages with one frame each.
#[derive(Debug)]
pub struct Sweep {
    ground: Ground,
    content: &'static mut [u64],
    /// Pages whose content the host may discard: they read zero then.
    discardable: Range<u64>,
    values: Values,
}

impl Sweep {
    /// Maps the pages.
    pub fn new(ground: Ground, pages: u64, discardable: Range<u64>, seed: u64) -> Self {
        let frames = (0..pages).map(|page| ground.frame(page));
        ground.space.map_run(ground.base, frames);
        Self {
            ground,
            content: arena::take(pages),
            discardable,
            values: Values::new(seed),
        }
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.content.len() as u64
    }

    /// Loads a page and, if `write`, stores to it.
    pub fn use_page(&mut self, page: u64, write: bool, check: &mut Check) {
        let (gva, content) = (self.ground.gva(page), &mut self.content[to_usize(page)]);
        let found = load(gva);
        if found == 0 && self.discardable.contains(&page) {
            *content = 0;
        }
        check.value(page, found, *content);
        if write {
            *content = self.values.next();
            store(gva, *content);
        }
    }
}
