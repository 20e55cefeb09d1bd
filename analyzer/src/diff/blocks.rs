//! Times in the order in which they came, in a few blocks of equal length.
//!
//! Faults that follow each other are alike: a busy moment of the machine makes many of them slow.
//! So the bootstrap does not draw single faults, but blocks of neighbours. A row of 20 to 40 blocks
//! is kept however many faults come: when there are 40, each two become one. A block has its
//! number of faults and their total exactly, and a random sample of their times. The time of a fault
//! whose thread was switched out holds other work: the fault counts, and has no time here.

use fastrand::Rng;

/// Blocks kept at most, and twice what is kept at least once there have been that many faults.
pub const MOST: usize = 40;
/// Times kept of each block, where times are kept.
pub const SAMPLE: usize = 256;

/// Faults that came one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// How many.
    pub count: u64,
    /// When the first of them came, ns.
    pub from_ns: u64,
    /// Those whose time is known.
    pub timed: u64,
    /// The time of these, ns.
    pub total_ns: u64,
    /// Times of some of them, each as likely to be here as any other, ns.
    pub sample: Vec<u64>,
}

/// The faults of one kind in one run.
#[derive(Clone, Debug)]
pub struct Blocks {
    blocks: Vec<Block>,
    /// Faults of a full block.
    length: u64,
    /// When the last fault came, ns.
    until_ns: u64,
    /// Times kept of each block: [`SAMPLE`], or 0 for totals alone.
    sample: usize,
    random: Rng,
}

impl Blocks {
    /// With a sample of the times.
    pub fn with_times() -> Self {
        Self::new(SAMPLE)
    }

    /// With counts and totals only.
    pub fn totals() -> Self {
        Self::new(0)
    }

    fn new(sample: usize) -> Self {
        Self {
            blocks: Vec::new(),
            length: 1,
            until_ns: 0,
            sample,
            random: Rng::with_seed(1),
        }
    }

    /// The next fault came at `time_ns` and took `ns`; absent where its time holds other work.
    pub fn push(&mut self, time_ns: u64, ns: Option<u64>) {
        self.until_ns = time_ns;
        if self
            .blocks
            .last()
            .is_none_or(|last| last.count >= self.length)
        {
            if self.blocks.len() == MOST {
                self.join();
            }
            self.blocks.push(Block {
                from_ns: time_ns,
                ..Block::default()
            });
        }
        let Some(last) = self.blocks.last_mut() else {
            return;
        };
        last.count += 1;
        let Some(ns) = ns else { return };
        last.timed += 1;
        last.total_ns = last.total_ns.saturating_add(ns);
        if last.sample.len() < self.sample {
            last.sample.push(ns);
            return;
        }
        // Each of `timed` times is kept with the same probability.
        let timed = usize::try_from(last.timed).unwrap_or(usize::MAX);
        if let Some(place) = last.sample.get_mut(self.random.usize(..timed.max(1))) {
            *place = ns;
        }
    }

    /// Makes one block of each two.
    fn join(&mut self) {
        let mut joined = Vec::with_capacity(MOST);
        let mut blocks = std::mem::take(&mut self.blocks).into_iter();
        while let Some(mut block) = blocks.next() {
            if let Some(other) = blocks.next() {
                block.count += other.count;
                block.timed += other.timed;
                block.total_ns = block.total_ns.saturating_add(other.total_ns);
                block.sample = self.halves(block.sample, other.sample);
            }
            joined.push(block);
        }
        self.blocks = joined;
        self.length = self.length.saturating_mul(2);
    }

    /// A sample of two blocks of the same length.
    fn halves(&mut self, mut one: Vec<u64>, mut other: Vec<u64>) -> Vec<u64> {
        if one.len() + other.len() > self.sample {
            for half in [&mut one, &mut other] {
                for place in 0..(self.sample / 2).min(half.len()) {
                    let drawn = self.random.usize(place..half.len());
                    half.swap(place, drawn);
                }
                half.truncate(self.sample / 2);
            }
        }
        one.append(&mut other);
        one
    }

