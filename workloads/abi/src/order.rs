//! The order in which pages are touched, and what is written to them.
//!
//! The iterator needs no other memory: an array of page numbers in the guest would cause faults of
//! its own in the trace.

use crate::Pattern;

/// The page numbers `0..pages` in a [`Pattern`]'s order, each exactly once.
#[derive(Clone, Debug)]
pub struct Order {
    pages: u64,
    left: u64,
    walk: Walk,
}

#[derive(Clone, Debug)]
enum Walk {
    /// Stride 1 is the sequential order.
    Stride {
        stride: u64,
        column: u64,
        next: u64,
    },
    Random {
        mixer: Mixer,
        next: u64,
    },
}

impl Order {
    /// The order of `pages` pages. `stride`, in pages (0 counts as 1), is for [`Pattern::Stride`]
    /// only, `seed` for [`Pattern::Random`] only.
    #[must_use]
    pub fn new(pages: u64, pattern: Pattern, stride: u64, seed: u64) -> Self {
        let strided = |stride| Walk::Stride {
            stride,
            column: 0,
            next: 0,
        };
        let walk = match pattern {
            Pattern::Sequential => strided(1),
            Pattern::Stride => strided(stride.max(1)),
            Pattern::Random => Walk::Random {
                mixer: Mixer::new(pages, seed),
                next: 0,
            },
        };
        Self {
            pages,
            left: pages,
            walk,
        }
    }
}

impl Iterator for Order {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        match &mut self.walk {
            Walk::Stride {
                stride,
                column,
                next,
            } => {
                if *next >= self.pages {
                    *column += 1;
                    *next = *column;
                }
                let page = *next;
                *next = next.saturating_add(*stride);
                Some(page)
            }
            Walk::Random { mixer, next } => {
                // Cycle walking: the mixer permutes 0..2^k with 2^k < 2 * pages, and numbers
                // that are no pages are skipped, which are less than half.
                loop {
                    let page = mixer.mix(*next);
                    *next += 1;
                    if page < self.pages {
                        return Some(page);
                    }
                }
            }
        }
    }
}

/// A permutation of the numbers of `bits` bits: each step of [`Mixer::mix`] has an inverse.
#[derive(Clone, Debug)]
struct Mixer {
    mask: u64,
    shift: u32,
    keys: [u64; ROUNDS],
}

const ROUNDS: usize = 3;

impl Mixer {
    fn new(pages: u64, seed: u64) -> Self {
        let bits = u64::BITS - pages.saturating_sub(1).leading_zeros();
        let mask = 1u64.checked_shl(bits).map_or(u64::MAX, |end| end - 1);
        let mut keys = [0; ROUNDS];
        for (round, key) in (1u64..).zip(&mut keys) {
            *key = scramble(seed ^ round.wrapping_mul(GOLDEN));
        }
        Self {
            mask,
            shift: (bits / 2).max(1),
            keys,
        }
    }

    fn mix(&self, number: u64) -> u64 {
        self.keys.iter().fold(number, |x, key| {
            let x = (x ^ key) & self.mask;
            let x = x.wrapping_mul(key | 1) & self.mask;
            x ^ (x >> self.shift)
        })
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finishing step of splitmix64: every bit depends on every bit.
const fn scramble(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The value that the guest writes to the first 8 bytes of `page`: never zero, which a page holds
/// before.
#[must_use]
pub const fn value(page: u64, seed: u64) -> u64 {
    scramble(page.wrapping_add(seed.wrapping_mul(GOLDEN))) | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn order(pages: u64, pattern: Pattern, stride: u64, seed: u64) -> Vec<u64> {
        Order::new(pages, pattern, stride, seed).collect()
    }

    #[test]
    fn each_page_is_visited_exactly_once() {
        for pages in [1, 2, 3, 7, 8, 9, 511, 512, 513, 4096] {
            for &pattern in Pattern::ALL {
                for stride in [0, 1, 2, 7, 8, 512, 4096, u64::MAX] {
                    for seed in [0, 1, u64::MAX] {
                        let mut seen = order(pages, pattern, stride, seed);
                        seen.sort_unstable();
                        assert!(
                            seen.into_iter().eq(0..pages),
                            "{pages} {pattern} {stride} {seed}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn patterns_differ() {
        assert_eq!(order(5, Pattern::Sequential, 2, 0), [0, 1, 2, 3, 4]);
        assert_eq!(order(5, Pattern::Stride, 2, 0), [0, 2, 4, 1, 3]);
        let (one, two) = (
            order(512, Pattern::Random, 0, 1),
            order(512, Pattern::Random, 0, 2),
        );
        assert_ne!(one, two);
        let neighbours = one
            .windows(2)
            .filter(|pair| pair[0].abs_diff(pair[1]) == 1)
            .count();
        assert!(
            neighbours < 20,
            "{neighbours} of 511 steps go to a neighbour"
        );
    }

    #[test]
    fn no_pages_no_order() {
        assert_eq!(order(0, Pattern::Random, 0, 0), []);
    }

    #[test]
    fn values_are_never_zero() {
        assert!((0..4096).all(|page| value(page, page) != 0));
        assert_ne!(value(1, 1), value(2, 1));
        assert_ne!(value(1, 1), value(1, 2));
    }
}
