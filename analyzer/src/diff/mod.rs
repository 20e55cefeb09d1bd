//! Two sides compared: did a change help, and is it more than noise?
//!
//! A side is one run or several of the same thing. Compared are the count of the faults of each
//! class, their median time and their total time; in each phase too; median and total of each step
//! (the walk, the frame, the tables, the entry); and count and total by culprit: address space in
//! the order in which they faulted first, RIP, 2 MiB of GVAs. A fault whose thread was switched out
//! counts, and is in no time: that holds other work.
//!
//! # Intervals
//!
//! A percentile bootstrap: both sides are drawn again 1,000 times, and the change of each draw is
//! sorted; the middle 95 % are the interval. Drawn are runs, where a side has several, and within
//! each run, for each phase, blocks of faults that came one after another (`blocks.rs`): a busy
//! moment of the machine makes neighbours slow together. The interval is then widened as Student's
//! distribution is wider than a normal one, since runs or blocks are few, and for the number of
//! rows (Bonferroni): all intervals of classes and phases hold together with 95 %.
//!
//! # Runs differ
//!
//! One run does not show how much runs differ. On a busy machine of two CPUs, medians of equal runs
//! that followed each other differed by 11 to 27 % (the median of 12 pairs of each of seven
//! workloads) and by up to 89 %, while the quarters of one run differed by as little as 3 %. So:
//!
//! - Where each side has several runs, runs are drawn, and the interval has what they differ by.
//!   Take the runs of both sides in turns, so that a drift of the machine meets both.
//! - Where a side has one run, two things stand in for it, and widen the interval on both sides.
//!   First, what a further class of this pair of runs would change by in 95 % of all pairs, by
//!   Student's distribution, if the changes of the *other* classes are all chance: 12.7 times the
//!   change of one other class, 4.3 times that of two (their quadratic mean), 3.2 times that of
//!   three. Second, what the class itself moved by within its run (highest against lowest of four
//!   quarters, on the side where it is more). So only a class that stands out from the others is
//!   found, and a change of all classes is not. With no other class, times are not judged (`one
//!   run`).
//! - A class that only one side has in some phase, and a culprit that only one side has: with one
//!   run a side they are not judged, and several runs must all have it. What decides between two
//!   phases is often one moment of a run, and not each fault.
//! - The count of one run is taken to vary as its faults came: evenly, or in bursts. Where both
//!   sides have the same count, it is taken as fixed. Where that alone makes it a change, and the
//!   other classes' changes do not, it is not judged (`one run`).
//! - The machine's own speed is the same for all faults of a run: with several runs a side, the
//!   median of each class is also set against that of `guest` in the same run (`p50 ratio`; without
//!   enough such faults, against the class with the most; of one class, against the walk of its own
//!   faults, which a change of what follows leaves as it is). On that machine medians of equal runs
//!   had a standard deviation of 13 %, their ratio one of 2.4 %. If all ratios fall, the reference
//!   became slower.
//!
//! What was measured is in docs/measured.md. Random numbers are seeded: the same traces give the
//! same result.
//!
//! Where a side lacks records, counts and totals are not judged (`records lost`).
//!
//! A change of less than a stated minimum is noise as well. Times of an emulated machine mean
//! nothing: there only counts are compared.
//!
//! Steps and culprits say where a change is: they do not decide whether there is one. With one run
//! a side they are not judged.
//!
//! Memory: a run keeps at most 40 blocks of 256 times for each phase (64 at most) and class and for
//! each class and step, and 40
//! counts and totals for each of 4,096 culprits of each kind, however many faults it has.

mod blocks;
mod bootstrap;
mod change;
mod compare;
mod ratios;
mod relative;
mod run;
mod sample;
mod sides;
mod student;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use trace::Trace;

pub use change::{Change, Measure, Verdict};
pub use compare::{ClassRow, CulpritRow, StepRow, numbers};
pub use ratios::{classes, table as ratio_table};
pub use relative::Reference;
pub use run::{By, Culprit, Run, SwitchedOut, VmFaults};
pub use sides::Difference;
pub use tables::{document, json, lines, verdict};

