//! Pseudo-random numbers.

use abi::value;

/// An endless sequence, the same for the same seed.
#[derive(Debug)]
pub struct Random {
    seed: u64,
    count: u64,
}

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.count += 1;
        // The lowest bit of a `value` is always set.
        value(self.count, self.seed) >> 1
    }

    /// A number below `end`, which is below 2^32 and not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        ((self.next() >> 31) * end) >> 32
    }

    /// True with a probability of 1 in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
