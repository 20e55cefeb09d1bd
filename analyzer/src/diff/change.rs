//! One number of one row: both sides, the change, and whether it means anything.

use serde::{Serialize, Serializer};

use super::{
    bootstrap::{Draws, Interval},
    sample::{Numbers, Sample},
};

/// Fewer faults than this on a side give no interval of their times.
pub(super) const FEW: f64 = 16.0;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// How many faults, of the mean run.
    Count,
    /// The median time of a fault whose thread was not switched out.
    Median,
    /// The time of all faults together whose thread was not switched out, of the mean run.
    Total,
    /// The median time by that of another class in the same run, of the mean run.
    Relative,
}

impl Measure {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Median => "p50",
            Self::Total => "total",
            Self::Relative => "p50 ratio",
        }
    }

    /// This number of a side.
    pub fn of(self, numbers: &Numbers) -> Option<f64> {
        match self {
            Self::Count => Some(numbers.count),
            Self::Median => numbers.median_ns,
            Self::Total => Some(numbers.total_ns),
            // Of two classes: see `relative`.
            Self::Relative => None,
        }
    }
}

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Two runs of the same thing differ as much.
    WithinNoise,
    /// More, or slower.
    Higher,
    /// Fewer, or faster.
    Lower,
    /// Base has none.
    New,
    /// New has none.
    Gone,
    /// Too few faults to say.
    TooFew,
    /// A side has one run, and nothing shows how much runs differ.
    OneRun,
    /// A side lacks records, so that counts and totals are too low.
    Lost,
}

impl Verdict {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::WithinNoise => "within noise",
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::New => "new",
            Self::Gone => "gone",
            Self::TooFew => "too few",
            Self::OneRun => "one run",
            Self::Lost => "records lost",
        }
    }

    /// More than noise.
    pub const fn is_change(self) -> bool {
        matches!(self, Self::Higher | Self::Lower | Self::New | Self::Gone)
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.words())
    }
}

/// One number of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Which number.
    #[serde(skip)]
    pub measure: Measure,
    /// Of the mean run of base; times in ns.
    pub base: f64,
    /// Of the mean run of new.
    pub new: f64,
    /// New against base, percent; absent where one side has none.
    pub change_percent: Option<f64>,
    /// The interval of the change, percent; absent where one side has none or too few faults.
    pub low_percent: Option<f64>,
    /// See `low_percent`.
    pub high_percent: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
}

impl Change {
    /// The same number where a side lacks records.
    pub fn of_incomplete(self) -> Self {
        match self.measure {
            // What is lost is lost by chance, so the others are a sample.
            Measure::Median | Measure::Relative => self,
            Measure::Count | Measure::Total => Self {
                low_percent: None,
                high_percent: None,
                verdict: Verdict::Lost,
                ..self
            },
        }
    }

    /// Nothing says whether it is noise.
    pub fn is_unjudged(&self) -> bool {
        matches!(
            self.verdict,
            Verdict::OneRun | Verdict::TooFew | Verdict::Lost
        )
    }
}

/// What decides whether a change is noise.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Intervals that must hold together.
    pub comparisons: usize,
    /// A change by less is noise, percent.
    pub least_percent: f64,
    /// The row has all faults of a class: not those of one phase, step or culprit.
    pub whole: bool,
    /// What runs differ by, where a side has only one.
    pub drift: Drift,
}

/// By how much two runs of the same thing can differ in time, beyond what one run shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Drift {
    /// The interval has it: it is from several runs of each side.
    Included,
    /// From what the other classes of the same runs changed by, as natural logarithms.
    Others {
        /// In count.
        count: f64,
        /// In median time.
        median: f64,
        /// In total time.
        total: f64,
    },
    /// There is no other class.
    Unknown,
}

impl Drift {
    /// Of one number; `None` where it is unknown.
    fn of(self, measure: Measure) -> Option<f64> {
        match (self, measure) {
            (Self::Included, _) | (Self::Unknown, Measure::Count) => Some(0.0),
            (Self::Others { count, .. }, Measure::Count) => Some(count),
            (Self::Others { median, .. }, Measure::Median) => Some(median),
            (Self::Others { total, .. }, Measure::Total) => Some(total),
            (Self::Unknown | Self::Others { .. }, _) => None,
        }
    }
}

/// Both sides of one row.
#[derive(Debug)]
pub struct Pair {
    base: Sample,
    new: Sample,
    draws: Draws,
}

impl Pair {
    /// Draws both sides.
    pub fn new(base: Sample, new: Sample) -> Self {
        let draws = Draws::of(&base, &new);
        Self { base, new, draws }
    }

    /// What count, median and total changed by, in size, as natural logarithms; `None` without
    /// enough faults.
    pub fn changed_by(&self) -> Option<[f64; 3]> {
        if self.is_few() {
            return None;
        }
        let [base, new] = [&self.base, &self.new].map(Sample::numbers);
        let log = |measure: Measure| {
            let [base, new] = [measure.of(&base)?, measure.of(&new)?];
            Some((new.max(0.5) / base.max(0.5)).ln().abs())
        };
        Some([
            log(Measure::Count)?,
            log(Measure::Median)?,
            log(Measure::Total)?,
        ])
    }

