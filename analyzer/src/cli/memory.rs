//! `analyzer memory`.

use std::process::ExitCode;

use clap::Args;
use events::VmId;
use trace::Trace;

use super::{Failure, FormatArgs, Source, number, source, table};
use crate::{
    memory::{self, At, Growth, MemoryReport, Snapshot, VmMemory},
    study::{Study, Subject},
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
    #[arg(long, value_parser = number::seq, value_name = "N")]
    seq: Option<u64>,
    #[command(flatten)]
    format: FormatArgs,
}

impl MemoryArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open_tables()?;
        let study = self.source.follow(&trace, Growth::new)?;
        let vms = match self.seq.map(Moment::Seq).or(self.at) {
            Some(moment) => asked(&trace, &study, &moment)?,
            None => {
                // The peak is known once everything was read.
                let peak = |vm: &VmId| study.vms.get(vm).map(|growth| growth.peak().seq);
                let at = |subject: &Subject<'_>| At::new(peak(&subject.vm).unwrap_or_default());
                let peaks = self.source.follow(&trace, at)?;
                let vms = study.vms.iter().map(|(vm, growth)| {
                    let peak = peaks.vms.get(vm).and_then(|at| at.snapshot.as_ref());
                    VmMemory::of(*vm, growth, peak.unwrap_or(&Snapshot::default()))
                });
                vms.collect()
            }
        };
        let report = MemoryReport {
            lost: study.lost_records(),
            vms,
        };
        let lines = verdict::cautions(&trace, &study);
        self.format
            .print(&lines, memory::document(&report), &report)?;
        source::ended(&study)
    }
}

/// VMs of which a moment is shown at most: the trace is read for each.
const MOST: usize = 64;

/// Each VM at the moment that is asked for.
fn asked(trace: &Trace, study: &Study<Growth>, moment: &Moment) -> Result<Vec<VmMemory>, Failure> {
    let vms = study.vms.len();
    if vms > MOST {
        let error =
            anyhow::anyhow!("a moment is shown of at most {MOST} VMs, and {vms} have records");
        return Err(Failure::usage(error).hint("--vm N chooses one"));
    }
    let mut vms = Vec::new();
    for (vm, growth) in &study.vms {
        for taken in table::take(trace, *vm, std::slice::from_ref(moment))? {
            let snapshot = Snapshot::of(&taken.vm, taken.seq);
            vms.push(VmMemory::of(*vm, growth, &snapshot));
        }
    }
    Ok(vms)
}