    /// The blocks, in order.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// How unevenly the faults came: the standard deviation of the count that a repetition would
    /// have, as a part of the count.
    ///
    /// In a renewal process the spread of the count follows from that of the time between events.
    /// Faults that come independently have `1 / sqrt(count)`, which is the least it gives.
    pub fn uneven(&self) -> f64 {
        let count = self.count().max(1) as f64;
        let from = self.blocks.iter().map(|block| block.from_ns);
        let to = from.clone().skip(1).chain([self.until_ns]);
        // The last block may be short.
        let full = self.blocks.len().saturating_sub(1);
        let lengths = from
            .zip(to)
            .take(full)
            .map(|(from, to)| to.saturating_sub(from) as f64);
        let lengths: Vec<_> = lengths.collect();
        let (mean, variance) = (mean(&lengths), variance(&lengths));
        let uneven = match mean > 0.0 {
            true => variance / (mean * mean) / lengths.len() as f64,
            false => 0.0,
        };
        uneven.max(1.0 / count).sqrt()
    }

    /// Faults.
    pub fn count(&self) -> u64 {
        self.blocks.iter().map(|block| block.count).sum()
    }

    /// Their time, as far as it is known, ns.
    pub fn total_ns(&self) -> u64 {
        let totals = self.blocks.iter().map(|block| block.total_ns);
        totals.fold(0, u64::saturating_add)
    }
}

/// Of nothing 0.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Of less than two 0.
pub fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    squares / values.len().saturating_sub(1).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::{super::sample::Sample, *};

    #[test]
    fn memory_is_bounded_and_counts_and_totals_are_exact() {
        let mut blocks = Blocks::with_times();
        for ns in 0..1_000_000 {
            blocks.push(ns * 1_000, Some(ns));
        }
        let kept = blocks.blocks();
        assert!((MOST / 2..=MOST).contains(&kept.len()), "{}", kept.len());
        assert!(kept.iter().all(|block| block.sample.len() <= SAMPLE));
        assert_eq!(blocks.count(), 1_000_000);
        assert_eq!(blocks.total_ns(), 999_999 * 500_000);
        // The times of a block are its own, and from all over it.
        let mut first = 0_u64;
        for block in kept {
            let range = first..first + block.count;
            assert!(block.sample.iter().all(|ns| range.contains(ns)));
            let mean =
                block.sample.iter().map(|ns| *ns as f64).sum::<f64>() / block.sample.len() as f64;
            let middle = first as f64 + block.count as f64 / 2.0;
            assert!(
                (mean - middle).abs() < block.count as f64 * 0.08,
                "{mean} {middle}"
            );
            first += block.count;
        }
    }

    #[test]
    fn all_times_of_a_few_faults_are_kept() {
        let mut blocks = Blocks::with_times();
        (0..5_000).for_each(|ns| blocks.push(0, Some(ns)));
        let kept: usize = blocks.blocks().iter().map(|block| block.sample.len()).sum();
        assert_eq!(kept, 5_000);
        let mut totals = Blocks::totals();
        (0..5_000).for_each(|ns| totals.push(0, Some(ns)));
        assert!(totals.blocks().iter().all(|block| block.sample.is_empty()));
        assert_eq!(totals.total_ns(), blocks.total_ns());
    }

    #[test]
    fn a_fault_without_a_time_counts_and_sets_no_time() {
        let mut blocks = Blocks::with_times();
        (0..1_000).for_each(|fault| blocks.push(fault, Some(700).filter(|_| fault % 3 > 0)));
        assert_eq!((blocks.count(), blocks.total_ns()), (1_000, 666 * 700));
        let numbers = Sample::of([vec![&blocks]]).numbers();
        assert_eq!(numbers.median_ns, Some(700.0));
        let expected = [1_000.0, 666.0 * 700.0];
        let found = [numbers.count, numbers.total_ns.round()];
        assert_eq!(found, expected);
    }
}
