//! What is printed at the end of a run.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::json;
use trace::{Counters, Micro};

use super::Options;
use crate::{
    failure::Failure,
    program,
    recording::{self, Recorded},
    vmm::{GuestResult, VmmError},
};

/// A run that ended, one way or another.
pub struct Outcome {
    recorded: Option<Recorded>,
    /// The guest was stopped because the trace has its largest size.
    full: bool,
    /// What went wrong with the recording itself.
    error: Option<anyhow::Error>,
    ran: Result<GuestResult, VmmError>,
    clock: Clock,
    /// KVM's counters at the end of a run without a trace, which would have them.
    counters: Option<Counters>,
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
        full: bool,
        error: Option<anyhow::Error>,
        ran: Result<GuestResult, VmmError>,
        clock: Clock,
    ) -> Self {
        Self {
            recorded: Some(recorded),
            full,
            error,
            ran,
            clock,
            counters: None,
        }
    }

    /// Without one.
    pub fn untraced(
        counters: Option<Counters>,
        error: Option<anyhow::Error>,
        ran: Result<GuestResult, VmmError>,
        clock: Clock,
    ) -> Self {
        Self {
            recorded: None,
            full: false,
            error,
            ran,
            clock,
            counters,
        }
    }

    /// Prints it, and gives the exit code.
    pub fn report(self, options: &Options) -> Result<ExitCode, Failure> {
        let trace = options.output.display();
        let hint = format!("{trace} holds what happened up to there");
        let result = match (self.ran, self.error) {
            (Ok(result), None) => Some(result),
            (Err(VmmError::Cancelled), None) if self.full => None,
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
            true => {
                let counters = self.counters.as_ref();
                json(options, result.as_ref(), recorded, &self.clock, counters)
            }
            false => text(options, result.as_ref(), recorded, &self.clock),
        };
        writeln!(io::stdout(), "{text}").map_err(anyhow::Error::from)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn json(
    options: &Options,
    result: Option<&GuestResult>,
    recorded: Option<&Recorded>,
    clock: &Clock,
    counters: Option<&Counters>,
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
    let marks = result.map(|result| {
        let marks = result.marks.iter().map(|mark| {
            json!({
                "name": mark.phase.name(),
                "vcpu": mark.vcpu,
                "guest_tsc": mark.guest_tsc,
            })
        });
        marks.collect::<Vec<_>>()
    });
    let elapsed = |result: &GuestResult| result.elapsed.as_nanos();
    let guest = json!({
        "workload": options.plan.workload.name,
        "reason": if result.is_some() { "done" } else { recording::FULL },
        "pages": result.map(|result| result.pages),
        "exits": result.map(|result| result.exits),
        "host_passes": result.map(|result| result.passes),
        "elapsed_ns": result.map(|result| u64::try_from(elapsed(result)).unwrap_or(u64::MAX)),
        "marks": marks,
        "tsc_khz": clock.tsc_khz,
        "micro": clock.json(),
        "counters": counters,
        "recorded": recorded,
    });
    format!("{guest:#}")
}

fn text(
    options: &Options,
    result: Option<&GuestResult>,
    recorded: Option<&Recorded>,
    clock: &Clock,
) -> String {
    let name = options.plan.workload.name;
    let ran = match result {
        Some(result) => format!(
            "{name}: {} pages checked by the guest, {:.3} s{}",
            result.pages,
            result.elapsed.as_secs_f64(),
            clock.text()
        ),
        None => format!("{name}: stopped, since the trace has the size of --max-size"),
    };
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
