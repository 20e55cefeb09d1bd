//! `analyzer faults`.

use std::process::ExitCode;

use clap::Args;

use super::{
    Failure, FormatArgs, Source, filter::FilterArgs, listed::Listed, source, symbols::SymbolsArgs,
};
use crate::{
    listing::{Faults, Sort},
    summary,
};

/// Options of `faults`.
#[derive(Debug, Args)]
pub struct FaultsArgs {
    #[command(flatten)]
    source: Source,
    /// How many
    #[arg(long, value_name = "N", default_value = "20")]
    top: u32,
    /// In which order
    #[arg(long, value_name = "ORDER", default_value = "total")]
    sort: Sort,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    symbols: SymbolsArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl FaultsArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open()?;
        let symbols = self.symbols.read(&trace)?;
        let filter = self.filter.of(&trace)?;
        let most = usize::try_from(self.top).unwrap_or(usize::MAX);
        let study = source::follow(&trace, self.source.vm, |_| {
            Faults::new(filter.clone(), self.sort, most)
        })?;
        let times = summary::times(&trace).unwrap_or_default();
        Listed {
            missing: Faults::missing,
            table: |of: &Faults, start| of.table(&symbols, start, &times),
            json: |of: &Faults, start| of.json(&symbols, start),
        }
        .print(&trace, &study, &self.format)
    }
}
