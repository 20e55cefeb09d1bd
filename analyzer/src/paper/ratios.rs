//! What one operation costs in units of another.

use serde::Serialize;

use super::{Published, Timed, numbers::CONFIGS};

/// Operations that are compared: the first in units of the second.
const PAIRS: [[&str; 2]; 7] = [
    ["protection-fault", "page-fault"],
    ["page-fault", "exception"],
    ["exception", "hypercall"],
    ["cpuid", "hypercall"],
    ["pio", "hypercall"],
    ["pio", "exception"],
    ["syscall-kpti", "syscall"],
];

/// One operation in units of another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The operation.
    pub op: &'static str,
    /// The unit.
    pub of: &'static str,
    /// The other swept parameters, the same for both.
    pub others: String,
    /// Here.
    pub ours: f64,
    /// In each of the paper's configurations; null where it lacks one of the two, or where its two
    /// tables mean another KVM.
    pub published: [Option<f64>; 4],
}

/// Each pair that was timed with the same other parameters.
pub fn ratios(timed: &[Timed]) -> Vec<Ratio> {
    let mut found = Vec::new();
    for [op, of] in PAIRS {
        for one in timed.iter().filter(|one| one.op == op) {
            let unit = timed
                .iter()
                .find(|other| other.op == of && other.others == one.others);
            let Some(unit) = unit else { continue };
            let Some(ours) = ratio(one.median_ns(), unit.median_ns()) else {
                continue;
            };
            let us = |published: Option<&'static Published>| {
                let published = published.filter(|published| published.of_one);
                published.map_or([None; 4], |published| published.us)
            };
            let mut published = us(one.published);
            let shadows =
                [one.published, unit.published].map(|of| of.is_some_and(Published::shadows));
            let is_same_kvm = shadows[0] == shadows[1];
            let columns = published.iter_mut().zip(us(unit.published)).zip(CONFIGS);
            for ((ratio_of, unit), config) in columns {
                let is_comparable = is_same_kvm || !config.starts_with("kvm");
                *ratio_of = ratio(*ratio_of, unit).filter(|_| is_comparable);
            }
            found.push(Ratio {
                op,
                of,
                others: one.others.clone(),
                ours,
                published,
            });
        }
    }
    found
}

/// `None` where one of them is absent, and of a unit of nothing.
fn ratio(one: Option<f64>, unit: Option<f64>) -> Option<f64> {
    let unit = unit.filter(|unit| *unit > 0.0)?;
    Some(one? / unit)
}
