//! Who pays, as tables.

use std::borrow::Cow;

use super::{By, Payer, PingPong, Rank};
use crate::{
    faults::{SWITCHED_OUT, Seen, Sum},
    symbols::short,
    text::{
        Cell, Column, Table, plain,
        units::{count, plural},
    },
};

/// The table of those who pay, of which people are shown `first`.
pub fn table(rank: &Rank, first: usize, start_ns: u64, times: &str) -> Table {
    let has_about = rank.payers.iter().any(|payer| !payer.about.is_empty());
    // Names of functions may be broken, and what a cause means is in `refaults`.
    let key = match rank.by {
        By::Symbol => Column::words(rank.by.name()),
        _ => Column::code(rank.by.name()),
    };
    let what = match rank.by {
        By::Cause => Column::words("what").for_programs(),
        _ => Column::words("what"),
    };
    let mut columns = vec![key];
    columns.extend(has_about.then_some(what));
    columns.extend([
        Column::number("faults"),
        Column::time("total"),
        Column::share("share"),
    ]);
    let is_switched = rank.all.switched_out_ns > 0;
    columns.extend(is_switched.then_some(Column::time("switched out")));
    columns.extend([
        Column::time("worst"),
        Column::number("worst seq"),
        Column::time("first seen"),
        Column::time("last seen"),
    ]);
    let title = format!("Who pays, by {}", rank.by.name());
    let mut table = Table::new("top", title, columns).first(first).note(times);
    for (name, about, sum) in rows(rank) {
        let about = has_about.then(|| Cell::words(about));
        let cells = [Cell::words(name)].into_iter().chain(about);
        let switched = is_switched.then_some(Cell::Time(sum.switched_out_ns));
        let cells = cells.chain(costs(sum, &rank.all)).chain(switched);
        table.row(cells.chain(seen(sum, start_ns)));
    }
    let table = match rank.all.switched_out_ns {
        0 => table,
        _ => table.rule(SWITCHED_OUT),
    };
    table.more(more(rank))
}

/// Name, what is known and sum of each row, those without a key in their place.
fn rows(rank: &Rank) -> Vec<(Cow<'_, str>, &str, &Sum)> {
    // A table that no fault was on pays nothing; what became of it is in the other table.
    let payers = rank.payers.iter().filter(|payer| payer.sum.count > 0);
    let mut rows: Vec<_> = payers
        .map(|payer| {
            let name = match rank.by {
                By::Symbol => Cow::Owned(short(&payer.name)),
                _ => Cow::Borrowed(payer.name.as_str()),
            };
            (name, payer.about.as_str(), &payer.sum)
        })
        .collect();
    for (name, sum) in [
        (rank.by.keyless(), &rank.keyless),
        ("(others)", &rank.others),
    ] {
        let order = |of: &Sum| (of.own_ns(), of.count);
        let at = rows.partition_point(|(.., other)| order(other) >= order(sum));
        if sum.count > 0 {
            rows.insert(at, (Cow::Borrowed(name), "", sum));
        }
    }
    rows
}

fn costs(sum: &Sum, all: &Sum) -> [Cell; 3] {
    [
        Cell::Count(sum.count),
        Cell::Time(sum.total_ns),
        Cell::Share(sum.own_ns(), all.own_ns()),
    ]
}

fn seen(sum: &Sum, start_ns: u64) -> [Cell; 4] {
    let [first, last] = match sum.seen {
        Some(seen) => seen.map(|Seen { time_ns, .. }| Cell::At(time_ns.0.saturating_sub(start_ns))),
        None => [Cell::Absent, Cell::Absent],
    };
    [
        sum.worst.map_or(Cell::Absent, |worst| Cell::Time(worst.ns)),
        sum.worst
            .map_or(Cell::Absent, |worst| Cell::Count(worst.seq.0)),
        first,
        last,
    ]
}

fn more(rank: &Rank) -> String {
    let mut more = Vec::new();
    if rank.others.count > 0 {
        more.push(format!(
            "(others) are {} of every {} after the first {}",
            plural(rank.others.count, "fault"),
            rank.by.name(),
            count(rank.keys as u64)
        ));
    }
    if rank.by == By::GuestTable && !rank.follows_tables {
        more.push(
            "what became of each table is left out where some faults only are meant".to_owned(),
        );
    }
    if rank.by == By::Symbol && !rank.has_symbols {
        more.push("this trace brings no symbols: give --symbols FILE".to_owned());
    }
    more.join("; ")
}

/// The ping-pong of the guest's tables.
pub fn ping_pong(rank: &Rank, first: usize) -> Table {
    let columns = [
        Column::code("guest table"),
        Column::words("levels"),
        Column::number("protected"),
        Column::number("stores"),
        Column::number("unsync"),
        Column::number("synced"),
        Column::number("zapped"),
        Column::number("rounds"),
        Column::number("entries lost"),
        Column::time("of rounds"),
        Column::time("fault time"),
    ];
    let title = "What became of each guest table";
    let mut table = Table::new("ping-pong", title, columns).first(first);
    let row = |name: &str, of: &PingPong, sum: Option<&Sum>| {
        [
            Cell::words(name),
            Cell::words(of.levels.words()),
            Cell::Count(of.protected),
            Cell::Count(of.stores),
            Cell::Count(of.unsync),
            Cell::Count(of.synced),
            Cell::Count(of.zapped),
            Cell::Count(of.again),
            Cell::Count(of.entries_lost),
            Cell::Time(of.rounds_ns),
            sum.map_or(Cell::Absent, |sum| Cell::Time(sum.total_ns)),
        ]
    };
    for payer in &rank.payers {
        if let Payer {
            name,
            sum,
            table: Some(of),
            ..
        } = payer
            && !of.is_quiet()
        {
            table.row(row(&plain(name), of, Some(sum)));
        }
    }
    if let Some(of) = &rank.other_tables {
        table.row(row("(others)", of, None));
    }
    let rounds: u64 = rank
        .payers
        .iter()
        .filter_map(|payer| Some(payer.table?.again))
        .sum();
    table.more(format!(
        "{} in all: a table that was unsync was protected again; of rounds: faults on stores to it, and on what its syncs took away",
        plural(rounds, "round")
    ))
}
