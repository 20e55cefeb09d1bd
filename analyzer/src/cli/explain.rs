//! `analyzer explain`.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use events::{Class, Gva};

use super::{Failure, Source, output, progress::Progress};
use crate::{
    explain::{self, Selector},
    verdict,
};

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    which: Which,
    /// With --gva or --class: which of them, counted from 0
    #[arg(long, value_name = "K", default_value_t = 0, conflicts_with = "fault")]
    nth: u64,
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
    #[arg(long, value_name = "ADDR", value_parser = address)]
    gva: Option<Gva>,
    /// A fault of this class: guest, shadow, write_protected, unsync, mmio, fast, spurious, retried
    #[arg(long, value_name = "CLASS", value_parser = class)]
    class: Option<Class>,
}

/// `0x` and hexadecimal digits, or decimal ones.
pub(super) fn address(text: &str) -> Result<Gva, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(&digits.replace('_', ""), 16),
        None => text.parse(),
    };
    parsed
        .map(Gva)
        .map_err(|error| format!("not an address like 0x400000: {error}"))
}

fn class(text: &str) -> Result<Class, String> {
    let names: Vec<_> = Class::ALL.into_iter().map(Class::name).collect();
    Class::from_name(text).ok_or_else(|| format!("there are {}", names.join(", ")))
}

impl ExplainArgs {
    fn selector(&self) -> Result<Selector, Failure> {
        match (self.which.fault, self.which.gva, self.which.class) {
            (Some(index), ..) => Ok(Selector::Index(index)),
            (_, Some(gva), _) => Ok(Selector::Gva(gva, self.nth)),
            (.., Some(class)) => Ok(Selector::Class(class, self.nth)),
            _ => Err(Failure::usage(anyhow!(
                "which fault? --fault N, --gva ADDR or --class CLASS"
            ))),
        }
    }

    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let selector = self.selector()?;
        let trace = self.source.open()?;
        let vm = self.source.one_vm(&trace)?;
        let mut progress = Progress::new(trace.segments().iter().map(|segment| segment.rows).sum());
        let explanation = explain::find(&trace, vm, selector, &mut |done| progress.at(done))?;
        drop(progress);
        if self.json {
            output::print_json(&explanation.json())?;
            return Ok(ExitCode::SUCCESS);
        }
        let warning = verdict::cut(&trace).map(|line| format!("{}\n", output::line(&line)));
        output::print(&(warning.unwrap_or_default() + &explain::text(&explanation)))?;
        Ok(ExitCode::SUCCESS)
    }
}
