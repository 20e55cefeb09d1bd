//! What each class of fault cost.

use std::collections::BTreeMap;

use events::{Class, Seq};
use serde::Serialize;

use super::{FaultColumns, FaultStep};
use crate::text::units::whole;

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
    /// 5th percentile, ns.
    pub p5_ns: u64,
    /// Median, ns.
    pub p50_ns: u64,
    /// 95th percentile, ns.
    pub p95_ns: u64,
    /// 99th percentile, ns.
    pub p99_ns: u64,
    /// Record of the first fault that took as long as the 99th percentile.
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
    /// 99th percentile of the others, ns.
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

/// Costs of every class that occurs, in the order of [`Class::ALL`].
pub fn by_class(columns: &FaultColumns) -> Vec<(Class, ClassCost)> {
    let within = columns.totals().zip(columns.in_range());
    let within = apart(within.filter(|(_, is)| *is).map(|(fault, _)| fault));
    let in_range: BTreeMap<Class, (u64, u64)> = within
        .into_iter()
        .map(|(class, times)| (class, (times.len() as u64, sum(&times))))
        .collect();
    let switched = switched_out(columns);
    let mut costs = Vec::new();
    for (class, mut times) in apart(columns.totals()) {
        let [p5, p50, p95, p99] = [0.05, 0.50, 0.95, 0.99].map(|part| quantile(&mut times, part));
        let max = times.iter().copied().max().unwrap_or(0);
        let total_ns = sum(&times);
        let (in_range, in_range_ns) = in_range.get(&class).copied().unwrap_or_default();
        costs.push((
            class,
            ClassCost {
                count: times.len() as u64,
                in_range,
                in_range_ns,
                total_ns,
                run_percent: None,
                p5_ns: p5,
                p50_ns: p50,
                p95_ns: p95,
                p99_ns: p99,
                p99_seq: columns.seq(class, p99),
                max_ns: max,
                max_seq: columns.seq(class, max),
                not_attributed_ns: Some(total_ns),
                sync_ns: None,
                switched_out: switched.get(&class).copied(),
                steps: Vec::new(),
            },
        ));
    }
    for step in FaultStep::ALL {
        for (class, mut times) in apart(columns.step(step)) {
            if let Some((_, of)) = costs.iter_mut().find(|(other, _)| *other == class) {
                of.add(step_cost(step, &mut times));
            }
        }
    }
    costs
}

