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

/// What a class is set against: `guest`, since such a fault changes no shadow table; without
/// enough of them, the class with the most faults. It and the class have enough faults in each run.
pub fn reference(runs: &[&Run]) -> Option<Class> {
    let counts = |class: Class| -> Option<u64> {
        let counts = runs.iter().map(|run| count(run, class));
        counts.clone().min().filter(|least| *least as f64 >= FEW)?;
        Some(counts.sum())
    };
    let enough = Class::ALL
        .into_iter()
        .filter_map(|class| Some((class, counts(class)?)));
    enough
        .max_by_key(|(class, count)| (*class == Class::Guest, *count))
        .map(|(class, _)| class)
}

/// The change of the medians of each class, by those of the reference in the same run: the interval
/// is Welch's, from the runs of each side. All of them hold together.
pub fn changes(base: &[Run], new: &[Run], least_percent: f64) -> BTreeMap<Class, Change> {
    let runs: Vec<_> = base.iter().chain(new).collect();
    let Some(to) = reference(&runs).filter(|_| base.len() > 1 && new.len() > 1) else {
        return BTreeMap::new();
    };
    let is_enough = |class: &Class| runs.iter().all(|run| count(run, *class) as f64 >= FEW);
    let classes = Class::ALL.into_iter().filter(|class| *class != to);
    let classes: Vec<_> = classes.filter(is_enough).collect();
    let ratios = |runs: &[Run], class: Class| -> Option<Vec<f64>> {
        let ratio = |run| Some((median(run, class)? / median(run, to)?).ln());
        runs.iter().map(ratio).collect()
    };
    let change = |class: &Class| {
        let [base, new] = [ratios(base, *class)?, ratios(new, *class)?];
        let confidence = 1.0 - 0.05 / classes.len() as f64;
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
