//! `analyzer changes`.

use std::process::ExitCode;

use clap::Args;
use events::{Cause, Gfn, Gpa, Gva, Hpa, VcpuId};

use super::{
    Failure, FormatArgs, Source, filter::WindowArgs, listed::Listed, names, number, source,
};
use crate::listing::{ChangeFilter, Changes};

/// Options of `changes`.
#[derive(Debug, Args)]
pub struct ChangesArgs {
    #[command(flatten)]
    source: Source,
    /// How many
    #[arg(long, value_name = "N", default_value = "20")]
    top: u32,
    /// Only changes of this cause; several with commas
    #[arg(long, value_name = "CAUSE", value_parser = names::cause(), value_delimiter = ',')]
    cause: Vec<Cause>,
    /// Only of entries that translate this address
    #[arg(long, value_name = "ADDR", value_parser = number::gva)]
    gva: Option<Gva>,
    /// Only of leaves that map this guest frame, before or after
    #[arg(long, value_name = "GFN", value_parser = number::gfn)]
    gfn: Option<Gfn>,
    /// Only of leaves that map the host frame of this address, before or after
    #[arg(long, value_name = "ADDR", value_parser = number::hpa)]
    hpa: Option<Hpa>,
    /// Only of entries below a root that a vCPU runs on with this CR3
    #[arg(long, value_name = "CR3", value_parser = number::gpa)]
    cr3: Option<Gpa>,
    /// Only those that this vCPU's thread made
    #[arg(long, value_name = "N")]
    vcpu: Option<u16>,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl ChangesArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open()?;
        let filter = ChangeFilter {
            causes: self.cause.clone(),
            gva: self.gva,
            gfn: self.gfn,
            pfn: self.hpa.map(Hpa::pfn),
            cr3: self.cr3,
            vcpu: self.vcpu.map(VcpuId),
            window: self.window.of(&trace)?,
        };
        let most = usize::try_from(self.top).unwrap_or(usize::MAX);
        let study = source::follow(&trace, self.source.vm, |_| {
            Changes::new(filter.clone(), most)
        })?;
        Listed {
            missing: Changes::missing,
            table: Changes::table,
            json: Changes::json,
        }
        .print(&trace, &study, &self.format)
    }
}
