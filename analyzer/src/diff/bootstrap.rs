//! The interval of a change: a percentile bootstrap.

use fastrand::Rng;

use super::{
    blocks::variance,
    sample::{Numbers, Sample},
    student,
};

/// Times that both sides are drawn.
const DRAWS: usize = 1000;
/// Every row is drawn with the same numbers: the result is the same each time.
const SEED: u64 = 11;
/// What lies between the percentiles that are read off.
const CONFIDENCE: f64 = 0.95;
/// Standard deviations from the mean to these percentiles of a normal distribution.
const Z: f64 = 1.959_964;

/// A change with its interval, each as the natural logarithm of new over base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// What was measured.
    pub change: f64,
    /// Where it would be found again.
    pub low: f64,
    /// See `low`.
    pub high: f64,
}

/// Draws of both sides.
#[derive(Debug)]
pub struct Draws {
    base: Vec<Numbers>,
    new: Vec<Numbers>,
    freedom: [f64; 2],
    /// By how much drawing from few makes the variance of each side too small.
    small: [f64; 2],
    measured: [Numbers; 2],
}

impl Draws {
    /// Draws both sides.
    pub fn of(base: &Sample, new: &Sample) -> Self {
        let mut random = Rng::with_seed(SEED);
        let equal = base.same_count().is_some() && base.same_count() == new.same_count();
        let mut draw = |side: &Sample| -> Vec<Numbers> {
            let mut drawn = Vec::new();
            let alone = side.runs() == 1 && !equal;
            let draw = |_| {
                let numbers = side.draw(&mut random, &mut drawn);
                match alone {
                    true => scattered(numbers, side.uneven(), &mut random),
                    false => numbers,
                }
            };
            (0..DRAWS).map(draw).collect()
        };
        Self {
            base: draw(base),
            new: draw(new),
            freedom: [base, new].map(freedom),
            small: [base, new].map(|side| 1.0 + 1.0 / freedom(side)),
            measured: [base, new].map(Sample::numbers),
        }
    }

    /// The interval of one number, wide enough for `comparisons` intervals to hold together with
    /// 95 %. `None` where a side has no such number.
    pub fn interval(
        &self,
        number: impl Fn(&Numbers) -> Option<f64>,
        comparisons: usize,
    ) -> Option<Interval> {
        let log = |numbers: &Numbers| number(numbers).map(|value| value.max(0.5).ln());
        let base: Vec<_> = self.base.iter().filter_map(log).collect();
        let new: Vec<_> = self.new.iter().filter_map(log).collect();
        let [first, second] = [log(&self.measured[0])?, log(&self.measured[1])?];
        let change = second - first;
        let mut changes: Vec<_> = base
            .iter()
            .zip(&new)
            .map(|(base, new)| new - base)
            .collect();
        changes.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - CONFIDENCE) / 2.0;
        let low = percentile(&changes, tail)?.min(change);
        let high = percentile(&changes, 1.0 - tail)?.max(change);
        let wider = self.wider([variance(&base), variance(&new)], comparisons);
        Some(Interval {
            change,
            low: change - (change - low) * wider,
            high: change + (high - change) * wider,
        })
    }

    /// How much wider than between the percentiles the interval is: for few runs or blocks, and
    /// for several comparisons (Bonferroni).
    fn wider(&self, variances: [f64; 2], comparisons: usize) -> f64 {
        let drawn = variances[0] + variances[1];
        if drawn <= 0.0 {
            return 1.0;
        }
        let [base, new] = [0, 1].map(|side| variances[side] * self.small[side]);
        // Welch and Satterthwaite: each side has its own variance.
        let freedom =
            (base + new).powi(2) / (base.powi(2) / self.freedom[0] + new.powi(2) / self.freedom[1]);
        let confidence = 1.0 - (1.0 - CONFIDENCE) / comparisons.max(1) as f64;
        let t = student::quantile(freedom, confidence);
        t / Z * ((base + new) / drawn).sqrt()
    }
}

/// A run alone does not show how its count varies, only how evenly its faults came.
fn scattered(numbers: Numbers, uneven: f64, random: &mut Rng) -> Numbers {
    let factor = (normal(random) * uneven).exp();
    Numbers {
        count: numbers.count * factor,
        total_ns: numbers.total_ns * factor,
        ..numbers
    }
}

/// Normally distributed, with mean 0 and standard deviation 1 (Box and Muller).
pub(super) fn normal(random: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.f64()).cos()
}

/// What was drawn from, less one: runs, or the blocks of the only run.
fn freedom(side: &Sample) -> f64 {
    let from = match side.runs() {
        1 => side.blocks(),
        runs => runs,
    };
    from.saturating_sub(1).max(1) as f64
}

fn percentile(sorted: &[f64], at: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = crate::text::units::whole((last as f64 * at).round());
    sorted.get(usize::try_from(place).ok()?).copied()
}