use crate::{
    text::{plain, units::plural},
    verdict::Line,
};

/// A change by less is noise, percent.
pub const LEAST_PERCENT: f64 = 2.0;

/// One trace with what was read of it.
#[derive(Debug)]
pub struct Side {
    /// The traces.
    pub traces: Vec<Trace>,
    /// What was kept of each.
    pub runs: Vec<Run>,
}

impl Side {
    /// Records are missing in a run.
    fn is_incomplete(&self) -> bool {
        self.traces.iter().any(Trace::was_cut)
            || self
                .runs
                .iter()
                .any(|run| run.lost > 0 || run.damage.is_some())
    }
}

/// The result.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Folders of the traces of base.
    pub base: Vec<String>,
    /// Folders of the traces of new.
    pub new: Vec<String>,
    /// What else differs between the recordings.
    pub differences: Vec<Difference>,
    /// What is wrong with the data.
    pub warnings: Vec<Line>,
    /// What to know before reading its numbers, though nothing is wrong with them.
    pub notes: Vec<String>,
    /// Times were compared.
    pub times: bool,
    /// What the medians of the other classes are set against, where each side has several runs.
    pub reference: Option<Reference>,
    /// A change by less is noise, percent.
    pub least_percent: f64,
    /// Each class.
    pub classes: Vec<ClassRow>,
    /// Each class in each phase.
    pub phases: Vec<ClassRow>,
    /// Each step of each class.
    pub steps: Vec<StepRow>,
    /// Culprits of each kind, those first whose time differs most.
    pub culprits: BTreeMap<By, Vec<CulpritRow>>,
}

impl Comparison {
    /// Compares.
    pub fn of(base: &Side, new: &Side, least_percent: f64) -> Self {
        let mut traces = base.traces.iter().chain(&new.traces);
        let times = !traces.any(|trace| trace.meta().sees().emulated);
        let sides = compare::Sides {
            base: &base.runs,
            new: &new.runs,
            times,
            least_percent,
            incomplete: base.is_incomplete() || new.is_incomplete(),
        };
        let [classes, phases] = sides.classes();
        let runs = (base.runs.len() > 1 && new.runs.len() > 1)
            .then(|| base.runs.iter().chain(&new.runs).collect::<Vec<_>>());
        let names = |side: &Side| {
            let paths = side
                .traces
                .iter()
                .map(|trace| trace.path().display().to_string());
            paths.map(|path| plain(&path)).collect()
        };
        Self {
            base: names(base),
            new: names(new),
            differences: sides::differences(&base.traces, &new.traces),
            warnings: [base, new].into_iter().flat_map(warnings).collect(),
            notes: [base, new].into_iter().flat_map(notes).collect(),
            times,
            reference: runs
                .filter(|_| times)
                .and_then(|runs| relative::reference(&runs)),
            least_percent,
            classes,
            phases,
            steps: sides.steps(),
            culprits: By::ALL
                .into_iter()
                .map(|by| (by, sides.culprits(by)))
                .collect(),
        }
    }

    /// The numbers of all classes, and of all classes in phases.
    fn rows(&self) -> impl Iterator<Item = (&ClassRow, &Change)> {
        let rows = self.classes.iter().chain(&self.phases);
        rows.flat_map(|row| row.changes.iter().map(move |change| (row, change)))
    }

    /// Those that changed.
    pub fn changed(&self) -> impl Iterator<Item = (&ClassRow, &Change)> {
        self.rows().filter(|(_, change)| change.verdict.is_change())
    }

    /// Those that are more or slower by more than this, percent, and more than noise.
    pub fn above(&self, percent: f64) -> usize {
        let above = self.changed().filter(|(row, change)| match change.verdict {
            Verdict::New => true,
            _ => {
                let more = change.change_percent.is_some_and(|change| change > percent);
                more && (change.measure != Measure::Relative || row.is_slower())
            }
        });
        above.count()
    }

