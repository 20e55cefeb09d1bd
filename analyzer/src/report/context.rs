//! What the page says.

use std::sync::Arc;

use events::VmId;
use serde::Serialize;
use trace::Trace;

use super::{
    ReportError, SCRIPT, STYLE,
    answers::answers,
    beside::Beside,
    embedded::embedded,
    explained::{Explained, budget, explained},
    figures::{Figure, figures, lost, names},
    glossary::{Words, glossary},
    method::{absent, method, probes},
};
use crate::{
    audit,
    faults::{FEW, Reconciled, Relation, SWITCHED_OUT},
    memory, paper, pathologies, refaults,
    study::{Study, VmStudy},
    summary::{self, Detail, Summary, VmSummary},
    symbols::Symbols,
    table::ranges,
    text::{
        Cell, Column, Said, Table, plain,
        units::{count, plural, signed},
    },
    top, verdict, verify,
};

/// The whole page.
#[derive(Clone, Debug, Serialize, askama::Template)]
#[template(path = "report.html")]
pub struct Page {
    /// Of the browser's window.
    pub title: String,
    /// The traces compared; absent for one.
    pub beside: Option<Beside>,
    /// One for each trace.
    pub traces: Vec<TraceContext>,
    /// The program that made it.
    pub made_by: String,
}

impl Page {
    fn style(&self) -> &'static str {
        STYLE
    }

    fn script(&self) -> &'static str {
        SCRIPT
    }
}

/// One trace.
#[derive(Clone, Debug, Serialize)]
pub struct TraceContext {
    /// Name of the folder.
    pub name: String,
    /// What was recorded, in one line.
    pub about: String,
    /// When, UTC.
    pub date: String,
    /// What to know before reading a time; empty for a real machine's.
    pub times: String,
    /// What must be said first: cut, damaged.
    pub warnings: Vec<String>,
    /// Whether everything is as it should be.
    pub exact: bool,
    /// The same in words.
    pub verdict: String,
    /// Each aspect of the data's quality.
    pub quality: Vec<Statement>,
    /// What has no part on the page, since there is nothing to show, and why.
    pub not_shown: Vec<String>,
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

impl Statement {
    pub(super) fn of(line: verdict::Line) -> Self {
        Self {
            mark: if line.good { "good" } else { "bad" },
            text: line.text,
        }
    }
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
    /// What was found, in a few sentences.
    pub answers: Vec<String>,
    /// The tables below the first figures.
    pub costs: Vec<Table>,
    /// Figures.
    pub figures: Vec<Figure>,
    /// Which moments the page has the tables of.
    pub moments: String,
    /// Records explained step by step.
    pub explained: Vec<Explained>,
    /// What its words mean.
    pub glossary: Vec<Words>,
    /// Who pays, by each key.
    pub payers: Vec<Table>,
    /// The tables below it.
    pub proof: Vec<Table>,
    /// What the script works on; JSON.
    #[serde(skip)]
    pub data: String,
}

impl Section {
    /// Records whose explanation would take too long.
    fn not_explained(&self) -> Vec<&Explained> {
        let explained = self.explained.iter();
        explained.filter(|one| one.text.is_none()).collect()
    }

