//! A timeline as tables, a row for each span of time.

use super::Show;
use crate::{
    figures::{Bin, Timeline},
    text::{
        Cell, Column, Table, plain,
        units::{count, per_second},
    },
};

/// Length of the bar for the most faults, characters.
const BAR: u64 = 16;

/// Bins of a timeline put together into rows.
pub(super) struct Rows<'a> {
    timeline: &'a Timeline,
    bins: Vec<(f64, Bin)>,
    /// Bins in a row.
    together: usize,
    /// Spans in which records are missing, ns on the trace's clock.
    lost: &'a [[u64; 2]],
    /// The trace shows the shadow tables: an imported one does not.
    has_tables: bool,
}

impl<'a> Rows<'a> {
    /// At most `rows` of them.
    pub(super) fn new(
        timeline: &'a Timeline,
        rows: usize,
        lost: &'a [[u64; 2]],
        has_tables: bool,
    ) -> Self {
        let bins = timeline.bins();
        let together = bins.len().div_ceil(rows.max(1)).max(1);
        Self {
            timeline,
            bins,
            together,
            lost,
            has_tables,
        }
    }

    /// The tables; `bars` are for people.
    pub(super) fn tables(&self, show: Show, bars: bool) -> Vec<Table> {
        match show {
            Show::Faults => vec![self.faults(bars)],
            Show::Levels => vec![self.levels(bars)],
            Show::Causes => vec![self.classes(), self.causes()],
        }
    }

    /// Length of a row, ns.
    fn length(&self) -> u64 {
        self.timeline.bin_ns().saturating_mul(self.together as u64)
    }

    /// A table of `columns` between the time and the phases.
    fn table(
        &self,
        name: &'static str,
        title: &str,
        columns: Vec<Column>,
        cells: impl Fn(&[(f64, Bin)], &Bin) -> Vec<Cell>,
    ) -> Table {
        let all = [Column::time("from")].into_iter().chain(columns);
        let all = all.chain([Column::words("phase begins")]);
        let mut table = Table::new(name, title, all);
        let mut from = 0_u64;
        for bins in self.bins.chunks(self.together) {
            let Some((_, last)) = bins.last() else {
                continue;
            };
            let phases = Cell::words(self.phases(from));
            let cells = [Cell::At(from)].into_iter().chain(cells(bins, last));
            table.row(cells.chain([phases]));
            from = from.saturating_add(self.length());
        }
        table
    }

    fn faults(&self, bars: bool) -> Table {
        let names = ["faults", "faults/s", "pages", "leaves", "unsync", "changes"];
        let mut columns: Vec<_> = names.map(Column::number).into();
        let rows = self.bins.chunks(self.together);
        let most = rows.map(faults).max().unwrap_or_default().max(1);
        let whole = "#".repeat(usize::try_from(BAR).unwrap_or_default());
        columns.extend(bars.then(|| Column::code(format!("{whole} is {}", count(most)))));
        self.table("faults", "", columns, |bins, last| {
            let number = faults(bins);
            let of_tables = |number| match self.has_tables {
                true => Cell::Count(number),
                false => Cell::Absent,
            };
            let mut cells = vec![
                Cell::Count(number),
                Cell::Count(per_second(number, self.length())),
                of_tables(last.totals.all_pages()),
                of_tables(last.totals.leaves),
                of_tables(last.totals.unsync),
                Cell::Count(sum(bins, |bin| bin.changes.values().sum())),
            ];
            cells.extend(bars.then(|| {
                let length = number.saturating_mul(BAR).div_ceil(most).min(BAR);
                Cell::words((0..length).map(|_| '#').collect::<String>())
            }));
            cells
        })
    }

    fn levels(&self, brief: bool) -> Table {
        let levels = self.timeline.levels();
        let of_levels = (1..=levels).rev();
        let names = of_levels.flat_map(|level| [format!("L{level}"), format!("in L{level}")]);
        let mut columns: Vec<_> = names.map(Column::number).collect();
        if !brief {
            columns.extend(["leaves", "links"].map(Column::number));
        }
        columns.extend(["unsync", "made", "zapped"].map(Column::number));
        let title = "L4: shadow pages of level 4; in L4: their present entries";
        self.table("levels", title, columns, |bins, last| {
            let totals = &last.totals;
            let levels = totals.pages.iter().zip(&totals.present).take(levels).rev();
            let mut cells: Vec<_> = levels
                .flat_map(|(pages, entries)| [*pages, *entries])
                .collect();
            if !brief {
                cells.extend([totals.leaves, totals.links]);
            }
            cells.extend([
                totals.unsync,
                sum(bins, |bin| bin.made),
                sum(bins, |bin| bin.zapped),
            ]);
            cells.into_iter().map(Cell::Count).collect()
        })
    }

    fn classes(&self) -> Table {
        let classes = self.timeline.classes();
        let columns = classes.iter().map(|class| Column::number(class.name()));
        self.table(
            "classes",
            "Faults by class",
            columns.collect(),
            |bins, _| {
                let of = |class| sum(bins, |bin| bin.faults.get(class).copied().unwrap_or(0));
                classes.iter().map(|class| Cell::Count(of(class))).collect()
            },
        )
    }

    fn causes(&self) -> Table {
        let causes = self.timeline.causes();
        let columns = causes.iter().map(|cause| Column::number(cause.name()));
        let columns = columns.chain([Column::number("pages zapped")]).collect();
        let title = "Changed entries by cause, other than the leaves of faults";
        self.table("causes", title, columns, |bins, _| {
            let of = |cause| sum(bins, |bin| bin.changes.get(cause).copied().unwrap_or(0));
            let zapped = sum(bins, |bin| bin.zapped);
            let causes = causes.iter().map(of).chain([zapped]);
            causes.map(Cell::Count).collect()
        })
    }

    /// Phases that begin in the row from `from` on, and whether records are missing in it.
    fn phases(&self, from: u64) -> String {
        let start = self.timeline.start_ns().saturating_add(from);
        let row = start..start.saturating_add(self.length());
        let phases = self.timeline.phases.iter();
        let phases = phases.filter(|phase| row.contains(&phase.time_ns));
        let mut words: Vec<_> = phases.map(|phase| plain(&phase.name)).collect();
        let overlaps = |[first, last]: &[u64; 2]| *first < row.end && *last >= row.start;
        if self.lost.iter().any(overlaps) {
            words.push("RECORDS MISSING".to_owned());
        }
        words.join(", ")
    }
}

fn sum(bins: &[(f64, Bin)], of: impl Fn(&Bin) -> u64) -> u64 {
    bins.iter().map(|(_, bin)| of(bin)).sum()
}

fn faults(bins: &[(f64, Bin)]) -> u64 {
    sum(bins, |bin| bin.faults.values().sum())
}
