//! `analyzer memory`.

use std::process::ExitCode;

use clap::Args;

use super::{Failure, FormatArgs, Source, source};
use crate::{
    memory::{self, Growth, MemoryReport, Snapshot, VmMemory},
    table::Moment,
    verdict,
};

/// Options of `memory`.
#[derive(Debug, Args)]
pub struct MemoryArgs {
    #[command(flatten)]
    source: Source,
    /// When, instead of the moment with the most shadow pages: seconds from the start (1.25s, 30ms),
    /// ns on the trace's clock, `end`, `phase:NAME`, `fault:N` or `seq:N`
    #[arg(long, value_name = "T", conflicts_with = "seq")]
    at: Option<Moment>,
    /// Just after the record of this sequence number
    #[arg(long, value_name = "N")]
    seq: Option<u64>,
    #[command(flatten)]
    format: FormatArgs,
}

impl MemoryArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open()?;
        let study = self.source.follow(&trace, Growth::new)?;
        let asked = self.seq.map(Moment::Seq).or(self.at);
        let mut vms = Vec::new();
        for (vm, growth) in &study.vms {
            let peak = Moment::Seq(growth.peak().seq.0);
            let moment = asked.clone().unwrap_or(peak);
            for taken in super::table::take(&trace, *vm, &[moment])? {
                let snapshot = Snapshot::of(&taken.vm, taken.seq);
                vms.push(VmMemory::of(*vm, growth, &snapshot));
            }
        }
        let report = MemoryReport {
            lost: study.lost_records(),
            vms,
        };
        let mut lines = verdict::warnings(&trace, &study);
        lines.extend(Some(verdict::loss(&study)).filter(|line| !line.good));
        self.format
            .print(&lines, memory::document(&report), &report)?;
        source::ended(&study)
    }
}
