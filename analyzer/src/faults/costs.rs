//! What each class of fault cost.

use std::collections::BTreeMap;

use events::{Class, Seq};
use serde::Serialize;

use super::{
    FaultStep, FaultTimes, Times,
    fault_times::OfClass,
    times::{enough, quantile_of},
};

/// The cost of one class.
///
/// Times add up: the steps that are part of no other, and `not_attributed_ns`, are `total_ns`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassCost {
    /// Faults.
    pub count: u64,
    /// Faults whose GVA is in the workload's range.
    pub in_range: u64,
    /// Their time, ns.
    pub in_range_ns: u64,
    /// Their time from the first to the last moment seen, ns.
    pub total_ns: u64,
    /// Share of the VM's run that this is, percent; absent where the run is not known.
    pub run_percent: Option<f64>,
    /// 5th percentile, ns; absent of fewer than 20 faults.
    pub p5_ns: Option<u64>,
    /// Median, ns.
    pub p50_ns: u64,
    /// 95th percentile, ns; absent of fewer than 20 faults.
    pub p95_ns: Option<u64>,
    /// 99th percentile, ns; absent of fewer than 100 faults.
    pub p99_ns: Option<u64>,
    /// Record of the first fault that took as long as the 99th percentile; absent with it.
    pub p99_seq: Option<Seq>,
    /// The longest, ns.
    pub max_ns: u64,
    /// Record of the first fault that took so long.
    pub max_seq: Option<Seq>,
    /// Time that no step covers, ns; absent where the steps are longer than the faults, which no
    /// recorder writes.
    pub not_attributed_ns: Option<u64>,
    /// Of `total_ns`, the time in which unsync pages were synced, ns: it is in the steps too. Absent
    /// where acts are not seen.
    pub sync_ns: Option<u64>,
    /// Faults whose thread was switched out meanwhile, so that their time holds other work; absent
    /// where the trace does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switched_out: Option<SwitchedOut>,
    /// Steps that the trace shows, in their order; an absent step is not listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepCost>,
}

/// Faults of a class whose thread was switched out meanwhile, beside the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SwitchedOut {
    /// How many.
    pub count: u64,
    /// Their time, ns.
    pub total_ns: u64,
    /// Time of the others, ns.
    pub others_total_ns: u64,
    /// Median of the others, ns; absent without any.
    pub others_p50_ns: Option<u64>,
    /// 99th percentile of the others, ns; absent of fewer than 100.
    pub others_p99_ns: Option<u64>,
}

/// The cost of one step of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepCost {
    /// Name of the step.
    #[serde(serialize_with = "step_name")]
    pub step: FaultStep,
    /// The step that it is a part of, if it is: its time is in that step's too.
    #[serde(serialize_with = "whole_name", skip_serializing_if = "Option::is_none")]
    pub part_of: Option<FaultStep>,
    /// Faults that have it.
    pub count: u64,
    /// Time in it, ns.
    pub total_ns: u64,
    /// Of that, faults whose thread was not switched out meanwhile.
    #[serde(skip)]
    pub own_ns: u64,
    /// Median, ns.
    pub p50_ns: u64,
}

fn step_name<S: serde::Serializer>(step: &FaultStep, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(step.name())
}

fn whole_name<S: serde::Serializer>(
    step: &Option<FaultStep>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    step.map(FaultStep::name).serialize(serializer)
}

/// Faults of one class in one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseCost {
    /// Number of the phase, from 0 (before the first mark).
    pub phase: u16,
    /// The class.
    pub class: Class,
    /// Faults.
    pub count: u64,
    /// Their time, ns.
    pub total_ns: u64,
}

impl ClassCost {
    /// The faults whose thread was not switched out.
    pub fn own_count(&self) -> u64 {
        let switched = self.switched_out.as_ref();
        self.count - switched.map_or(0, |switched| switched.count)
    }

    /// The time of the faults whose thread was not switched out: what an order goes by.
    pub fn own_ns(&self) -> u64 {
        self.switched_out
            .map_or(self.total_ns, |switched| switched.others_total_ns)
    }
}

