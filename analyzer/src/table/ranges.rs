//! What each root maps, as ranges of addresses.

use events::Hpa;

use super::{
    Snapshot,
    tree::{self, Users},
};
use crate::{
    replay::{MAX_RUNS, Run},
    text::{
        Cell, Column, Table, flags,
        units::{count, page_size, plural},
    },
};

/// After ranges that are not all of them.
pub(crate) fn cut() -> String {
    format!(
        "cut: the tables share pages, which makes the list too long (it has at most {} ranges)",
        count(MAX_RUNS as u64)
    )
}

/// Columns of a list of ranges.
pub(crate) fn columns() -> [Column; 6] {
    [
        Column::code("from"),
        Column::code("to"),
        Column::number("leaves"),
        Column::code("size"),
        Column::code("rights"),
        Column::code("frames"),
    ]
}

/// A range as the cells of a row.
pub(crate) fn cells(run: &Run) -> [Cell; 6] {
    [
        Cell::Address(run.gva.0),
        Cell::Address(run.end().0),
        Cell::Count(run.entries),
        Cell::words(page_size(run.level.pages())),
        Cell::words(flags::rights(run.first)),
        Cell::words(run.frames.words(run.first.pfn())),
    ]
}

/// The ranges of each of `roots`.
pub fn ranges(snapshot: &Snapshot, roots: &[Hpa]) -> String {
    let mut out = tree::head(snapshot);
    let users = Users::of(snapshot);
    let mut of = snapshot.vm.ranges();
    for (number, root) in roots.iter().enumerate() {
        let ranges = of.root(*root);
        out.push_str(&format!("{}\n", tree::title(snapshot, &users, *root)));
        let mut table = Table::new("ranges", "", columns());
        for run in &ranges.runs {
            table.row(cells(run));
        }
        if !table.is_empty() {
            out.push_str(&table.grid().text(2));
            let pages = ranges.runs.iter().map(Run::pages);
            out.push_str(&format!(
                "  {} of 4K in {}\n",
                plural(pages.fold(0, u64::saturating_add), "page"),
                plural(ranges.runs.len() as u64, "range")
            ));
        } else if !ranges.cut {
            out.push_str("  maps nothing\n");
        }
        if ranges.cut {
            out.push_str(&format!("  ... {}\n", cut()));
            let more = roots.len() - number - 1;
            if more > 0 {
                let more = plural(more as u64, "more root");
                out.push_str(&format!("{more} not listed: --root shows one\n"));
            }
            break;
        }
    }
    out
}
