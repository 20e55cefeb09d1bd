//! A comparison as a document and as JSON.

use serde_json::{Map, Value, json};

use super::{By, Change, ClassRow, Comparison, CulpritRow, Measure, Reference, StepRow, Verdict};
use crate::{
    text::{
        Cell, Column, Document, Section, Table,
        units::{plural, whole},
    },
    verdict::Line,
};

/// Changes named in the first line.
const NAMED: usize = 4;
/// Culprits of each kind that people are shown.
const SHOWN: usize = 10;

/// The lines above everything else: what is wrong with the data, then the verdict.
pub fn lines(comparison: &Comparison) -> Vec<Line> {
    let mut lines = comparison.warnings.clone();
    lines.push(verdict(comparison));
    lines
}

/// What changed, or that nothing did.
pub fn verdict(comparison: &Comparison) -> Line {
    let all: Vec<_> = comparison.changed().collect();
    // A class says it for its phases.
    let of_classes = all.iter().filter(|(row, _)| row.phase.is_none());
    let changes: Vec<_> = match of_classes.clone().next() {
        Some(_) => of_classes.collect(),
        None => all.iter().collect(),
    };
    let (good, text) = if changes.is_empty() {
        let is_open = comparison.open_counts().next().is_some();
        let good = !is_lossy(comparison) && !is_open;
        (good, unchanged(comparison))
    } else {
        let named = changes
            .iter()
            .take(NAMED)
            .map(|(row, change)| named(comparison, row, change));
        let mut text = format!("changed: {}", named.collect::<Vec<_>>().join("; "));
        if let more @ 1.. = changes.len().saturating_sub(NAMED) {
            text += &format!("; and {more} more");
        }
        (false, text)
    };
    Line { good, text }
}

fn unchanged(comparison: &Comparison) -> String {
    let what = match comparison.times {
        true => "count, median time or total time",
        false => "count",
    };
    let classes = comparison.classes.len() as u64;
    let classes = match classes {
        1 => "1 class".to_owned(),
        classes => format!("{classes} classes"),
    };
    let open: Vec<_> = comparison
        .open_counts()
        .map(|(row, change)| named(comparison, row, change))
        .collect();
    if !open.is_empty() {
        let mut text = open
            .iter()
            .take(NAMED)
            .cloned()
            .collect::<Vec<_>>()
            .join("; ");
        if let more @ 1.. = open.len().saturating_sub(NAMED) {
            text += &format!("; and {more} more");
        }
        return format!(
            "not judged: {text}: one run a side does not show how much counts of runs differ; \
             record several"
        );
    }
    let unknown = comparison
        .rows()
        .any(|(_, change)| change.verdict == Verdict::OneRun);
    let unknown = match unknown {
        true => "; times of one run are not judged without another class: record several runs",
        false => "",
    };
    if is_lossy(comparison) {
        return format!(
            "not judged, since records were lost; else no change of {what} of {classes} is shown"
        );
    }
    let fits = fits(comparison).unwrap_or_default();
    format!("within noise: no change of {what} of {classes} is shown{fits}{unknown}")
}

/// What may have changed unseen: the interval of the median of the class that costs most.
fn fits(comparison: &Comparison) -> Option<String> {
    let of = |row: &ClassRow, measure: Measure| {
        let mut changes = row.changes.iter();
        changes.find(|change| change.measure == measure).copied()
    };
    let total = |row: &&ClassRow| of(row, Measure::Total).map_or(0.0, |total| total.base);
    let classes = comparison.classes.iter();
    let row = classes.max_by(|one, other| total(one).total_cmp(&total(other)))?;
    let median = of(row, Measure::Median)?;
    let [low, high] = [median.low_percent?, median.high_percent?];
    let [low, high] = [low, high].map(|percent| Cell::change(Some(percent)).text());
    let class = row.class.name();
    Some(format!(
        "; p50 of {class}: anything from {low} to {high} fits these runs"
    ))
}

/// A count or a total cannot be judged: its records were lost.
pub(crate) fn is_lossy(comparison: &Comparison) -> bool {
    comparison
        .rows()
        .any(|(_, change)| change.verdict == Verdict::Lost)
}

