//! Many virtual addresses of one frame.

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

    /// Stores once through each address.
    pub fn store_all(&mut self, seed: u64) {
        for page in 0..self.pages {
            self.content = abi::value(page, seed);
            store(self.ground.gva(page), self.content);
        }
    }

    /// Loads once through each address, and checks for the last stored value.
    pub fn check(&self, check: &mut Check) {
        for page in 0..self.pages {
            check.value(page, load(self.ground.gva(page)), self.content);
        }
    }
}
