//! `analyzer explain`.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use events::{Cause, Class, Gva, Hpa, Seq};

use super::{Failure, Source, names, number, output, program, progress::Progress, word};
use crate::{
    explain::{self, ExplainError, Selector},
    text::columns,
    verdict,
};

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    which: Which,
    /// With --gva, --class, --cause or --page: which of them, counted from 0 [default: the first;
    /// of a class, the first that is the workload's own work; of a cause, the first that changed
    /// its entry]
    #[arg(long, value_name = "K", conflicts_with_all = ["fault", "change", "seq"])]
    nth: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The fault of this number among the VM's, counted from 0
    #[arg(long, value_name = "N")]
    fault: Option<u64>,
    /// A fault on the page of this address, e.g. 0x400000
    #[arg(long, value_name = "ADDR", value_parser = number::gva)]
    gva: Option<Gva>,
    /// A fault of this class
    #[arg(long, value_name = "CLASS", value_parser = names::class())]
    class: Option<Class>,
    /// The change of an entry of this number among the VM's, counted from 0
    #[arg(long, value_name = "N")]
    change: Option<u64>,
    /// A change of this cause
    #[arg(long, value_name = "CAUSE", value_parser = names::cause())]
    cause: Option<Cause>,
    /// The record of this sequence number: a fault, a change, an event of a page, a store, an act
    /// of the host, a root, a mark
    #[arg(long, value_parser = number::seq, value_name = "S")]
    seq: Option<u64>,
    /// The life of the shadow page at this host-physical address
    #[arg(long, value_name = "SPT", value_parser = number::hpa)]
    page: Option<Hpa>,
}

impl ExplainArgs {
    /// Adds a command that works.
    fn failure(&self, error: ExplainError) -> Failure {
        let instead = match &error {
            ExplainError::NoSuch { instead, .. } => instead.clone(),
            _ => None,
        };
        let failure = Failure::from(error);
        let Some(args) = instead else { return failure };
        let (program, trace) = (program(), word(&self.source.trace));
        let vm = self.source.vm.map(|vm| format!(" --vm {vm}"));
        let command = format!("{program} explain {trace}{} {args}", vm.unwrap_or_default());
        failure.hint(format!("`{command}` explains one of them"))
    }

    fn selector(&self) -> Result<Selector, Failure> {
        let Which {
            fault,
            gva,
            class,
            change,
            cause,
            seq,
            page,
        } = self.which;
        let nth = self.nth.unwrap_or(0);
        let chosen = [
            fault.map(Selector::Index),
            gva.map(|gva| Selector::Gva(gva, nth)),
            class.map(|class| Selector::Class(class, self.nth)),
            change.map(Selector::Change),
            cause.map(|cause| Selector::Cause(cause, self.nth)),
            seq.map(|seq| Selector::Seq(Seq(seq))),
            page.map(|spt| Selector::Page(spt, nth)),
        ];
        chosen.into_iter().flatten().next().ok_or_else(|| {
            Failure::usage(anyhow!(
                "explain what? --fault N, --gva ADDR, --class CLASS, --change N, --cause CAUSE, \
                 --seq S or --page SPT"
            ))
        })
    }

    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let selector = self.selector()?;
        let trace = self.source.open_tables()?;
        let vm = self.source.one_vm(&trace)?;
        let rows = trace.segments().iter().map(|segment| segment.rows);
        let mut progress = Progress::new(rows.sum());
        let explained = explain::find(&trace, vm, selector, &mut |done| progress.at(done));
        drop(progress);
        let mut explained = explained.map_err(|error| self.failure(error))?;
        explain::add_bill(&mut explained, &trace, vm, selector)?;
        if self.json {
            output::print_json(&explained.json()?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let warning = verdict::cut(&trace).map(|line| output::lines(&[line]));
        output::print(&(warning.unwrap_or_default() + &explained.text(columns())))?;
        Ok(ExitCode::SUCCESS)
    }
}