    /// Something changed, or a count did so that one run a side does not judge.
    pub fn differs(&self) -> bool {
        self.changed().next().is_some() || self.open_counts().next().is_some()
    }

    /// Counts of classes that rose by more than this, of which one run a side does not say whether that is
    /// noise.
    pub fn undecided(&self, percent: f64) -> usize {
        let counts = self.open_counts();
        let more = |change: &Change| match change.change_percent {
            Some(by) => by > percent,
            None => change.new > 0.0,
        };
        counts.filter(|(_, change)| more(change)).count()
    }

    /// Counts of classes that changed by more than their own run explains, with one run a side.
    fn open_counts(&self) -> impl Iterator<Item = (&ClassRow, &Change)> {
        self.rows().filter(|(row, change)| {
            row.phase.is_none()
                && change.measure == Measure::Count
                && change.verdict == Verdict::OneRun
        })
    }

    /// Those of which nothing says whether they changed by more than noise.
    pub fn unjudged(&self) -> usize {
        self.rows()
            .filter(|(_, change)| change.is_unjudged())
            .count()
    }

    /// What decides, in words.
    pub fn rule(&self) -> String {
        let least = self.least_percent;
        if !self.times {
            return format!(
                "Only counts are compared: times of an emulated machine mean nothing. A change of \
                 less than {least}% is noise."
            );
        }
        let runs = match self.base.len() > 1 && self.new.len() > 1 {
            true => "runs are drawn, and faults within them",
            false => {
                "one run does not show how much runs differ: what other classes changed by, by \
                 Student's distribution, and what a class moved by within its run, widen its \
                 interval; several runs a side find more"
            }
        };
        let has_ratio = |row: &ClassRow| {
            let mut measures = row.changes.iter().map(|change| change.measure);
            measures.any(|measure| measure == Measure::Relative)
        };
        let ratio = match self.reference {
            Some(Reference::Class(class)) if self.classes.iter().any(has_ratio) => Some(format!(
                " p50 ratio is the p50 of a class by that of {} in the same run; these intervals \
                 are 95% together.",
                class.name()
            )),
            Some(Reference::Walk(class)) if self.classes.iter().any(has_ratio) => Some(format!(
                " p50 ratio is the p50 of {} by the mean walk of its faults in the same run (the \
                 middle half of them): a change of both alike is not in it.",
                class.name()
            )),
            _ => None,
        };
        format!(
            "Intervals are 95% for all classes and phases together ({runs}). Noise is a change \
             whose interval includes zero, or of less than {least}%. `one run`: not judged, since a \
             side has one run and nothing shows how much runs differ, or the counts of other \
             classes changed too.{}",
            ratio.unwrap_or_default()
        )
    }
}

/// What is wrong with the data of one side.
fn warnings(side: &Side) -> Vec<Line> {
    let mut lines = Vec::new();
    for (trace, run) in side.traces.iter().zip(&side.runs) {
        let mut say = |text: String| {
            let text = format!("{}: {text}", trace.path().display());
            lines.push(Line {
                good: false,
                text: plain(&text),
            });
        };
        if let Some(damage) = &run.damage {
            say(format!(
                "DAMAGED: {damage}; only the records before are compared"
            ));
        }
        if trace.was_cut() {
            say("CUT: the last moments are missing, so its counts are too low".to_owned());
        }
        if run.lost > 0 {
            let lost = plural(run.lost, "record");
            say(format!("{lost} lost: its counts may be too low"));
        }
    }
    lines
}

/// What to know before reading the numbers of one side, though nothing is wrong with them.
fn notes(side: &Side) -> Vec<String> {
    let mut notes = Vec::new();
    for (trace, run) in side.traces.iter().zip(&side.runs) {
        let others = (run.others > 0).then(|| {
            let others = plural(run.others, "fault");
            format!("{others} of further culprits are not compared by culprit")
        });
        for note in run.switched_out.words().into_iter().chain(others) {
            notes.push(plain(&format!("{}: {note}", trace.path().display())));
        }
    }
    notes
}
