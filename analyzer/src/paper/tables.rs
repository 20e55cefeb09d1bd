//! Ours and the paper's as tables.

use super::{CONFIGS, Ratio, SOURCE, Step, Timed};
use crate::text::{Cell, Column, Table, units::whole};

/// Common headings of the columns.
const HERE: &str = "here";
const PAPER: &str = "paper";

/// Above every table with numbers of the paper.
fn source() -> String {
    format!(
        "{SOURCE}. BM: bare metal, NST: nested; kvm: Table 1 KVM, Tables 2 to 4 KVM with shadow \
         paging."
    )
}

fn time(ns: Option<f64>) -> Cell {
    ns.map_or(Cell::Absent, |ns| Cell::Time(whole(ns.round())))
}

/// Two digits after the point; for programs too.
fn ratio(value: Option<f64>) -> Cell {
    value.map_or(Cell::Absent, |value| Cell::words(format!("{value:.2}")))
}

/// The operation of one recording; blank for other workloads.
pub fn brief(timed: Option<&Timed>) -> Table {
    operations(timed.map(std::slice::from_ref).unwrap_or_default())
}

/// Each operation with the paper's number for the nearest one.
pub fn operations(timed: &[Timed]) -> Table {
    let mut columns = vec![Column::code("op")];
    let with_others = timed.iter().any(|one| !one.others.is_empty());
    if with_others {
        columns.push(Column::code("at"));
    }
    columns.extend([
        Column::number("count").under(HERE),
        Column::time("q1").under(HERE),
        Column::time("median").under(HERE),
        Column::time("q3").under(HERE),
    ]);
    columns.extend(CONFIGS.map(|config| Column::time(config).under(PAPER)));
    columns.push(Column::words("in the paper").for_programs());
    let mut table = Table::new(
        "operations",
        "Operations by the guest's clock, and the paper's times",
        columns,
    )
    .note(source());
    let mut notes = Vec::new();
    for one in timed {
        let mut cells = vec![Cell::words(&one.op)];
        if with_others {
            cells.push(Cell::words(&one.others));
        }
        cells.push(Cell::Count(one.count));
        let quartiles = one.quartiles_ns.map(|of| of.map(Some));
        cells.extend(quartiles.unwrap_or_default().map(time));
        let us = one.published.map_or([None; 4], |published| published.us);
        cells.extend(us.map(|us| time(us.map(|us| us * 1e3))));
        let place = one.published.and_then(|published| published.table);
        cells.push(place.map_or(Cell::Absent, Cell::words));
        table.row(cells);
        if let Some(published) = one.published {
            let place = place.map_or_else(String::new, |place| format!(" ({place})"));
            let note = format!("{}{place}: {}.", one.op, published.differs);
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    match notes.is_empty() {
        true => table,
        false => table.more(notes.join(" ")),
    }
}

/// Operations in units of others, here and in the paper; blank without two of them.
pub fn ratio_table(ratios: &[Ratio]) -> Table {
    let mut columns = vec![Column::code("op"), Column::code("in units of")];
    let with_others = ratios.iter().any(|one| !one.others.is_empty());
    if with_others {
        columns.push(Column::code("at"));
    }
    columns.push(Column::number("here"));
    columns.extend(CONFIGS.map(|config| Column::number(config).under(PAPER)));
    let mut table = Table::new(
        "ratios",
        "What operations cost in proportion, here and in the paper",
        columns,
    )
    .note(source());
    for one in ratios {
        let mut cells = vec![Cell::words(one.op), Cell::words(one.of)];
        if with_others {
            cells.push(Cell::words(&one.others));
        }
        cells.push(ratio(Some(one.ours)));
        cells.extend(one.published.map(ratio));
        table.row(cells);
    }
    table
}

/// `alloc` by its processes; blank without any.
pub fn scaling_table(steps: &[Step]) -> Table {
    let columns = [
        Column::number("processes"),
        Column::code("at"),
        Column::time("work"),
        Column::number("times"),
        Column::number("times a process"),
    ];
    let mut table = Table::new(
        "scaling",
        "Time of the work by the number of processes",
        columns,
    )
    .note(format!(
        "In units of the fewest processes. {SOURCE}, Figures 4 and 10 show the same for its \
             guests: figure only, no number in the text."
    ));
    for step in steps {
        table.row([
            Cell::Count(step.processes),
            Cell::words(&step.others),
            time(Some(step.work_ns)),
            ratio(step.times),
            ratio(step.times_each),
        ]);
    }
    table
}
