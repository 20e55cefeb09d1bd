//! The runs of `collector sweep` together: what each class costs at each point, with the spread of
//! its runs.
//!
//! A number of a point is the median of its runs; its spread is from the lowest run to the highest.
//! Runs that failed or were interrupted are left out and counted. Times of an emulated machine mean
//! nothing: there only counts are given. Each point is compared with the first as `diff` compares
//! two sides. Memory: one trace is read at a time; of each run its blocks of faults by class and
//! phase are kept (at most 40 of 256 times each).

mod beside;
mod index;
mod page;
mod tables;

use std::{collections::BTreeMap, path::Path};

use events::Class;
use serde::Serialize;

pub use beside::{Beside, beside};
pub use index::{INDEX, Index, IndexError, Of, Over};
pub use page::html;
pub use tables::{document, json};

use trace::Micro;

use crate::diff::{self, ClassRow, LEAST_PERCENT, Measure, Run, SwitchedOut, numbers};

/// A number of the runs of a point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Runs that have it.
    pub runs: usize,
    /// Of the lowest run.
    pub low: f64,
    /// The median of the runs.
    pub median: f64,
    /// Of the highest run.
    pub high: f64,
}

/// A number of a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OfRun {
    /// Length of the phase `work`.
    Work,
    /// The lowest quartile of an operation of `micro`.
    Quartile1,
    /// The median time of it.
    Operation,
    /// The highest quartile of it.
    Quartile3,
}

/// What a line of a figure shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A number of the faults of a class.
    Class(Class, Measure),
    /// A number of a whole run.
    OfRun(OfRun),
}

impl Line {
    /// Its name in the legend.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Class(class, _) => class.name(),
            Self::OfRun(OfRun::Work) => "work",
            Self::OfRun(OfRun::Quartile1) => "lowest quartile",
            Self::OfRun(OfRun::Operation) => "operation",
            Self::OfRun(OfRun::Quartile3) => "highest quartile",
        }
    }

    /// A time, not a count.
    pub fn is_time(self) -> bool {
        !matches!(self, Self::Class(_, Measure::Count))
    }
}

/// One point.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// Its folder.
    pub folder: String,
    /// Its values.
    pub params: BTreeMap<String, String>,
    /// Runs that were read.
    pub runs: usize,
    /// Runs that are left out: they failed, or were interrupted.
    pub left_out: usize,
    /// Records that its runs lost.
    pub lost: u64,
    /// Faults of its runs whose thread was switched out meanwhile.
    pub switched_out: SwitchedOut,
    /// The numbers of each run.
    numbers: BTreeMap<(Class, Measure), Vec<f64>>,
    /// The faults of each run by class and phase.
    kept: Vec<Run>,
    /// Those of each run as a whole.
    of_runs: BTreeMap<OfRun, Vec<f64>>,
    /// The operation of its first run; none of another workload than `micro`.
    pub micro: Option<Micro>,
}

impl Point {
    /// Adds a run, with what its guest timed.
    pub fn add(&mut self, run: &Run, micro: Option<&Micro>, times: bool) {
        self.micro = self.micro.take().or_else(|| micro.cloned());
        let of_run = times.then(|| {
            let [q1, median, q3] = match micro.and_then(Micro::quartiles_ns) {
                Some(quartiles) => quartiles.map(Some),
                None => [None; 3],
            };
            [
                (OfRun::Work, run.work_ns.map(|ns| ns as f64)),
                (OfRun::Quartile1, q1),
                (OfRun::Operation, median),
                (OfRun::Quartile3, q3),
            ]
        });
        for (of, value) in of_run.into_iter().flatten() {
            if let Some(value) = value {
                self.of_runs.entry(of).or_default().push(value);
            }
        }
        self.runs += 1;
        self.lost = self.lost.saturating_add(run.lost);
        self.kept.push(Run {
            cells: run.cells.clone(),
            phases: run.phases.clone(),
            lost: run.lost,
            ..Run::default()
        });
        self.switched_out.add(run.switched_out);
        for ((class, measure), value) in numbers(run) {
            if times || measure == Measure::Count {
                self.numbers
                    .entry((class, measure))
                    .or_default()
                    .push(value);
            }
        }
    }

    /// Classes that any run has.
    pub fn classes(&self) -> impl Iterator<Item = Class> {
        let counts = self.numbers.keys().filter(|(_, of)| *of == Measure::Count);
        counts.map(|(class, _)| *class)
    }

    /// A number of a class; `None` where no run has it.
    pub fn spread(&self, class: Class, measure: Measure) -> Option<Spread> {
        let mut values = self.numbers.get(&(class, measure))?.clone();
        // A run without faults of the class has none, which is a count too.
        if measure != Measure::Median {
            values.resize(self.runs.max(values.len()), 0.0);
        }
        Spread::of(values)
    }

