//! `collector doctor`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;

use crate::{
    doctor::{self, Facts},
    failure::{Code, Failure},
};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print what was looked at instead of what it means, as JSON (for a bug report)
    #[arg(long, conflicts_with = "json")]
    facts: bool,
}

impl DoctorArgs {
    /// Prints the findings; exit code 3 if this host cannot do it.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let facts = Facts::look();
        let report = doctor::judge(&facts);
        let mut out = io::stdout().lock();
        let written = if self.facts {
            writeln!(out, "{}", serde_json::to_string_pretty(&facts)?)
        } else if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)
        } else {
            doctor::print(&mut out, &report)
        };
        written?;
        Ok(if report.able {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(Code::Host as u8)
        })
    }
}
