//! The command line.

mod audit;
mod changes;
mod diff;
mod explain;
mod export;
mod failure;
mod faults;
mod filter;
mod find;
mod format;
mod import;
mod lesson;
mod listed;
mod memory;
mod names;
mod number;
mod output;
mod pathologies;
mod progress;
mod refaults;
mod report;
mod schema;
mod source;
mod summary;
mod sweep;
mod symbols;
mod table;
mod timeline;
mod top;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

pub use failure::{Code, Failure};
pub use format::FormatArgs;
pub use source::Source;

use crate::text::plain;

/// Reads a trace of KVM's shadow MMU: what its faults cost, how its shadow page tables changed and
/// why, and whether the trace is right.
///
/// Begin with `summary TRACE`, then `report TRACE` for the figures.
///
/// Exit codes: 0 done, 1 failed (verify: not exact; audit: violated), 2 usage.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Analyzer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Numbers of a trace: faults, their cost by class, phases, KVM's counters
    Summary(summary::SummaryArgs),
    /// One HTML file with figures and tables; it needs no network
    Report(report::ReportArgs),
    /// The shadow page tables at a moment, or what changed between two
    Table(table::TableArgs),
    /// One fault in five steps, one change of an entry, or the life of a shadow page
    Explain(explain::ExplainArgs),
    /// Faults and shadow tables over time, a line for each span
    Timeline(timeline::TimelineArgs),
    /// Who pays: faults by process, function, address range, guest table, vCPU and more
    Top(top::TopArgs),
    /// What is wrong: live-locks, storms, ping-pong, unused work, each with its culprit
    Pathologies(pathologies::PathologiesArgs),
    /// Why addresses fault again: what removed their entries, and what that cost
    Refaults(refaults::RefaultsArgs),
    /// The faults that took longest, or as they came, with the numbers that `explain` takes
    Faults(faults::FaultsArgs),
    /// Changes of entries, with the numbers that `explain` takes
    Changes(changes::ChangesArgs),
    /// Every mapping of an address over time: by whom, from when to when, through which page
    Find(find::FindArgs),
    /// Compare the replayed tables and counts with the kernel's own; exit code 1 if they differ
    Verify(verify::VerifyArgs),
    /// Check invariants of the shadow MMU; exit code 1 if one is violated
    Audit(audit::AuditArgs),
    /// Compare two traces, or several runs with several: what changed by more than noise
    Diff(diff::DiffArgs),
    /// What the shadow tables cost in memory: over time, by root, and duplicates
    Memory(memory::MemoryArgs),
    /// What `collector sweep` recorded: each class against the swept parameters, with curves
    Sweep(sweep::SweepArgs),
    /// A trace for other tools: Perfetto, the Firefox Profiler, CSV, JSON lines
    Export(export::ExportArgs),
    /// Make a trace of what perf script or tracefs printed: faults and their times, no tables
    Import(import::ImportArgs),
    /// The five steps from a guest address to a shadow entry, as a page for a class
    Lesson(lesson::LessonArgs),
    /// The columns of each kind of record
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

/// This program as it was called, for commands that a message suggests.
fn program() -> String {
    word(&called())
}

/// The collector that was installed with this program, likewise.
fn collector() -> String {
    let path = called();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    word(&path.with_file_name(name.replace("analyzer", "collector")))
}

fn called() -> PathBuf {
    let called = std::env::args_os().next();
    called.map_or_else(|| "analyzer".into(), PathBuf::from)
}

/// A path as a word for the shell.
fn word(path: &Path) -> String {
    let path = plain(&path.to_string_lossy());
    match shlex::try_quote(&path) {
        Ok(quoted) => quoted.into_owned(),
        // It has a NUL, which no path has.
        Err(_) => path,
    }
}

impl Analyzer {
    /// Runs the command.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Summary(args) => args.execute(),
            Command::Report(args) => args.execute(),
            Command::Table(args) => args.execute(),
            Command::Explain(args) => args.execute(),
            Command::Timeline(args) => args.execute(),
            Command::Top(args) => args.execute(),
            Command::Pathologies(args) => args.execute(),
            Command::Refaults(args) => args.execute(),
            Command::Faults(args) => args.execute(),
            Command::Changes(args) => args.execute(),
            Command::Find(args) => args.execute(),
            Command::Verify(args) => args.execute(),
            Command::Audit(args) => args.execute(),
            Command::Diff(args) => args.execute(),
            Command::Memory(args) => args.execute(),
            Command::Sweep(args) => args.execute(),
            Command::Export(args) => args.execute(),
            Command::Import(args) => args.execute(),
            Command::Lesson(args) => args.execute(),
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
