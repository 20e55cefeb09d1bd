//! The figures of one VM with their captions.

use serde::Serialize;

use super::ReportError;
use crate::{
    faults::FaultStep,
    figures::{PER_DECADE, absent, latency, steps},
    render,
    study::{Study, VmStudy},
    text::units::{count, ns, plural},
};

/// A figure on the page.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it shows.
    pub title: String,
    /// The SVG; not in JSON, where it would drown the numbers.
    #[serde(skip)]
    pub svg: String,
    /// n, units, and what to read from it.
    pub caption: String,
}

/// The figures of a VM that has faults. `times` is what to know before reading a time.
pub(super) fn figures(
    study: &Study,
    vm: &VmStudy,
    times: &str,
) -> Result<Vec<Figure>, ReportError> {
    if vm.columns.is_empty() {
        return Ok(Vec::new());
    }
    let lost = lost(study, vm);
    Ok(vec![
        figure(
            "Time and number of faults by class",
            render::share(&vm.costs)?,
            [
                &plural(vm.counts.faults(), "fault"),
                ". The time of a fault is from the first to the last moment seen of it. A class \
                 whose share of the time is much larger than its share of the number is \
                 expensive. ",
                times,
            ],
        ),
        rates(vm, &lost)?,
        figure(
            "How long faults last",
            render::latency(&latency(&vm.columns, &vm.costs))?,
            [
                &format!("Logarithmic axis, {PER_DECADE} bins for each factor of ten"),
                "; each class is drawn to its own height. Triangles: p50, p95, p99. Two humps in \
                 one class are two paths through the kernel. ",
                times,
            ],
        ),
        steps_of_a_fault(vm, times)?,
        figure(
            "Which addresses fault when",
            render::heat(&vm.heat, &vm.timeline)?,
            [
                "Faults by GVA and time, darker for more, logarithmic. A diagonal is a first walk \
                 through memory; a second mark at the same height is a page that faulted again. ",
                times,
                "",
            ],
        ),
        pages(vm, &lost)?,
    ])
}

fn figure(title: &str, svg: String, caption: [&str; 3]) -> Figure {
    Figure {
        title: title.to_owned(),
        svg,
        caption: caption.concat().trim_end().to_owned(),
    }
}

/// What the red spans of a figure mean, if there are any.
fn shade(lost: &[(f64, f64)]) -> &'static str {
    match lost {
        [] => "",
        _ => " Red: records are missing there.",
    }
}

fn rates(vm: &VmStudy, lost: &[(f64, f64)]) -> Result<Figure, ReportError> {
    let bin = ns(vm.timeline.bin_ns());
    Ok(figure(
        "Faults a second, and entries in the shadow tables",
        render::rates(&vm.timeline, lost)?,
        [
            &format!("In bins of {bin}, stacked by class; below, SPTEs (leaves and links)"),
            " as replayed at the end of each bin. Thin lines are the guest's phases. Faults that \
             add no entries are repeated or refused work.",
            shade(lost),
        ],
    ))
}

fn steps_of_a_fault(vm: &VmStudy, times: &str) -> Result<Figure, ReportError> {
    let bars = steps(&vm.costs);
    let missing: Vec<_> = absent(&bars).into_iter().map(|step| step.name()).collect();
    let missing = match missing.join(", ") {
        none if none.is_empty() => none,
        missing => format!(
            "Absent, because this host does not show them or no fault had them: {missing}. "
        ),
    };
    let has_hva = bars.iter().flat_map(|bar| &bar.steps);
    let hva = match has_hva.into_iter().any(|(step, _)| *step == FaultStep::Hva) {
        true => "hva is the host's part of the lookup, from HVA to frame; pfn is the rest. ",
        false => "",
    };
    Ok(figure(
        "Where the time of a fault goes",
        render::steps(&bars)?,
        [
            "Mean over all faults of a class, cut into the steps that the trace shows. The \
             longest part is what to make cheaper. ",
            &format!("{hva}{missing}"),
            times,
        ],
    ))
}

fn pages(vm: &VmStudy, lost: &[(f64, f64)]) -> Result<Figure, ReportError> {
    let made = count(vm.counts.page(events::PageEvent::Born));
    Ok(figure(
        "Shadow pages by level",
        render::pages(&vm.timeline, lost)?,
        [
            &format!(
                "{} at the end, {made} made in all, as replayed; each takes 4 KiB of the host.",
                plural(last_pages(vm), "shadow page"),
            ),
            " A fall is KVM zapping tables.",
            shade(lost),
        ],
    ))
}

fn last_pages(vm: &VmStudy) -> u64 {
    vm.timeline
        .bins()
        .last()
        .map_or(0, |(_, bin)| bin.totals.all_pages())
}

/// Spans in which records are missing, seconds from the start.
fn lost(study: &Study, vm: &VmStudy) -> Vec<(f64, f64)> {
    study
        .lost_spans()
        .into_iter()
        .map(|[from, to]| (vm.timeline.seconds(from), vm.timeline.seconds(to)))
        .collect()
}
