//! A list of faults.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use clap::ValueEnum;
use events::{Hpa, Seq};
use serde_json::{Value, json};
use trace::{FaultRow, Record};

use super::{FaultFilter, first::First};
use crate::{
    faults::FaultStep,
    replay::VmReplay,
    study::Follow,
    symbols::Symbols,
    table::TableError,
    text::{Cell, Column, Table, flags, units::count},
};

/// In which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Those that took longest first
    Total,
    /// As they came
    Seq,
}

/// A fault, with its number among those of the VM.
#[derive(Clone, Debug)]
struct Listed {
    number: u64,
    row: FaultRow,
}

/// The first faults of one VM in some order.
#[derive(Clone, Debug)]
pub struct Faults {
    filter: FaultFilter,
    sort: Sort,
    number: u64,
    matching: u64,
    first: First<(Reverse<u64>, Seq), Listed>,
}

impl Faults {
    /// Nothing was read yet; `most` are kept.
    pub fn new(filter: FaultFilter, sort: Sort, most: usize) -> Self {
        Self {
            filter,
            sort,
            number: 0,
            matching: 0,
            first: First::new(most),
        }
    }

    /// Faults that the filter admits.
    pub fn matching(&self) -> u64 {
        self.matching
    }

    /// A moment of the filter that did not come.
    pub fn missing(&self) -> Option<TableError> {
        self.filter.window.missing()
    }

    /// As a table.
    pub fn table(&self, symbols: &Arc<Symbols>, start_ns: u64, times: &str) -> Table {
        let mut columns = vec![
            Column::code("seq"),
            Column::number("fault"),
            Column::time("at"),
            Column::number("vCPU"),
            Column::code("class"),
            Column::code("gva"),
            Column::time("took"),
        ];
        let named = !symbols.is_empty();
        let rip = Column::code("rip");
        match named {
            // The function says more, and there is room for one of them.
            true => columns.extend([rip.for_programs(), Column::words("in")]),
            false => columns.push(rip),
        }
        let listed = self.first.in_order();
        let was_out = |of: &Listed| of.row.switches.is_some_and(|times| times > 0);
        let out = listed.iter().filter(|of| was_out(of)).count();
        let title = match self.sort {
            Sort::Total => "The faults that took longest",
            Sort::Seq => "Faults as they came",
        };
        if out > 0 {
            columns.push(Column::number("out"));
        }
        let mut table = Table::new("faults", title, columns).note(times);
        for Listed { number, row } in &listed {
            let place = row.rip.and_then(|rip| symbols.place(rip));
            let place = named.then(|| place.map_or(Cell::Absent, Cell::words));
            let switches = row.switches.map(u64::from);
            let switches = (out > 0).then(|| Cell::count(switches));
            let cells = [
                Cell::words(row.seq.0.to_string()),
                Cell::Count(*number),
                Cell::At(row.time_ns.0.saturating_sub(start_ns)),
                Cell::Count(row.vcpu.0.into()),
                Cell::words(row.class.name()),
                Cell::Address(row.gva.0),
                Cell::Time(row.total_ns),
                row.rip.map_or(Cell::Absent, |rip| Cell::Address(rip.0)),
            ];
            table.row(cells.into_iter().chain(place).chain(switches));
        }
        let matching = format!(
            "{} of {} that match",
            count(listed.len() as u64),
            count(self.matching)
        );
        table.more(match out {
            0 => matching,
            _ => format!(
                "{matching}; out: how often the thread was switched out, which is in the time"
            ),
        })
    }

    /// For programs.
    pub fn json(&self, symbols: &Arc<Symbols>, start_ns: u64) -> Value {
        let faults = self.first.in_order().into_iter().map(|Listed { number, row }| {
            // No shadow root is frame 0: an imported trace has neither.
            let known = row.root != Hpa(0);
            json!({
                "seq": row.seq, "fault": number,
                "at_ns": row.time_ns.0.saturating_sub(start_ns), "vcpu": row.vcpu,
                "class": row.class, "gva": row.gva, "error_code": flags::error_code(row.error_code),
                "cr3": known.then_some(row.cr3), "root": known.then_some(row.root), "rip": row.rip,
                "in": row.rip.and_then(|rip| symbols.place(rip)), "gpa": row.gpa,
                "pfn": row.pfn, "sptep": row.sptep, "spte": row.spte, "level": row.level,
                "total_ns": row.total_ns, "switches": row.switches,
                "steps": FaultStep::ALL
                    .into_iter()
                    .filter_map(|step| Some((format!("{}_ns", step.name()), step.of(row)?)))
                    .collect::<BTreeMap<_, _>>(),
            })
        });
        json!({"matching": self.matching, "faults": faults.collect::<Vec<_>>()})
    }
}

impl Follow for Faults {
    fn after(&mut self, record: &Record, _: Option<&VmReplay>) {
        let number = self.number;
        self.number += u64::from(matches!(record, Record::Fault(_)));
        if let Some(row) = self.filter.fault(record) {
            self.matching += 1;
            let total = match self.sort {
                Sort::Total => row.total_ns,
                Sort::Seq => 0,
            };
            let listed = || Listed {
                number,
                row: row.clone(),
            };
            self.first.add((Reverse(total), row.seq), listed);
        }
    }
}
