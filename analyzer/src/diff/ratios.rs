//! What others are by the first, in one table: each ratio with what it means.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    ClassRow, LEAST_PERCENT, Run,
    change::{Change, Measure},
    compare::Sides,
};
use crate::text::{Cell, Column, Table};

/// The classes of one side by those of another, in all phases: the rule of the whole comparison.
pub fn classes(base: &[Run], new: &[Run], times: bool, least_percent: f64) -> Vec<ClassRow> {
    let is_incomplete = |run: &Run| run.lost > 0 || run.damage.is_some();
    let sides = Sides {
        base,
        new,
        times,
        least_percent,
        incomplete: base.iter().chain(new).any(is_incomplete),
    };
    let [classes, _] = sides.classes();
    classes
}

/// `2.50x higher`, `0.98x within noise`, `1.10x not judged (one run)`, `new`.
pub fn words(change: &Change) -> String {
    let verdict = match change.is_unjudged() {
        true => Cow::from(format!("not judged ({})", change.verdict.words())),
        false => Cow::from(change.verdict.words()),
    };
    match change.change_percent {
        Some(percent) => format!("{:.2}x {verdict}", 1.0 + percent / 100.0),
        None => verdict.into_owned(),
    }
}

/// A row for each class of each of the others.
pub fn table(first: &str, what: &'static str, others: &[(String, &[ClassRow])]) -> Table {
    let rows = || others.iter().flat_map(|(_, rows)| rows.iter());
    let measures: BTreeSet<_> = rows()
        .flat_map(|row| row.changes.iter().map(|change| change.measure))
        .collect();
    let columns = [Column::words(what), Column::code("class")];
    let named = measures.iter().map(|of| Column::words(of.name()));
    let title = format!("Against the first, {first}");
    let mut table = Table::new("against", title, columns.into_iter().chain(named)).note(format!(
        "The mean of the runs, as a multiple of the first's. As in `analyzer diff`, a change of less \
         than {LEAST_PERCENT}%, or whose 95% interval includes no change, is noise"
    ));
    for (name, rows) in others {
        for row in *rows {
            let of = |measure: &Measure| {
                let change = row.changes.iter().find(|of| of.measure == *measure);
                change.map_or(Cell::Absent, |change| Cell::words(words(change)))
            };
            let keys = [Cell::words(name), Cell::words(row.class.name())];
            table.row(keys.into_iter().chain(measures.iter().map(of)));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::Verdict;

    #[test]
    fn a_ratio_says_what_it_means() {
        let change = |change_percent, verdict| {
            words(&Change {
                measure: Measure::Count,
                base: 0.0,
                new: 0.0,
                change_percent,
                low_percent: None,
                high_percent: None,
                verdict,
            })
        };
        assert_eq!(change(Some(150.0), Verdict::Higher), "2.50x higher");
        assert_eq!(
            change(Some(-2.0), Verdict::WithinNoise),
            "0.98x within noise"
        );
        assert_eq!(
            change(Some(10.0), Verdict::OneRun),
            "1.10x not judged (one run)"
        );
        assert_eq!(change(None, Verdict::New), "new");
    }
}
