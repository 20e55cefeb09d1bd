//! Classes against each other: the speed of the machine is the same for all faults of a run.

use std::collections::BTreeMap;

use events::Class;

use super::{
    blocks::variance,
    change::{Change, FEW, Measure, Rule, interval_of},
    compare::of_cells,
    run::Run,
    sample::Sample,
    student,
};
use crate::faults::FaultStep;

/// What the medians of classes are set against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The median of another class.
    Class(Class),
    /// In runs of one class: the walk of its own faults, which reads the guest's tables and changes
    /// nothing.
    Walk(Class),
}

impl Reference {
    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Class(class) => class.name(),
            Self::Walk(_) => FaultStep::Walk.name(),
        }
    }

    fn is_of(self, class: Class) -> bool {
        match self {
            Self::Class(reference) => reference != class,
            Self::Walk(only) => only == class,
        }
    }

    /// At least a nanosecond.
    fn ns(self, run: &Run) -> Option<f64> {
        match self {
            Self::Class(class) => median(run, class),
            Self::Walk(class) => {
                let blocks = run.steps.get(&(class, FaultStep::Walk))?;
                // A walk takes few ticks of the clock: its median would be one of three values.
                let sample = Sample::of([blocks.iter().collect()]);
                Some(sample.middle_mean()?.max(1.0))
            }
        }
    }
}

/// `guest`, since such a fault changes no shadow table; without enough of them, the class with the
/// most faults. It and another class have enough faults in each run; with one such class, its walk.
pub fn reference(runs: &[&Run]) -> Option<Reference> {
    let counts = |class: Class| -> Option<u64> {
        let counts = runs.iter().map(|run| count(run, class));
        counts.clone().min().filter(|least| *least as f64 >= FEW)?;
        Some(counts.sum())
    };
    let enough = Class::ALL
        .into_iter()
        .filter_map(|class| Some((class, counts(class)?)));
    let enough: Vec<_> = enough.collect();
    match enough.as_slice() {
        [(only, _)] => {
            let walk = Reference::Walk(*only);
            runs.iter()
                .all(|run| walk.ns(run).is_some())
                .then_some(walk)
        }
        several => several
            .iter()
            .max_by_key(|(class, count)| (*class == Class::Guest, *count))
            .map(|(class, _)| Reference::Class(*class)),
    }
}

/// The change of the medians of each class, by the reference in the same run: the interval is
/// Welch's, from the runs of each side. All of them hold together.
pub fn changes(base: &[Run], new: &[Run], least_percent: f64) -> BTreeMap<Class, Change> {
    let runs: Vec<_> = base.iter().chain(new).collect();
    let Some(to) = reference(&runs).filter(|_| base.len() > 1 && new.len() > 1) else {
        return BTreeMap::new();
    };
    let is_enough = |class: &Class| runs.iter().all(|run| count(run, *class) as f64 >= FEW);
    let classes = Class::ALL.into_iter().filter(|class| to.is_of(*class));
    let classes: Vec<_> = classes.filter(is_enough).collect();
    let ratios = |runs: &[Run], class: Class| -> Option<Vec<f64>> {
        let ratio = |run| Some((median(run, class)? / to.ns(run)?).ln());
        runs.iter().map(ratio).collect()
    };
    let change = |class: &Class| {
        let [base, new] = [ratios(base, *class)?, ratios(new, *class)?];
        let error = match to {
            Reference::Class(_) => 0.05,
            // A fault and its walk do not follow the machine's speed alike (docs/measured.md).
            Reference::Walk(_) => 0.025,
        };
        let confidence = 1.0 - error / classes.len() as f64;
        Some((*class, against(&base, &new, confidence, least_percent)))
    };
    classes.iter().filter_map(change).collect()
}

fn against(base: &[f64], new: &[f64], confidence: f64, least_percent: f64) -> Change {
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
    let part = |of: &[f64]| variance(of) / of.len().max(1) as f64;
    let parts = [base, new].map(part);
    let squares = [(parts[0], base), (parts[1], new)]
        .map(|(part, of)| part * part / of.len().saturating_sub(1).max(1) as f64);
    let sum: f64 = parts.iter().sum();
    let half = match sum > 0.0 {
        true => student::quantile(sum * sum / squares.iter().sum::<f64>(), confidence) * sum.sqrt(),
        false => 0.0,
    };
    let rule = Rule {
        comparisons: 1,
        least_percent,
        whole: true,
        drift: super::change::Drift::Included,
    };
    let values = [mean(base).exp(), mean(new).exp()];
    interval_of(
        Measure::Relative,
        values,
        mean(new) - mean(base),
        half,
        rule,
    )
}

fn count(run: &Run, class: Class) -> u64 {
    let cells = of_cells(run, &|_, of| of == class);
    cells.iter().map(|blocks| blocks.count()).sum()
}

/// At least a nanosecond.
fn median(run: &Run, class: Class) -> Option<f64> {
    let sample = Sample::of([of_cells(run, &|_, of| of == class)]);
    Some(sample.numbers().median_ns?.max(1.0))
}
