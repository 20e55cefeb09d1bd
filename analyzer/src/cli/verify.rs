//! `analyzer verify`.

use std::process::ExitCode;

use clap::Args;

use super::{Failure, Source, output, source};
use crate::{
    verdict,
    verify::{self, Verification},
};

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    source: Source,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl VerifyArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open()?;
        let study = self.source.study(&trace)?;
        let verification = Verification::of(&trace, &study)?;
        let exact = verdict::is_exact(&trace, &study);
        if self.json {
            output::print_json(&verification)?;
        } else {
            let mut text = String::new();
            for line in verdict::warnings(&trace, &study)
                .iter()
                .chain([&verdict::line(&trace, &study)])
            {
                text.push_str(&format!("{}\n", output::line(line)));
            }
            output::print(&(text + &verify::text(&verification)))?;
        }
        source::ended(&study)?;
        Ok(ExitCode::from(u8::from(!exact)))
    }
}
