//! A list of changes of entries, other than the leaves of faults.

use events::{Cause, Gfn, Gpa, Gva, Hpa, Level, Pfn, Seq, Spte, VcpuId};
use serde_json::{Value, json};
use trace::{EntryRow, Record};

use super::{Window, first::First, table_of};
use crate::{
    find::{self, Path},
    replay::{AddressSet, VmReplay, is_unchanged},
    study::Follow,
    table::TableError,
    text::{
        Cell, Column, Table, flags,
        units::{count, plural},
    },
};

/// Which changes. What is absent leaves nothing out.
#[derive(Clone, Debug, Default)]
pub struct ChangeFilter {
    /// Of one of these causes; empty for all.
    pub causes: Vec<Cause>,
    /// Of an entry that translates this address.
    pub gva: Option<Gva>,
    /// Of a leaf that maps this frame, before or after.
    pub gfn: Option<Gfn>,
    /// Of a leaf that maps this host frame, before or after.
    pub pfn: Option<Pfn>,
    /// Of an entry below a root that a vCPU runs on with this CR3.
    pub cr3: Option<Gpa>,
    /// Made by the thread of this vCPU.
    pub vcpu: Option<VcpuId>,
    /// In this stretch.
    pub window: Window,
}

impl ChangeFilter {
    /// An entry that no root leads to does not match.
    fn asks_for_ways(&self) -> bool {
        self.gva.is_some() || self.cr3.is_some()
    }

    /// One of the addresses that match, and whether there are more.
    fn ways(&self, row: &EntryRow, vm: &VmReplay) -> (Option<Path>, bool) {
        let paths = find::paths(vm, row.sptep, &mut AddressSet::default());
        let found = paths.found.into_iter();
        let mut found =
            found.filter(|path| self.is_in(path.gva, row.level) && self.is_below(path, vm));
        (found.next(), found.next().is_some())
    }

    fn is_below(&self, path: &Path, vm: &VmReplay) -> bool {
        self.cr3.is_none_or(|cr3| {
            let of = find::cr3(vm, path.root);
            of.is_some_and(|of| table_of(of) == table_of(cr3))
        })
    }

    /// Whether the entry's place agrees with the address: cheap, and true of one entry in 512.
    fn may_translate(&self, row: &EntryRow) -> bool {
        let index = |gva| row.level.index(gva);
        self.gva
            .is_none_or(|gva| index(gva) == Some(row.sptep.index()))
    }

    fn is_in(&self, first: Gva, level: Level) -> bool {
        let span = level.pages() << 12;
        self.gva
            .is_none_or(|gva| (gva.0 ^ first.0) & !(span - 1) == 0)
    }
}

/// A change with what the tables had.
#[derive(Clone, Debug)]
struct Listed {
    /// Of its record; absent for one without a record of its own.
    number: Option<u64>,
    row: EntryRow,
    /// The entry before: as the record has it, or as replay does.
    old: Option<Spte>,
    gfn: Option<Gfn>,
    /// One of the addresses that the entry translates; absent if there is none.
    path: Option<Path>,
    /// It translates others too.
    more: bool,
}

/// Whether a leaf maps a frame.
fn maps(spte: Spte, level: Level, pfn: Pfn) -> bool {
    let mask = !(level.pages() - 1);
    spte.pfn().0 & mask == pfn.0 & mask
}

/// The entry before a change.
#[derive(Clone, Copy, Debug, Default)]
struct Was {
    entry: Option<Spte>,
    gfn: Option<Gfn>,
}

impl Was {
    fn at(row: &EntryRow, vm: &VmReplay) -> Self {
        let Some(page) = vm.tables().page(row.sptep.table()) else {
            return Self::default();
        };
        let index = row.sptep.index();
        let spte = page.entry(index);
        let gfn = page.leaf_gfn(index);
        Self {
            entry: Some(spte),
            gfn: gfn.filter(|_| spte.is_leaf(page.info.level)),
        }
    }
}

/// The first changes of one VM.
#[derive(Clone, Debug)]
pub struct Changes {
    filter: ChangeFilter,
    number: u64,
    matching: u64,
    /// Of the record under way: it was read again and had not changed.
    is_unchanged: bool,
    unchanged: u64,
    was: Was,
    /// Of the record under way: leaves that go without a record of their own.
    gone: Vec<EntryRow>,
    first: First<(Seq, Hpa), Listed>,
}

impl Changes {
    /// Nothing was read yet; `most` are kept.
    pub fn new(filter: ChangeFilter, most: usize) -> Self {
        Self {
            filter,
            number: 0,
            matching: 0,
            is_unchanged: false,
            unchanged: 0,
            was: Was::default(),
            gone: Vec::new(),
            first: First::new(most),
        }
    }

    /// A moment of the filter that did not come.
    pub fn missing(&self) -> Option<TableError> {
        self.filter.window.missing()
    }

