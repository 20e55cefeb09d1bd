//! How a trace was recorded, for the end of its part of the page.

use trace::{ProbeState, Trace};

use crate::summary::{self, Summary};
use crate::text::{
    Cell, Column, Table,
    units::{bytes, mean, plural},
};

/// Host, program and options.
pub(super) fn method(trace: &Trace) -> Table {
    let meta = trace.meta();
    let parameters = meta.host.parameters.iter();
    let parameters: Vec<_> = parameters
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let end = meta.end.as_ref().map(|end| end.reason.clone());
    let columns = [Column::code("what"), Column::words("value")];
    let mut table = Table::new("method", "How it was recorded", columns);
    for (name, value) in [
        ("command", meta.command.join(" ")),
        (
            "recorder",
            format!("{} {}", meta.tool.name, meta.tool.version),
        ),
        (
            "kernel",
            format!("{} {}", meta.host.kernel, meta.host.kernel_version),
        ),
        ("hypervisor", meta.host.hypervisor.clone()),
        (
            "processor",
            format!("{} ({} online)", meta.host.cpu, meta.host.cpus),
        ),
        ("module parameters", parameters.join(" ")),
        ("lockdown", meta.host.lockdown.clone()),
        ("clock", meta.clock.clone()),
        ("ring buffer", bytes(meta.ring_bytes)),
        ("end", end.unwrap_or_else(|| "cut".to_owned())),
        ("schema", format!("version {}", meta.schema)),
    ] {
        if !value.trim().is_empty() {
            table.row([Cell::words(name), Cell::words(value)]);
        }
    }
    table
}

/// Probes that record nothing, by the reason.
pub(super) fn absent(summary: &Summary) -> Table {
    let title = format!(
        "Not attached: {}",
        plural(summary.absent.len() as u64, "probe")
    );
    summary::absent_probes(&summary.absent).titled(title)
}

/// Probes that are attached.
pub(super) fn probes(trace: &Trace) -> Table {
    let meta = trace.meta();
    let programs = meta.end.iter().flat_map(|end| &end.programs);
    let columns = [
        Column::words("hook"),
        Column::words("note"),
        Column::words("refused before"),
        Column::number("runs"),
        Column::time("mean cost"),
    ];
    let mut table = Table::new("probes", "Probes that were attached", columns);
    for probe in meta.probes.iter().filter(|probe| probe.attached) {
        let cost = programs
            .clone()
            .find(|program| program.name == probe.name && program.runs > 0);
        table.row([
            Cell::words(&probe.hook),
            Cell::words(&probe.note),
            Cell::words(refusals(probe)),
            Cell::count(cost.map(|cost| cost.runs)),
            cost.map_or(Cell::Absent, |cost| Cell::Time(mean(cost.ns, cost.runs))),
        ]);
    }
    table
}

/// Hooks that were refused, together where the kernel said the same: `a, b: not permitted`. The
/// note of a probe that is not there has the first one's.
fn refusals(probe: &ProbeState) -> String {
    let mut refusals: Vec<(&str, Vec<&str>)> = Vec::new();
    for one in probe.tried.iter().skip(usize::from(!probe.attached)) {
        match refusals.iter_mut().find(|(why, _)| *why == one.refused) {
            Some((_, hooks)) => hooks.push(&one.hook),
            None => refusals.push((&one.refused, vec![&one.hook])),
        }
    }
    let refusals = refusals.iter();
    let refusals = refusals.map(|(why, hooks)| format!("{}: {why}", hooks.join(", ")));
    refusals.collect::<Vec<_>>().join("; ")
}