    /// A number of whole runs; `None` where no run has it.
    pub fn of_run(&self, of: OfRun) -> Option<Spread> {
        Spread::of(self.of_runs.get(&of)?.clone())
    }

    /// What a line shows of it.
    pub fn line(&self, line: Line) -> Option<Spread> {
        match line {
            Line::Class(class, measure) => self.spread(class, measure),
            Line::OfRun(of) => self.of_run(of),
        }
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied();
        let last = values.len().checked_sub(1)?;
        Some(Self {
            runs: values.len(),
            low: at(0)?,
            median: (at(last / 2)? + at(last.div_ceil(2))?) / 2.0,
            high: at(last)?,
        })
    }
}

/// All points.
#[derive(Clone, Debug)]
pub struct Curves {
    /// Folder of the sweep.
    pub folder: String,
    /// What was run.
    pub index: Index,
    /// Times mean something: no run was on an emulated machine.
    pub times: bool,
    /// What differs from the machine of the PVM paper.
    pub differs: Vec<String>,
    /// The points, in the order of the index.
    pub points: Vec<Point>,
}

/// The numbers of one parameter's values, all others being the same.
#[derive(Clone, Debug)]
pub struct Curve<'a> {
    /// The swept parameter.
    pub over: &'a str,
    /// The other parameters: `pages=1024`; empty where there is none.
    pub others: String,
    /// Its values, each with its point.
    pub points: Vec<(&'a str, &'a Point)>,
}

impl Curves {
    /// No point was read yet.
    pub fn new(folder: &Path, index: Index, times: bool) -> Self {
        let points = index.points.iter().map(|of| Point {
            folder: of.folder.clone(),
            params: of.params.clone(),
            left_out: of.runs.iter().filter(|run| !run.is_done()).count(),
            ..Point::default()
        });
        Self {
            folder: crate::text::plain(&folder.display().to_string()),
            points: points.collect(),
            index,
            times,
            differs: Vec::new(),
        }
    }

    /// Classes of any point.
    pub fn classes(&self) -> Vec<Class> {
        let mut classes: Vec<_> = self.points.iter().flat_map(Point::classes).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    /// The first point that has runs.
    pub fn first(&self) -> Option<&Point> {
        self.points.iter().find(|point| point.runs > 0)
    }

    /// The classes of a point by those of the first, as `diff` compares; empty of the first.
    pub fn against_first(&self, point: &Point) -> Vec<ClassRow> {
        match self.first().filter(|first| first.folder != point.folder) {
            Some(first) if point.runs > 0 => {
                diff::classes(&first.kept, &point.kept, self.times, LEAST_PERCENT)
            }
            _ => Vec::new(),
        }
    }

    /// What is drawn: a title, and its lines.
    pub fn figures(&self) -> Vec<(&'static str, Vec<Line>)> {
        let classes = self.classes();
        let title = |measure: Measure| match measure {
            Measure::Count => "Faults of a run",
            Measure::Median => "Median time of a fault",
            Measure::Total => "Time of all faults of a run",
            Measure::Relative => "Median time of a fault by that of another class",
        };
        let of_classes = self.measures().iter().map(|measure| {
            let lines = classes.iter().map(|class| Line::Class(*class, *measure));
            (title(*measure), lines.collect())
        });
        let has = |of: OfRun| self.points.iter().any(|point| point.of_run(of).is_some());
        let of_runs = [
            ("Time of the phase work", OfRun::Work),
            ("Median time of an operation", OfRun::Operation),
        ];
        let of_runs = of_runs.into_iter().filter(|(_, of)| has(*of));
        of_classes
            .chain(of_runs.map(|(title, of)| (title, vec![Line::OfRun(of)])))
            .collect()
    }

    /// The numbers that are given.
    pub fn measures(&self) -> &'static [Measure] {
        match self.times {
            true => &[Measure::Count, Measure::Median, Measure::Total],
            false => &[Measure::Count],
        }
    }

    /// A curve for each parameter with several values, at each combination of the others.
    pub fn curves(&self) -> Vec<Curve<'_>> {
        let mut curves: Vec<Curve<'_>> = Vec::new();
        for over in self.index.over.iter().filter(|over| over.values.len() > 1) {
            let first = curves.len();
            for point in self.points.iter().filter(|point| point.runs > 0) {
                let Some(value) = point.params.get(&over.name) else {
                    continue;
                };
                let others = point.params.iter().filter(|(name, _)| **name != over.name);
                let others = others.map(|(name, value)| format!("{name}={value}"));
                let others = others.collect::<Vec<_>>().join(", ");
                let known = curves
                    .iter_mut()
                    .skip(first)
                    .find(|curve| curve.others == others);
                match known {
                    Some(curve) => curve.points.push((value, point)),
                    None => curves.push(Curve {
                        over: &over.name,
                        others,
                        points: vec![(value, point)],
                    }),
                }
            }
        }
        curves
    }
}
