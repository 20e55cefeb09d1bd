//! How often each time occurs, so that percentiles are exact and memory does not grow with the
//! trace.

use super::costs::rank;
use crate::text::units::whole;

/// Times below this have a count each, ns. Most faults take a few microseconds.
const SHORT: u64 = 1 << 16;

/// Counts of times. `F` is kept of the first that took each time.
#[derive(Clone, Debug)]
pub struct Times<F = ()> {
    /// By time, as far as the longest of them.
    short: Vec<(u64, F)>,
    /// The others, one by one; in order once all are there.
    long: Vec<(u64, F)>,
    count: u64,
    total_ns: u64,
}

impl<F> Default for Times<F> {
    fn default() -> Self {
        Self {
            short: Vec::new(),
            long: Vec::new(),
            count: 0,
            total_ns: 0,
        }
    }
}

impl<F: Copy + Default> Times<F> {
    /// Adds a time.
    pub(super) fn add(&mut self, ns: u64, first: F) {
        self.count += 1;
        // Saturates: a trace may claim any time.
        self.total_ns = self.total_ns.saturating_add(ns);
        let at = usize::try_from(ns).unwrap_or(usize::MAX);
        if at >= self.short.len() {
            if ns >= SHORT {
                self.long.push((ns, first));
                return;
            }
            let longer = (at + 1).next_power_of_two();
            self.short.resize(longer, (0, F::default()));
        }
        if let Some((count, of)) = self.short.get_mut(at) {
            if *count == 0 {
                *of = first;
            }
            *count += 1;
        }
    }

    /// There are no more.
    pub(super) fn finish(&mut self) {
        // Keeps the order of equal ones.
        self.long.sort_by_key(|(ns, _)| *ns);
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Their sum, ns.
    pub(super) fn total_ns(&self) -> u64 {
        self.total_ns
    }

    /// The longest, ns.
    pub(super) fn max(&self) -> u64 {
        self.each().last().map_or(0, |(ns, ..)| ns)
    }

    /// Every time that occurs, from the shortest on: how often, and what is kept of the first.
    pub(super) fn each(&self) -> impl Iterator<Item = (u64, u64, F)> {
        let short = (0..).zip(&self.short);
        let short = short.filter(|(_, (count, _))| *count > 0);
        let short = short.map(|(ns, (count, first))| (ns, *count, *first));
        let long = self.long.chunk_by(|(one, _), (other, _)| one == other);
        let long = long.filter_map(|same| {
            let (ns, first) = same.first()?;
            Some((*ns, same.len() as u64, *first))
        });
        short.chain(long)
    }

    /// How often a time occurs, and what is kept of the first that took it.
    pub(super) fn of(&self, ns: u64) -> Option<(u64, F)> {
        let at = usize::try_from(ns).unwrap_or(usize::MAX);
        match self.short.get(at) {
            Some((count, first)) => (*count > 0).then_some((*count, *first)),
            None => {
                let from = self.long.partition_point(|(of, _)| *of < ns);
                let same = self.long.get(from..)?;
                let same = same.iter().take_while(|(of, _)| *of == ns);
                let count = same.count() as u64;
                let (_, first) = self.long.get(from).filter(|_| count > 0)?;
                Some((count, *first))
            }
        }
    }

    /// The time that `percent` of all do not exceed; absent where they are too few.
    pub(super) fn percentile(&self, percent: u32) -> Option<u64> {
        enough(self.count, percent).then(|| self.quantile(f64::from(percent) / 100.0))
    }

    /// The time that `part` of all do not exceed.
    pub(super) fn quantile(&self, part: f64) -> u64 {
        quantile_of(
            self.each().map(|(ns, count, _)| (ns, count)),
            self.count,
            part,
        )
    }
}

/// What [`enough`] leaves out, for those who read a table.
pub const FEW: &str = "p5 and p95 are left out of fewer than 20 times, p99 of fewer than 100: they \
                       would be those of one or two";

/// Whether a percentile of so many times is more than the shortest or the longest: at least one
/// of them is beyond it. So the 95th needs 20, the 99th 100.
pub(super) fn enough(count: u64, percent: u32) -> bool {
    let beyond = percent.min(100_u32.saturating_sub(percent));
    count.saturating_mul(beyond.into()) >= 100
}

/// The time that `part` of `all` do not exceed, by nearest rank: one that occurs. `times` have each
/// with its count, the shortest first; zero without any.
pub(super) fn quantile_of(times: impl Iterator<Item = (u64, u64)>, all: u64, part: f64) -> u64 {
    let mut before = whole(rank(all as f64, part)).min(all.saturating_sub(1));
    for (ns, count) in times {
        match before.checked_sub(count) {
            Some(rest) => before = rest,
            None => return ns,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(all: &[u64]) -> Times<usize> {
        let mut times = Times::default();
        for (place, ns) in all.iter().enumerate() {
            times.add(*ns, place);
        }
        times.finish();
        times
    }

    #[test]
    fn times_of_any_length_are_counted_and_the_first_is_known() {
        let all = [
            7,
            SHORT,
            u64::MAX,
            7,
            0,
            SHORT - 1,
            SHORT,
            u64::MAX,
            1 << 40,
            7,
        ];
        let times = times(&all);
        let counted: Vec<_> = times.each().collect();
        let expected = [
            (0, 1, 4),
            (7, 3, 0),
            (SHORT - 1, 1, 5),
            (SHORT, 2, 1),
            (1 << 40, 1, 8),
            (u64::MAX, 2, 2),
        ];
        assert_eq!(counted, expected);
        for (ns, count, first) in expected {
            assert_eq!(times.of(ns), Some((count, first)));
        }
        for other in [1, SHORT - 2, SHORT + 1, u64::MAX - 1] {
            assert_eq!(times.of(other), None);
        }
        assert_eq!((times.count(), times.max()), (10, u64::MAX));
        assert_eq!(times.total_ns(), u64::MAX);
    }

    #[test]
    fn a_percentile_of_few_times_is_absent() {
        let of = |count: u64, percent| {
            let all: Vec<u64> = (1..=count).collect();
            times(&all).percentile(percent)
        };
        for (percent, least, expected) in [(5, 20, 2), (95, 20, 19), (99, 100, 99)] {
            assert_eq!(of(0, percent), None);
            assert_eq!(of(3, percent), None);
            assert_eq!(of(least - 1, percent), None, "p{percent}");
            assert_eq!(of(least, percent), Some(expected), "p{percent}");
        }
    }

    #[test]
    fn a_quantile_is_a_time_that_occurs() {
        let of = |all: &[u64], part| times(all).quantile(part);
        assert_eq!(of(&[], 0.5), 0);
        assert_eq!(of(&[7], 0.99), 7);
        let parts = [0.0, 0.05, 0.5, 0.95, 0.99, 1.0];
        for unit in [1, 1000] {
            let hundred: Vec<u64> = (1..=101).rev().map(|ns| ns * unit).collect();
            let expected = [1, 6, 51, 96, 100, 101].map(|ns| ns * unit);
            assert_eq!(parts.map(|part| of(&hundred, part)), expected);
        }
    }
}
