//! One side of one row: what the bootstrap draws from.

use std::ops::Range;

use fastrand::Rng;

use super::blocks::{Block, Blocks};
use crate::faults::rank;

/// Times of one side of one row looked at for its median.
const MOST_TIMES: usize = 1 << 13;

/// Parts of a run whose times are compared to see it move.
const QUARTERS: usize = 4;

/// The numbers of one run of a side: of the mean run where there are several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    /// Faults.
    pub count: f64,
    /// The median of their known times, ns; absent where none are kept, and without faults.
    pub median_ns: Option<f64>,
    /// Their known times together, ns.
    pub total_ns: f64,
}

/// One run.
#[derive(Clone, Debug)]
struct Part {
    count: f64,
    /// Blocks of each phase (and VM): a fault is replaced by one of its own phase.
    strata: Vec<Range<usize>>,
    /// Standard deviation that the count would have in repetitions, squared, by the only run.
    spread: f64,
}

/// A block: its faults, those whose time is known, and their time.
#[derive(Clone, Copy, Debug)]
struct Sums {
    count: f64,
    timed: f64,
    total_ns: f64,
}

/// All runs of one side.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    runs: Vec<Part>,
    /// Each block.
    blocks: Vec<Sums>,
    /// Time, its block, and how many faults it speaks for, by time.
    times: Vec<(u64, usize, f64)>,
}

