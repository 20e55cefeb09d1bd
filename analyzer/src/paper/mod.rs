//! Beside the paper: what an operation of the workload `micro` costs here, and what the PVM paper
//! published for the nearest one of its own.
//!
//! The paper is "PVM: Efficient Shadow Paging for Deploying Secure Containers in Cloud-native
//! Environment" (SOSP 2023, doi 10.1145/3600006.3613158). Machines, kernels and guests differ, so
//! absolute times say little; what two operations of one machine cost in proportion can be
//! compared.
//!
//! ```text
//! numbers  what the paper published
//! ratios   one operation against another
//! scaling  `alloc` by its number of processes
//! tables   all of it as tables
//! ```

mod numbers;
mod ratios;
mod scaling;
mod tables;
#[cfg(test)]
mod tests;

use serde::Serialize;
use trace::{Meta, Micro};

pub use numbers::{CONFIGS, OPERATIONS, Published, SOURCE};
pub use ratios::{Ratio, ratios};
pub use scaling::{Step, scaling};
pub use tables::{brief, operations, ratio_table, scaling_table};

/// An operation that was timed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timed {
    /// Its name: the workload's `op`.
    pub op: String,
    /// The other swept parameters: `pages=64`; empty where there is none.
    pub others: String,
    /// Runs that it was timed in.
    pub runs: usize,
    /// Operations of a run.
    pub count: u64,
    /// Lowest quartile, median and highest quartile of the batches of a run, the median of the
    /// runs: time of one operation, ns. Null on an emulated machine.
    pub quartiles_ns: Option<[f64; 3]>,
    /// What the paper published.
    pub published: Option<&'static Published>,
}

impl Timed {
    /// What one recording says; `None` if it is of another workload.
    pub fn of(meta: &Meta) -> Option<Self> {
        let micro = meta.workload.as_ref()?.micro.as_ref()?;
        let times = !meta.sees().emulated;
        let quartiles = times.then(|| micro.quartiles_ns()).flatten();
        Some(Self::new(micro, String::new(), 1, quartiles))
    }

    /// That of some runs.
    pub fn new(micro: &Micro, others: String, runs: usize, quartiles_ns: Option<[f64; 3]>) -> Self {
        Self {
            published: OPERATIONS.iter().find(|one| one.op == micro.op),
            op: micro.op.clone(),
            others,
            runs,
            count: micro.count,
            quartiles_ns,
        }
    }

    /// The median time of one operation, ns.
    pub fn median_ns(&self) -> Option<f64> {
        self.quartiles_ns.map(|[_, median, _]| median)
    }
}

/// What differs between the paper's machine and the recorded one, whatever the operation.
pub fn differs(meta: &Meta) -> Vec<String> {
    let host = &meta.host;
    let mut lines = vec![
        format!(
            "The paper: Xeon 8269CY, Linux 4.19, KPTI on, a Linux guest (LMbench). Here: {}, {}, \
             {}, a guest without an operating system, whose handlers do only what the operation \
             needs.",
            host.cpu, host.hypervisor, host.kernel
        ),
        "The probes were attached: they add to each fault. `collector run micro --untraced` prints \
         the times without them."
            .to_owned(),
    ];
    if host.hypervisor.contains("pvm") {
        lines.push(
            "This guest is not paravirtual: KVM-PVM emulates its kernel, one instruction after \
             another, which the paper's guests avoid. Operations with a handler pay for it."
                .to_owned(),
        );
    }
    lines
}
