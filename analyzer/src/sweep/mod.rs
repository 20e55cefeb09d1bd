//! The runs of `collector sweep` together: what each class costs at each point, with the spread of
//! its runs.
//!
//! A number of a point is the median of its runs; its spread is from the lowest run to the highest.
//! Runs that failed or were interrupted are left out and counted. Times of an emulated machine mean
//! nothing: there only counts are given. Memory: one trace is read at a time, and of each run three
//! numbers for each class are kept.

mod index;
mod page;
mod tables;

use std::{collections::BTreeMap, path::Path};

use events::Class;
use serde::Serialize;

pub use index::{Index, IndexError, Of, Over};
pub use page::html;
pub use tables::{document, json};

use crate::diff::{Measure, Run, numbers};

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
    /// The numbers of each run.
    numbers: BTreeMap<(Class, Measure), Vec<f64>>,
}

impl Point {
    /// Adds a run.
    pub fn add(&mut self, run: &Run, times: bool) {
        self.runs += 1;
        self.lost = self.lost.saturating_add(run.lost);
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
        values.sort_unstable_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied();
        let last = values.len().checked_sub(1)?;
        Some(Spread {
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
        }
    }

    /// Classes of any point.
    pub fn classes(&self) -> Vec<Class> {
        let mut classes: Vec<_> = self.points.iter().flat_map(Point::classes).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
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
