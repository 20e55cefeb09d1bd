//! What is printed at the end of a run.

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
        let recorded = self.recorded.as_ref();
        let text = match options.json {
            true => json(options, &result, recorded, self.tsc_khz),
            false => text(options, &result, recorded),
        };
        writeln!(io::stdout(), "{text}").map_err(anyhow::Error::from)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn json(
    options: &Options,
    result: &GuestResult,
    recorded: Option<&Recorded>,
    tsc_khz: Option<u32>,
) -> String {
    let recorded = recorded.map(|recorded| {
        json!({
            "trace": options.output.to_string_lossy(),
            "faults": recorded.faults,
            "records": recorded.records,
            "lost": recorded.lost,
            "bytes": recorded.bytes,
        })
    });
    let marks = result.marks.iter().map(|mark| {
        json!({
            "name": mark.phase.name(),
            "vcpu": mark.vcpu,
            "guest_tsc": mark.guest_tsc,
        })
    });
    let guest = json!({
        "workload": options.plan.workload.name,
        "pages": result.pages,
        "exits": result.exits,
        "host_passes": result.passes,
        "elapsed_ns": u64::try_from(result.elapsed.as_nanos()).unwrap_or(u64::MAX),
        "marks": marks.collect::<Vec<_>>(),
        "tsc_khz": tsc_khz,
        "recorded": recorded,
    });
    format!("{guest:#}")
}

fn text(options: &Options, result: &GuestResult, recorded: Option<&Recorded>) -> String {
    let ran = format!(
        "{}: {} pages checked by the guest, {:.3} s",
        options.plan.workload.name,
        result.pages,
        result.elapsed.as_secs_f64()
    );
    match recorded {
        None => ran,
        Some(recorded) => format!(
            "{ran}\n{}: {} faults, {} records, {} lost, {} KiB\nnext: {}",
            options.output.display(),
            recorded.faults,
            recorded.records,
            recorded.lost,
            recorded.bytes >> 10,
            program::analyzer_command("summary", &options.output),
        ),
    }
}