/// The faults of each class whose thread was switched out; nothing where the trace does not say.
fn switched_out(columns: &FaultColumns) -> BTreeMap<Class, SwitchedOut> {
    let mut of: BTreeMap<Class, SwitchedOut> = BTreeMap::new();
    if !columns.knows_switches() {
        return of;
    }
    for (class, ns, _) in columns.with_switches().filter(|(.., was)| *was) {
        let of = of.entry(class).or_default();
        of.count += 1;
        of.total_ns = of.total_ns.saturating_add(ns);
    }
    let others = columns.with_switches().filter(|(.., was)| !was);
    for (class, mut times) in apart(others.map(|(class, ns, _)| (class, ns))) {
        let of = of.entry(class).or_default();
        of.others_total_ns = sum(&times);
        of.others_p50_ns = Some(quantile(&mut times, 0.50));
        of.others_p99_ns = Some(quantile(&mut times, 0.99));
    }
    of
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

fn step_cost(step: FaultStep, times: &mut [u64]) -> StepCost {
    StepCost {
        step,
        part_of: step.part_of(),
        count: times.len() as u64,
        total_ns: sum(times),
        p50_ns: quantile(times, 0.50),
    }
}

/// Times of each class that has any, in the order of [`Class::ALL`].
fn apart(faults: impl Iterator<Item = (Class, u64)>) -> Vec<(Class, Vec<u64>)> {
    let mut apart = Class::ALL.map(|class| (class, Vec::new()));
    let first = Class::ALL[0] as usize;
    for (class, ns) in faults {
        // The numbers of the classes have no hole.
        if let Some((_, times)) = apart.get_mut(class as usize - first) {
            times.push(ns);
        }
    }
    let some = apart.into_iter().filter(|(_, times)| !times.is_empty());
    some.collect()
}

/// Counts and time by phase and class, in the order of both.
pub fn by_phase(columns: &FaultColumns) -> Vec<PhaseCost> {
    let mut costs: BTreeMap<(u16, Class), PhaseCost> = BTreeMap::new();
    for (phase, faults) in columns.phases() {
        for (class, times) in apart(faults) {
            let cost = costs.entry((phase, class)).or_insert(PhaseCost {
                phase,
                class,
                count: 0,
                total_ns: 0,
            });
            cost.count += times.len() as u64;
            cost.total_ns = cost.total_ns.saturating_add(sum(&times));
        }
    }
    costs.into_values().collect()
}

/// Saturates: a trace may claim any time.
pub(super) fn sum(times: &[u64]) -> u64 {
    times.iter().fold(0, |sum, ns| sum.saturating_add(*ns))
}

/// How many of `count` times in order come before the one that `part` of all do not exceed: the
/// nearest place, so that it is the time of a fault.
pub fn rank(count: f64, part: f64) -> f64 {
    ((count - 1.0).max(0.0) * part).round()
}

/// The time that `part` of all do not exceed, by nearest rank: one that a fault has. Orders the
/// times anew.
pub(super) fn quantile<T: Copy + Default + Ord>(times: &mut [T], part: f64) -> T {
    let last = times.len().saturating_sub(1);
    let rank = usize::try_from(whole(rank(times.len() as f64, part))).unwrap_or(last);
    match times.is_empty() {
        true => T::default(),
        false => *times.select_nth_unstable(rank.min(last)).1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_time_that_occurs() {
        let of = |times: &[u64], part| quantile(&mut times.to_vec(), part);
        assert_eq!(of(&[], 0.5), 0);
        assert_eq!(of(&[7], 0.99), 7);
        let hundred: Vec<u64> = (1..=101).rev().collect();
        let parts = [0.0, 0.05, 0.5, 0.95, 0.99, 1.0];
        assert_eq!(
            parts.map(|part| of(&hundred, part)),
            [1, 6, 51, 96, 100, 101]
        );
    }

    #[test]
    fn faults_of_threads_that_were_switched_out_are_apart() {
        let mut columns = FaultColumns::default();
        let times = [(7, 0), (9, 0), (5_000_000_000, 1), (8, 0), (4_000, 2)];
        for (ns, switches) in times {
            let fault = trace::FaultRow {
                total_ns: ns,
                switches: Some(switches),
                ..crate::replay::blank_fault(Seq(0))
            };
            columns.push(&fault, 0, false);
        }
        let costs = by_class(&columns);
        let [(Class::Shadow, cost)] = &costs[..] else {
            panic!("{costs:?}");
        };
        assert_eq!((cost.total_ns, cost.max_ns), (5_000_004_024, 5_000_000_000));
        let expected = SwitchedOut {
            count: 2,
            total_ns: 5_000_004_000,
            others_total_ns: 24,
            others_p50_ns: Some(8),
            others_p99_ns: Some(9),
        };
        assert_eq!(cost.switched_out, Some(expected));
    }

    #[test]
    fn a_trace_that_does_not_say_has_no_such_faults() {
        let mut columns = FaultColumns::default();
        columns.push(&crate::replay::blank_fault(Seq(0)), 0, false);
        assert_eq!(by_class(&columns)[0].1.switched_out, None);
    }

    #[test]
    fn the_numbers_of_the_classes_have_no_hole() {
        let first = Class::ALL[0] as usize;
        assert!(
            (first..)
                .zip(Class::ALL)
                .all(|(at, class)| at == class as usize)
        );
    }
}
