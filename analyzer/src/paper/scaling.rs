//! How the time of `alloc` grows with its processes, as the paper's Figures 4 and 10 show it. They
//! print no number, so there is none of the paper's here.

use serde::Serialize;

/// The workload's time at one number of processes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Processes.
    pub processes: u64,
    /// The other swept parameters: `vcpus=2`; empty where there is none.
    pub others: String,
    /// Length of the phase `work`, ns: the median of the runs.
    pub work_ns: f64,
    /// In units of that of the fewest processes with the same other parameters.
    pub times: Option<f64>,
    /// The same for each process: 1 where the time grows with the work alone.
    pub times_each: Option<f64>,
}

/// Sets the ratios of steps, each with its processes, other parameters and time.
pub fn scaling(points: impl IntoIterator<Item = (u64, String, f64)>) -> Vec<Step> {
    let mut steps: Vec<_> = points
        .into_iter()
        .map(|(processes, others, work_ns)| Step {
            processes,
            others,
            work_ns,
            times: None,
            times_each: None,
        })
        .collect();
    steps.sort_by(|one, other| (&one.others, one.processes).cmp(&(&other.others, other.processes)));
    let mut first: Option<(String, u64, f64)> = None;
    for step in &mut steps {
        let (others, processes, work_ns) = first
            .take_if(|(others, _, _)| *others == step.others)
            .unwrap_or_else(|| (step.others.clone(), step.processes, step.work_ns));
        if work_ns > 0.0 && processes > 0 {
            let times = step.work_ns / work_ns;
            step.times = Some(times);
            let more = step.processes as f64 / processes as f64;
            step.times_each = (more > 0.0).then_some(times / more);
        }
        first = Some((others, processes, work_ns));
    }
    steps
}