    /// Ids and titles of what has a heading, in order.
    fn contents(&self) -> Vec<(String, &str)> {
        let figures = self.figures.iter();
        let mut contents: Vec<(String, &str)> = figures
            .map(|figure| (format!("figure-{}", figure.name), figure.title.as_str()))
            .collect();
        if !self.moments.is_empty() {
            contents.push(("moments".to_owned(), "The tables at any moment"));
        }
        let titled = |table: &&Table| !table.is_blank() && !table.title().is_empty();
        let of = |table: &Table| table.name().to_owned();
        for table in self.costs.iter().filter(titled) {
            contents.push((of(table), table.title()));
        }
        if !self.explained.is_empty() {
            contents.push(("explained".to_owned(), "Step by step"));
        }
        // Those who pay have one name for several tables.
        for (number, table) in (1..).zip(&self.payers) {
            if titled(&table) {
                contents.push((format!("{number}-{}", table.name()), table.title()));
            }
        }
        for table in self.proof.iter().filter(titled) {
            contents.push((of(table), table.title()));
        }
        if !self.glossary.is_empty() {
            contents.push(("words".to_owned(), "What the words mean"));
        }
        contents
    }
}

/// Rows of the tables at the end.
const RANGES: usize = 40;
/// Rows of keyframes.
const KEYFRAMES: usize = 20;

pub(super) fn trace(
    trace: &Trace,
    study: &Study,
    symbols: &Arc<Symbols>,
) -> Result<TraceContext, ReportError> {
    let summary = Summary::of(trace, study);
    let line = verdict::line(trace, study);
    let name = trace.path().file_name().map_or_else(
        || trace.path().display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let times = summary.times();
    let mut quality: Vec<_> = verdict::quality(study)
        .into_iter()
        .map(Statement::of)
        .collect();
    quality.push(not_attached(&summary));
    let mut sections = Vec::new();
    let mut left = budget(trace);
    for numbers in &summary.vms {
        let vm = VmId(numbers.vm);
        if let Some(of) = study.vms.get(&vm) {
            let explained = explained(trace, vm, of, numbers, &mut left)?;
            let worst = of.worst.as_ref();
            let worst = worst.map(|of| of.table(symbols, study.span_ns[0], &times));
            let mut section = section((trace, study, symbols), of, &summary, numbers, explained)?;
            section.payers.splice(0..0, worst);
            // Notes about no rows say nothing.
            section.payers.retain(|table| !table.is_empty());
            sections.push(section);
        }
    }
    let mut method = vec![
        method(trace),
        probes(trace),
        absent(&summary),
        pathologies::thresholds(),
    ];
    let not_shown = said_once(&mut sections, &mut method, &times);
    let warnings = verdict::warnings(trace, study).into_iter();
    Ok(TraceContext {
        name: plain(&name),
        about: summary.about.clone(),
        date: date(trace.meta().started_unix_s),
        warnings: warnings.map(|line| plain(&line.text)).collect(),
        exact: line.good,
        verdict: line.text,
        quality,
        times,
        not_shown,
        sections,
        method,
    })
}

/// Leaves out the notes that the page has above a table, and the tables without rows; gives what is
/// to say of those, each sentence once.
fn said_once(sections: &mut [Section], method: &mut [Table], times: &str) -> Vec<String> {
    let mut said = Said::default();
    said.is_new(times);
    let several = sections.len() > 1;
    let mut not_shown: Vec<String> = Vec::new();
    for section in sections {
        if !section.glossary.is_empty() {
            said.is_new(SWITCHED_OUT);
            said.is_new(FEW);
        }
        let vm = match several {
            true => format!("{}: ", section.title),
            false => String::new(),
        };
        for tables in [&mut section.costs, &mut section.payers, &mut section.proof] {
            for table in &mut *tables {
                table.say_once(&mut said);
                if table.is_empty() && !table.is_blank() {
                    not_shown.push(format!("{vm}{}: {}", table.title(), table.after()));
                }
            }
            tables.retain(|table| !table.is_empty());
        }
    }
    for table in method {
        table.say_once(&mut said);
    }
    not_shown
}

/// Absent is not wrong: each figure says what it lacks.
fn not_attached(summary: &Summary) -> Statement {
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
    (trace, study, symbols): (&Trace, &Study, &Symbols),
    of: &VmStudy,
    summary: &Summary,
    numbers: &VmSummary,
    explained: Vec<Explained>,
) -> Result<Section, ReportError> {
    let vm = VmId(numbers.vm);
    let keyframes = verify::keyframe_summaries(study, vm, of);
    let name = trace.path().display().to_string();
    Ok(Section {
        title: summary::title(numbers),
        id: format!("vm-{}", vm.0),
        about: match summary.come_and_go {
            true => summary::recorded(numbers),
            false => String::new(),
        },
        answers: answers(of, numbers),
        costs: vec![
            pathologies::brief(&numbers.pathologies),
            summary::classes(summary, numbers, Detail::Brief),
            paper_table(summary),
            summary::times_of(numbers),
            summary::switched_out(numbers),
            summary::steps(summary, numbers, Detail::Full),
            summary::acts(summary, numbers, Detail::Full),
            summary::clock(summary, numbers),
            top::brief(&numbers.ranks),
            summary::range(numbers),
            summary::phases(summary, numbers),
            summary::changes(numbers, Detail::Brief),
            summary::refaults(numbers),
        ],
        figures: figures(study, of, symbols)?,
        moments: moments(of),
        data: embedded(
            of,
            &explained,
            (&name, &names(of, symbols)),
            &lost(study, of).spans,
        )?,
        explained,
        glossary: glossary(of, numbers),
        payers: top::tables(&numbers.ranks, study.span_ns[0], &summary.times()),
        proof: [
            memory::table(&of.memory),
            ranges_at_the_end(study, vm, numbers),
        ]
        .into_iter()
        .chain(
            of.owners
                .iter()
                .filter_map(|owners| owners.most())
                .flat_map(memory::owners_tables),
        )
        .chain(counters(numbers.reconciliation.as_deref()))
        .chain(numbers.refaults.iter().flat_map(refaults::details))
        .chain(audit::tables(&verdict::audit(study, vm, of)))
        // The last ones: drift adds up.
        .chain([verify::keyframes(&keyframes).last(KEYFRAMES)])
        .collect(),
    })
}

/// `2026-11-27 11:32 UTC`.
fn date(unix_s: u64) -> String {
    let days = (unix_s / 86_400).saturating_add(719_468);
    // The proleptic Gregorian calendar, in years from March: days of 400, 100, 4 years and one.
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era.saturating_mul(400).saturating_add(year + next);
    let (hour, minute) = (unix_s / 3_600 % 24, unix_s / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// Which moments the slider has.
fn moments(of: &VmStudy) -> String {
    let Some(playback) = of.playback.as_ref().filter(|playback| playback.exact() > 0) else {
        return String::new();
    };
    let steps = plural(playback.exact(), "step");
    match (playback.exact_until(), playback.samples()) {
        (None, _) => format!("Every record of this VM: {steps}."),
        (Some(until), samples) => format!(
            "Every record up to seq {}: {steps}. What comes later would make the page too large: \
             of it there are {}, each a fault with the tables on its way only. `analyzer table \
             TRACE --seq N` shows any moment.",
            count(until.0),
            plural(samples, "sample"),
        ),
    }
}

/// KVM's counters: those that are compared, and the others by the reason why they are not.
fn counters(lines: Option<&[Reconciled]>) -> [Table; 2] {
    let title = "KVM's counters that are not compared";
    let columns = [Column::words("why"), Column::words("counters")];
    let mut others = Table::new("not_compared", title, columns);
    let Some(lines) = lines else {
        let none = summary::counters(&[], Detail::Full);
        return [none.more("the trace has none of the end"), others];
    };
    let is_compared = |line: &&Reconciled| line.relation != Relation::NotCompared;
    let compared: Vec<_> = lines.iter().filter(is_compared).cloned().collect();
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for line in lines.iter().filter(|line| !is_compared(line)) {
        let why = line.why.unwrap_or(line.counts);
        let counter = format!("{} {}", line.counter, signed(line.kvm));
        match reasons.iter_mut().find(|(other, _)| *other == why) {
            Some((_, counters)) => counters.push(counter),
            None => reasons.push((why, vec![counter])),
        }
    }
    for (why, counters) in reasons {
        others.row([Cell::words(why), Cell::words(counters.join(", "))]);
    }
    [summary::counters(&compared, Detail::Full), others]
}

/// The operation that `micro` timed, with what differs from the paper's machine.
fn paper_table(summary: &Summary) -> Table {
    let table = paper::brief(summary.micro.as_ref());
    match table.is_empty() {
        true => table,
        false => table.more(plain(&summary.differs.join(" "))),
    }
}

/// What the tables map at the end.
fn ranges_at_the_end(study: &Study, vm: VmId, numbers: &VmSummary) -> Table {
    let columns = [Column::code("root")].into_iter();
    let columns = columns.chain(ranges::columns());
    let title = "The shadow tables at the end";
    let mut table = Table::new("ranges", title, columns).first(RANGES);
    let Some(replay) = study.replay.vm(vm) else {
        return table;
    };
    let mut cut = false;
    let mut ranges_of = replay.ranges();
    for root in replay.table_roots().all() {
        let of_root = ranges_of.root(root);
        cut |= of_root.cut;
        for run in &of_root.runs {
            let cells = [Cell::Address(root.0)].into_iter();
            table.row(cells.chain(ranges::cells(run)));
        }
    }
    match (table.is_empty(), cut) {
        (true, _) => match numbers.memory {
            Some(peak) => table.more(format!(
                "they map nothing; {}: `analyzer table TRACE --seq {}` shows them then",
                peak.line(),
                peak.seq
            )),
            None => table,
        },
        (false, true) => table.more(ranges::cut()),
        (false, false) => table,
    }
}
