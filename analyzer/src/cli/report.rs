//! `analyzer report`.

use std::{fs, io, path::PathBuf, process::ExitCode};

use clap::Args;

use super::{Failure, output, source, symbols::SymbolsArgs};
use crate::{
    report::{self, Page},
    study::{Subject, VmStudy},
    text::units::bytes,
};

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folders that `collector` wrote; each gets its part of the page
    #[arg(value_name = "TRACE", required = true)]
    traces: Vec<PathBuf>,
    /// Only this VM of each, by its number in the trace
    #[arg(long, value_name = "N")]
    vm: Option<u16>,
    #[command(flatten)]
    symbols: SymbolsArgs,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Print what the page says as JSON, and write no page
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl ReportArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let mut traces = Vec::new();
        let mut ended = Ok(ExitCode::SUCCESS);
        for path in &self.traces {
            let trace = source::open(path)?;
            let symbols = self.symbols.read(&trace)?;
            let whole = |vm: &Subject<'_>| VmStudy::whole(vm, &symbols);
            let study = source::follow(&trace, self.vm, whole)?;
            traces.push(report::section(&trace, &study)?);
            ended = ended.and(source::ended(&study));
        }
        let names: Vec<_> = traces.iter().map(|trace| trace.name.clone()).collect();
        let page = Page {
            title: format!("{} - Shadowscope", names.join(", ")),
            traces,
            made_by: concat!("analyzer ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        if self.json {
            output::print_json(&page)?;
            return ended;
        }
        let html = report::html(&page)?;
        let file = self.output.display();
        fs::write(&self.output, &html).map_err(|error| self.not_written(error))?;
        let size = bytes(html.len() as u64);
        output::print(&format!("{file}: {size}, opens in any browser\n"))?;
        ended
    }

    fn not_written(&self, error: io::Error) -> Failure {
        let folder = self.output.parent().filter(|folder| !folder.exists());
        let what = format!("while writing {}", self.output.display());
        let failure = Failure::from(anyhow::Error::new(error).context(what));
        match folder {
            Some(folder) => failure.hint(format!("there is no folder {}", folder.display())),
            None => failure,
        }
    }
}
