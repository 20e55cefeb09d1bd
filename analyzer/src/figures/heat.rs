//! Which addresses fault when.

use std::collections::BTreeMap;

use events::{Class, Gva};
use trace::{FaultRow, Slot};

use crate::replay::AddressMap;

/// Columns of time.
pub const COLUMNS: u16 = 120;
/// Cells kept before neighbouring rows are merged, one for each class: 4 MiB at most.
const MAX_CELLS: usize = 1 << 17;
/// 4 KiB: the finest row.
const FINEST: u32 = 12;
/// Areas shown: those with most faults.
const MAX_AREAS: usize = 4;
/// Rows of all areas together.
const ROWS: u64 = 64;

/// Regions of 1 GiB of which the memslots are kept, and memslots of each. Areas are further apart, so
/// that no two share a region.
const REGIONS: usize = 1 << 10;
const REGION: u32 = 30;
const SLOTS: usize = 16;

/// Faults by row and column.
type Cells = BTreeMap<(u64, u16), u64>;
/// The same by class.
type ByClass = BTreeMap<(u64, u16, Class), u64>;

/// Counts by address and time, coarser with more of them.
#[derive(Clone, Debug)]
pub struct HeatMap {
    start_ns: u64,
    column_ns: u64,
    shift: u32,
    cells: AddressMap<(u64, u16, Class), u64>,
    /// Faults of one cell in a row, in the order of [`Class::ALL`], which are not in `cells` yet.
    run: Option<((u64, u16), [u64; Class::ALL.len()])>,
    /// Faults by region and memslot.
    slots: BTreeMap<u64, BTreeMap<Slot, u64>>,
    /// Faults of one region and memslot in a row, which are not in `slots` yet.
    slot_run: Option<((u64, Slot), u64)>,
}

/// A range of addresses that has faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// First address.
    pub from: Gva,
    /// Bytes from there to the end of the last page with a fault; the last row may go on.
    pub bytes: u64,
    /// Bytes of a row.
    pub row_bytes: u64,
    /// Rows.
    pub rows: u64,
    /// Faults.
    pub faults: u64,
    /// Faults by row and column.
    pub cells: Cells,
    /// The same by class.
    pub by_class: ByClass,
    /// Memslots that the faults were in, those with most first.
    pub slots: Vec<Slot>,
}

impl Area {
    /// First address of the row with most faults.
    pub fn hottest(&self) -> Gva {
        let mut rows: BTreeMap<u64, u64> = BTreeMap::new();
        for ((row, _), faults) in &self.cells {
            *rows.entry(*row).or_default() += faults;
        }
        let hottest = rows.into_iter().max_by_key(|(_, faults)| *faults);
        let (row, _) = hottest.unwrap_or_default();
        let offset = row.wrapping_mul(self.row_bytes);
        Gva(self.from.0.wrapping_add(offset))
    }
}

impl Default for HeatMap {
    fn default() -> Self {
        Self::new([0; 2])
    }
}

impl HeatMap {
    /// An empty one for a span of time.
    pub fn new([start, end]: [u64; 2]) -> Self {
        let column_ns = (end.saturating_sub(start) / u64::from(COLUMNS)).saturating_add(1);
        Self {
            start_ns: start,
            column_ns,
            shift: FINEST,
            cells: AddressMap::default(),
            run: None,
            slots: BTreeMap::new(),
            slot_run: None,
        }
    }

    /// Counts a fault.
    pub fn fault(&mut self, row: &FaultRow) {
        let gva = row.gva;
        if let Some(slot) = row.slot {
            let region = (gva.0 >> REGION, slot);
            match &mut self.slot_run {
                Some((of, count)) if *of == region => *count += 1,
                _ => {
                    self.finish_slot();
                    self.slot_run = Some((region, 1));
                }
            }
        }
        let column = row.time_ns.0.saturating_sub(self.start_ns) / self.column_ns;
        let column = u16::try_from(column).unwrap_or(u16::MAX).min(COLUMNS - 1);
        let cell = (gva.0 >> self.shift, column);
        if self.run.is_none_or(|(of, _)| of != cell) {
            self.finish_cell();
        }
        // Without the run the cells may be coarser now.
        let begin = ((gva.0 >> self.shift, column), [0; Class::ALL.len()]);
        let (_, counts) = self.run.get_or_insert(begin);
        let of_class = Class::ALL.iter().position(|class| *class == row.class);
        if let Some(count) = of_class.and_then(|class| counts.get_mut(class)) {
            *count += 1;
        }
    }

