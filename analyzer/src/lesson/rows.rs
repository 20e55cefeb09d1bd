//! The two tables as a step shows them.

use events::{Gpte, Hpa, Spte};

use super::scan::{Around, walked};
use crate::{
    explain::FaultFacts,
    faults::{GuestStep, guest_walk},
    replay::Step,
};

/// An entry of a table, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Level of the table.
    pub level: u8,
    /// What is there.
    pub cell: Cell,
    /// What the step changes of it.
    pub mark: Mark,
}

/// What is at a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// No table: nothing points to one.
    NoTable,
    /// No record shows whether there is a table.
    Unknown,
    /// A table, and the entry that the address selects.
    Entry {
        /// `0x212000[1]`: address of the table and number of the entry.
        place: String,
        /// All digits of the value but the last three; empty for an empty entry.
        frame: String,
        /// The last three digits: bits 0 to 11.
        bits: String,
        /// No record has the value: it follows from what KVM does.
        is_computed: bool,
    },
}

/// What a step changes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    None,
    /// Bits of the entry.
    Bits,
    /// The entry.
    Entry,
    /// The table was made, with the entry.
    Table,
}

impl Row {
    /// Class of the cell for the place.
    pub fn place_class(&self) -> &'static str {
        match self.mark {
            Mark::Table => "changed",
            _ => "",
        }
    }

    /// Class of the cell for the value.
    pub fn value_class(&self) -> &'static str {
        match self.mark {
            Mark::Table | Mark::Entry => "changed",
            _ => "",
        }
    }

    /// Class of the last digits.
    pub fn bits_class(&self) -> &'static str {
        match self.mark {
            Mark::Bits => "bits changed",
            _ => "bits",
        }
    }

    /// Something of it changed.
    pub fn is_changed(&self) -> bool {
        self.mark != Mark::None
    }

    /// No record has its value.
    pub fn is_computed(&self) -> bool {
        matches!(&self.cell, Cell::Entry { is_computed, .. } if *is_computed)
    }

    /// With what a step changed, where `before` was.
    fn since(mut self, before: Option<&Self>) -> Self {
        self.mark = match (before.map(|before| &before.cell), &self.cell) {
            (Some(before), after) if before == after => Mark::None,
            (
                Some(Cell::Entry {
                    place: old_place,
                    frame: old_frame,
                    ..
                }),
                Cell::Entry { place, frame, .. },
            ) => match (old_place == place, old_frame == frame) {
                (true, true) => Mark::Bits,
                (true, false) => Mark::Entry,
                (false, _) => Mark::Table,
            },
            (Some(Cell::NoTable), Cell::Entry { .. }) => Mark::Table,
            _ => Mark::None,
        };
        self
    }
}

/// A value in two parts: where it points to, and its lowest bits.
fn parts(value: u64) -> (String, String) {
    if value == 0 {
        return (String::new(), String::new());
    }
    let mut text = format!("{value:#06x}");
    let bits = text.split_off(text.len() - 3);
    (text, bits)
}

fn guest_row(step: &GuestStep, value: Gpte, is_computed: bool) -> Row {
    let table = step.table;
    let table = table.map_or_else(|| "?".to_owned(), |table| table.to_string());
    let (frame, bits) = parts(value.0);
    let place = format!("{table}[{}]", step.index);
    let cell = Cell::Entry {
        place,
        frame,
        bits,
        is_computed,
    };
    Row {
        level: step.level.0,
        cell,
        mark: Mark::None,
    }
}

fn shadow_row(step: &Step) -> Row {
    let (frame, bits) = match step.spte.is_empty() {
        true => parts(0),
        false => parts(step.spte.0),
    };
    Row {
        level: step.level.0,
        cell: Cell::Entry {
            place: format!("{}[{}]", step.spt, step.index),
            frame,
            bits,
            is_computed: false,
        },
        mark: Mark::None,
    }
}

fn without(level: u8, cell: Cell) -> Row {
    Row {
        level,
        cell,
        mark: Mark::None,
    }
}

/// The rows of a step, each marked where it is not as in the step before.
fn marked(rows: Vec<Row>, before: &[Row]) -> Vec<Row> {
    let same = |row: &Row| before.iter().find(|old| old.level == row.level);
    let rows = rows.into_iter().map(|row| {
        let old = same(&row);
        row.since(old)
    });
    rows.collect()
}

