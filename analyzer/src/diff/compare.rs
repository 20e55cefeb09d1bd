//! The rows of a comparison.

use std::collections::{BTreeMap, BTreeSet};

use events::Class;

use super::{
    blocks::Blocks,
    change::{Change, Drift, Measure, Pair, Rule},
    relative,
    run::{By, Culprit, Run},
    sample::Sample,
    student,
};
use crate::faults::FaultStep;

/// Culprits of each kind that are compared: those whose time differs most.
const COMPARED: usize = 50;

/// The faults of one class, in all phases or in one.
#[derive(Clone, Debug)]
pub struct ClassRow {
    /// Only in this phase.
    pub phase: Option<String>,
    /// Only of this class.
    pub class: Class,
    /// Its numbers.
    pub changes: Vec<Change>,
}

impl ClassRow {
    /// Whether its own median is higher: a ratio of medians also rises where the reference falls.
    pub fn is_slower(&self) -> bool {
        let mut medians = self
            .changes
            .iter()
            .filter(|one| one.measure == Measure::Median);
        medians.any(|one| one.change_percent.is_some_and(|change| change > 0.0))
    }
}

/// One step of the faults of one class, in all phases.
#[derive(Clone, Debug)]
pub struct StepRow {
    /// Of this class.
    pub class: Class,
    /// Which step.
    pub step: FaultStep,
    /// Its median and total; as many faults have it as its class has, or none.
    pub changes: Vec<Change>,
}

/// The faults of one culprit, of all classes and phases.
#[derive(Clone, Debug)]
pub struct CulpritRow {
    /// Who.
    pub culprit: Culprit,
    /// The name of its function, if it is one.
    pub function: Option<String>,
    /// Its numbers.
    pub changes: Vec<Change>,
}

impl CulpritRow {
    /// The number of its address space, the name of a function, or an address.
    pub fn key(&self, by: By) -> String {
        match (by, &self.function) {
            (By::Cr3, _) => format!("#{}", self.culprit.key),
            (_, Some(name)) => name.clone(),
            _ => format!("{:#x}", self.culprit.key),
        }
    }

    /// Its key, with its VM where that is not the first.
    pub fn name(&self, by: By) -> String {
        match self.culprit.vm {
            0 => self.key(by),
            vm => format!("VM {vm} {}", self.key(by)),
        }
    }
}

/// Two sides.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// What is compared with.
    pub base: &'a [Run],
    /// What is compared.
    pub new: &'a [Run],
    /// Times mean something: no run was on an emulated machine.
    pub times: bool,
    /// A change by less is noise, percent.
    pub least_percent: f64,
    /// A side lacks records.
    pub incomplete: bool,
}

