//! What is said at the end of a run.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::atomic::Ordering,
};

use serde_json::json;

use super::Order;
use crate::{
    failure::Failure,
    record::Progress,
    vmm::{GuestResult, VmmError},
};

/// A run that ended, one way or another.
pub struct Outcome {
    recorded: Option<Recorded>,
    ran: Result<GuestResult, VmmError>,
}

struct Recorded {
    faults: u64,
    records: u64,
    lost: u64,
    bytes: u64,
}

impl Outcome {
    /// With a trace.
    pub fn traced(
        progress: &Progress,
        lost: u64,
        bytes: u64,
        ran: Result<GuestResult, VmmError>,
    ) -> Self {
        let recorded = Recorded {
            faults: progress.faults.load(Ordering::Relaxed),
            records: progress.records.load(Ordering::Relaxed),
            lost,
            bytes,
        };
        Self { recorded: Some(recorded), ran }
    }

    /// Without one.
    pub fn untraced(ran: Result<GuestResult, VmmError>) -> Self {
        Self { recorded: None, ran }
    }

    /// Prints it, and gives the exit code.
    pub fn report(self, order: &Order) -> Result<ExitCode, Failure> {
        let trace = order.output.display();
        let result = match self.ran {
            Ok(result) => result,
            Err(error) => {
                let failure = Failure::failed(error);
                return Err(match self.recorded {
                    Some(_) => failure.hint(format!("{trace} holds what happened up to there")),
                    None => failure,
                });
            }
        };
        let mut out = io::stdout().lock();
        let seconds = result.elapsed.as_secs_f64();
        let written = if order.json {
            let recorded = self.recorded.as_ref().map(|recorded| {
                json!({
                    "trace": order.output,
                    "faults": recorded.faults,
                    "records": recorded.records,
                    "lost": recorded.lost,
                    "bytes": recorded.bytes,
                })
            });
            let guest = json!({
                "workload": order.plan.workload.name,
                "pages": result.pages,
                "elapsed_ns": u64::try_from(result.elapsed.as_nanos()).unwrap_or(u64::MAX),
                "recorded": recorded,
            });
            writeln!(out, "{guest:#}")
        } else {
            let ran = format!("{}: {} pages checked by the guest, {seconds:.3} s", order.plan.workload.name, result.pages);
            match &self.recorded {
                None => writeln!(out, "{ran}"),
                Some(recorded) => writeln!(
                    out,
                    "{ran}\n{trace}: {} faults, {} records, {} lost, {} KiB\nnext: analyzer summary {trace}",
                    recorded.faults,
                    recorded.records,
                    recorded.lost,
                    recorded.bytes >> 10,
                ),
            }
        };
        written.map_err(anyhow::Error::from)?;
        Ok(ExitCode::SUCCESS)
    }
}