    fn change(&mut self, number: Option<u64>, row: &EntryRow, vm: &VmReplay) {
        let gfn = row.gfn.or(self.was.gfn);
        let is_of_cause = self.filter.causes.is_empty() || self.filter.causes.contains(&row.cause);
        let is_of_gfn = self.filter.gfn.is_none_or(|wanted| {
            let pages = row.level.pages();
            gfn.is_some_and(|gfn| gfn.0 & !(pages - 1) == wanted.0 & !(pages - 1))
        });
        let is_of_vcpu = self.filter.vcpu.is_none() || self.filter.vcpu == row.vcpu;
        let is_of_pfn = self.filter.pfn.is_none_or(|pfn| {
            let maps = |spte: Spte| spte.is_leaf(row.level) && maps(spte, row.level, pfn);
            maps(row.spte) || row.old.or(self.was.entry).is_some_and(maps)
        });
        let filter = &self.filter;
        if !(is_of_cause && is_of_gfn && is_of_vcpu && is_of_pfn && filter.may_translate(row)) {
            return;
        }
        let mut ways = filter.asks_for_ways().then(|| filter.ways(row, vm));
        if matches!(ways, Some((None, _))) {
            return;
        }
        if self.is_unchanged {
            self.unchanged += 1;
            return;
        }
        self.matching += 1;
        let old = row.old.or(self.was.entry);
        self.first.add((row.seq, row.sptep), || {
            // The way to each entry costs more than all else: only of what is listed.
            let (path, more) = ways.take().unwrap_or_else(|| filter.ways(row, vm));
            Listed {
                number,
                row: row.clone(),
                old,
                gfn,
                path,
                more,
            }
        });
    }

    /// As a table.
    pub fn table(&self, start_ns: u64) -> Table {
        let columns = [
            Column::code("seq"),
            Column::number("change"),
            Column::time("at"),
            Column::code("cause"),
            Column::number("level"),
            Column::code("gva"),
            Column::code("gfn"),
            Column::code("before"),
            Column::code("after"),
        ];
        let title = "Changes of entries, other than the leaves of faults";
        let mut table = Table::new("changes", title, columns);
        let listed = self.first.in_order();
        for of in &listed {
            let gva = of.path.map(|path| match of.more {
                true => format!("{} and more", path.gva),
                false => path.gva.to_string(),
            });
            table.row([
                Cell::words(of.row.seq.0.to_string()),
                of.number.map_or(Cell::Absent, Cell::Count),
                Cell::At(of.row.time_ns.0.saturating_sub(start_ns)),
                Cell::words(of.row.cause.name()),
                Cell::Count(of.row.level.0.into()),
                gva.map_or(Cell::Absent, Cell::words),
                of.gfn.map_or(Cell::Absent, |gfn| Cell::Address(gfn.0)),
                of.old
                    .map_or(Cell::Absent, |old| Cell::words(flags::spte(old))),
                Cell::words(flags::spte(of.row.spte)),
            ]);
        }
        let listed = count(listed.len() as u64);
        let listed = format!("{listed} of {} that match", count(self.matching));
        table.more(match self.unchanged {
            0 => listed,
            unchanged => format!(
                "{listed}; {} read again and had not changed",
                plural(unchanged, "entry")
            ),
        })
    }

    /// For programs.
    pub fn json(&self, start_ns: u64) -> Value {
        let changes = self.first.in_order().into_iter().map(|of| {
            json!({
                "seq": of.row.seq, "change": of.number,
                "at_ns": of.row.time_ns.0.saturating_sub(start_ns), "vcpu": of.row.vcpu,
                "cause": of.row.cause, "level": of.row.level, "sptep": of.row.sptep,
                "old": of.old, "new": of.row.spte, "gfn": of.gfn,
                "gva": of.path.map(|path| path.gva), "root": of.path.map(|path| path.root),
                "more_addresses": of.more,
            })
        });
        json!({"matching": self.matching, "unchanged": self.unchanged, "changes": changes.collect::<Vec<_>>()})
    }
}

impl Follow for Changes {
    fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        self.was = Was::default();
        self.is_unchanged = matches!(record, Record::Entry(row) if is_unchanged(row, vm));
        match (record, vm) {
            (Record::Entry(row), Some(vm)) => self.was = Was::at(row, vm),
            (Record::Host(row), Some(vm)) => self.gone = vm.gone(row),
            _ => {}
        }
    }

    fn after(&mut self, record: &Record, vm: Option<&VmReplay>) {
        let number = self.number;
        self.number += u64::from(matches!(record, Record::Entry(_)));
        let inside = self.filter.window.admits(record);
        let gone = std::mem::take(&mut self.gone);
        let Some(vm) = vm.filter(|_| inside) else {
            return;
        };
        if let Record::Entry(row) = record {
            self.change(Some(number), row, vm);
        }
        self.is_unchanged = false;
        for row in gone.iter().chain(&vm.recycled(record)) {
            self.change(None, row, vm);
        }
    }
}
