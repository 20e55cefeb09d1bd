//! Many addresses of one frame.

use crate::access::{load, store};
use crate::check::Check;
use crate::ground::Ground;

/// `pages` pages, all mapped to the ground's one frame.
#[derive(Debug)]
pub struct Alias {
    ground: Ground,
    pages: u64,
    content: u64,
}

impl Alias {
    /// Maps the pages.
    pub fn new(ground: Ground, pages: u64) -> Self {
        let frames = (0..pages).map(|_| ground.frame(0));
        ground.space.map_run(ground.base, frames);
        Self {
            ground,
            pages,
            content: 0,
        }
    }

    /// Stores once by each address.
    pub fn store_all(&mut self, seed: u64) {
        for page in 0..self.pages {
            self.content = abi::value(page, seed);
            store(self.ground.gva(page), self.content);
        }
    }

    /// Loads once by each address: the last value stored, by whichever.
    pub fn check(&self, check: &mut Check) {
        for page in 0..self.pages {
            check.value(page, load(self.ground.gva(page)), self.content);
        }
    }
}
