//! Who pays, by several keys at once.

use std::sync::Arc;

use serde_json::Value;
use trace::{Meta, Record, Sees};

use super::{By, Question, Rank, Top, causes, json, ping_pong, table};
use crate::{
    faults::{SWITCHED_OUT, Sum},
    refaults::{Options, Refaults},
    replay::VmReplay,
    study::{Follow, StudyError, Subject},
    symbols::{Symbols, short},
    table::TableError,
    text::{Cell, Column, Table, units::count},
};

/// By what a summary and a report add up.
const BY: [By; 9] = [
    By::Cause,
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
    /// By what had removed the entries; followed where a key asks for it.
    refaults: Option<Refaults>,
    tops: Vec<Top>,
}

impl Payers {
    /// By every key; nothing was read yet. Without symbols, nothing is added up by them.
    pub fn new(subject: &Subject<'_>, symbols: &Arc<Symbols>) -> Self {
        let by = BY.iter().filter(|by| match by {
            By::Symbol => !symbols.is_empty(),
            _ => true,
        });
        let questions = by.map(|by| Question {
            symbols: Arc::clone(symbols),
            keys: KEYS,
            ..Question::new(*by)
        });
        Self::of(subject, &questions.collect::<Vec<_>>())
    }

    /// By some keys. By cause, all of them are about the same faults.
    pub fn of(subject: &Subject<'_>, questions: &[Question]) -> Self {
        let asks = |by: By| questions.iter().find(|question| question.by == by);
        let options = |question: &Question| Options {
            filter: question.filter.clone(),
            ..Options::default()
        };
        // What removed an entry does not depend on the faults that are asked for.
        let options = match (asks(By::Cause), asks(By::GuestTable)) {
            (Some(question), _) => Some(options(question)),
            (None, Some(_)) => Some(Options::default()),
            (None, None) => None,
        };
        Self {
            refaults: options.map(|options| Refaults::new(subject, options)),
            tops: questions.iter().map(|of| Top::of(of, subject)).collect(),
        }
    }

    /// Each key with those who pay, in order.
    pub fn ranks(&self, meta: &Meta) -> Vec<Rank> {
        let rank = |top: &Top| match (top.by(), &self.refaults) {
            (By::Cause, Some(refaults)) => causes::rank(refaults),
            _ => top.rank(meta),
        };
        self.tops.iter().map(rank).collect()
    }

    /// What had removed the entries; absent where no key asked for it.
    pub fn refaults(&self) -> Option<&Refaults> {
        self.refaults.as_ref()
    }

    /// The sums by guest table, if they are asked for.
    pub fn guest_tables(&self) -> Option<&Top> {
        self.tops.iter().find(|top| top.by() == By::GuestTable)
    }

    /// The faults of a key, if it has any and they are added up.
    pub fn sum_of(&self, by: By, key: u64) -> Option<&Sum> {
        let top = self.tops.iter().find(|top| top.by() == by)?;
        top.sums.get(key)
    }

    /// Takes out what needs no tables, each with its place.
    pub(crate) fn part_with(&mut self) -> Vec<(usize, Top)> {
        let all = std::mem::take(&mut self.tops).into_iter().enumerate();
        let (kept, taken): (Vec<_>, _) = all.partition(|(_, top)| top.by().needs_tables());
        self.tops = kept.into_iter().map(|(_, top)| top).collect();
        taken
    }

    /// Takes back what was taken out.
    pub(crate) fn take_back(&mut self, taken: Vec<(usize, Top)>) {
        for (place, top) in taken {
            self.tops.insert(place, top);
        }
    }

    /// A moment of a filter that did not come.
    pub fn missing(&self) -> Option<TableError> {
        self.tops.iter().find_map(Top::missing)
    }
}

impl Follow for Payers {
    fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        if let Some(refaults) = &mut self.refaults {
            refaults.before(record, vm);
        }
        for top in &mut self.tops {
            top.before(record, vm);
        }
    }

    fn after(&mut self, record: &Record, vm: Option<&VmReplay>) {
        if let Some(refaults) = &mut self.refaults {
            refaults.after(record, vm);
        }
        let refault = self.refaults.as_ref().and_then(Refaults::latest);
        for top in &mut self.tops {
            top.after(record, vm, refault);
        }
    }

    fn finish(&mut self, vm: Option<&VmReplay>, sees: Sees) -> Result<(), StudyError> {
        self.tops.iter_mut().for_each(Top::finish);
        match &mut self.refaults {
            Some(refaults) => refaults.finish(vm, sees),
            None => Ok(()),
        }
    }
}

/// The first of each key; blank where no fault has a key.
pub fn brief(ranks: &[Rank]) -> Table {
    let is_switched = ranks.iter().any(|rank| rank.all.switched_out_ns > 0);
    let columns = [
        Column::code("by"),
        Column::number("of"),
        Column::words("most"),
        Column::number("faults"),
        Column::time("total"),
        Column::share("share"),
        Column::time("switched out").shown_if(is_switched),
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
            Cell::Share(first.sum.own_ns(), rank.all.own_ns()),
            Cell::Time(first.sum.switched_out_ns),
            worst.map_or(Cell::Absent, |worst| Cell::Time(worst.ns)),
            worst.map_or(Cell::Absent, |worst| Cell::Count(worst.seq.0)),
        ]);
    }
    let full = ranks.iter().filter(|rank| rank.others.count > 0);
    let full: Vec<_> = full.map(|rank| rank.by.name()).collect();
    let more = match full.is_empty() {
        true => "`analyzer top TRACE --by KEY` has the others".to_owned(),
        false => format!(
            "of {}: only among the first {}; `analyzer top TRACE --by KEY` follows more",
            full.join(", "),
            count(KEYS as u64)
        ),
    };
    match (table.is_empty(), is_switched) {
        (true, _) => table,
        (false, true) => table.rule(SWITCHED_OUT).more(more),
        (false, false) => table.more(more),
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