impl Sides<'_> {
    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.base.iter().chain(self.new)
    }

    fn measures(&self) -> &'static [Measure] {
        match self.times {
            true => &[Measure::Count, Measure::Median, Measure::Total],
            false => &[Measure::Count],
        }
    }

    /// Classes, and classes within phases. Their intervals hold together.
    pub fn classes(&self) -> [Vec<ClassRow>; 2] {
        let cells: BTreeSet<_> = self.runs().flat_map(|run| run.cells.keys()).collect();
        let classes: BTreeSet<_> = cells.iter().map(|(_, class)| *class).collect();
        let rows = cells.len() + classes.len();
        let pair = |phase: Option<&str>, class: Class| {
            let keep =
                |name: &str, of: Class| of == class && phase.is_none_or(|phase| phase == name);
            self.pair(|run| of_cells(run, &keep))
        };
        let pairs: BTreeMap<_, _> = classes
            .iter()
            .map(|class| (*class, pair(None, *class)))
            .collect();
        let row = |phase: Option<&str>, class: Class, pair: &Pair| ClassRow {
            phase: phase.map(str::to_owned),
            class,
            changes: self.changes(pair, rows, phase.is_none(), self.drift(&pairs, class)),
        };
        let mut relative = match self.times {
            true => relative::changes(self.base, self.new, self.least_percent),
            false => BTreeMap::new(),
        };
        let all = pairs.iter().map(|(class, pair)| {
            let mut row = row(None, *class, pair);
            row.changes.extend(relative.remove(class));
            row
        });
        let in_phases = self.phases().into_iter().flat_map(|phase| {
            let here = cells.iter().filter(move |(name, _)| name == phase);
            here.map(move |(_, class)| (phase, *class))
        });
        let in_phases =
            in_phases.map(|(phase, class)| row(Some(phase), class, &pair(Some(phase), class)));
        [all.collect(), in_phases.collect()]
    }

    /// What runs differ by, for a class: see the module.
    fn drift(&self, pairs: &BTreeMap<Class, Pair>, class: Class) -> Drift {
        if self.has_several() {
            return Drift::Included;
        }
        let others = pairs.iter().filter(|(other, _)| **other != class);
        let others: Vec<_> = others.filter_map(|(_, pair)| pair.changed_by()).collect();
        if others.is_empty() {
            return Drift::Unknown;
        }
        let [count, median, total] =
            [0, 1, 2].map(|at: usize| differ_by(others.iter().map(|other| other[at])));
        Drift::Others {
            count,
            median,
            total,
        }
    }

    /// Each side has several runs.
    fn has_several(&self) -> bool {
        self.base.len() > 1 && self.new.len() > 1
    }

    /// Each step of each class: where in a fault its time changed. Their intervals hold together.
    pub fn steps(&self) -> Vec<StepRow> {
        if !self.times {
            return Vec::new();
        }
        let steps: BTreeSet<_> = self.runs().flat_map(|run| run.steps.keys()).collect();
        let row = |&&(class, step): &&(Class, FaultStep)| {
            let of = |run| -> Vec<&Blocks> { blocks_of(run, class, step).iter().collect() };
            let mut changes = self.changes(&self.pair(of), steps.len(), false, self.alone());
            changes.retain(|change| change.measure != Measure::Count);
            StepRow {
                class,
                step,
                changes,
            }
        };
        steps.iter().map(row).collect()
    }

    /// What runs differ by, for the parts of a class: what one run a side shows of their times says
    /// nothing.
    fn alone(&self) -> Drift {
        match self.has_several() {
            true => Drift::Included,
            false => Drift::Unknown,
        }
    }

    /// Names of the phases, in the order of their marks.
    fn phases(&self) -> Vec<&str> {
        let mut phases: Vec<&str> = Vec::new();
        for phase in self.runs().flat_map(|run| &run.phases) {
            if !phases.contains(&phase.as_str()) {
                phases.push(phase);
            }
        }
        phases
    }

    /// Culprits of one kind, those first whose time differs most. Their intervals hold together.
    pub fn culprits(&self, by: By) -> Vec<CulpritRow> {
        let mut differ: BTreeMap<Culprit, f64> = BTreeMap::new();
        let sides = [(self.base, -1.0), (self.new, 1.0)];
        for (runs, sign) in sides {
            for run in runs {
                for ((_, culprit), blocks) in run.culprits.iter().filter(|((of, _), _)| *of == by) {
                    let weight = match self.times {
                        true => blocks.total_ns() as f64,
                        false => blocks.count() as f64,
                    };
                    *differ.entry(*culprit).or_default() += sign * weight / runs.len() as f64;
                }
            }
        }
        let mut order: Vec<_> = differ.into_iter().collect();
        order.sort_by(|(one, time), (other, than)| {
            than.abs().total_cmp(&time.abs()).then(one.cmp(other))
        });
        order.truncate(COMPARED);
        let rows = order.len();
        let function = |culprit: Culprit| {
            let name = self.runs().find_map(|run| run.names.get(&culprit.key));
            name.filter(|_| by == By::Symbol).cloned()
        };
        let row = |(culprit, _)| {
            let pair = self.pair(|run| run.culprits.get(&(by, culprit)).into_iter().collect());
            CulpritRow {
                culprit,
                function: function(culprit),
                changes: self.changes(&pair, rows, false, self.alone()),
            }
        };
        order.into_iter().map(row).collect()
    }

    fn pair<'a>(&'a self, of: impl Fn(&'a Run) -> Vec<&'a Blocks>) -> Pair {
        let sample = |runs: &'a [Run]| Sample::of(runs.iter().map(&of));
        Pair::new(sample(self.base), sample(self.new))
    }

    fn changes(&self, pair: &Pair, rows: usize, whole: bool, drift: Drift) -> Vec<Change> {
        let rule = Rule {
            comparisons: rows * self.measures().len(),
            least_percent: self.least_percent,
            whole,
            drift,
        };
        let measures = self.measures().iter();
        // Of a culprit no times are kept, so it has no median.
        let changes = measures.filter_map(|measure| pair.change(*measure, rule));
        changes
            .map(|change| match self.incomplete {
                true => change.of_incomplete(),
                false => change,
            })
            .collect()
    }
}

/// What a further class would change by in 95 % of all pairs of runs, if all classes of a pair
/// change alike by chance, with mean 0: Student's distribution of as many degrees of freedom as
/// there are classes. At least what one of them did change by.
fn differ_by(changes: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let classes = changes.len() as f64;
    let most = changes.clone().fold(0.0, f64::max);
    let square = changes.map(|change| change * change).sum::<f64>() / classes;
    most.max(student::quantile(classes, 0.95) * square.sqrt())
}

fn blocks_of(run: &Run, class: Class, step: FaultStep) -> &[Blocks] {
    run.steps.get(&(class, step)).map_or(&[], Vec::as_slice)
}

/// The blocks of the cells that are kept.
pub(super) fn of_cells<'a>(run: &'a Run, keep: &dyn Fn(&str, Class) -> bool) -> Vec<&'a Blocks> {
    let cells = run
        .cells
        .iter()
        .filter(|((phase, class), _)| keep(phase, *class));
    cells.flat_map(|(_, blocks)| blocks).collect()
}

/// The numbers of each class of a run, in all phases.
pub fn numbers(run: &Run) -> BTreeMap<(Class, Measure), f64> {
    let classes: BTreeSet<_> = run.cells.keys().map(|(_, class)| *class).collect();
    let of = |class: Class| {
        let blocks = of_cells(run, &|_, of| of == class);
        let numbers = Sample::of([blocks]).numbers();
        let measures = [Measure::Count, Measure::Median, Measure::Total];
        let value = move |measure: Measure| Some(((class, measure), measure.of(&numbers)?));
        measures.into_iter().filter_map(value)
    };
    classes.into_iter().flat_map(of).collect()
}
