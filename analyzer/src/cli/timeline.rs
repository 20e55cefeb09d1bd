//! `analyzer timeline`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Failure, FormatArgs, Source, source};
use crate::{
    figures::{Bin, Timeline},
    study::Study,
    summary,
    text::{Document, Section},
    verdict,
};

mod tables;

use tables::Rows;

/// Rows for people.
const DEFAULT: u16 = 40;
/// Rows for programs: every bin.
const ALL: u16 = 240;

/// Options of `timeline`.
#[derive(Debug, Args)]
pub struct TimelineArgs {
    #[command(flatten)]
    source: Source,
    /// Rows to print for each VM, 1 to 240 [default: 40; 240 for csv]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=240))]
    lines: Option<u16>,
    /// What to show
    #[arg(long, value_name = "WHAT", default_value = "faults")]
    show: Show,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Show {
    /// Faults, and the size of the tables
    Faults,
    /// Shadow pages and entries of each level, unsync pages, pages made and zapped
    Levels,
    /// Faults by class, and changed entries by cause
    Causes,
}

impl TimelineArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = match self.show {
            Show::Levels => self.source.open_tables()?,
            Show::Faults | Show::Causes => self.source.open()?,
        };
        let study = self.source.study(&trace)?;
        let spans = study.lost_spans();
        let has_tables = trace.meta().imported.is_none();
        let programs = self.format.is_for_programs();
        let rows = match (self.lines, programs) {
            (Some(lines), _) => lines,
            (None, true) => ALL,
            (None, false) => DEFAULT,
        };
        let sections = study.vms.iter().map(|(vm, of)| Section {
            vm: Some(vm.0),
            title: format!("VM {} ({})", vm.0, of.about()),
            tables: Rows::new(&of.timeline, rows.into(), &spans, has_tables)
                .tables(self.show, !programs),
            ..Section::default()
        });
        let document = Document {
            head: summary::times(&trace).into_iter().collect(),
            sections: sections.collect(),
            tail: Vec::new(),
        };
        let lines = verdict::cautions(&trace, &study);
        self.format
            .print(&lines, document, &json(&study, has_tables))?;
        source::ended(&study)
    }
}

fn json(study: &Study, has_tables: bool) -> serde_json::Value {
    let vms: Vec<_> = study
        .vms
        .iter()
        .map(|(vm, of)| {
            json!({
                "vm": vm.0, "pid": of.meta.as_ref().map(|meta| meta.pid), "vcpus": of.records.vcpus,
                "phases": of.timeline.phases, "bins": bins(&of.timeline, has_tables),
            })
        })
        .collect();
    // Which VM a missing record was of is not known: the spans are those of the whole recording.
    let lost = json!({"records": study.lost_records(), "spans_ns": study.lost_spans()});
    json!({"lost": lost, "vms": vms})
}

/// `has_tables`: else what the tables hold is null.
fn bins(timeline: &Timeline, has_tables: bool) -> Vec<serde_json::Value> {
    let bin = |(start, bin): (f64, Bin)| {
        let faults: serde_json::Map<String, serde_json::Value> = bin
            .faults
            .iter()
            .map(|(class, number)| (class.name().to_owned(), (*number).into()))
            .collect();
        let changes: serde_json::Map<String, serde_json::Value> = bin
            .changes
            .iter()
            .map(|(cause, number)| (cause.name().to_owned(), (*number).into()))
            .collect();
        if !has_tables {
            return json!({
                "start_s": start, "faults": faults, "changes": changes,
                "pages_by_level": null, "entries_by_level": null, "pages_made": null,
                "pages_zapped": null, "leaves": null, "links": null, "unsync": null,
            });
        }
        json!({
            "start_s": start, "faults": faults, "changes": changes,
            "pages_by_level": bin.totals.pages, "entries_by_level": bin.totals.present,
            "pages_made": bin.made, "pages_zapped": bin.zapped,
            "leaves": bin.totals.leaves, "links": bin.totals.links, "unsync": bin.totals.unsync,
        })
    };
    timeline.bins().into_iter().map(bin).collect()
}
