//! What the page says.

use events::{Class, VmId};
use serde::Serialize;
use trace::Trace;

use super::{
    ReportError,
    figures::{Figure, figures},
    method::{method, probes},
};
use crate::{
    explain::{self, Selector},
    memory, paper, pathologies,
    study::{Study, VmStudy},
    summary::{self, Detail, Summary, VmSummary},
    table::ranges,
    text::{Cell, Column, Table, plain, units::plural},
    top, verdict, verify,
};

/// The whole page.
#[derive(Clone, Debug, Serialize, askama::Template)]
#[template(path = "report.html")]
pub struct Page {
    /// Of the browser's window.
    pub title: String,
    /// One for each trace.
    pub traces: Vec<TraceContext>,
    /// The program that made it.
    pub made_by: String,
}

/// One trace.
#[derive(Clone, Debug, Serialize)]
pub struct TraceContext {
    /// Name of the folder.
    pub name: String,
    /// What was recorded, in one line.
    pub about: String,
    /// What must be said first: cut, damaged.
    pub warnings: Vec<String>,
    /// Whether everything is as it should be.
    pub exact: bool,
    /// The same in words.
    pub verdict: String,
    /// Each aspect of the data's quality.
    pub quality: Vec<Statement>,
    /// Each VM.
    pub sections: Vec<Section>,
    /// How it was recorded, and the probes.
    pub method: Vec<Table>,
}

/// A statement with its mark.
#[derive(Clone, Debug, Serialize)]
pub struct Statement {
    /// Its mark: `good`, `bad`, or `neutral` for what is neither.
    pub mark: &'static str,
    /// The statement.
    pub text: String,
}

/// One VM.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// Its name.
    pub title: String,
    /// Its anchor on the page, within its trace.
    pub id: String,
    /// When it was seen and how far it can be trusted; empty for the one VM of a run.
    pub about: String,
    /// The tables above the figures.
    pub costs: Vec<Table>,
    /// Figures.
    pub figures: Vec<Figure>,
    /// Which fault is explained.
    pub example_title: &'static str,
    /// The five steps of that fault, as text.
    pub example: String,
    /// Who pays, by each key.
    pub payers: Vec<Table>,
    /// The tables below it.
    pub proof: Vec<Table>,
}

/// Rows of the tables at the end.
const RANGES: usize = 40;
/// Rows of keyframes.
const KEYFRAMES: usize = 20;
/// Columns of the example.
const EXAMPLE_WIDTH: usize = 100;

pub(super) fn trace(trace: &Trace, study: &Study) -> Result<TraceContext, ReportError> {
    let summary = Summary::of(trace, study);
    let line = verdict::line(trace, study);
    let name = trace.path().file_name().map_or_else(
        || trace.path().display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let mut quality: Vec<_> = verdict::quality(study)
        .into_iter()
        .map(|line| Statement {
            mark: if line.good { "good" } else { "bad" },
            text: line.text,
        })
        .collect();
    quality.push(absent(&summary));
    let mut sections = Vec::new();
    for numbers in &summary.vms {
        let vm = VmId(numbers.vm);
        if let Some(of) = study.vms.get(&vm) {
            sections.push(section(trace, study, vm, of, &summary, numbers)?);
        }
    }
    let warnings = verdict::warnings(trace, study).into_iter();
    Ok(TraceContext {
        name: plain(&name),
        about: summary.about.clone(),
        warnings: warnings.map(|line| plain(&line.text)).collect(),
        exact: line.good,
        verdict: line.text,
        quality,
        sections,
        method: vec![method(trace), probes(trace)],
    })
}

/// Absent is not wrong: each figure says what it lacks.
fn absent(summary: &Summary) -> Statement {
    match summary.absent.len() as u64 {
        0 => Statement {
            mark: "good",
            text: "every probe is attached".to_owned(),
        },
        absent => Statement {
            mark: "neutral",
            text: format!(
                "{} not attached; what only they see is absent (listed at the end)",
                plural(absent, "probe")
            ),
        },
    }
}

fn section(
    trace: &Trace,
    study: &Study,
    vm: VmId,
    of: &VmStudy,
    summary: &Summary,
    numbers: &VmSummary,
) -> Result<Section, ReportError> {
    let (example_title, example) = example(trace, vm, of);
    let keyframes = verify::keyframe_summaries(study, vm, of);
    let counters = numbers.reconciliation.as_deref().unwrap_or_default();
    Ok(Section {
        title: summary::title(numbers),
        id: format!("vm-{}", vm.0),
        about: match summary.come_and_go {
            true => summary::recorded(numbers),
            false => String::new(),
        },
        costs: vec![
            pathologies::brief(&numbers.pathologies),
            summary::classes(summary, numbers, Detail::Full),
            paper_table(summary),
            summary::times_of(numbers),
            summary::steps(summary, numbers, Detail::Full),
            summary::acts(summary, numbers, Detail::Full),
            summary::clock(summary, numbers),
            top::brief(&numbers.ranks),
            summary::range(numbers),
            summary::phases(summary, numbers),
            summary::changes(numbers),
            summary::refaults(numbers),
        ],
        figures: figures(study, of, &summary.times())?,
        example_title,
        example,
        payers: top::tables(&numbers.ranks, study.span_ns[0], &summary.times()),
        proof: vec![
            memory::table(&of.memory),
            ranges_at_the_end(study, vm),
            match numbers.reconciliation {
                Some(_) => summary::counters(counters, Detail::Full),
                None => summary::counters(counters, Detail::Full)
                    .more("The trace has no counters of the end."),
            },
            // The last ones: drift adds up.
            verify::keyframes(&keyframes).last(KEYFRAMES),
        ],
    })
}

/// The operation that `micro` timed, with what differs from the paper's machine.
fn paper_table(summary: &Summary) -> Table {
    let table = paper::brief(summary.micro.as_ref());
    match table.is_empty() {
        true => table,
        false => table.more(plain(&summary.differs.join(" "))),
    }
}

/// The median of all shadow faults by their time, or the first fault where there is none.
fn example(trace: &Trace, vm: VmId, of: &VmStudy) -> (&'static str, String) {
    let shadow = of.costs.iter().find(|(class, _)| *class == Class::Shadow);
    let median = shadow.and_then(|(class, cost)| of.columns.position(*class, cost.p50_ns));
    let title = match median {
        Some(_) => "One fault, step by step: the shadow fault of median time",
        None => "One fault, step by step: the first",
    };
    let selector = Selector::Index(median.unwrap_or(0));
    let text = match explain::find(trace, vm, selector, &mut |_| {}) {
        Ok(explained) => explained.text(EXAMPLE_WIDTH),
        Err(error) => format!("no example: {}", plain(&error.to_string())),
    };
    (title, text)
}

/// What the tables map at the end.
fn ranges_at_the_end(study: &Study, vm: VmId) -> Table {
    let columns = [Column::code("root")].into_iter();
    let columns = columns.chain(ranges::columns());
    let title = "The shadow tables at the end";
    let mut table = Table::new("ranges", title, columns).first(RANGES);
    let Some(replay) = study.replay.vm(vm) else {
        return table;
    };
    let mut cut = false;
    for root in replay.table_roots().all() {
        let of_root = replay.ranges(root);
        cut |= of_root.cut;
        for run in &of_root.runs {
            let cells = [Cell::Address(root.0)].into_iter();
            table.row(cells.chain(ranges::cells(run)));
        }
    }
    match (table.is_empty(), cut) {
        (true, _) => table.more("They map nothing."),
        (false, true) => table.more(ranges::CUT),
        (false, false) => table,
    }
}