impl Sample {
    /// Each run's blocks, those of each phase apart.
    pub fn of<'a>(runs: impl IntoIterator<Item = Vec<&'a Blocks>>) -> Self {
        let mut sample = Self::default();
        let mut kept = Vec::new();
        for strata in runs {
            let count: u64 = strata.iter().map(|blocks| blocks.count()).sum();
            let first = sample.blocks.len();
            let mut part = Part {
                count: count as f64,
                strata: Vec::with_capacity(strata.len()),
                spread: 0.0,
            };
            let mut from = first;
            for blocks in strata {
                part.spread += (blocks.uneven() * blocks.count() as f64).powi(2);
                let blocks = blocks.blocks();
                kept.extend(blocks);
                let sums = |block: &Block| Sums {
                    count: block.count as f64,
                    timed: block.timed as f64,
                    total_ns: block.total_ns as f64,
                };
                sample.blocks.extend(blocks.iter().map(sums));
                part.strata.push(from..sample.blocks.len());
                from = sample.blocks.len();
            }
            sample.runs.push(part);
        }
        let all: usize = kept.iter().map(|block| block.sample.len()).sum();
        let every = all.div_ceil(MOST_TIMES).max(1);
        for (number, block) in kept.into_iter().enumerate() {
            sample.add_times(number, block, every);
        }
        sample.times.sort_unstable_by_key(|(ns, ..)| *ns);
        sample
    }

    /// Keeps each `every`th time of a block by length, and speaks for all that are known.
    fn add_times(&mut self, number: usize, block: &Block, every: usize) {
        let mut times = block.sample.clone();
        times.sort_unstable();
        let kept: Vec<_> = times.iter().skip(every / 2).step_by(every).collect();
        let kept = match kept.is_empty() {
            true => times.iter().take(1).collect(),
            false => kept,
        };
        let weight = block.timed as f64 / kept.len().max(1) as f64;
        self.times
            .extend(kept.into_iter().map(|ns| (*ns, number, weight)));
    }

    /// Runs.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Faults of all runs.
    pub fn count(&self) -> f64 {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// No run is without faults.
    pub fn each_has_some(&self) -> bool {
        self.runs.iter().all(|run| run.count > 0.0)
    }

    /// Faults of the run that had the fewest.
    pub fn least(&self) -> f64 {
        let counts = self.runs.iter().map(|run| run.count);
        counts.reduce(f64::min).unwrap_or(0.0)
    }

    /// Every run had as many.
    pub fn same_count(&self) -> Option<f64> {
        let first = self.runs.first()?.count;
        self.runs
            .iter()
            .all(|run| run.count == first)
            .then_some(first)
    }

    /// Standard deviation of the count of the only run, as a part of it.
    pub fn uneven(&self) -> f64 {
        let spread: f64 = self.runs.iter().map(|run| run.spread).sum();
        spread.sqrt() / self.count().max(1.0)
    }

    /// What was measured.
    pub fn numbers(&self) -> Numbers {
        self.drawn(&vec![1; self.blocks.len()], self.count())
    }

    /// Each block `times` times, for `count` faults of as many runs as there are.
    fn drawn(&self, times: &[u32], count: f64) -> Numbers {
        let [mut drawn, mut timed, mut time] = [0.0; 3];
        for (block, times) in self.blocks.iter().zip(times) {
            drawn += block.count * f64::from(*times);
            timed += block.timed * f64::from(*times);
            time += block.total_ns * f64::from(*times);
        }
        let mean = if drawn > 0.0 { time / drawn } else { 0.0 };
        let runs = self.runs.len().max(1) as f64;
        Numbers {
            count: count / runs,
            median_ns: self.median(times, timed),
            total_ns: mean * count / runs,
        }
    }

    /// The same time as in `summary`, while the times of all faults are kept, and no thread was
    /// switched out.
    fn median(&self, drawn: &[u32], count: f64) -> Option<f64> {
        let (rank, mut before) = (rank(count, 0.50), 0.0);
        for (ns, block, weight) in &self.times {
            let times = drawn.get(*block).copied().unwrap_or_default();
            before += weight * f64::from(times);
            if times > 0 && before > rank {
                return Some(*ns as f64);
            }
        }
        None
    }

    /// The mean of the times between the quartiles; absent without times.
    pub fn middle_mean(&self) -> Option<f64> {
        let part = self.times.len() / 4;
        let middle = self.times.get(part..self.times.len() - part)?;
        let all: f64 = middle.iter().map(|(.., weight)| weight).sum();
        let sum: f64 = middle
            .iter()
            .map(|(ns, _, weight)| *ns as f64 * weight)
            .sum();
        (all > 0.0).then(|| sum / all)
    }

    /// By how much median and mean of a fault moved within the only run: highest against lowest of
    /// four quarters, as natural logarithms. Of several phases, the mean by their faults; 0 of a
    /// phase with too few.
    pub fn moved(&self) -> [f64; 2] {
        let [mut median, mut mean, mut all] = [0.0; 3];
        for stratum in self.runs.iter().flat_map(|run| &run.strata) {
            let blocks = self.blocks.get(stratum.clone()).unwrap_or_default();
            let faults: f64 = blocks.iter().map(|block| block.count).sum();
            all += faults;
            if blocks.len() < 4 * QUARTERS {
                continue;
            }
            let quarters: Vec<_> = (0..QUARTERS)
                .map(|quarter| self.quarter(stratum, quarter))
                .collect();
            let medians = quarters.iter().filter_map(|numbers| numbers.median_ns);
            median += faults * range(medians);
            let means = quarters
                .iter()
                .map(|numbers| numbers.total_ns / numbers.count.max(1.0));
            mean += faults * range(means);
        }
        [median, mean].map(|moved| moved / f64::max(all, 1.0))
    }

    fn quarter(&self, stratum: &Range<usize>, quarter: usize) -> Numbers {
        let place = |quarter: usize| stratum.start + stratum.len() * quarter / QUARTERS;
        let mut once = vec![0; self.blocks.len()];
        let blocks = place(quarter)..place(quarter + 1);
        let count = self
            .blocks
            .get(blocks.clone())
            .unwrap_or_default()
            .iter()
            .map(|block| block.count)
            .sum();
        once.get_mut(blocks).unwrap_or_default().fill(1);
        self.drawn(&once, count)
    }

    /// The numbers of another side as it could have been: runs are drawn from the runs, and within
    /// each, the blocks of each phase from its blocks. `drawn` is scratch.
    pub fn draw(&self, random: &mut Rng, drawn: &mut Vec<u32>) -> Numbers {
        drawn.clear();
        drawn.resize(self.blocks.len(), 0);
        let mut count = 0.0;
        for number in 0..self.runs.len() {
            let one = match self.runs.len() {
                1 => number,
                several => random.usize(..several),
            };
            let Some(run) = self.runs.get(one) else {
                continue;
            };
            count += run.count;
            for stratum in &run.strata {
                for _ in stratum.clone() {
                    let block = stratum.start + random.usize(..stratum.len());
                    if let Some(times) = drawn.get_mut(block) {
                        *times += 1;
                    }
                }
            }
        }
        self.drawn(drawn, count)
    }
}

/// Highest against lowest, as a natural logarithm.
fn range(values: impl Iterator<Item = f64>) -> f64 {
    let logs: Vec<_> = values.map(|value| value.max(0.5).ln()).collect();
    let highest = logs.iter().copied().fold(f64::MIN, f64::max);
    let lowest = logs.iter().copied().fold(f64::MAX, f64::min);
    (highest - lowest).max(0.0)
}
