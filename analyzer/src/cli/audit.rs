//! `analyzer audit`.

use std::process::ExitCode;

use clap::Args;

use super::{Failure, FormatArgs, Source, source};
use crate::{
    audit::{self, Audit, AuditReport},
    verdict::{self, Line},
};

/// Options of `audit`.
#[derive(Debug, Args)]
#[command(after_help = audit::help())]
pub struct AuditArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    format: FormatArgs,
}

impl AuditArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open_tables()?;
        let study = self.source.follow(&trace, Audit::new)?;
        let report = AuditReport::of(&study, |audit| audit);
        let mut lines = verdict::warnings(&trace, &study);
        lines.push(Line {
            good: report.clean,
            text: audit::verdict(&report),
        });
        self.format
            .print(&lines, audit::document(&report), &report)?;
        source::ended(&study)?;
        Ok(ExitCode::from(u8::from(!report.clean)))
    }
}
