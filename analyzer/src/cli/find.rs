//! `analyzer find`.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use events::{Gfn, Gpa, Gva, Hpa};

use super::{Failure, FormatArgs, Source, filter::WindowArgs, listed::Listed, number, source};
use crate::{
    find::{self, Find, Span, Target},
    listing::Window,
    table::Moment,
};

/// Options of `find`.
#[derive(Debug, Args)]
pub struct FindArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    window: WindowArgs,
    /// Only mappings that are there at this moment
    #[arg(long, value_name = "T", conflicts_with_all = ["from", "to"])]
    at: Option<Moment>,
    /// How many mappings are shown
    #[arg(long, value_name = "N", default_value = "40")]
    top: u32,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// A guest-virtual address, in every address space of the guest
    #[arg(long, value_name = "ADDR", value_parser = number::gva)]
    gva: Option<Gva>,
    /// A guest-physical address
    #[arg(long, value_name = "ADDR", value_parser = number::gpa)]
    gpa: Option<Gpa>,
    /// A host-physical address
    #[arg(long, value_name = "ADDR", value_parser = number::hpa)]
    hpa: Option<Hpa>,
    /// A guest frame: a guest-physical address without its last three digits
    #[arg(long, value_name = "GFN", value_parser = number::gfn)]
    gfn: Option<Gfn>,
}

impl Which {
    fn target(&self) -> Result<Target, Failure> {
        let chosen = [
            self.gva.map(Target::Gva),
            self.gpa.map(|gpa| Target::Gfn(gpa.gfn())),
            self.hpa.map(|hpa| Target::Pfn(hpa.pfn())),
            self.gfn.map(Target::Gfn),
        ];
        let mut chosen = chosen.into_iter().flatten();
        chosen.next().ok_or_else(|| {
            Failure::usage(anyhow!(
                "find what? --gva ADDR, --gpa ADDR, --hpa ADDR or --gfn GFN"
            ))
        })
    }
}

impl FindArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let target = self.which.target()?;
        let trace = self.source.open_tables()?;
        let span = match &self.at {
            Some(_) => Span::at_end_of(Window::new(None, self.at.as_ref(), &trace)?),
            None => Span::within(self.window.of(&trace)?),
        };
        let study = source::follow(&trace, self.source.vm, |_| Find::new(target, span.clone()))?;
        let first = usize::try_from(self.top).unwrap_or(usize::MAX);
        Listed {
            missing: Find::missing,
            table: |of: &Find, start| find::table(of, target, first, start),
            json: |of: &Find, start| find::json(of, &study.gaps, start),
        }
        .print(&trace, &study, &self.format)
    }
}
