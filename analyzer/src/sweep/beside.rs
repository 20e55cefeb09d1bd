//! The operations and the scaling of a sweep beside the PVM paper's.

use serde::Serialize;

use super::{Curves, OfRun, Point};
use crate::paper::{Ratio, Step, Timed, ratios, scaling};

/// What a sweep has to set beside the paper.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Beside {
    /// Each operation of `micro`.
    pub operations: Vec<Timed>,
    /// Operations in units of others.
    pub ratios: Vec<Ratio>,
    /// `alloc` by its processes.
    pub scaling: Vec<Step>,
}

/// The numbers of a sweep over `op` of `micro`, or over `processes` of `alloc`; empty of others.
pub fn beside(curves: &Curves) -> Beside {
    let timed = curves.points.iter().filter_map(|point| {
        let micro = point.micro.as_ref()?;
        let median = |of| point.of_run(of).map(|spread| spread.median);
        let quartiles = median(OfRun::Quartile1)
            .zip(median(OfRun::Operation))
            .zip(median(OfRun::Quartile3))
            .map(|((q1, median), q3)| [q1, median, q3]);
        let others = without(point, "op");
        Some(Timed::new(micro, others, point.runs, quartiles))
    });
    let operations: Vec<_> = timed.collect();
    let steps = curves.points.iter().filter_map(|point| {
        let processes = point.params.get("processes")?.parse().ok()?;
        let work = point.of_run(OfRun::Work)?;
        Some((processes, without(point, "processes"), work.median))
    });
    let is_alloc = curves.index.workload == "alloc";
    Beside {
        ratios: ratios(&operations),
        operations,
        scaling: match is_alloc {
            true => scaling(steps),
            false => Vec::new(),
        },
    }
}

/// The swept values of a point other than of one parameter.
fn without(point: &Point, name: &str) -> String {
    let others = point.params.iter().filter(|(other, _)| *other != name);
    let others = others.map(|(name, value)| format!("{name}={value}"));
    others.collect::<Vec<_>>().join(", ")
}
