//! `analyzer refaults`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Failure, FormatArgs, Source, filter::FilterArgs, listed, source};
use crate::{
    refaults::{self, DEFAULT_TOP, Options, Refaulted, Refaults},
    study::Study,
    summary,
    text::{Document, plain},
    verdict,
};

/// Acts listed at most.
const MOST: u64 = 10_000;

/// Options of `refaults`.
#[derive(Debug, Args)]
pub struct RefaultsArgs {
    #[command(flatten)]
    source: Source,
    /// Count a refault only if it comes at most so many milliseconds after the act that removed its
    /// entry [default: the whole trace]
    #[arg(long, value_name = "MS")]
    window: Option<u64>,
    /// Acts to list
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TOP as u64,
          value_parser = clap::value_parser!(u64).range(1..=MOST))]
    top: u64,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl RefaultsArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open_tables()?;
        let options = Options {
            window_ns: self.window.map(|ms| ms.saturating_mul(1_000_000)),
            top: usize::try_from(self.top).unwrap_or(DEFAULT_TOP),
            act: None,
            filter: self.filter.of(&trace)?,
        };
        let study = self
            .source
            .follow(&trace, |subject| Refaults::new(subject, options.clone()))?;
        listed::came(&study, Refaults::missing)?;
        let vms = bills(&study);
        let sections = vms
            .iter()
            .map(|(vm, about, bill)| refaults::section(*vm, about, bill));
        let document = Document {
            head: summary::times(&trace).into_iter().collect(),
            sections: sections.collect(),
            tail: Vec::new(),
        };
        let of_vm = |(vm, _, bill): &(u16, String, Refaulted)| json!({"vm": vm, "refaults": bill});
        let json = json!({
            "lost": {"records": study.lost_records(), "spans_ns": study.lost_spans()},
            "vms": vms.iter().map(of_vm).collect::<Vec<_>>(),
        });
        let lines = verdict::cautions(&trace, &study);
        self.format.print(&lines, document, &json)?;
        source::ended(&study)
    }
}

/// The bill of each VM, and the name of its VMM.
fn bills(study: &Study<Refaults>) -> Vec<(u16, String, Refaulted)> {
    let vms = study.vms.iter().map(|(vm, of)| {
        let name = of.meta().map_or("", |meta| &meta.name);
        (vm.0, plain(name), of.bill(&study.gaps))
    });
    vms.collect()
}
