//! Who pays, by every key at once: what a summary and a report show.

use std::sync::Arc;

use serde_json::Value;
use trace::{Meta, Record, Sees};

use super::{By, Question, Rank, Top, json, ping_pong, table};
use crate::{
    replay::VmReplay,
    study::{Follow, StudyError, Subject},
    symbols::{Symbols, short},
    text::{Cell, Column, Table, units::count},
};

/// By what. Changes by cause have a table of their own.
const BY: [By; 8] = [
    By::Cr3,
    By::Symbol,
    By::Rip,
    By::GvaRange,
    By::Slot,
    By::GuestTable,
    By::ShadowPage,
    By::Vcpu,
];
/// Keys of each that have a sum of their own: 16 MiB at most.
const KEYS: usize = 1 << 16;
/// Payers that programs get, and rows of a table.
const FIRST: usize = 10;

/// The sums of one VM by each key.
#[derive(Clone, Debug)]
pub struct Payers {
    tops: Vec<Top>,
}

impl Payers {
    /// Nothing was read yet. Without symbols, nothing is added up by them.
    pub fn new(subject: &Subject<'_>, symbols: &Arc<Symbols>) -> Self {
        let by = BY.iter().filter(|by| match by {
            By::Symbol => !symbols.is_empty(),
            _ => true,
        });
        let top = |by: &By| {
            let question = Question {
                symbols: Arc::clone(symbols),
                keys: KEYS,
                ..Question::new(*by)
            };
            Top::of(&question, subject)
        };
        Self {
            tops: by.map(top).collect(),
        }
    }

    /// Each key with those who pay, in order.
    pub fn ranks(&self, meta: &Meta) -> Vec<Rank> {
        self.tops.iter().map(|top| top.rank(meta)).collect()
    }
}

impl Follow for Payers {
    fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        for top in &mut self.tops {
            top.before(record, vm);
        }
    }

    fn after(&mut self, record: &Record, vm: Option<&VmReplay>) {
        for top in &mut self.tops {
            top.after(record, vm);
        }
    }

    fn finish(&mut self, vm: Option<&VmReplay>, sees: Sees) -> Result<(), StudyError> {
        self.tops
            .iter_mut()
            .try_for_each(|top| top.finish(vm, sees))
    }
}

/// The first of each key; blank where no fault has a key.
pub fn brief(ranks: &[Rank]) -> Table {
    let columns = [
        Column::code("by"),
        Column::number("of"),
        Column::words("most"),
        Column::number("faults"),
        Column::time("total"),
        Column::share("share"),
        Column::time("worst"),
        Column::number("worst seq"),
    ];
    let mut table = Table::new("payers", "Who pays most", columns);
    for rank in ranks {
        let mut paying = rank.payers.iter().filter(|payer| payer.sum.count > 0);
        let Some(first) = paying.next() else {
            continue;
        };
        let name = match (rank.by, first.about.is_empty()) {
            (By::Symbol, _) => short(&first.name),
            (_, true) => first.name.clone(),
            (_, false) => format!("{}, {}", first.name, first.about),
        };
        let worst = first.sum.worst;
        table.row([
            Cell::words(rank.by.name()),
            Cell::Count(1 + paying.count() as u64),
            Cell::words(name),
            Cell::Count(first.sum.count),
            Cell::Time(first.sum.total_ns),
            Cell::Share(first.sum.total_ns, rank.all.total_ns),
            worst.map_or(Cell::Absent, |worst| Cell::Time(worst.ns)),
            worst.map_or(Cell::Absent, |worst| Cell::Count(worst.seq.0)),
        ]);
    }
    let full = ranks.iter().filter(|rank| rank.others.count > 0);
    let full: Vec<_> = full.map(|rank| rank.by.name()).collect();
    match (table.is_empty(), full.is_empty()) {
        (true, _) => table,
        (false, true) => table.more("`analyzer top TRACE --by KEY` has the others"),
        (false, false) => table.more(format!(
            "of {}: only among the first {}; `analyzer top TRACE --by KEY` follows more",
            full.join(", "),
            count(KEYS as u64)
        )),
    }
}

/// A table of each key, and what became of the guest's tables.
pub fn tables(ranks: &[Rank], start_ns: u64, times: &str) -> Vec<Table> {
    let of = |rank: &Rank| {
        let pays = table(rank, FIRST, start_ns, times);
        [
            Some(pays),
            rank.follows_tables.then(|| ping_pong(rank, FIRST)),
        ]
    };
    ranks.iter().flat_map(of).flatten().collect()
}

/// Those who pay most, for programs.
pub fn first(ranks: &[Rank], start_ns: u64) -> Vec<Value> {
    ranks
        .iter()
        .map(|rank| json(rank, FIRST, start_ns))
        .collect()
}