/// Costs of every class that occurs, in the order of [`Class::ALL`].
pub fn by_class(faults: &FaultTimes) -> Vec<(Class, ClassCost)> {
    let cost = |(class, of): (Class, &OfClass)| {
        let total = &of.total;
        let p99 = total.percentile(99);
        let max = total.max();
        let mut cost = ClassCost {
            count: total.count(),
            in_range: of.in_range,
            in_range_ns: of.in_range_ns,
            total_ns: total.total_ns(),
            run_percent: None,
            p5_ns: total.percentile(5),
            p50_ns: total.quantile(0.50),
            p95_ns: total.percentile(95),
            p99_ns: p99,
            p99_seq: p99.and_then(|p99| faults.seq(class, p99)),
            max_ns: max,
            max_seq: faults.seq(class, max),
            not_attributed_ns: Some(total.total_ns()),
            sync_ns: None,
            switched_out: faults.knows_switches.then(|| switched_out(of)),
            steps: Vec::new(),
        };
        let times = of.steps.iter().zip(of.own_steps_ns);
        let steps = FaultStep::ALL.into_iter().zip(times);
        for (step, (times, own_ns)) in steps.filter(|(_, (times, _))| times.count() > 0) {
            cost.add(step_cost(step, times, own_ns));
        }
        (class, cost)
    };
    faults.classes().map(cost).collect()
}

/// The faults of a class whose thread was switched out.
fn switched_out(of: &OfClass) -> SwitchedOut {
    let switched = &of.switched;
    let others = || {
        of.total.each().filter_map(|(ns, count, _)| {
            let without = switched.of(ns).map_or(0, |(count, ())| count);
            let others = count.saturating_sub(without);
            (others > 0).then_some((ns, others))
        })
    };
    let count = of.total.count() - switched.count();
    let quantile = |part| (count > 0).then(|| quantile_of(others(), count, part));
    SwitchedOut {
        count: switched.count(),
        total_ns: switched.total_ns(),
        others_total_ns: others().fold(0, |sum: u64, (ns, count)| {
            sum.saturating_add(ns.saturating_mul(count))
        }),
        others_p50_ns: quantile(0.50),
        others_p99_ns: quantile(0.99).filter(|_| enough(count, 99)),
    }
}

impl ClassCost {
    fn add(&mut self, step: StepCost) {
        if step.part_of.is_none() {
            let rest = self.not_attributed_ns;
            self.not_attributed_ns = rest.and_then(|rest| rest.checked_sub(step.total_ns));
        }
        self.steps.push(step);
    }
}

fn step_cost(step: FaultStep, times: &Times, own_ns: u64) -> StepCost {
    StepCost {
        step,
        part_of: step.part_of(),
        count: times.count(),
        total_ns: times.total_ns(),
        own_ns,
        p50_ns: times.quantile(0.50),
    }
}

/// Counts and time by phase and class, in the order of both.
pub fn by_phase(faults: &FaultTimes) -> Vec<PhaseCost> {
    let mut costs: BTreeMap<(u16, Class), PhaseCost> = BTreeMap::new();
    for (phase, of) in &faults.phases {
        let classes = Class::ALL.into_iter().zip(of);
        for (class, (count, total_ns)) in classes.filter(|(_, (count, _))| *count > 0) {
            let cost = costs.entry((*phase, class)).or_insert(PhaseCost {
                phase: *phase,
                class,
                count: 0,
                total_ns: 0,
            });
            cost.count += count;
            cost.total_ns = cost.total_ns.saturating_add(*total_ns);
        }
    }
    costs.into_values().collect()
}

/// How many of `count` times in order come before the one that `part` of all do not exceed: the
/// nearest place, so that it is the time of a fault.
pub fn rank(count: f64, part: f64) -> f64 {
    ((count - 1.0).max(0.0) * part).round()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_threads_that_were_switched_out_are_apart() {
        let mut times = FaultTimes::default();
        let faults = [(7, 0), (9, 0), (5_000_000_000, 1), (8, 0), (4_000, 2)];
        for (ns, switches) in faults {
            let fault = trace::FaultRow {
                total_ns: ns,
                walk_ns: Some(ns),
                switches: Some(switches),
                ..crate::replay::blank_fault(Seq(0))
            };
            times.add(&fault, 0, false);
        }
        times.finish();
        let costs = by_class(&times);
        let [(Class::Shadow, cost)] = &costs[..] else {
            panic!("{costs:?}");
        };
        assert_eq!((cost.total_ns, cost.max_ns), (5_000_004_024, 5_000_000_000));
        let expected = SwitchedOut {
            count: 2,
            total_ns: 5_000_004_000,
            others_total_ns: 24,
            others_p50_ns: Some(8),
            others_p99_ns: None,
        };
        assert_eq!(cost.switched_out, Some(expected));
        let bars = crate::figures::steps(&costs);
        let [bar] = &bars[..] else {
            panic!("{bars:?}");
        };
        assert_eq!((bar.count, bar.mean_ns), (3, 8.0));
        assert_eq!(bar.steps, [(FaultStep::Walk, 8.0)]);
    }

    #[test]
    fn a_trace_that_does_not_say_has_no_such_faults() {
        let mut times = FaultTimes::default();
        times.add(&crate::replay::blank_fault(Seq(0)), 0, false);
        assert_eq!(by_class(&times)[0].1.switched_out, None);
    }
}
