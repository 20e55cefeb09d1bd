//! `analyzer timeline`.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Failure, Source, output, source};
use crate::{
    figures::{Bin, Timeline},
    verdict,
};

mod text;

/// Options of `timeline`.
#[derive(Debug, Args)]
pub struct TimelineArgs {
    #[command(flatten)]
    source: Source,
    /// Lines to print for each VM
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=240))]
    lines: u16,
    /// What to show
    #[arg(long, value_name = "WHAT", default_value = "faults")]
    show: Show,
    /// Print JSON with all of it, at full resolution
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Show {
    /// Faults, and the tables in a word
    Faults,
    /// Pages and entries of each level, unsync pages, pages made and zapped
    Levels,
    /// Faults by class, and changed entries by cause
    Causes,
}

impl TimelineArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open()?;
        let study = self.source.study(&trace)?;
        if self.json {
            let vms: Vec<_> = study
                .vms
                .iter()
                .map(|(vm, of)| {
                    json!({
                        "vm": vm.0, "pid": of.meta.as_ref().map(|meta| meta.pid), "vcpus": of.vcpus,
                        "phases": of.timeline.phases, "bins": bins(&of.timeline),
                    })
                })
                .collect();
            // A missing record tells no VM: the stretches are those of the whole recording.
            let lost = json!({"records": study.lost_records(), "spans_ns": study.lost_spans()});
            output::print_json(&json!({"lost": lost, "vms": vms}))?;
            return source::ended(&study);
        }
        let mut text = String::new();
        let lost = Some(verdict::loss(&study)).filter(|line| !line.good);
        for line in verdict::warnings(&trace, &study).iter().chain(&lost) {
            text.push_str(&format!("{}\n", output::line(line)));
        }
        let spans = study.lost_spans();
        let mut between = "";
        for (vm, of) in &study.vms {
            text.push_str(&format!("{between}VM {} ({})\n", vm.0, of.about()));
            text.push_str(&text::lines(
                &of.timeline,
                self.show,
                usize::from(self.lines),
                &spans,
            ));
            between = "\n";
        }
        output::print(&text)?;
        source::ended(&study)
    }
}

fn bins(timeline: &Timeline) -> Vec<serde_json::Value> {
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
        json!({
            "start_s": start, "faults": faults, "changes": changes, "pages_by_level": bin.totals.pages,
            "entries_by_level": bin.totals.present, "pages_made": bin.made, "pages_zapped": bin.zapped,
            "leaves": bin.totals.leaves, "links": bin.totals.links, "unsync": bin.totals.unsync,
        })
    };
    timeline.bins().into_iter().map(bin).collect()
}
