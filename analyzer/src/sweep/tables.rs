//! A sweep as a document and as JSON.

use serde_json::{Map, Value, json};

use super::{Curves, OfRun, Point, beside};
use crate::{
    diff::{self, Change, Measure},
    paper,
    text::{
        Cell, Column, Document, Section, Table, plain,
        units::{plural, whole},
    },
};

/// Sentences and one table.
pub fn document(curves: &Curves) -> Document {
    let index = &curves.index;
    let params = index
        .params
        .iter()
        .map(|(name, value)| format!(" {name}={value}"));
    let over = index
        .over
        .iter()
        .map(|over| format!("{}={}", over.name, over.values.join(",")));
    let mut head = vec![format!(
        "Workload {}{} over {}; {} of each point.",
        index.workload,
        params.collect::<String>(),
        over.collect::<Vec<_>>().join(" "),
        plural(index.repeat.into(), "run"),
    )];
    head.extend(notes(curves));
    let head = head.iter().map(|line| plain(line)).collect();
    let mut sections = vec![Section {
        title: "Each class at each point: the median of its runs".to_owned(),
        tables: vec![table(curves), of_runs(curves), against(curves)],
        ..Section::default()
    }];
    sections.extend(beside_the_paper(curves));
    Document {
        head,
        sections,
        tail: Vec::new(),
    }
}

/// What to know before reading a number.
fn notes(curves: &Curves) -> Vec<String> {
    let mut notes = Vec::new();
    if !curves.times {
        notes.push("Only counts are given: times of an emulated machine mean nothing.".to_owned());
    }
    if curves.index.end.as_deref() != Some("done") {
        notes.push("The sweep did not run to its end: points have fewer runs.".to_owned());
    }
    for point in &curves.points {
        if point.left_out > 0 {
            let runs = plural(point.left_out as u64, "run");
            notes.push(format!(
                "{}: {runs} left out (failed or interrupted).",
                point.folder
            ));
        }
        if point.lost > 0 {
            let lost = plural(point.lost, "record");
            notes.push(format!(
                "{}: {lost} lost, its counts may be too low.",
                point.folder
            ));
        }
        let switched = point.switched_out.words().filter(|_| curves.times);
        notes.extend(switched.map(|words| format!("{}: {words}.", point.folder)));
    }
    notes
}

fn table(curves: &Curves) -> Table {
    let columns = [
        Column::words("point"),
        Column::code("class"),
        Column::number("runs"),
        Column::number("count"),
        Column::time("p50"),
        Column::time("lowest p50"),
        Column::time("highest p50"),
        Column::time("total"),
    ];
    let mut table = Table::new("points", "", columns);
    for point in &curves.points {
        for class in point.classes() {
            let of = |measure| point.spread(class, measure);
            let time =
                |value: Option<f64>| value.map_or(Cell::Absent, |ns| Cell::Time(whole(ns.round())));
            let (median, total) = (of(Measure::Median), of(Measure::Total));
            table.row([
                Cell::words(&point.folder),
                Cell::words(class.name()),
                Cell::Count(point.runs as u64),
                Cell::count(of(Measure::Count).map(|count| whole(count.median.round()))),
                time(median.map(|of| of.median)),
                time(median.map(|of| of.low)),
                time(median.map(|of| of.high)),
                time(total.map(|of| of.median)),
            ]);
        }
    }
    table
}

/// Whole runs: what the last figures draw.
fn of_runs(curves: &Curves) -> Table {
    let columns = [
        Column::words("point"),
        Column::code("what"),
        Column::number("runs"),
        Column::time("median run"),
        Column::time("lowest run"),
        Column::time("highest run"),
    ];
    let mut table = Table::new("runs", "Whole runs", columns);
    for point in &curves.points {
        for (what, of) in [("work", OfRun::Work), ("operation", OfRun::Operation)] {
            let Some(spread) = point.of_run(of) else {
                continue;
            };
            let time = |ns: f64| Cell::Time(whole(ns.round()));
            table.row([
                Cell::words(&point.folder),
                Cell::words(what),
                Cell::Count(spread.runs as u64),
                time(spread.median),
                time(spread.low),
                time(spread.high),
            ]);
        }
    }
    table
}

/// Each point by the first one.
fn against(curves: &Curves) -> Table {
    let rows = curves.points.iter();
    let rows: Vec<_> = rows
        .map(|point| (point.folder.clone(), curves.against_first(point)))
        .collect();
    let others = rows.iter().filter(|(_, rows)| !rows.is_empty());
    let others: Vec<_> = others
        .map(|(name, rows)| (name.clone(), rows.as_slice()))
        .collect();
    let first = curves.first().map_or("", |first| &first.folder);
    diff::ratio_table(first, "point", &others)
}

/// The paper's numbers, where the workload is one that it has too.
fn beside_the_paper(curves: &Curves) -> Option<Section> {
    let beside = beside(curves);
    if beside.operations.is_empty() && beside.scaling.is_empty() {
        return None;
    }
    let lines = curves.differs.iter().map(|line| plain(line));
    let operations = &beside.operations;
    Some(Section {
        title: "Beside the PVM paper: compare proportions, not times".to_owned(),
        lines: lines.collect(),
        tables: vec![
            paper::ratio_table(&beside.ratios),
            paper::operations(operations),
            paper::scaling_table(&beside.scaling),
        ]
        .into_iter()
        .filter(|table| !table.is_empty())
        .collect(),
        ..Section::default()
    })
}

/// What `sweep --json` prints.
pub fn json(curves: &Curves) -> Value {
    let point = |point: &Point| {
        let against = curves.against_first(point);
        let classes = point.classes().map(|class| {
            let against = against.iter().find(|row| row.class == class);
            let against = against.map(|row| {
                let of = |change: &Change| (change.measure.name().to_owned(), json!(change));
                row.changes.iter().map(of).collect::<Map<_, _>>()
            });
            json!({
                "class": class.name(),
                "count": point.spread(class, Measure::Count),
                "p50_ns": point.spread(class, Measure::Median),
                "total_ns": point.spread(class, Measure::Total),
                "against_first": against,
            })
        });
        json!({
            "folder": point.folder, "params": point.params, "runs": point.runs,
            "left_out": point.left_out, "lost_records": point.lost,
            "classes": classes.collect::<Vec<_>>(),
            "work_ns": point.of_run(OfRun::Work),
            "operation_ns": point.of_run(OfRun::Operation),
        })
    };
    json!({
        "workload": curves.index.workload, "params": curves.index.params,
        "over": curves.index.over, "end": curves.index.end, "times": curves.times,
        "paper": {
            "source": paper::SOURCE, "configurations": paper::CONFIGS,
            "differs": curves.differs, "beside": beside(curves),
        },
        "points": curves.points.iter().map(point).collect::<Vec<_>>(),
    })
}
