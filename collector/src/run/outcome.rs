//! What is said at the end of a run.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::json;

use super::Options;
use crate::{
    failure::Failure,
    program,
    recording::Recorded,
    vmm::{GuestResult, VmmError},
};

/// A run that ended, one way or another.
pub struct Outcome {
    recorded: Option<Recorded>,
    /// What went wrong with the recording itself.
    error: Option<anyhow::Error>,
    ran: Result<GuestResult, VmmError>,
    /// Frequency of the marks' clock.
    tsc_khz: Option<u32>,
}

impl Outcome {
    /// With a trace.
    pub fn traced(
        recorded: Recorded,
        error: Option<anyhow::Error>,
        ran: Result<GuestResult, VmmError>,
        tsc_khz: Option<u32>,
    ) -> Self {
        Self {
            recorded: Some(recorded),
            error,
            ran,
            tsc_khz,
        }
    }

    /// Without one.
    pub fn untraced(ran: Result<GuestResult, VmmError>, tsc_khz: Option<u32>) -> Self {
        Self {
            recorded: None,
            error: None,
            ran,
            tsc_khz,
        }
    }

    /// Prints it, and gives the exit code.
    pub fn report(self, options: &Options) -> Result<ExitCode, Failure> {
        let trace = options.output.display();
        let hint = format!("{trace} holds what happened up to there");
        let result = match (self.ran, self.error) {
            (Ok(result), None) => result,
            // The guest was stopped because nothing more could be kept.
            (Ok(_) | Err(VmmError::Cancelled), Some(error)) => {
                return Err(Failure::failed(error).hint(hint));
            }
            (Err(error), also) => {
                let failure = Failure::failed(error).also(also);
                return Err(if self.recorded.is_some() {
                    failure.hint(hint)
                } else {
                    failure
                });
            }
        };
        let mut out = io::stdout().lock();
        let seconds = result.elapsed.as_secs_f64();
        let written = if options.json {
            let recorded = self.recorded.as_ref().map(|recorded| {
                json!({
                    "trace": options.output,
                    "faults": recorded.faults,
                    "records": recorded.records,
                    "lost": recorded.lost,
                    "bytes": recorded.bytes,
                })
            });
            let marks: Vec<_> = result
                .marks
                .iter()
                .map(|mark| {
                    json!({
                        "name": mark.phase.name(),
                        "vcpu": mark.vcpu,
                        "guest_tsc": mark.guest_tsc,
                    })
                })
                .collect();
            let guest = json!({
                "workload": options.plan.workload.name,
                "pages": result.pages,
                "exits": result.exits,
                "host_passes": result.passes,
                "elapsed_ns": u64::try_from(result.elapsed.as_nanos()).unwrap_or(u64::MAX),
                "marks": marks,
                "tsc_khz": self.tsc_khz,
                "recorded": recorded,
            });
            writeln!(out, "{guest:#}")
        } else {
            let ran = format!(
                "{}: {} pages checked by the guest, {seconds:.3} s",
                options.plan.workload.name, result.pages
            );
            match &self.recorded {
                None => writeln!(out, "{ran}"),
                Some(recorded) => writeln!(
                    out,
                    "{ran}\n{trace}: {} faults, {} records, {} lost, {} KiB\nnext: {}",
                    recorded.faults,
                    recorded.records,
                    recorded.lost,
                    recorded.bytes >> 10,
                    program::analyzer_command("summary", &options.output),
                ),
            }
        };
        written.map_err(anyhow::Error::from)?;
        Ok(ExitCode::SUCCESS)
    }
}
