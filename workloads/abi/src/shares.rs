//! How the CPUs of `mixed` share addresses and frames.

use crate::layout::WORK;
use crate::{FrameRange, Gpa, Gva};

/// Frames of a CPU's large page.
const LARGE: u64 = 512;
/// Frames of a CPU for everything else.
const SMALL: u64 = 256;
/// Frames of a CPU whose content the host may throw away.
const VANISHING: u64 = 32;
/// 4 KiB pages of a CPU's part of the work range: 16 regions of 2 MiB.
const PAGES: u64 = 16 * 512;

/// Who has which part of the work range and of the work pool.
///
/// The large pages' frames come first, because they must be aligned; those that may vanish
/// come last, in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// First byte of the work pool.
    pub start: Gpa,
    /// CPUs there are.
    pub cpus: u64,
}

impl Shares {
    /// Pages that all CPUs have in common, at the start of the work range.
    pub const JOINT_PAGES: u64 = 64;

    fn range(&self, first: u64, frames: u64) -> FrameRange {
        FrameRange {
            start: self.start.add_frames(first),
            frames,
        }
    }

    /// A CPU's 512 frames, aligned to 2 MiB.
    #[must_use]
    pub fn large(&self, cpu: u64) -> FrameRange {
        self.range(cpu * LARGE, LARGE)
    }

    /// A CPU's other frames.
    #[must_use]
    pub fn small(&self, cpu: u64) -> FrameRange {
        self.range(self.cpus * LARGE + cpu * SMALL, SMALL)
    }

    /// Two frames for each of the joint pages.
    #[must_use]
    pub fn joint(&self) -> FrameRange {
        self.range(self.cpus * (LARGE + SMALL), 2 * Self::JOINT_PAGES)
    }

    /// A CPU's frames that may vanish.
    #[must_use]
    pub fn vanishing(&self, cpu: u64) -> FrameRange {
        let first = self.first_vanishing() + cpu * VANISHING;
        self.range(first, VANISHING)
    }

    fn first_vanishing(&self) -> u64 {
        self.cpus * (LARGE + SMALL) + 2 * Self::JOINT_PAGES
    }

    /// All frames that keep their content.
    #[must_use]
    pub fn lasting(&self) -> FrameRange {
        self.range(0, self.first_vanishing())
    }

    /// All frames that may vanish.
    #[must_use]
    pub fn all_vanishing(&self) -> FrameRange {
        self.range(self.first_vanishing(), self.cpus * VANISHING)
    }

    /// Frames in all.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.first_vanishing() + self.cpus * VANISHING
    }

    /// First byte of one of a CPU's 16 regions of 2 MiB.
    #[must_use]
    pub fn region(&self, cpu: u64, number: u64) -> Gva {
        WORK.add_pages(512 + cpu * PAGES + number * 512)
    }

    /// Pages of the work range.
    #[must_use]
    pub fn pages(&self) -> u64 {
        512 + self.cpus * PAGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn nobody_shares_a_frame() {
        for cpus in 1..=4 {
            let shares = Shares {
                start: Gpa(0x40_0000),
                cpus,
            };
            let mut ranges: Vec<_> = (0..cpus)
                .flat_map(|cpu| [shares.large(cpu), shares.small(cpu), shares.vanishing(cpu)])
                .chain([shares.joint()])
                .map(|range| (range.start, range.end()))
                .collect();
            ranges.sort_unstable();
            assert_eq!(ranges[0].0, shares.start);
            assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0));
            assert_eq!(ranges[ranges.len() - 1].1, shares.all_vanishing().end());
            assert_eq!(shares.lasting().end(), shares.all_vanishing().start);
            assert_eq!(
                shares.frames() * 4096,
                shares.all_vanishing().end().0 - shares.start.0
            );
            assert!(shares.large(cpus - 1).start.0.is_multiple_of(512 * 4096));
            let last = shares.region(cpus - 1, 15).add_pages(512);
            assert_eq!(last, WORK.add_pages(shares.pages()));
        }
    }
}