    /// By how much one number moved within the run, of the side where it moved more.
    fn moved(&self, measure: Measure) -> f64 {
        let [base, new] = [&self.base, &self.new].map(Sample::moved);
        match measure {
            Measure::Count | Measure::Relative => 0.0,
            Measure::Median => base[0].max(new[0]),
            Measure::Total => base[1].max(new[1]),
        }
    }

    /// Base has none, or new has none, or neither.
    fn is_missing(&self) -> bool {
        self.base.count() < 1.0 || self.new.count() < 1.0
    }

    fn is_few(&self) -> bool {
        self.base.count().min(self.new.count()) < FEW
    }

    /// One number; `None` for the times of a side without faults.
    pub fn change(&self, measure: Measure, rule: Rule) -> Option<Change> {
        let [base, new] = [&self.base, &self.new].map(Sample::numbers);
        let missing = self.is_missing();
        if missing && measure != Measure::Count {
            return None;
        }
        let values = [measure.of(&base)?, measure.of(&new)?];
        let blank = Change {
            measure,
            base: values[0],
            new: values[1],
            change_percent: None,
            low_percent: None,
            high_percent: None,
            verdict: Verdict::TooFew,
        };
        if missing {
            let verdict = self.came_or_went(rule);
            return Some(Change { verdict, ..blank });
        }
        let change_percent = Some(rounded((values[1] / values[0].max(0.5) - 1.0) * 100.0));
        if self.is_few() && measure != Measure::Count {
            return Some(Change {
                change_percent,
                ..blank
            });
        }
        let Some(drift) = rule.drift.of(measure) else {
            let verdict = Verdict::OneRun;
            return Some(Change {
                change_percent,
                verdict,
                ..blank
            });
        };
        let drawn = |numbers: &Numbers| measure.of(numbers);
        let mut interval = self.draws.interval(drawn, rule.comparisons)?;
        let by_its_own_run = verdict(interval, rule);
        let drift = match rule.drift {
            Drift::Included => 0.0,
            Drift::Others { .. } | Drift::Unknown => drift + self.moved(measure),
        };
        interval.low -= drift;
        interval.high += drift;
        let verdict = match verdict(interval, rule) {
            // The counts of other classes changed too. That may be chance, or the cause of both.
            Verdict::WithinNoise if measure == Measure::Count && by_its_own_run.is_change() => {
                Verdict::OneRun
            }
            verdict => verdict,
        };
        Some(Change {
            change_percent,
            low_percent: Some(percent(interval.low)),
            high_percent: Some(percent(interval.high)),
            verdict,
            ..blank
        })
    }

    /// If each fault were as likely in any run of either side, all of them would be on one side
    /// with this probability. Faults that came in bursts count as that many bursts.
    ///
    /// Which phase has a fault, and who causes it, can be decided once for all faults of a run: so
    /// one run a side says nothing of them, and of several all must have some. Many faults in one
    /// burst may be chance too, but not in each of several runs, and in none of the other side's.
    fn came_or_went(&self, rule: Rule) -> Verdict {
        let (side, verdict) = match self.base.count() < 1.0 {
            true => (&self.new, Verdict::New),
            false => (&self.base, Verdict::Gone),
        };
        match rule.drift {
            Drift::Included if !side.each_has_some() => return Verdict::WithinNoise,
            Drift::Others { .. } | Drift::Unknown if !rule.whole => return Verdict::OneRun,
            _ => {}
        }
        let all = (self.base.runs() + self.new.runs()).max(1) as f64;
        let bursts = side.uneven().powi(-2).min(side.count());
        let chance = 2.0 * (side.runs() as f64 / all).powf(bursts);
        let many = side.least() >= FEW;
        match (chance < 0.05 / rule.comparisons.max(1) as f64, rule.drift) {
            (true, _) => verdict,
            (false, Drift::Included) if many => verdict,
            (false, _) if many => Verdict::OneRun,
            (false, _) => Verdict::WithinNoise,
        }
    }
}

/// The change by a difference of logarithms, percent.
fn percent(log: f64) -> f64 {
    rounded(log.exp_m1() * 100.0)
}

/// To a millionth: what is beyond is an error of the arithmetic. At most a million percent.
fn rounded(percent: f64) -> f64 {
    (percent.min(1e6) * 1e6).round() / 1e6
}

/// A number with its change, as a natural logarithm, and half of its interval.
pub(super) fn interval_of(
    measure: Measure,
    [base, new]: [f64; 2],
    change: f64,
    half: f64,
    rule: Rule,
) -> Change {
    let interval = Interval {
        change,
        low: change - half,
        high: change + half,
    };
    Change {
        measure,
        base,
        new,
        change_percent: Some(percent(change)),
        low_percent: Some(percent(interval.low)),
        high_percent: Some(percent(interval.high)),
        verdict: verdict(interval, rule),
    }
}

fn verdict(interval: Interval, rule: Rule) -> Verdict {
    let small = percent(interval.change).abs() < rule.least_percent;
    if small || (interval.low <= 0.0 && interval.high >= 0.0) {
        Verdict::WithinNoise
    } else if interval.change > 0.0 {
        Verdict::Higher
    } else {
        Verdict::Lower
    }
}
