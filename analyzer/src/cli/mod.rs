//! The command line.

mod explain;
mod failure;
mod number;
mod output;
mod progress;
mod report;
mod schema;
mod source;
mod summary;
mod table;
mod timeline;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::{Code, Failure};
pub use source::Source;

/// Says what a trace of KVM's shadow MMU holds: what faults cost, and every step from a guest
/// address to the shadow entry.
///
/// Exit codes: 0 done, 1 failed (verify: not exact), 2 usage.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Analyzer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Counts, classes, percentiles, phases, loss, drift, reconciliation
    Summary(summary::SummaryArgs),
    /// One HTML file with figures, for any browser without network
    Report(report::ReportArgs),
    /// A shadow table at a moment
    Table(table::TableArgs),
    /// What happened and why: a fault in five steps, a change of an entry, a shadow page's life
    Explain(explain::ExplainArgs),
    /// Faults and shadow tables over time
    Timeline(timeline::TimelineArgs),
    /// Drift and reconciliation; exit code 1 if not exact
    Verify(verify::VerifyArgs),
    /// The kinds of record in a trace and their columns
    Schema(schema::SchemaArgs),
}

/// Reads the command line; on a usage error, or after `--help`, the exit code.
pub fn parse() -> Result<Analyzer, ExitCode> {
    Analyzer::try_parse().map_err(|error| {
        // Nothing is left to do if even this cannot be printed.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

impl Analyzer {
    /// Does what was asked.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Summary(args) => args.execute(),
            Command::Report(args) => args.execute(),
            Command::Table(args) => args.execute(),
            Command::Explain(args) => args.execute(),
            Command::Timeline(args) => args.execute(),
            Command::Verify(args) => args.execute(),
            Command::Schema(args) => args.execute(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Analyzer::command().debug_assert();
    }
}
