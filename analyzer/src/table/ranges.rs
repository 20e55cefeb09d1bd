//! What each root maps, as ranges of addresses.

use events::Hpa;

use super::{Snapshot, tree};
use crate::{
    replay::Run,
    text::{
        Cell, Column, Table, flags,
        units::{page_size, plural},
    },
};

/// After the ranges of a root that are not all of them.
pub(crate) const CUT: &str = "cut: its tables share so many pages that the list would not end";

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
    let first = run.first.pfn();
    let frames = match (run.entries, run.adjoining) {
        (1, _) => first.to_string(),
        (_, true) => format!("{first} and on"),
        (_, false) => format!("{first} and others"),
    };
    [
        Cell::Address(run.gva.0),
        Cell::Address(run.end().0),
        Cell::Count(run.entries),
        Cell::words(page_size(run.level.pages())),
        Cell::words(flags::rights(run.first)),
        Cell::words(frames),
    ]
}

/// The ranges of each of `roots`.
pub fn ranges(snapshot: &Snapshot, roots: &[Hpa]) -> String {
    let mut out = tree::head(snapshot);
    for root in roots {
        let ranges = snapshot.vm.ranges(*root);
        out.push_str(&format!("{}\n", tree::title(snapshot, *root)));
        let mut table = Table::new("ranges", "", columns());
        for run in &ranges.runs {
            table.row(cells(run));
        }
        if table.is_empty() {
            out.push_str("  maps nothing\n");
        } else {
            out.push_str(&table.grid().text(2));
            let pages: u64 = ranges.runs.iter().map(|run| run.pages()).sum();
            out.push_str(&format!(
                "  {} of 4K in {}\n",
                plural(pages, "page"),
                plural(ranges.runs.len() as u64, "range")
            ));
        }
        if ranges.cut {
            out.push_str(&format!("  ... {CUT}\n"));
        }
    }
    out
}