/// `shadow p50 +10.3% in touch`, `shadow p50 ratio to guest +9.8%`.
fn named(comparison: &Comparison, row: &ClassRow, change: &Change) -> String {
    let by = match change.change_percent {
        Some(_) => Cell::change(change.change_percent).text(),
        None => change.verdict.words().to_owned(),
    };
    let phase = row.phase.as_ref().map(|phase| format!(" in {phase}"));
    let (class, measure) = (row.class.name(), change.measure.name());
    let to = match (change.measure, comparison.reference) {
        (Measure::Relative, Some(Reference::Class(of))) => format!(" to {}", of.name()),
        (Measure::Relative, Some(Reference::Walk(_))) => " to its walk".to_owned(),
        _ => String::new(),
    };
    format!("{class} {measure}{to} {by}{}", phase.unwrap_or_default())
}

/// The tables. People are shown the phases and culprits that changed, programs get all rows.
pub fn document(comparison: &Comparison, programs: bool) -> Document {
    let mut head = vec![
        format!("Base: {}", comparison.base.join(", ")),
        format!("New:  {}", comparison.new.join(", ")),
    ];
    head.extend(comparison.differences.iter().map(super::Difference::words));
    head.extend(comparison.notes.iter().cloned());
    head.push(comparison.rule());
    let mut tables = vec![
        classes(&comparison.classes),
        phases(&comparison.phases, programs),
        steps(&comparison.steps, programs),
    ];
    let culprits = comparison.culprits.iter();
    tables.extend(culprits.map(|(by, rows)| self::culprits(*by, rows, programs)));
    Document {
        head,
        sections: vec![Section {
            title: "Changes from base to new, of the mean run".to_owned(),
            tables,
            ..Section::default()
        }],
        tail: Vec::new(),
    }
}

fn classes(rows: &[ClassRow]) -> Table {
    let columns = [
        Column::code("class"),
        Column::code("what"),
        Column::number("base"),
        Column::number("new"),
        Column::share("change"),
        Column::share("low"),
        Column::share("high"),
        Column::words("verdict"),
    ];
    let mut table = Table::new("classes", "By class, in all phases", columns);
    for row in rows {
        for change in &row.changes {
            let [base, new] = [change.base, change.new].map(|value| cell(change.measure, value));
            let keys = [
                Cell::words(row.class.name()),
                Cell::words(change.measure.name()),
            ];
            table.row(keys.into_iter().chain([base, new]).chain(results(change)));
        }
    }
    table
}

fn phases(rows: &[ClassRow], programs: bool) -> Table {
    let columns = [
        Column::words("phase"),
        Column::code("class"),
        Column::code("what"),
    ];
    let columns = columns.into_iter().chain(result_columns());
    let table = Table::new("phases", "By phase and class", columns);
    let rows = rows.iter().flat_map(|row| {
        let key = [row.phase.as_deref().unwrap_or_default(), row.class.name()];
        let key = key.map(Cell::words).to_vec();
        row.changes.iter().map(move |change| (key.clone(), change))
    });
    filled(table, rows, programs)
}

fn steps(rows: &[StepRow], programs: bool) -> Table {
    let columns = [
        Column::code("class"),
        Column::code("step"),
        Column::code("what"),
    ];
    let columns = columns.into_iter().chain(result_columns());
    let table = Table::new("steps", "By step of a fault", columns);
    let rows = rows.iter().flat_map(|row| {
        let key = [row.class.name().to_owned(), row.step.label()];
        let key = key.map(Cell::words).to_vec();
        row.changes.iter().map(move |change| (key.clone(), change))
    });
    filled(table, rows, programs)
}

fn culprits(by: By, rows: &[CulpritRow], programs: bool) -> Table {
    let columns = [Column::code(by.name()), Column::code("what")];
    let columns = columns.into_iter().chain(result_columns());
    let table = Table::new(by.table(), by.title(), columns);
    let rows = rows.iter().flat_map(|row| {
        let key = vec![Cell::words(row.name(by))];
        row.changes.iter().map(move |change| (key.clone(), change))
    });
    let table = filled(table, rows, programs);
    if programs { table } else { table.first(SHOWN) }
}

