//! `analyzer pathologies`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Failure, FormatArgs, Source, source};
use crate::{
    pathologies::{self, Pathologies},
    refaults::Refaults,
    summary,
    text::{Document, plain},
    top::{By, Payers, Question},
    verdict,
};

/// Options of `pathologies`.
#[derive(Debug, Args)]
pub struct PathologiesArgs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    format: FormatArgs,
}

impl PathologiesArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open_tables()?;
        let study = self.source.follow(&trace, |subject| {
            let payers = Payers::of(subject, &[Question::new(By::GuestTable)]);
            (payers, Pathologies::new(subject))
        })?;
        let mut sections = Vec::new();
        let mut vms = Vec::new();
        for (vm, (payers, pathologies)) in &study.vms {
            let findings = pathologies.findings(payers, &study.gaps);
            let meta = payers.refaults().and_then(Refaults::meta);
            let name = meta.map_or("", |meta| &meta.name);
            sections.push(pathologies::section(vm.0, &plain(name), &findings));
            vms.push(json!({"vm": vm.0, "pathologies": findings}));
        }
        let document = Document {
            head: summary::times(&trace).into_iter().collect(),
            sections,
            tail: Vec::new(),
        };
        let json = json!({
            "lost": {"records": study.lost_records(), "spans_ns": study.lost_spans()},
            "vms": vms,
        });
        let lines = verdict::cautions(&trace, &study);
        self.format.print(&lines, document, &json)?;
        source::ended(&study)
    }
}
