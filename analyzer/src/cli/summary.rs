//! `analyzer summary`.

use std::process::ExitCode;

use clap::Args;

use super::{Failure, Source, output, source};
use crate::{summary, summary::Summary, verdict};

/// Options of `summary`.
#[derive(Debug, Args)]
pub struct SummaryArgs {
    #[command(flatten)]
    source: Source,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl SummaryArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open()?;
        let study = self.source.study(&trace)?;
        let summary = Summary::of(&trace, &study);
        if self.json {
            output::print_json(&summary)?;
            return source::ended(&study);
        }
        let mut text = String::new();
        for line in verdict::warnings(&trace, &study)
            .iter()
            .chain([&verdict::line(&trace, &study)])
        {
            text.push_str(&format!("{}\n", output::line(line)));
        }
        output::print(&(text + &summary::text(&summary)))?;
        source::ended(&study)
    }
}
