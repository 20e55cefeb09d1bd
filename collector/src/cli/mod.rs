//! The command line.

mod attach;
mod doctor;
mod lab;
mod list;
mod run;
mod series;
mod sweep;
mod top;
mod workloads;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;

/// Records what KVM's shadow MMU does: every step from a guest fault to a shadow entry.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 this host cannot do it.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Collector {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check whether this host can record: what will be seen, what not, and why
    Doctor(doctor::DoctorArgs),
    /// Record VMs that already run in other processes (needs root)
    Attach(attach::AttachArgs),
    /// List the VMs that run now (needs root)
    List(list::ListArgs),
    /// Show live what the shadow MMU of running VMs does and costs (needs root)
    Top(top::TopArgs),
    /// Run a workload on the built-in VMM and record it (needs root)
    Run(run::RunArgs),
    /// Run several workloads one after another, each with its own trace (needs root)
    Series(series::SeriesArgs),
    /// Run a workload at several points, several times each, in turns (needs root)
    Sweep(sweep::SweepArgs),
    /// Run a workload in an emulated machine with a stock kernel (needs neither root nor KVM)
    Lab(Box<lab::LabArgs>),
    /// The lab's init
    #[command(name = crate::lab::guest::SUBCOMMAND, hide = true)]
    LabGuest,
    /// List the workloads, or describe one
    Workloads(workloads::WorkloadsArgs),
}

/// Parses the command line; on a usage error, or after `--help`, the exit code.
pub fn parse() -> Result<Collector, ExitCode> {
    Collector::try_parse().map_err(|error| {
        // There is nothing left to do if even this cannot be printed.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

impl Collector {
    /// Runs the subcommand.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Doctor(args) => args.execute(),
            Command::Attach(args) => args.execute(),
            Command::List(args) => args.execute(),
            Command::Top(args) => args.execute(),
            Command::Run(args) => args.execute(),
            Command::Series(args) => args.execute(),
            Command::Sweep(args) => args.execute(),
            Command::Lab(args) => args.execute(),
            Command::LabGuest => crate::lab::guest::run(),
            Command::Workloads(args) => args.execute(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Collector::command().debug_assert();
    }
}
