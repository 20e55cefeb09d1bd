//! How long faults last, by class.

use std::collections::BTreeMap;

use events::Class;

use crate::{
    faults::{ClassCost, FaultTimes},
    text::units::whole,
};

/// Bins for each factor of ten.
pub const PER_DECADE: f64 = 16.0;

/// The distribution of one class.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// The class.
    pub class: Class,
    /// Faults.
    pub count: u64,
    /// 50th, 95th and 99th percentile with their names, ns; those that there are.
    pub percentiles: Vec<(&'static str, u64)>,
    /// Faults by bin: bin `b` holds times from `10^(b / PER_DECADE)` ns on.
    pub bins: BTreeMap<u32, u64>,
}

/// The distribution of every class that occurs.
pub fn latency(times: &FaultTimes, costs: &[(Class, ClassCost)]) -> Vec<Distribution> {
    let distribution = |(class, cost): &(Class, ClassCost)| {
        let mut bins = BTreeMap::new();
        for (ns, count) in times.totals(*class) {
            *bins.entry(bin(ns)).or_default() += count;
        }
        Distribution {
            class: *class,
            count: cost.count,
            percentiles: percentiles(cost),
            bins,
        }
    };
    costs.iter().map(distribution).collect()
}

/// What is marked of a class: few faults have a median alone.
pub fn percentiles(cost: &ClassCost) -> Vec<(&'static str, u64)> {
    let some = [("p95", cost.p95_ns), ("p99", cost.p99_ns)];
    let some = some.into_iter().filter_map(|(name, ns)| Some((name, ns?)));
    [("p50", cost.p50_ns)].into_iter().chain(some).collect()
}

fn bin(ns: u64) -> u32 {
    let bin = whole((ns.max(1) as f64).log10() * PER_DECADE);
    u32::try_from(bin).unwrap_or(u32::MAX)
}
