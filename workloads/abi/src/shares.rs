//! How the CPUs of `mixed` share addresses and frames.

use crate::layout::WORK;
use crate::{FrameRange, Gpa, Gva};

/// Frames of a CPU's large page.
const LARGE: u64 = 512;
/// Frames of a CPU for everything else.
const SMALL: u64 = 256;
/// Frames of a CPU whose content the host may discard.
const DISCARDABLE: u64 = 32;
/// 4 KiB pages of a CPU's part of the work range: 16 regions of 2 MiB.
const PAGES: u64 = 16 * 512;

/// How the work range and the work pool are divided among the CPUs.
///
/// The frames of the large pages come first, because they must be aligned; those that may be
/// discarded come last, consecutively.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// First byte of the work pool.
    pub start: Gpa,
    /// Number of CPUs.
    pub cpus: u64,
}

impl Shares {
    /// Pages that all CPUs share, at the start of the work range.
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

    /// A CPU's frames that may be discarded.
    #[must_use]
    pub fn discardable(&self, cpu: u64) -> FrameRange {
        let first = self.first_discardable() + cpu * DISCARDABLE;
        self.range(first, DISCARDABLE)
    }

    fn first_discardable(&self) -> u64 {
        self.cpus * (LARGE + SMALL) + 2 * Self::JOINT_PAGES
    }

    /// All frames that keep their content.
    #[must_use]
    pub fn lasting(&self) -> FrameRange {
        self.range(0, self.first_discardable())
    }

    /// All frames that may be discarded.
    #[must_use]
    pub fn all_discardable(&self) -> FrameRange {
        self.range(self.first_discardable(), self.cpus * DISCARDABLE)
    }

    /// Number of frames.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.first_discardable() + self.cpus * DISCARDABLE
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
    fn shares_do_not_overlap() {
        for cpus in 1..=4 {
            let shares = Shares {
                start: Gpa(0x40_0000),
                cpus,
            };
            let mut ranges: Vec<_> = (0..cpus)
                .flat_map(|cpu| {
                    [
                        shares.large(cpu),
                        shares.small(cpu),
                        shares.discardable(cpu),
                    ]
                })
                .chain([shares.joint()])
                .map(|range| (range.start, range.end()))
                .collect();
            ranges.sort_unstable();
            assert_eq!(ranges[0].0, shares.start);
            assert!(ranges.windows(2).all(|pair| pair[0].1 == pair[1].0));
            assert_eq!(ranges[ranges.len() - 1].1, shares.all_discardable().end());
            assert_eq!(shares.lasting().end(), shares.all_discardable().start);
            assert_eq!(
                shares.frames() * 4096,
                shares.all_discardable().end().0 - shares.start.0
            );
            assert!(shares.large(cpus - 1).start.0.is_multiple_of(512 * 4096));
            let last = shares.region(cpus - 1, 15).add_pages(512);
            assert_eq!(last, WORK.add_pages(shares.pages()));
        }
    }
}
