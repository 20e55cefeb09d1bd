//! What was compared with KVM's own counts, and the probes that record nothing.

use super::{Absent, Detail};
use crate::{
    faults::{Reconciled, Relation},
    text::{
        Cell, Column, Table,
        units::{count, signed},
    },
};

/// KVM's counters compared with the trace; in brief, without those that are equal or not compared.
pub fn counters(lines: &[Reconciled], detail: Detail) -> Table {
    let columns = [
        Column::code("counter"),
        Column::number("KVM"),
        Column::number("trace"),
        Column::code("verdict"),
        Column::words("what KVM counts"),
    ];
    let mut table = Table::new("counters", "KVM's own counters", columns);
    let (mut equal, mut not_compared) = (0, 0);
    for line in lines {
        let is_equal = line.agrees && line.difference() == 0;
        match (line.relation, is_equal, detail) {
            (Relation::NotCompared, _, Detail::Brief) => not_compared += 1,
            (_, true, Detail::Brief) => equal += 1,
            _ => table.row([
                Cell::words(&line.counter),
                Cell::Signed(line.kvm),
                line.trace.map_or(Cell::Absent, Cell::Signed),
                Cell::words(verdict(line)),
                Cell::words(what(line)),
            ]),
        }
    }
    let hidden = [(equal, "equal"), (not_compared, "not compared")];
    let hidden = hidden.iter().filter(|(number, _)| *number > 0);
    let hidden: Vec<_> = hidden
        .map(|(number, what)| format!("{} {what}", count(*number)))
        .collect();
    match hidden.is_empty() {
        true => table,
        false => table.more(format!("{}; -v lists them", hidden.join(", "))),
    }
}

fn verdict(line: &Reconciled) -> String {
    match line.agrees {
        true => line.verdict.to_owned(),
        false => format!("{} by {}", line.verdict, signed(line.difference())),
    }
}

fn what(line: &Reconciled) -> String {
    match line.why {
        Some(why) => format!("{}; {why}", line.counts),
        None => line.counts.to_owned(),
    }
}

/// Probes that record nothing, together where the reason is the same.
pub fn absent_probes(absent: &[Absent]) -> Table {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for probe in absent {
        let why = reason(probe);
        match reasons.iter_mut().find(|(other, _)| *other == why) {
            Some((_, probes)) => probes.push(&probe.name),
            None => reasons.push((why, vec![&probe.name])),
        }
    }
    let columns = [Column::words("reason"), Column::words("probes")];
    let mut table = Table::new("absent", "", columns);
    for (why, probes) in reasons {
        table.row([Cell::words(why), Cell::words(probes.join(", "))]);
    }
    table
}

/// What the kernel said of the first choice, or the plan of a hook that it did not try. What the
/// results lack comes after the semicolon; it is in the report.
fn reason(probe: &Absent) -> &str {
    match probe.tried.first() {
        Some(first) => &first.refused,
        None => probe.why.split(';').next().unwrap_or_default(),
    }
}
