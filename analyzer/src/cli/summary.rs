//! `analyzer summary`.

use std::process::ExitCode;

use clap::Args;

use super::{Failure, FormatArgs, Source, source, symbols::SymbolsArgs};
use crate::{
    study::{Subject, VmStudy},
    summary::{self, Detail, Summary},
    verdict,
};

/// Options of `summary`.
#[derive(Debug, Args)]
pub struct SummaryArgs {
    #[command(flatten)]
    source: Source,
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
        let trace = self.source.open()?;
        let symbols = self.symbols.read(&trace)?;
        let whole = |vm: &Subject<'_>| VmStudy::whole(vm, &symbols);
        let study = self.source.follow(&trace, whole)?;
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
}
