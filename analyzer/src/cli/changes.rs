//! `analyzer changes`.

use std::process::ExitCode;

use clap::Args;
use events::{Cause, Gfn, Gva};

use super::{Failure, FormatArgs, Source, filter::WindowArgs, listed::Listed, number, source};
use crate::listing::{ChangeFilter, Changes};

/// Options of `changes`.
#[derive(Debug, Args)]
pub struct ChangesArgs {
    #[command(flatten)]
    source: Source,
    /// How many
    #[arg(long, value_name = "N", default_value = "20")]
    top: u32,
    /// Only changes of this cause; several with commas: link, prefetch, other, reread, guest_write,
    /// sync, invlpg, host_unmap, dirty_log, write_protect, fault, memslot, mmio
    #[arg(long, value_name = "CAUSE", value_parser = cause, value_delimiter = ',')]
    cause: Vec<Cause>,
    /// Only of entries that translate this address
    #[arg(long, value_name = "ADDR", value_parser = number::gva)]
    gva: Option<Gva>,
    /// Only of leaves that map this guest frame, before or after
    #[arg(long, value_name = "GFN", value_parser = number::gfn)]
    gfn: Option<Gfn>,
    #[command(flatten)]
    window: WindowArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// A cause by its name.
fn cause(text: &str) -> Result<Cause, String> {
    let names: Vec<_> = Cause::ALL.into_iter().map(Cause::name).collect();
    Cause::from_name(text).ok_or_else(|| format!("there are {}", names.join(", ")))
}

impl ChangesArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open()?;
        let filter = ChangeFilter {
            causes: self.cause.clone(),
            gva: self.gva,
            gfn: self.gfn,
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
