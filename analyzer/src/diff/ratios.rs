//! What others are by the first, in one table: each ratio with what it means.

use std::collections::BTreeSet;

use super::{
    ClassRow, LEAST_PERCENT, Run,
    change::{Change, Measure, Verdict},
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

/// `2.50x higher`, `within noise (0.90x to 1.06x)`, `1.10x not judged (one run)`, `new`.
///
/// Of noise the interval is shown, not what came out by chance.
pub fn words(change: &Change) -> String {
    let words = change.verdict.words();
    let interval = (change.low_percent, change.high_percent);
    let by = change.change_percent.map(times);
    match (change.verdict, interval, by) {
        (Verdict::WithinNoise, (Some(low), Some(high)), _) => {
            format!("{words} ({} to {})", times(low), times(high))
        }
        (Verdict::WithinNoise, _, Some(by)) => format!("{words} ({by})"),
        (_, _, Some(by)) if change.is_unjudged() => format!("{by} not judged ({words})"),
        (_, _, None) if change.is_unjudged() => format!("not judged ({words})"),
        (_, _, Some(by)) => format!("{by} {words}"),
        (_, _, None) => words.to_owned(),
    }
}

/// A change of so many percent as a multiple, with the digits that say something.
fn times(percent: f64) -> String {
    let times = 1.0 + percent / 100.0;
    match times {
        large if large >= 99.95 => format!("{large:.0}x"),
        large if large >= 9.995 => format!("{large:.1}x"),
        small => format!("{small:.2}x"),
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
         than {LEAST_PERCENT}%, or whose 95% interval includes no change (1.00x), is noise: then the \
         interval is shown, which is wide where runs of one kind differ much. Not judged (one run): \
         nothing shows how much runs differ, or the counts of other classes changed too"
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

    #[test]
    fn a_ratio_says_what_it_means() {
        let change = |change_percent, interval: Option<[f64; 2]>, verdict| {
            words(&Change {
                measure: Measure::Count,
                base: 0.0,
                new: 0.0,
                change_percent,
                low_percent: interval.map(|[low, _]| low),
                high_percent: interval.map(|[_, high]| high),
                verdict,
            })
        };
        let higher = change(Some(1500.0), Some([1400.0, 1600.0]), Verdict::Higher);
        assert_eq!(higher, "16.0x higher");
        let noise = |by, interval| change(Some(by), interval, Verdict::WithinNoise);
        assert_eq!(
            noise(-2.0, Some([-10.0, 6.0])),
            "within noise (0.90x to 1.06x)"
        );
        assert_eq!(
            noise(2360.0, Some([-65.0, 172_900.0])),
            "within noise (0.35x to 1730x)"
        );
        assert_eq!(noise(-2.0, None), "within noise (0.98x)");
        assert_eq!(change(None, None, Verdict::WithinNoise), "within noise");
        assert_eq!(
            change(Some(10.0), None, Verdict::OneRun),
            "1.10x not judged (one run)"
        );
        assert_eq!(change(None, None, Verdict::New), "new");
        assert_eq!(change(None, None, Verdict::OneRun), "not judged (one run)");
    }
}
