//! The addresses and frames of an exercise.

use abi::{FrameRange, Gpa, Gva};

use crate::tables::Space;

/// The addresses and frames of one exercise on one CPU.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// The current address space.
    pub space: Space,
    /// The first page.
    pub base: Gva,
    /// Unused frames.
    pub frames: FrameRange,
}

impl Ground {
    /// The address of a page.
    pub fn gva(&self, page: u64) -> Gva {
        self.base.add_pages(page)
    }

    /// The address of a frame.
    pub fn frame(&self, number: u64) -> Gpa {
        assert!(
            number < self.frames.frames,
            "frame {number} belongs to another exercise"
        );
        self.frames.start.add_frames(number)
    }
}
