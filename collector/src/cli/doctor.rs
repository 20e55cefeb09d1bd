//! `collector doctor`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;

use crate::{
    doctor::{self, Facts},
    failure::{Code, Failure},
    program, terminal,
};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the facts instead of the findings, as JSON (for a bug report)
    #[arg(long, conflicts_with = "json")]
    facts: bool,
}

impl DoctorArgs {
    /// Prints the findings; exit code 3 if this host cannot record.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let facts = Facts::collect();
        let report = doctor::judge(&facts, &program::name());
        let mut out = io::stdout().lock();
        let written = if self.facts {
            writeln!(out, "{}", serde_json::to_string_pretty(&facts)?)
        } else if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)
        } else {
            doctor::print(&mut out, &report, terminal::width())
        };
        written?;
        Ok(if report.able {
            ExitCode::SUCCESS
        } else {
            Code::Host.into()
        })
    }
}
