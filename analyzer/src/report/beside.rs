//! Several traces side by side, each compared with the first.

use serde::Serialize;

use super::{
    ReportError,
    context::Statement,
    figures::{Figure, figure, sentence},
};
use crate::{
    diff::{self, Comparison, LEAST_PERCENT, Measure, Side},
    render::{self, SideNumbers},
    text::{
        Said, Table,
        units::{count, duration, whole},
    },
};

/// The first part of a page of several traces.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// What is wrong with the data of a trace, once each.
    pub warnings: Vec<String>,
    /// Each class of the others by that of the first.
    pub ratios: Table,
    /// Figures with all of them.
    pub figures: Vec<Figure>,
    /// Each trace but the first.
    pub others: Vec<Other>,
}

/// What differs between the first trace and another one.
#[derive(Clone, Debug, Serialize)]
pub struct Other {
    /// The names of both.
    pub title: String,
    /// The verdict.
    pub verdict: Statement,
    /// How the recordings differ, and what counts as a change.
    pub head: Vec<String>,
    /// What `diff` prints.
    pub tables: Vec<Table>,
}

impl Beside {
    /// Of traces with their names, in order; absent for one.
    pub fn of(sides: &[(String, Side)]) -> Result<Option<Self>, ReportError> {
        let Some(((first, base), others @ [_, ..])) = sides.split_first() else {
            return Ok(None);
        };
        let mut traces = sides.iter().flat_map(|(_, side)| &side.traces);
        let times = !traces.any(|trace| trace.meta().sees().emulated);
        let mut warnings: Vec<String> = Vec::new();
        let mut classes = Vec::new();
        let mut said = Said::default();
        let mut other = |(name, side): &(String, Side)| {
            let comparison = Comparison::of(base, side, LEAST_PERCENT);
            classes.push((name.clone(), comparison.classes.clone()));
            let document = diff::document(&comparison, false);
            let tables = document.sections.into_iter().flat_map(|of| of.tables);
            for warning in &comparison.warnings {
                if !warnings.contains(&warning.text) {
                    warnings.push(warning.text.clone());
                }
            }
            let mut verdict = Statement::of(diff::verdict(&comparison));
            // That two traces differ is not wrong; nor is it that one run does not show by how much.
            if comparison.differs() {
                verdict.mark = "neutral";
            }
            let mut head = document.head;
            head.retain(|line| said.is_new(line));
            let mut tables: Vec<_> = tables.collect();
            tables
                .iter_mut()
                .for_each(|table| table.say_once(&mut said));
            // Of a table without a row there is its count of rows only.
            let quiet = tables
                .iter()
                .filter(|table| table.is_empty() && !table.is_blank());
            let quiet = quiet.map(|table| format!("{}: {}", table.title(), table.after()));
            let quiet = sentence(quiet);
            if !quiet.is_empty() {
                head.push(format!("No change is shown in: {quiet}."));
            }
            tables.retain(|table| !table.is_empty());
            Other {
                title: format!("From {first} to {name}"),
                verdict,
                head,
                tables,
            }
        };
        let others = others.iter().map(&mut other).collect();
        let classes: Vec<_> = classes
            .iter()
            .map(|(name, rows)| (name.clone(), rows.as_slice()))
            .collect();
        Ok(Some(Self {
            warnings,
            ratios: diff::ratio_table(first, "trace", &classes),
            figures: figures(&numbers(sides), times)?,
            others,
        }))
    }
}

fn numbers(sides: &[(String, Side)]) -> Vec<SideNumbers> {
    let of = |(name, side): &(String, Side)| SideNumbers {
        name: name.clone(),
        // One trace is one run.
        numbers: side.runs.first().map(diff::numbers).unwrap_or_default(),
    };
    sides.iter().map(of).collect()
}

/// Of which faults the times are.
const OWN: &str = "Without faults whose thread was switched out.";

/// Times of an emulated machine mean nothing: then there are only counts.
fn figures(sides: &[SideNumbers], times: bool) -> Result<Vec<Figure>, ReportError> {
    let mut figures = vec![figure(
        ("beside-faults", "Faults of each trace"),
        render::totals(sides, Measure::Count),
        all(sides, Measure::Count),
        ["All VMs of a trace together, by class.", "", ""],
    )?];
    if times {
        figures.push(figure(
            ("beside-time", "Time in faults of each trace"),
            render::totals(sides, Measure::Total),
            all(sides, Measure::Total),
            ["All VMs of a trace together, by class. ", OWN, ""],
        )?);
        figures.push(figure(
            ("beside-median", "Median time of a fault"),
            render::medians(sides),
            medians(sides),
            [
                "By class, for each trace. ",
                OWN,
                " Equal runs differ too: the tables below have what is more than noise.",
            ],
        )?);
    }
    Ok(figures)
}

fn all(sides: &[SideNumbers], measure: Measure) -> String {
    sentence(sides.iter().map(|side| {
        let of = side.numbers.iter().filter(|((_, of), _)| *of == measure);
        let sum: f64 = of.map(|(_, value)| value).sum();
        let sum = match measure {
            Measure::Count => format!("{} faults", count(whole(sum))),
            _ => duration(sum),
        };
        format!("{}: {sum}", side.name)
    }))
}

fn medians(sides: &[SideNumbers]) -> String {
    sentence(sides.iter().map(|side| {
        let of = side.numbers.iter();
        let of = of.filter(|((_, of), _)| *of == Measure::Median);
        let of: Vec<_> = of
            .map(|((class, _), value)| format!("{} {}", class.name(), duration(*value)))
            .collect();
        format!("{}: {}", side.name, of.join(", "))
    }))
}