/// The rows of a table, each with its key. People are shown those that changed.
fn filled<'a>(
    mut table: Table,
    rows: impl Iterator<Item = (Vec<Cell>, &'a Change)>,
    programs: bool,
) -> Table {
    let mut quiet = Quiet::default();
    for (key, change) in rows {
        if !programs && !change.verdict.is_change() {
            quiet.add(change);
            continue;
        }
        let what = Cell::words(change.measure.name());
        table.row(key.into_iter().chain([what]).chain(results(change)));
    }
    table.more(quiet.words())
}

/// Numbers that people are not shown.
#[derive(Default)]
struct Quiet {
    noise: u64,
    unjudged: u64,
}

impl Quiet {
    fn add(&mut self, change: &Change) {
        match change.is_unjudged() {
            true => self.unjudged += 1,
            false => self.noise += 1,
        }
    }

    fn words(&self) -> String {
        let noise = format!("{} within noise", plural(self.noise, "number"));
        let unjudged = format!("{} not judged", plural(self.unjudged, "number"));
        match (self.noise, self.unjudged) {
            (0, 0) => String::new(),
            (_, 0) => noise,
            (0, _) => unjudged,
            _ => format!("{noise}, {unjudged}"),
        }
    }
}

fn result_columns() -> [Column; 4] {
    [
        Column::share("change"),
        Column::share("low"),
        Column::share("high"),
        Column::words("verdict"),
    ]
}

fn results(change: &Change) -> [Cell; 4] {
    [
        Cell::change(change.change_percent),
        Cell::change(change.low_percent),
        Cell::change(change.high_percent),
        Cell::words(change.verdict.words()),
    ]
}

fn cell(measure: Measure, value: f64) -> Cell {
    match measure {
        Measure::Count => Cell::Count(whole(value.round())),
        Measure::Median | Measure::Total => Cell::Time(whole(value.round())),
        Measure::Relative => Cell::words(format!("{value:.2}")),
    }
}

/// What `diff --json` prints.
pub fn json(comparison: &Comparison) -> Value {
    let class = |row: &ClassRow| {
        let mut object = changes(&row.changes);
        object.insert("class".to_owned(), row.class.name().into());
        if let Some(phase) = &row.phase {
            object.insert("phase".to_owned(), phase.as_str().into());
        }
        Value::from(object)
    };
    let step = |row: &StepRow| {
        let mut object = changes(&row.changes);
        object.insert("class".to_owned(), row.class.name().into());
        object.insert("step".to_owned(), row.step.name().into());
        Value::from(object)
    };
    let culprits = comparison.culprits.iter().flat_map(|(by, rows)| {
        rows.iter().map(|row| {
            let mut object = changes(&row.changes);
            object.insert("by".to_owned(), by.name().into());
            object.insert("vm".to_owned(), row.culprit.vm.into());
            object.insert("key".to_owned(), row.key(*by).into());
            Value::from(object)
        })
    });
    let warnings: Vec<_> = comparison.warnings.iter().map(|line| &line.text).collect();
    json!({
        "verdict": match comparison.changed().next() {
            Some(_) => "changed",
            None if is_lossy(comparison) || comparison.open_counts().next().is_some() => {
                "not judged"
            }
            None => "within noise",
        },
        "base": comparison.base, "new": comparison.new,
        "warnings": warnings, "notes": comparison.notes, "differences": comparison.differences,
        "times_compared": comparison.times,
        "reference": comparison.reference.map(Reference::name), "rule": comparison.rule(),
        "classes": comparison.classes.iter().map(class).collect::<Vec<_>>(),
        "phases": comparison.phases.iter().map(class).collect::<Vec<_>>(),
        "steps": comparison.steps.iter().map(step).collect::<Vec<_>>(),
        "culprits": culprits.collect::<Vec<_>>(),
    })
}

fn changes(changes: &[Change]) -> Map<String, Value> {
    let change = |change: &Change| {
        let key = match change.measure {
            Measure::Count => "count",
            Measure::Median => "p50_ns",
            Measure::Total => "total_ns",
            Measure::Relative => "p50_ratio",
        };
        (key.to_owned(), json!(change))
    };
    changes.iter().map(change).collect()
}
