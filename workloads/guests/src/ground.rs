//! Where an exercise takes place.

use abi::{FrameRange, Gpa, Gva};

use crate::tables::Space;

/// Addresses and frames that belong to one exercise on one CPU.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// The space that is current.
    pub space: Space,
    /// The first page.
    pub base: Gva,
    /// Frames, none of them used yet.
    pub frames: FrameRange,
}

impl Ground {
    /// The address of a page.
    pub fn gva(&self, page: u64) -> Gva {
        self.base.add_pages(page)
    }

    /// The address of a frame.
    pub fn frame(&self, number: u64) -> Gpa {
        assert!(number < self.frames.frames, "frame {number} is not ours");
        self.frames.start.add_frames(number)
    }
}