    /// No more faults, for now.
    pub fn finish(&mut self) {
        self.finish_slot();
        self.finish_cell();
    }

    fn finish_cell(&mut self) {
        let Some(((row, column), counts)) = self.run.take() else {
            return;
        };
        for (class, count) in Class::ALL.into_iter().zip(counts) {
            if count > 0 {
                *self.cells.entry((row, column, class)).or_default() += count;
            }
        }
        while self.cells.len() > MAX_CELLS && self.shift < 63 {
            self.shift += 1;
            for ((row, column, class), count) in std::mem::take(&mut self.cells) {
                *self.cells.entry((row >> 1, column, class)).or_default() += count;
            }
        }
    }

    fn finish_slot(&mut self) {
        let Some(((region, slot), count)) = self.slot_run.take() else {
            return;
        };
        if self.slots.len() >= REGIONS && !self.slots.contains_key(&region) {
            return;
        }
        let slots = self.slots.entry(region).or_default();
        if slots.len() < SLOTS || slots.contains_key(&slot) {
            *slots.entry(slot).or_default() += count;
        }
    }

    fn slots_of(&self, from: Gva, to: Gva) -> Vec<Slot> {
        let mut all: BTreeMap<Slot, u64> = BTreeMap::new();
        let regions = self.slots.range(from.0 >> REGION..=to.0 >> REGION);
        for (slot, faults) in regions.flat_map(|(_, slots)| slots) {
            *all.entry(*slot).or_default() += faults;
        }
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by_key(|(slot, faults)| (std::cmp::Reverse(*faults), *slot));
        all.into_iter().map(|(slot, _)| slot).collect()
    }

    /// Seconds of a column.
    pub fn column_seconds(&self) -> f64 {
        self.column_ns as f64 / 1e9
    }

    /// The areas with most faults, by address; the second number counts the faults elsewhere.
    pub fn areas(&self) -> (Vec<Area>, u64) {
        let cells: ByClass = self.cells.iter().map(|(at, of)| (*at, *of)).collect();
        let mut spans = self.spans(&cells);
        spans.sort_by_key(|span| std::cmp::Reverse(span.2));
        let elsewhere = spans.iter().skip(MAX_AREAS).map(|span| span.2).sum();
        spans.truncate(MAX_AREAS);
        spans.sort_by_key(|span| span.0);
        let rows_each = ROWS / (spans.len().max(1) as u64);
        let areas = spans
            .into_iter()
            .map(|(from, to, faults)| self.area(&cells, [from, to], faults, rows_each))
            .collect();
        (areas, elsewhere)
    }

    /// Rows with faults, joined where the hole between them is at most 1 GiB:
    /// first row, last row, faults.
    fn spans(&self, cells: &ByClass) -> Vec<(u64, u64, u64)> {
        let hole = (1_u64 << 30 >> self.shift.min(63)).max(1);
        let mut spans: Vec<(u64, u64, u64)> = Vec::new();
        for ((row, ..), count) in cells {
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

    fn area(&self, all: &ByClass, [from, to]: [u64; 2], faults: u64, rows_each: u64) -> Area {
        let per_row = (to - from) / rows_each + 1;
        let mut by_class = ByClass::new();
        let mut cells = Cells::new();
        let within = all.range((from, 0, Class::ALL[0])..);
        for ((row, column, class), count) in within.take_while(|((row, ..), _)| *row <= to) {
            let row = (row - from) / per_row;
            *by_class.entry((row, *column, *class)).or_default() += count;
            *cells.entry((row, *column)).or_default() += count;
        }
        let last = (to << self.shift) | ((1 << self.shift) - 1);
        Area {
            slots: self.slots_of(Gva(from << self.shift), Gva(last)),
            from: Gva(from << self.shift),
            bytes: (to - from + 1).saturating_mul(1 << self.shift),
            row_bytes: per_row << self.shift,
            rows: (to - from) / per_row + 1,
            faults,
            cells,
            by_class,
        }
    }
}
