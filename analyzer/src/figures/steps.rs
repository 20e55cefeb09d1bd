//! Where the time of a fault goes.

use events::Class;

use crate::faults::{ClassCost, FaultStep, StepCost, total};

/// The mean fault of one class whose thread was not switched out, cut into its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct StepBar {
    /// The class.
    pub class: Class,
    /// Faults.
    pub count: u64,
    /// Mean time of a whole fault, ns.
    pub mean_ns: f64,
    /// Mean time of each step over all faults of the class, ns. They add up: a step of which a part
    /// is listed by itself has only the rest of its time.
    pub steps: Vec<(FaultStep, f64)>,
}

/// A bar for every class with such a fault.
pub fn steps(costs: &[(Class, ClassCost)]) -> Vec<StepBar> {
    let costs = costs.iter().filter(|(_, cost)| cost.own_count() > 0);
    costs
        .map(|(class, cost)| {
            let count = cost.own_count();
            let mean = |ns: u64| ns as f64 / count as f64;
            let steps = apart(&cost.steps).into_iter();
            StepBar {
                class: *class,
                count,
                mean_ns: mean(cost.own_ns()),
                steps: steps.map(|(step, ns)| (step, mean(ns))).collect(),
            }
        })
        .collect()
}

/// Time in each step without that of its parts.
fn apart(steps: &[StepCost]) -> Vec<(FaultStep, u64)> {
    let parts = |whole: FaultStep| -> u64 {
        let part = |step: &&StepCost| step.step.part_of() == Some(whole);
        total(steps.iter().filter(part).map(|step| step.own_ns))
    };
    steps
        .iter()
        .map(|step| (step.step, step.own_ns.saturating_sub(parts(step.step))))
        .collect()
}

/// A step's name as a part of a bar: of one with a part of its own, a bar has the rest.
pub fn part_name(step: FaultStep, has_parts: bool) -> String {
    match has_parts {
        true => format!("rest of {}", step.name()),
        false => step.label(),
    }
}

impl StepBar {
    /// A step's name in this bar.
    pub fn label(&self, step: FaultStep) -> String {
        let mut steps = self.steps.iter();
        part_name(step, steps.any(|(part, _)| part.part_of() == Some(step)))
    }

    /// What no step of the trace accounts for, ns.
    pub fn rest_ns(&self) -> f64 {
        (self.mean_ns - self.steps.iter().map(|(_, ns)| ns).sum::<f64>()).max(0.0)
    }
}

/// Steps that no class has: this platform does not show them.
pub fn absent(bars: &[StepBar]) -> Vec<FaultStep> {
    let shown = |step: &FaultStep| {
        bars.iter()
            .any(|bar| bar.steps.iter().any(|(other, _)| other == step))
    };
    // Where one of the two ways to time the lookup is there, the other is not missed.
    let together = shown(&FaultStep::PfnTables);
    let apart = shown(&FaultStep::Pfn) || shown(&FaultStep::Tables);
    FaultStep::ALL
        .into_iter()
        .filter(|step| !shown(step))
        .filter(|step| {
            !(together && matches!(step, FaultStep::Pfn | FaultStep::Tables | FaultStep::Hva))
        })
        .filter(|step| !(apart && *step == FaultStep::PfnTables))
        .collect()
}
