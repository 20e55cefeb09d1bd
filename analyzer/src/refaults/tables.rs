//! Refaults as text.

use super::{ActBill, CauseBill, Refaulted};
use crate::{
    faults::SWITCHED_OUT,
    text::{
        Cell, Column, Section, Table,
        units::{count, ns, plural},
    },
};

/// What the numbers say, and do not say.
const NOTE: &str = "An address is an entry of a guest's table, in one role. Times are those of the \
                    refaults, not of the acts.";

/// The bill of each cause, for the summary and the report; blank without a refault.
pub fn brief(refaulted: &Refaulted) -> Table {
    let totals = refaulted.totals;
    let causes = &refaulted.causes;
    let mut columns = vec![
        Column::code("cause"),
        Column::number("acts"),
        Column::number("removed"),
        Column::number("weakened"),
        Column::number("refaults"),
        match causes.iter().any(|bill| bill.retried > 0) {
            true => Column::number("retried"),
            false => Column::number("retried").for_programs(),
        },
        Column::time("total"),
    ];
    let is_switched = causes.iter().any(|bill| bill.switched_out_ns > 0);
    columns.extend(is_switched.then_some(Column::time("switched out")));
    columns.extend([Column::time("p50"), Column::time("worst")]);
    let title = format!(
        "Causes of refaults: {} of {} on the VM's memory, on an address that was mapped before",
        count(totals.refaults),
        plural(totals.faults, "fault"),
    );
    let mut table = Table::new("refaults", title, columns);
    for bill in causes
        .iter()
        .filter(|bill| bill.refaults + bill.refaults_after_window > 0)
    {
        let mut cells = vec![
            Cell::words(bill.cause.name()),
            Cell::Count(bill.acts),
            Cell::Count(bill.entries_removed),
            Cell::Count(bill.entries_weakened),
            Cell::Count(bill.refaults),
            Cell::Count(bill.retried),
            Cell::Time(bill.total_ns),
        ];
        cells.extend(is_switched.then_some(Cell::Time(bill.switched_out_ns)));
        cells.extend([
            bill.p50_ns.map_or(Cell::Absent, Cell::Time),
            bill.worst
                .map_or(Cell::Absent, |worst| Cell::Time(worst.ns)),
        ]);
        table.row(cells);
    }
    table
        .more(marked(refaulted))
        .rule(if is_switched { SWITCHED_OUT } else { "" })
}

/// What lies over a gap, or is not known; empty if nothing is.
fn marked(refaulted: &Refaulted) -> String {
    let sum = |of: fn(&CauseBill) -> u64| refaulted.causes.iter().map(of).sum::<u64>();
    let over = sum(|bill| bill.refaults_over_gap);
    let later = sum(|bill| bill.refaults_after_window);
    let [retried, emulated] = [sum(|bill| bill.retried), sum(|bill| bill.emulated)];
    let mut words: Vec<_> = refaulted.counted.map(str::to_owned).into_iter().collect();
    if retried > 0 {
        words.push(format!(
            "KVM gave up {} of them (`retried`): the same access faulted once more; p50 is of the \
             others",
            count(retried)
        ));
    }
    if emulated > 0 {
        words.push(format!(
            "KVM emulated {} of them (`write_protected`): they got no entry",
            count(emulated)
        ));
    }
    if over > 0 {
        let refaults = plural(over, "refault");
        words.push(format!(
            "RECORDS MISSING between act and fault of {refaults}: the cause may be another"
        ));
    }
    if let Some(window) = refaulted.window_ns {
        let later = plural(later, "refault");
        words.push(format!(
            "{later} came more than {} after the act",
            ns(window)
        ));
    }
    if refaulted.totals.not_followed > 0 {
        let faults = plural(refaulted.totals.not_followed, "fault");
        words.push(format!(
            "{faults} on a table that was not known yet, or beyond the bound"
        ));
    }
    words.join("; ")
}

/// Everything that `refaults` prints of a VM.
pub fn section(vm: u16, about: &str, refaulted: &Refaulted) -> Section {
    Section {
        vm: Some(vm),
        title: format!("VM {vm} ({about})"),
        lines: vec![totals(refaulted), NOTE.to_owned()],
        tables: [brief(refaulted)]
            .into_iter()
            .chain(details(refaulted))
            .collect(),
    }
}

/// What was removed, and the acts that cost most.
pub fn details(refaulted: &Refaulted) -> [Table; 2] {
    [removals(refaulted), acts(refaulted)]
}

fn totals(refaulted: &Refaulted) -> String {
    let totals = refaulted.totals;
    format!(
        "{} on the VM's memory (not `guest`, not `mmio`): {} on an address that was mapped before, \
         {} on one that was not, {} on an entry that was there without the right and that nothing \
         had weakened, {} whose entry went while KVM handled them, {} with nothing missing",
        plural(totals.faults, "fault"),
        count(totals.refaults),
        count(totals.first),
        count(totals.strengthened),
        count(totals.went_meanwhile),
        count(totals.nothing_missing),
    )
}

/// What each cause removed, with or without refaults.
fn removals(refaulted: &Refaulted) -> Table {
    let columns = [
        Column::code("cause"),
        Column::number("acts"),
        Column::number("pages zapped"),
        Column::number("removed"),
        Column::number("weakened"),
        Column::words("what happened"),
    ];
    let mut table = Table::new("removals", "What was removed", columns);
    for bill in &refaulted.causes {
        table.row([
            Cell::words(bill.cause.name()),
            Cell::Count(bill.acts),
            Cell::Count(bill.pages_zapped),
            Cell::Count(bill.entries_removed),
            Cell::Count(bill.entries_weakened),
            Cell::words(bill.meaning),
        ]);
    }
    table
}

fn acts(refaulted: &Refaulted) -> Table {
    let mut columns = vec![
        Column::number("seq"),
        Column::time("at"),
        Column::code("cause"),
        Column::words("what"),
        Column::number("entries"),
        Column::number("refaults"),
        Column::time("total"),
    ];
    let is_switched = refaulted.acts.iter().any(|act| act.switched_out_ns > 0);
    columns.extend(is_switched.then_some(Column::time("switched out")));
    columns.push(Column::number("worst seq"));
    let title = "The acts that cost most";
    let mut table = Table::new("costliest_acts", title, columns);
    for act in &refaulted.acts {
        let worst = act.worst;
        let switched = is_switched.then_some(Cell::Time(act.switched_out_ns));
        let cells = row(act).into_iter().chain(switched);
        let worst = worst.map_or(Cell::Absent, |worst| Cell::Count(worst.seq.0));
        table.row(cells.chain([worst]));
    }
    let hint = "`analyzer explain TRACE --seq SEQ` explains an act, or its worst refault";
    match table.is_empty() {
        true => table,
        false => table.more(hint),
    }
}

fn row(act: &ActBill) -> [Cell; 7] {
    let marked = if act.over_gap {
        ", RECORDS MISSING"
    } else {
        ""
    };
    [
        Cell::Count(act.seq.0),
        Cell::At(act.at_ns),
        Cell::words(act.cause.name()),
        Cell::words(format!("{}{marked}", act.what)),
        Cell::Count(u64::from(act.entries_removed) + u64::from(act.entries_weakened)),
        Cell::Count(act.refaults.into()),
        Cell::Time(act.total_ns),
    ]
}
