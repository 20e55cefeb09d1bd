//! `collector doctor`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;

use crate::{
    doctor::{self, Report},
    failure::{Code, Failure},
};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl DoctorArgs {
    /// Prints the findings; exit code 3 if this host cannot do it.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let report = doctor::examine();
        let mut out = io::stdout().lock();
        let written = if self.json {
            serde_json::to_writer_pretty(&mut out, &report)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out))
        } else {
            print(&mut out, &report)
        };
        written.map_err(anyhow::Error::from)?;
        Ok(if report.able {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(Code::Host as u8)
        })
    }
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "{}", report.verdict)?;
    let mut section = "";
    for finding in &report.findings {
        if finding.section != section {
            section = finding.section;
            writeln!(out, "\n{section}")?;
        }
        writeln!(
            out,
            "  {:<7} {:<26} {}",
            finding.state.word(),
            finding.what,
            finding.found
        )?;
        if let Some(remedy) = &finding.remedy {
            writeln!(out, "  {:<7} {:<26} -> {remedy}", "", "")?;
        }
    }
    Ok(())
}
