//! The figures of one VM with their captions.

use serde::Serialize;

use super::ReportError;
use crate::{
    faults::FaultStep,
    figures::{absent, latency, steps},
    render,
    study::{Study, VmStudy},
    text::units::{count, duration, plural},
};

/// A figure on the page.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What it shows.
    pub title: String,
    /// The SVG; not in the dumped context, where it would drown the numbers.
    #[serde(skip)]
    pub svg: String,
    /// n, units, and what to read from it.
    pub caption: String,
}

/// The figures of a VM that has faults.
pub(super) fn figures(study: &Study, vm: &VmStudy) -> Result<Vec<Figure>, ReportError> {
    if vm.columns.is_empty() {
        return Ok(Vec::new());
    }
    let n = plural(vm.counts.faults(), "fault");
    let lost = lost(study, vm);
    let shade = if lost.is_empty() {
        ""
    } else {
        " Red: records are missing there."
    };
    let bin = duration(vm.timeline.bin_ns() as f64);
    let mut figures = vec![
        Figure {
            title: "Time and number of faults by class".to_owned(),
            svg: render::share(&vm.costs)?,
            caption: format!(
                "{n}. Time is from the first to the last moment seen of each fault. A class with a much larger share of the time than of the number is a dear one."
            ),
        },
        Figure {
            title: "Faults a second, and entries in the shadow tables".to_owned(),
            svg: render::rates(&vm.timeline, &lost)?,
            caption: format!(
                "{n} in stretches of {bin}, stacked by class; below, SPTEs (leaves and links) as replayed at the end of each stretch. Thin lines are the guest's phases. Faults that do not add entries are repeated or refused work.{shade}"
            ),
        },
        Figure {
            title: "How long faults last".to_owned(),
            svg: render::latency(&latency(&vm.columns, &vm.costs))?,
            caption: format!(
                "{n}, logarithmic axis, {} bins a factor of ten; each class to its own height. Triangles: p50, p95, p99. Two humps in one class are two ways through the kernel.",
                crate::figures::PER_DECADE
            ),
        },
    ];
    figures.push(step_figure(vm, &n)?);
    figures.push(Figure {
        title: "Which addresses fault when".to_owned(),
        svg: render::heat(&vm.heat, &vm.timeline)?,
        caption: format!("{n} by GVA and time, darker for more, logarithmic. A diagonal is a first walk through memory; a second mark at the same height is a page that faulted again."),
    });
    figures.push(Figure {
        title: "Shadow pages by level".to_owned(),
        svg: render::pages(&vm.timeline, &lost)?,
        caption: format!("{} at the end, {} made in all, as replayed; each takes 4 KiB of the host. A fall is KVM zapping tables.{shade}", plural(last_pages(vm), "shadow page"), count(vm.counts.page(events::PageEvent::Born))),
    });
    Ok(figures)
}

fn step_figure(vm: &VmStudy, n: &str) -> Result<Figure, ReportError> {
    let bars = steps(&vm.costs);
    let missing: Vec<_> = absent(&bars).into_iter().map(|step| step.name()).collect();
    let missing = if missing.is_empty() {
        String::new()
    } else {
        format!(
            " Absent here, because this host does not show them or no fault had them: {}.",
            missing.join(", ")
        )
    };
    let parts = bars.iter().flat_map(|bar| &bar.steps);
    let part = if parts.into_iter().any(|(step, _)| *step == FaultStep::Hva) {
        " hva is the host's part of the lookup, from HVA to frame; pfn is the rest of it."
    } else {
        ""
    };
    Ok(Figure {
        title: "Where the time of a fault goes".to_owned(),
        svg: render::steps(&bars)?,
        caption: format!(
            "{n}; the mean over all faults of a class, cut into the steps that the trace shows. The longest part is what to make cheaper.{part}{missing}"
        ),
    })
}

fn last_pages(vm: &VmStudy) -> u64 {
    vm.timeline
        .bins()
        .last()
        .map_or(0, |(_, bin)| bin.totals.all_pages())
}

/// Stretches in which records are missing, seconds from the start.
fn lost(study: &Study, vm: &VmStudy) -> Vec<(f64, f64)> {
    study
        .lost_spans()
        .into_iter()
        .map(|[from, to]| (vm.timeline.seconds(from), vm.timeline.seconds(to)))
        .collect()
}
