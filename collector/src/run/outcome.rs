//! What is printed at the end of a run.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::json;
use trace::Micro;

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
    clock: Clock,
}

/// What the guest's clock says.
#[derive(Debug)]
pub struct Clock {
    /// Its frequency, which is that of the marks too.
    pub tsc_khz: Option<u32>,
    /// Times of the operation of `micro`.
    pub micro: Option<Micro>,
}

impl Clock {
    /// Lowest quartile, median and highest quartile of an operation, ns.
    fn json(&self) -> Option<serde_json::Value> {
        let micro = self.micro.as_ref()?;
        let [q1, median, q3] = micro.quartiles_ns()?;
        Some(json!({
            "op": micro.op, "count": micro.count, "q1_ns": q1, "median_ns": median, "q3_ns": q3,
        }))
    }

    /// The same in words, on a line of its own.
    fn text(&self) -> String {
        let Some((micro, [q1, median, q3])) = self
            .micro
            .as_ref()
            .and_then(|micro| Some((micro, micro.quartiles_ns()?)))
        else {
            return String::new();
        };
        format!(
            "\n{}: {median:.0} ns an operation (quartiles {q1:.0} and {q3:.0} of {} batches)",
            micro.op,
            micro.batch_cycles.len()
        )
    }
}

impl Outcome {
    /// With a trace.
    pub fn traced(
        recorded: Recorded,
        error: Option<anyhow::Error>,
        ran: Result<GuestResult, VmmError>,
        clock: Clock,
    ) -> Self {
        Self {
            recorded: Some(recorded),
            error,
            ran,
            clock,
        }
    }

    /// Without one.
    pub fn untraced(
        error: Option<anyhow::Error>,
        ran: Result<GuestResult, VmmError>,
        clock: Clock,
    ) -> Self {
        Self {
            recorded: None,
            error,
            ran,
            clock,
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
                let failure = Failure::failed(error);
                return Err(match self.recorded {
                    Some(_) => failure.hint(hint),
                    None => failure,
                });
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
            true => json(options, &result, recorded, &self.clock),
            false => text(options, &result, recorded, &self.clock),
        };
        writeln!(io::stdout(), "{text}").map_err(anyhow::Error::from)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn json(
    options: &Options,
    result: &GuestResult,
    recorded: Option<&Recorded>,
    clock: &Clock,
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
        "tsc_khz": clock.tsc_khz,
        "micro": clock.json(),
        "recorded": recorded,
    });
    format!("{guest:#}")
}

fn text(
    options: &Options,
    result: &GuestResult,
    recorded: Option<&Recorded>,
    clock: &Clock,
) -> String {
    let ran = format!(
        "{}: {} pages checked by the guest, {:.3} s{}",
        options.plan.workload.name,
        result.pages,
        result.elapsed.as_secs_f64(),
        clock.text()
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
