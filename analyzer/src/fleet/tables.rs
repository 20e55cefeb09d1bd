//! The sums of several traces, for people.

use std::cmp::Reverse;

use super::Fleet;
use crate::text::{
    Cell, Column, Document, Section, Table,
    units::{ns, percent, plural},
};

/// Traces listed where nobody asks for all.
const LISTED: usize = 40;

/// The tables.
pub fn document(fleet: &Fleet) -> Document {
    let sums = Section {
        title: format!(
            "{}: {}, {}, {}",
            plural(fleet.traces.len() as u64, "trace"),
            plural(fleet.vms, "VM"),
            plural(fleet.faults, "fault"),
            plural(fleet.records, "record"),
        ),
        lines: lines(fleet),
        tables: vec![
            classes(fleet),
            steps(fleet),
            changes(fleet),
            refaults(fleet),
        ],
        ..Section::default()
    };
    let each = Section {
        title: "Each trace".to_owned(),
        tables: vec![traces(fleet)],
        ..Section::default()
    };
    Document {
        sections: vec![sums, each],
        tail: vec![
            "Not added up: percentiles (the medians are the lowest and the highest of a VM), phases, \
             KVM's counters, who pays (an address means another thing in another guest). \
             `analyzer summary TRACE` has them."
                .to_owned(),
        ],
        ..Document::default()
    }
}

fn lines(fleet: &Fleet) -> Vec<String> {
    let mut lines = Vec::new();
    let traces = fleet.traces.len() as u64;
    if fleet.timed_traces < traces {
        lines.push(format!(
            "Times are of {}; those of {} of emulated CPUs are not added to them.",
            plural(fleet.timed_traces, "trace"),
            plural(traces - fleet.timed_traces, "trace"),
        ));
    } else if fleet.traces.iter().any(|of| of.emulated) {
        lines.push("Times are those of emulated CPUs, not of real machines.".to_owned());
    }
    if let Some(run) = fleet.run_ns.filter(|run| *run > 0) {
        lines.push(format!(
            "Of the run ({} of all vCPUs together), {} were faults ({}).",
            ns(run),
            ns(fleet.faults_ns),
            percent(fleet.faults_ns, run),
        ));
    }
    lines
}

fn classes(fleet: &Fleet) -> Table {
    let columns = [
        Column::code("class"),
        Column::number("faults"),
        Column::time("total"),
        Column::share("share"),
        Column::share("of run"),
        Column::time("lowest p50"),
        Column::time("highest p50"),
        Column::time("longest"),
    ];
    let mut table = Table::new("classes", "Cost by class", columns);
    let mut sorted: Vec<_> = fleet.classes.iter().collect();
    sorted.sort_by_key(|(_, of)| Reverse(of.total_ns));
    for (class, of) in sorted {
        let is_timed = of.timed > 0;
        let time = |ns: u64| {
            if is_timed {
                Cell::Time(ns)
            } else {
                Cell::Absent
            }
        };
        let [low, high] = of.p50_ns.unwrap_or_default();
        let share = match is_timed {
            true => Cell::Share(of.total_ns, fleet.faults_ns),
            false => Cell::Absent,
        };
        let of_run = fleet.run_ns.filter(|_| is_timed);
        table.row([
            Cell::words(class),
            Cell::Count(of.count),
            time(of.total_ns),
            share,
            of_run.map_or(Cell::Absent, |run| Cell::Share(of.total_ns, run)),
            time(low),
            time(high),
            time(of.max_ns),
        ]);
    }
    table
}

fn steps(fleet: &Fleet) -> Table {
    let columns = [
        Column::code("class"),
        Column::code("step"),
        Column::number("faults"),
        Column::time("total"),
    ];
    let mut table = Table::new("steps", "Time by step", columns)
        .note("faults: those whose platform shows the step; hva is a part of pfn");
    for (class, of) in &fleet.classes {
        for step in &of.steps {
            table.row([
                Cell::words(class),
                Cell::words(step.step),
                Cell::Count(step.count),
                Cell::Time(step.total_ns),
            ]);
        }
    }
    table
}

fn changes(fleet: &Fleet) -> Table {
    let columns = [Column::code("cause"), Column::number("entries")];
    let title = "Changes of entries, other than the leaves of faults";
    let mut table = Table::new("changes", title, columns);
    for (cause, count) in fleet.entries.iter().filter(|(_, count)| **count > 0) {
        table.row([Cell::words(cause), Cell::Count(*count)]);
    }
    table
}

fn refaults(fleet: &Fleet) -> Table {
    let columns = [
        Column::code("cause"),
        Column::number("acts"),
        Column::number("removed"),
        Column::number("weakened"),
        Column::number("refaults"),
        Column::time("total"),
        Column::number("over gap"),
    ];
    let mut table = Table::new("refaults", "Why addresses faulted again", columns);
    let mut sorted: Vec<_> = fleet.refaults.iter().collect();
    sorted.sort_by_key(|(_, of)| Reverse((of.total_ns, of.refaults)));
    for (cause, of) in sorted {
        table.row([
            Cell::words(cause),
            Cell::Count(of.acts),
            Cell::Count(of.entries_removed),
            Cell::Count(of.entries_weakened),
            Cell::Count(of.refaults),
            match of.timed {
                0 => Cell::Absent,
                _ => Cell::Time(of.total_ns),
            },
            Cell::Count(of.refaults_over_gap),
        ]);
    }
    table
}

fn traces(fleet: &Fleet) -> Table {
    let columns = [
        Column::words("trace"),
        Column::number("VMs"),
        Column::number("faults"),
        Column::time("in faults"),
        Column::share("of run"),
        Column::number("lost"),
        Column::words("exact"),
    ];
    let mut table = Table::new("traces", "", columns);
    for of in &fleet.traces {
        let times = if of.emulated { ", emulated" } else { "" };
        let exact = if of.exact { "yes" } else { "no" };
        table.row([
            Cell::words(&of.trace),
            Cell::Count(of.vms),
            Cell::Count(of.faults),
            Cell::Time(of.faults_ns),
            of.run_ns
                .map_or(Cell::Absent, |run| Cell::Share(of.faults_ns, run)),
            Cell::Count(of.lost_records),
            Cell::words(format!("{exact}{times}")),
        ]);
    }
    table.first(LISTED)
}
