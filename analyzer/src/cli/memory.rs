//! `analyzer memory`.

use std::process::ExitCode;

use clap::Args;
use events::Seq;

use super::{Failure, FormatArgs, Source, source};
use crate::{
    memory::{self, At, Growth, MemoryReport, Snapshot, VmMemory},
    verdict,
};

/// Options of `memory`.
#[derive(Debug, Args)]
pub struct MemoryArgs {
    #[command(flatten)]
    source: Source,
    /// After the record of this sequence number, instead of the moment with the most shadow pages
    #[arg(long, value_name = "N")]
    seq: Option<u64>,
    #[command(flatten)]
    format: FormatArgs,
}

impl MemoryArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open()?;
        let study = self.source.follow(&trace, Growth::new)?;
        // The peak is known once everything was read.
        let at = |vm: &events::VmId| {
            let peak = study.vms.get(vm).map(|growth| growth.peak().seq);
            self.seq.map(Seq).or(peak).unwrap_or_default()
        };
        let moments = self
            .source
            .follow(&trace, |subject| At::new(subject, at(&subject.vm)))?;
        let vms = study.vms.iter().map(|(vm, growth)| {
            let moment = moments.vms.get(vm).and_then(|at| at.snapshot.as_ref());
            VmMemory::of(*vm, growth, moment.unwrap_or(&Snapshot::default()))
        });
        let report = MemoryReport {
            lost: study.lost_records(),
            vms: vms.collect(),
        };
        let mut lines = verdict::warnings(&trace, &study);
        lines.extend(Some(verdict::loss(&study)).filter(|line| !line.good));
        self.format
            .print(&lines, memory::document(&report), &report)?;
        source::ended(&study)
    }
}
