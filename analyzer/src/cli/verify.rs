//! `analyzer verify`.

use std::process::ExitCode;

use clap::Args;

use super::{Failure, FormatArgs, Source, source};
use crate::{
    study::VmStudy,
    verdict,
    verify::{self, Verification},
};

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    format: FormatArgs,
}

impl VerifyArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open_tables()?;
        let study = self.source.follow(&trace, VmStudy::checked)?;
        let verification = Verification::of(&trace, &study)?;
        let document = verify::document(&verification);
        let lines = verdict::lines(&trace, &study);
        self.format.print(&lines, document, &verification)?;
        source::ended(&study)?;
        let exact = verdict::is_exact(&trace, &study);
        Ok(ExitCode::from(u8::from(!exact)))
    }
}
