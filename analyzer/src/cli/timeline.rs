//! `analyzer timeline`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{Failure, Source, output, source};
use crate::{
    figures::{Bin, Timeline},
    text::{Grid, plain, units::count},
    verdict,
};

/// Options of `timeline`.
#[derive(Debug, Args)]
pub struct TimelineArgs {
    #[command(flatten)]
    source: Source,
    /// Lines to print for each VM
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=240))]
    lines: u16,
    /// Print JSON, at full resolution
    #[arg(long)]
    json: bool,
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
            text.push_str(&self::text(&of.timeline, usize::from(self.lines), &spans));
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
            "leaves": bin.totals.leaves, "links": bin.totals.links, "unsync": bin.totals.unsync,
        })
    };
    timeline.bins().into_iter().map(bin).collect()
}

fn text(timeline: &Timeline, lines: usize, lost: &[[u64; 2]]) -> String {
    let bins = timeline.bins();
    let together = bins.len().div_ceil(lines.max(1)).max(1);
    let mut grid = Grid::new(&[
        ">from",
        ">faults",
        ">faults/s",
        ">pages",
        ">leaves",
        ">unsync",
        ">changes",
        "",
        "phase that begins",
    ]);
    let seconds = timeline.bin_ns() as f64 * together as f64 / 1e9;
    let most = bins
        .chunks(together)
        .map(faults)
        .max()
        .unwrap_or_default()
        .max(1);
    for chunk in bins.chunks(together) {
        let (Some((from, _)), Some((_, last))) = (chunk.first(), chunk.last()) else {
            continue;
        };
        let begins = |time: f64| time >= *from && time < from + seconds;
        let phases = timeline
            .phases
            .iter()
            .filter(|phase| begins(timeline.seconds(phase.time_ns)));
        let mut words: Vec<_> = phases.map(|phase| plain(&phase.name)).collect();
        let missing = lost.iter().any(|[first, last]| {
            timeline.seconds(*first) < from + seconds && timeline.seconds(*last) >= *from
        });
        if missing {
            words.push("RECORDS MISSING".to_owned());
        }
        let faults = faults(chunk);
        let bar = "#".repeat((faults * 20).div_ceil(most).min(20) as usize);
        grid.row([
            format!("{from:.4} s"),
            count(faults),
            count((faults as f64 / seconds) as u64),
            count(last.totals.all_pages()),
            count(last.totals.leaves),
            count(last.totals.unsync),
            count(changes(chunk)),
            bar,
            words.join(", "),
        ]);
    }
    grid.text(2)
}

fn faults(chunk: &[(f64, Bin)]) -> u64 {
    chunk.iter().flat_map(|(_, bin)| bin.faults.values()).sum()
}

fn changes(chunk: &[(f64, Bin)]) -> u64 {
    chunk.iter().flat_map(|(_, bin)| bin.changes.values()).sum()
}
