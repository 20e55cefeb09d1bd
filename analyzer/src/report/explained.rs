//! Records that the page explains: one of each class, the slowest, each pathology, one change of
//! each cause.

use events::{Class, Seq, VmId};
use serde::Serialize;
use trace::Trace;

use super::ReportError;
use crate::{
    explain::{self, ExplainError, Selector},
    study::VmStudy,
    summary::VmSummary,
    text::plain,
};

/// A record and its explanation.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// The record.
    pub seq: u64,
    /// What it is an example of.
    pub label: String,
    /// The explanation; absent where reading for it would take too long.
    pub text: Option<String>,
}

/// Traces with fewer records take no time worth saving.
const SMALL: u64 = 1 << 20;

/// Records read for all explanations together: each is found by reading from the start. Of a small
/// trace enough for one of everything, some seconds of work at most; a sixteenth of a large one, so
/// that the report takes no more than twice the time of reading it.
pub(super) fn budget(trace: &Trace) -> u64 {
    match trace.listed_rows() {
        ..SMALL => 1 << 22,
        rows => (rows / 16).clamp(1 << 18, 1 << 20),
    }
}

/// Columns of a text.
pub(super) const WIDTH: usize = 100;

/// What is explained of a VM, the most useful first, as long as records are `left` to read.
pub(super) fn explained(
    trace: &Trace,
    vm: VmId,
    of: &VmStudy,
    numbers: &VmSummary,
    left: &mut u64,
) -> Result<Vec<Explained>, ReportError> {
    let mut explained: Vec<Explained> = Vec::new();
    let all = trace.listed_rows();
    for (label, seq, is_fault) in wanted(of, numbers) {
        if explained.iter().any(|one| one.seq == seq.0) {
            continue;
        }
        let mut one = Explained {
            seq: seq.0,
            label,
            text: None,
        };
        // The life of a page is known when everything was read.
        let reads = if is_fault { seq.0 } else { all };
        if let Some(rest) = left.checked_sub(reads) {
            *left = rest;
            let found = explain::find(trace, vm, Selector::Seq(seq), &mut |_| {});
            match found {
                Ok(found) => one.text = Some(found.text(WIDTH)),
                // A damaged trace ends before what it counts: the page says so above.
                Err(ExplainError::Trace(error)) => one.text = Some(plain(&error.to_string())),
                Err(ExplainError::NoSuch { .. }) => continue,
                Err(ExplainError::Study(error)) => one.text = Some(plain(&error.to_string())),
            }
        }
        explained.push(one);
    }
    Ok(explained)
}

/// Which records, with what each is an example of and whether it is a fault.
fn wanted(of: &VmStudy, numbers: &VmSummary) -> Vec<(String, Seq, bool)> {
    let mut wanted = Vec::new();
    let median = |class: Class, ns: u64| {
        let seq = of.records.times.seq(class, ns)?;
        Some((
            format!("a fault of median time, {}", class.name()),
            seq,
            true,
        ))
    };
    let mut costs: Vec<_> = of.records.costs.iter().collect();
    costs.sort_by_key(|(_, cost)| std::cmp::Reverse(cost.own_ns()));
    let medians = costs.iter();
    wanted.extend(medians.filter_map(|(class, cost)| median(*class, cost.p50_ns)));
    let slowest = costs.into_iter().max_by_key(|(_, cost)| cost.max_ns);
    wanted.extend(slowest.and_then(|(class, cost)| {
        let label = format!("the slowest fault, {}", class.name());
        Some((label, cost.max_seq?, true))
    }));
    for finding in &numbers.pathologies {
        let label = format!("the pathology {}", finding.pathology.name());
        wanted.push((label, finding.seq, false));
    }
    let first = of.playback.iter().flat_map(|playback| playback.firsts());
    wanted.extend(first.map(|(cause, seq)| {
        let label = format!("the first change of cause {}", cause.name());
        (label, *seq, false)
    }));
    let page = of
        .playback
        .iter()
        .filter_map(|playback| playback.first_page());
    wanted.extend(page.map(|seq| ("the first shadow page".to_owned(), seq, false)));
    wanted
}
