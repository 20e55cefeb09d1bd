//! Which addresses fault when.

use std::collections::BTreeMap;

use events::Gva;

/// Columns of time.
pub const COLUMNS: u16 = 120;
/// Cells kept before neighbouring rows are merged.
const MAX_CELLS: usize = 1 << 16;
/// 4 KiB: the finest row.
const FINEST: u32 = 12;
/// Areas shown: those with most faults.
const MAX_AREAS: usize = 4;
/// Rows of all areas together.
const ROWS: u64 = 64;

/// Counts by address and time, coarser with more of them.
#[derive(Clone, Debug)]
pub struct HeatMap {
    start_ns: u64,
    column_ns: u64,
    shift: u32,
    cells: BTreeMap<(u64, u16), u64>,
    /// Faults of one cell in a row, which are not in `cells` yet.
    run: Option<((u64, u16), u64)>,
}

/// A range of addresses that has faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// First address.
    pub from: Gva,
    /// Bytes of a row.
    pub row_bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Faults.
    pub faults: u64,
    /// Faults by row and column.
    pub cells: BTreeMap<(u64, u16), u64>,
}

impl HeatMap {
    /// An empty one for a span of time.
    pub fn new([start, end]: [u64; 2]) -> Self {
        let column_ns = (end.saturating_sub(start) / u64::from(COLUMNS)).saturating_add(1);
        Self {
            start_ns: start,
            column_ns,
            shift: FINEST,
            cells: BTreeMap::new(),
            run: None,
        }
    }

    /// Counts a fault.
    pub fn fault(&mut self, time_ns: u64, gva: Gva) {
        let column = time_ns.saturating_sub(self.start_ns) / self.column_ns;
        let column = u16::try_from(column).unwrap_or(u16::MAX).min(COLUMNS - 1);
        let cell = (gva.0 >> self.shift, column);
        match &mut self.run {
            Some((of, count)) if *of == cell => *count += 1,
            _ => {
                self.finish();
                // Without the run the cells may be coarser now.
                self.run = Some(((gva.0 >> self.shift, column), 1));
            }
        }
    }

    /// No more faults, for now.
    pub fn finish(&mut self) {
        let Some((cell, count)) = self.run.take() else {
            return;
        };
        *self.cells.entry(cell).or_default() += count;
        while self.cells.len() > MAX_CELLS && self.shift < 63 {
            self.shift += 1;
            for ((row, column), count) in std::mem::take(&mut self.cells) {
                *self.cells.entry((row >> 1, column)).or_default() += count;
            }
        }
    }

    /// Seconds of a column.
    pub fn column_seconds(&self) -> f64 {
        self.column_ns as f64 / 1e9
    }

    /// The areas with most faults, by address; the second number counts the faults elsewhere.
    pub fn areas(&self) -> (Vec<Area>, u64) {
        let mut spans = self.spans();
        spans.sort_by_key(|span| std::cmp::Reverse(span.2));
        let elsewhere = spans.iter().skip(MAX_AREAS).map(|span| span.2).sum();
        spans.truncate(MAX_AREAS);
        spans.sort_by_key(|span| span.0);
        let rows_each = ROWS / (spans.len().max(1) as u64);
        let areas = spans
            .into_iter()
            .map(|(from, to, faults)| self.area(from, to, faults, rows_each))
            .collect();
        (areas, elsewhere)
    }

    /// Rows with faults, joined where the hole between them is at most 1 GiB:
    /// first row, last row, faults.
    fn spans(&self) -> Vec<(u64, u64, u64)> {
        let hole = (1_u64 << 30 >> self.shift.min(63)).max(1);
        let mut spans: Vec<(u64, u64, u64)> = Vec::new();
        for ((row, _), count) in &self.cells {
            match spans.last_mut() {
                Some(span) if row - span.1 <= hole => {
                    span.1 = *row;
                    span.2 += count;
                }
                _ => spans.push((*row, *row, *count)),
            }
        }
        spans
    }

    fn area(&self, from: u64, to: u64, faults: u64, rows_each: u64) -> Area {
        let per_row = (to - from) / rows_each + 1;
        let mut cells = BTreeMap::new();
        for ((row, column), count) in self.cells.range((from, 0)..=(to, u16::MAX)) {
            *cells.entry(((row - from) / per_row, *column)).or_default() += count;
        }
        Area {
            from: Gva(from << self.shift),
            row_bytes: per_row << self.shift,
            rows: (to - from) / per_row + 1,
            faults,
            cells,
        }
    }
}
