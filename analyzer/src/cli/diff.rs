//! `analyzer diff`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use trace::Trace;

use super::{Failure, FormatArgs, progress::Progress, source, symbols::SymbolsArgs};
use crate::{
    diff::{self, Comparison, LEAST_PERCENT, Run, Side},
    study::Study,
    text::units::plural,
    verdict::Line,
};

/// Options of `diff`.
///
/// A side is a trace, or a folder of traces: the runs of the same thing. Record at least three
/// runs of each, in turns: one run does not show how much equal runs differ, so that only a class
/// which changes far more than all others is found. `analyzer diff A B` compares two; `--base A1 A2
/// A3 --new B1 B2 B3` compares several.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The trace, or folder of traces, to compare with, and the one to compare
    #[arg(value_names = ["BASE", "NEW"], num_args = 2, conflicts_with_all = ["base", "new"],
          required_unless_present_all = ["base", "new"])]
    sides: Vec<PathBuf>,
    /// Traces to compare with, or folders of traces
    #[arg(long, value_name = "TRACE", num_args = 1.., requires = "new")]
    base: Vec<PathBuf>,
    /// Traces to compare, or folders of traces
    #[arg(long, value_name = "TRACE", num_args = 1.., requires = "base")]
    new: Vec<PathBuf>,
    /// Exit code 1 if a class, or a class in a phase, has more or slower faults by more than this,
    /// and by more than noise
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    fail_above: Option<f64>,
    /// A change by less is noise
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value_t = LEAST_PERCENT)]
    least: f64,
    #[command(flatten)]
    symbols: SymbolsArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// `5%` or `5`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    match number {
        Ok(percent) if (0.0..=1e6).contains(&percent) => Ok(percent),
        _ => Err("expected a percentage, like 5%".to_owned()),
    }
}

impl DiffArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let (base, new) = match self.sides.as_slice() {
            [base, new] => (
                open(std::slice::from_ref(base))?,
                open(std::slice::from_ref(new))?,
            ),
            _ => (open(&self.base)?, open(&self.new)?),
        };
        let segments = base.iter().chain(&new).flat_map(Trace::segments);
        let mut progress = Progress::new(segments.map(|segment| segment.rows).sum());
        let mut done = 0;
        let mut read = |traces| read(traces, &self.symbols, &mut progress, &mut done);
        let (base, new) = (read(base)?, read(new)?);
        drop(progress);
        let comparison = Comparison::of(&base, &new, self.least);
        let mut lines = diff::lines(&comparison);
        let gate = self.fail_above.map(|percent| Gate {
            percent,
            above: comparison.above(percent),
            undecided: comparison.undecided(percent),
        });
        if let Some(gate) = &gate {
            lines.push(gate.line(comparison.unjudged()));
        }
        let document = diff::document(&comparison, self.format.is_for_programs());
        let mut json = diff::json(&comparison);
        if let (Some(gate), Some(object)) = (&gate, json.as_object_mut()) {
            object.insert("above".to_owned(), gate.above.into());
            object.insert("undecided".to_owned(), gate.undecided.into());
            object.insert("not_judged".to_owned(), comparison.unjudged().into());
        }
        self.format.print(&lines, document, &json)?;
        if let Some(damage) = base
            .runs
            .iter()
            .chain(&new.runs)
            .find_map(|run| run.damage.as_ref())
        {
            Err(anyhow!("{damage}"))?;
        }
        Ok(ExitCode::from(u8::from(
            gate.is_some_and(|gate| !gate.passes()),
        )))
    }
}

/// What `--fail-above` found.
struct Gate {
    percent: f64,
    /// Numbers that are worse by more.
    above: usize,
    /// Counts that rose by more, which one run a side does not judge.
    undecided: usize,
}

impl Gate {
    fn passes(&self) -> bool {
        self.above + self.undecided == 0
    }

    fn line(&self, unjudged: usize) -> Line {
        let percent = self.percent;
        let mut text = match (self.above, self.undecided) {
            (0, 0) => format!("passed: nothing is shown to be worse by more than {percent}%"),
            (0, undecided) => format!(
                "failed: {} more than {percent}% higher, and one run a side does not show whether \
                 that is noise",
                match undecided {
                    1 => "1 count is".to_owned(),
                    several => format!("{several} counts are"),
                }
            ),
            (1, _) => format!("failed: 1 number is worse by more than {percent}%"),
            (above, _) => format!("failed: {above} numbers are worse by more than {percent}%"),
        };
        if unjudged > 0 {
            text.push_str(&format!(
                "; {} not judged: too few faults, one run a side, or records lost",
                plural(unjudged as u64, "number")
            ));
        }
        Line {
            good: self.passes(),
            text,
        }
    }
}

/// The traces of one side.
fn open(paths: &[PathBuf]) -> Result<Vec<Trace>, Failure> {
    let mut traces = Vec::new();
    for path in paths {
        let runs = runs(path)?;
        match runs.as_slice() {
            [] => traces.push(source::open(path)?),
            runs => {
                for run in runs {
                    traces.push(source::open(run)?);
                }
            }
        }
    }
    Ok(traces)
}

/// The traces in a folder that is none itself, by name.
fn runs(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let is_trace = |path: &Path| path.join("meta.json").is_file();
    if is_trace(path) || !path.is_dir() {
        return Ok(Vec::new());
    }
    let reading = || format!("while looking for traces in {}", path.display());
    let mut runs = Vec::new();
    for entry in fs::read_dir(path).with_context(reading)? {
        let run = entry.with_context(reading)?.path();
        if is_trace(&run) {
            runs.push(run);
        }
    }
    runs.sort();
    Ok(runs)
}

/// Reads the traces of one side, one after another; of each only what is compared is kept.
fn read(
    traces: Vec<Trace>,
    symbols: &SymbolsArgs,
    progress: &mut Progress,
    done: &mut u64,
) -> Result<Side, Failure> {
    let mut runs = Vec::new();
    for trace in &traces {
        let before = *done;
        let mut at = |records| progress.at(before + records);
        let symbols = symbols.read(trace)?;
        let study = Study::with(trace, None, |_| Run::follow(&symbols), &mut at)?;
        *done += study.records;
        runs.push(Run::of(study));
    }
    Ok(Side { traces, runs })
}
