//! What the guest's own clock says of its accesses.

use crate::to_usize;

/// Bins of [`Touches::log2_cycles`].
pub const TOUCH_BINS: usize = 40;

/// Accesses of one CPU to the work range, timed with its time-stamp counter: at
/// [`crate::layout::touches`] of the CPU, zero at first. The guest adds to it after each access,
/// and the VMM reads it at the end. It may hold any bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touches {
    /// How many.
    pub count: u64,
    /// Their time, in guest TSC cycles, with that of reading the counter once.
    pub cycles: u64,
    /// The longest, in guest TSC cycles.
    pub max_cycles: u64,
    /// How many took at least `2^n` and fewer than `2^(n+1)` cycles; the first counts 0 cycles, and
    /// the last all that are longer.
    pub log2_cycles: [u64; TOUCH_BINS],
}

const _: () = assert!(size_of::<Touches>() == Touches::BYTES);

impl Touches {
    /// Size in bytes.
    pub const BYTES: usize = 24 + 8 * TOUCH_BINS;

    /// As in guest memory; checks nothing.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        Self {
            count: word(0),
            cycles: word(1),
            max_cycles: word(2),
            log2_cycles: core::array::from_fn(|bin| word(3 + bin)),
        }
    }

    /// Adds an access.
    pub fn add(&mut self, cycles: u64) {
        self.count = self.count.wrapping_add(1);
        self.cycles = self.cycles.wrapping_add(cycles);
        self.max_cycles = self.max_cycles.max(cycles);
        let bin = to_usize((cycles | 1).ilog2().into());
        let bin = &mut self.log2_cycles[bin.min(TOUCH_BINS - 1)];
        *bin = bin.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_is_counted_in_its_bin() {
        let mut touches = Touches::from_bytes(&[0; Touches::BYTES]);
        for cycles in [0, 1, 2, 3, 1 << 20, u64::MAX] {
            touches.add(cycles);
        }
        assert_eq!((touches.count, touches.max_cycles), (6, u64::MAX));
        assert_eq!(touches.cycles, (1 << 20) + 5);
        let bins = [0, 1, 2, 20, TOUCH_BINS - 1].map(|bin| touches.log2_cycles[bin]);
        assert_eq!(bins, [2, 2, 0, 1, 1]);
    }

    #[test]
    fn words_are_read_in_their_order() {
        let mut bytes = [0; Touches::BYTES];
        for (at, byte) in bytes.iter_mut().step_by(8).enumerate() {
            *byte = u8::try_from(at).unwrap();
        }
        let touches = Touches::from_bytes(&bytes);
        assert_eq!(
            (touches.count, touches.cycles, touches.max_cycles),
            (0, 1, 2)
        );
        assert_eq!(touches.log2_cycles[0], 3);
        assert_eq!(touches.log2_cycles[TOUCH_BINS - 1], TOUCH_BINS as u64 + 2);
    }
}
