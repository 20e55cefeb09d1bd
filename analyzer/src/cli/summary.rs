//! `analyzer summary`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    slice,
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use trace::Trace;

use super::{Failure, FormatArgs, source, symbols::SymbolsArgs};
use crate::{
    fleet::{self, Fleet},
    study::{Subject, VmStudy},
    summary::{self, Detail, Summary},
    top::{By, Payers, Question},
    verdict::{self, Line},
};

/// Options of `summary`.
#[derive(Debug, Args)]
pub struct SummaryArgs {
    /// Folder that `collector` wrote; of several, or of a folder tree with traces, what adds up
    #[arg(value_name = "TRACE", required = true)]
    traces: Vec<PathBuf>,
    /// Only this VM, by its number in the trace
    #[arg(long, value_name = "N")]
    vm: Option<u16>,
    #[command(flatten)]
    symbols: SymbolsArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// Also what each class means, all counters, and the probes that are not attached
    #[arg(short, long)]
    verbose: bool,
}

impl SummaryArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let traces = found(&self.traces)?;
        match traces.as_slice() {
            [one] if slice::from_ref(one) == self.traces => self.one(one),
            several => self.several(several),
        }
    }

    fn one(&self, path: &Path) -> Result<ExitCode, Failure> {
        let trace = source::open(path)?;
        let symbols = self.symbols.read(&trace)?;
        let whole = |vm: &Subject<'_>| VmStudy::whole(vm, &symbols);
        let study = source::follow(&trace, self.vm, whole)?;
        let summary = Summary::of(&trace, &study);
        let detail = match self.verbose || self.format.is_for_programs() {
            true => Detail::Full,
            false => Detail::Brief,
        };
        let document = summary::document(&summary, detail);
        let lines = verdict::lines(&trace, &study);
        self.format.print(&lines, document, &summary)?;
        source::ended(&study)
    }

    fn several(&self, paths: &[PathBuf]) -> Result<ExitCode, Failure> {
        if self.vm.is_some() || self.symbols.are_given() {
            let error = anyhow!("--vm and --symbols are for one trace, and here are several");
            return Err(Failure::usage(error));
        }
        let mut fleet = Fleet::default();
        for path in paths {
            match Trace::open(path) {
                Ok(trace) => {
                    let study = source::follow(&trace, None, |vm| {
                        let mut of = VmStudy::new(vm);
                        of.payers = Some(Payers::of(vm, &[Question::new(By::Cause)]));
                        of
                    })?;
                    fleet.add(&trace, &study);
                }
                Err(error) => fleet.fail(path.display().to_string(), error.to_string()),
            }
        }
        fleet.finish();
        let document = fleet::document(&fleet);
        self.format.print(&lines(&fleet), document, &fleet)?;
        match fleet.is_whole() {
            true => Ok(ExitCode::SUCCESS),
            false => Err(anyhow!("not all of the traces could be read"))?,
        }
    }
}

/// The traces that are meant: a folder that is none stands for those in it.
fn found(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut traces = Vec::new();
    for path in paths {
        let below = match path.is_dir() && !path.join("meta.json").exists() {
            true => fleet::find(path)
                .with_context(|| format!("while looking for traces in {}", path.display()))?,
            false => Vec::new(),
        };
        match below.is_empty() {
            // Opening it says what is wrong with it.
            true => traces.push(path.clone()),
            false => traces.extend(below),
        }
    }
    Ok(traces)
}

/// What is not as it should be, of each trace.
fn lines(fleet: &Fleet) -> Vec<Line> {
    let read = fleet.not_read.iter();
    let read = read.map(|of| Line::bad(format!("NOT READ: {}: {}", of.trace, of.why)));
    let traces = fleet.traces.iter().filter(|of| !of.exact);
    let traces = traces.map(|of| Line::bad(format!("{}: {}", of.trace, of.why)));
    let mut lines: Vec<_> = read.chain(traces).collect();
    if lines.is_empty() {
        lines.push(Line::good(format!(
            "exact: all {} traces",
            fleet.traces.len()
        )));
    }
    lines
}