/// The guest's table in each step, from the access on.
pub(super) fn guest(of: &FaultFacts, around: &Around) -> [Vec<Row>; 6] {
    let read = of.guest_walk.iter();
    let read: Vec<_> = read.map(|step| guest_row(step, step.gpte, false)).collect();
    let first = around.passed_on.as_ref().map(|passed| {
        let walk = guest_walk(&passed.row);
        let at = |level| walk.iter().find(|step| step.level.0 == level);
        let rows = read.iter().map(|row| match at(row.level) {
            Some(step) => guest_row(step, step.gpte, false),
            None => without(row.level, Cell::NoTable),
        });
        rows.collect::<Vec<_>>()
    });
    let first = first.unwrap_or_else(|| read.clone());
    let mut second = marked(read.clone(), &first);
    if around.passed_on.is_none() {
        let leaf = of.entries_stored.iter().any(|store| store.level.0 == 1);
        let leaf = second.iter_mut().filter(|row| leaf && row.level == 1);
        leaf.for_each(|row| row.mark = Mark::Entry);
    }
    let after = of.guest_walk.iter().map(|step| {
        let value = walked(step, &of.row);
        let seen = value == step.gpte || around.read(step.level, value).is_some();
        guest_row(step, value, !seen)
    });
    let fourth = marked(after.collect(), &read);
    let mut fifth = marked(fourth.clone(), &fourth);
    let lowest = of.guest_walk.last().map(|step| (step.level, step.table));
    for page in around.next.iter().filter(|page| page.is_mapped) {
        let (Some(step), Some(value)) = (page.guest, page.walked) else {
            continue;
        };
        if lowest == Some((step.level, step.table)) {
            let mut row = guest_row(&step, value, value != step.gpte);
            let was_stored = page.faults.iter().any(|(_, class)| class.name() == "guest");
            row.mark = match (was_stored, value != step.gpte) {
                (true, _) => Mark::Entry,
                (false, true) => Mark::Bits,
                (false, false) => Mark::None,
            };
            fifth.push(row);
        }
    }
    [first, second, read.clone(), read, fourth, fifth]
}

/// KVM's shadow table in each step, from the access on.
pub(super) fn shadow(of: &FaultFacts, around: &Around) -> [Vec<Row>; 6] {
    let rows = |walk: &[Step]| -> Vec<_> {
        let levels = of.shadow_walk.iter();
        levels.map(|after| before(after, walk)).collect()
    };
    let first = rows(around.at_access());
    let before = rows(&around.before);
    let after = of.shadow_walk.iter().map(shadow_row);
    let fourth = marked(after.collect(), &before);
    let mut fifth = marked(fourth.clone(), &fourth);
    let lowest = of.shadow_walk.last().map(|step| (step.level, step.spt));
    for page in around.next.iter().filter(|page| page.is_mapped) {
        let Some(step) = page.shadow else { continue };
        if lowest == Some((step.level, step.spt)) {
            let mut row = shadow_row(&step);
            row.mark = Mark::Entry;
            fifth.push(row);
        }
    }
    let second = marked(before.clone(), &first);
    [first, second, before.clone(), before, fourth, fifth]
}

/// What was at the level of a step before the fault.
fn before(after: &Step, before: &[Step]) -> Row {
    let level = after.level.0;
    if let Some(step) = before.iter().find(|step| step.level == after.level) {
        return shadow_row(step);
    }
    // Nothing points to a table only where the entry above is known, and empty.
    let above = before.last();
    let is_none = above.is_some_and(|above| !points(above.spte));
    without(
        level,
        if is_none {
            Cell::NoTable
        } else {
            Cell::Unknown
        },
    )
}

fn points(spte: Spte) -> bool {
    spte.is_shadow_present() && spte.child() != Hpa(0)
}

#[cfg(test)]
mod tests {
    use events::Level;

    use super::*;

    fn step(level: u8, spt: u64, spte: u64) -> Step {
        Step {
            level: Level(level),
            spt: Hpa(spt),
            index: 1,
            spte: Spte(spte),
            is_pdpte: false,
        }
    }

    #[test]
    fn a_table_is_missing_only_where_nothing_points_to_it() {
        let leaf = step(1, 0x3000, 0x9067);
        // Bits 0 and 11: a present shadow entry.
        let to_unknown = [step(2, 0x2000, 0x3827)];
        let empty = [step(2, 0x2000, 0)];
        for (seen, expected) in [
            (&to_unknown[..], Cell::Unknown),
            (&empty[..], Cell::NoTable),
            (&[][..], Cell::Unknown),
        ] {
            assert_eq!(before(&leaf, seen).cell, expected);
        }
        let there = before(&leaf, &[step(1, 0x3000, 0)]).cell;
        assert!(matches!(there, Cell::Entry { bits, .. } if bits.is_empty()));
    }

    #[test]
    fn what_changed_is_marked_and_no_more() {
        let row = |spt, spte| shadow_row(&step(1, spt, spte));
        let none = without(1, Cell::NoTable);
        for (old, new, expected) in [
            (row(0x3000, 0x9067), row(0x3000, 0x9067), Mark::None),
            (row(0x3000, 0x9007), row(0x3000, 0x9067), Mark::Bits),
            (row(0x3000, 0), row(0x3000, 0x9067), Mark::Entry),
            (row(0x3000, 0x8067), row(0x3000, 0x9067), Mark::Entry),
            (none.clone(), row(0x3000, 0x9067), Mark::Table),
            (row(0x2000, 0x9067), row(0x3000, 0x9067), Mark::Table),
            (without(1, Cell::Unknown), row(0x3000, 0x9067), Mark::None),
            (none.clone(), none, Mark::None),
        ] {
            assert_eq!(new.since(Some(&old)).mark, expected);
        }
    }

    #[test]
    fn a_value_has_an_address_and_three_digits_of_bits() {
        for (value, expected) in [
            (0x21_0027, ("0x210", "027")),
            (0x27, ("0x0", "027")),
            (0, ("", "")),
        ] {
            let (frame, bits) = parts(value);
            assert_eq!((frame.as_str(), bits.as_str()), expected);
        }
    }
}
