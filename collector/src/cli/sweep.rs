//! `collector sweep`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::anyhow;
use clap::Args;

use super::run::{param, plan, seconds};
use crate::{
    failure::Failure,
    program, recording,
    sweep::{Index, Over, Sweep, points},
};

/// Arguments of `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Name of the workload (the command `workloads` lists them)
    workload: String,
    /// Parameter and its values: NAME=FROM..TO (both included) or NAME=VALUE,VALUE,...; given
    /// several times, every combination is a point
    #[arg(long, value_name = "NAME=VALUES", required = true)]
    over: Vec<Over>,
    /// Parameter that is the same in all points, NAME=VALUE; can be given several times
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = param)]
    params: Vec<(String, String)>,
    /// Runs of each point; less than 3 do not show how much runs differ
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Runs of each point before these, which are not recorded
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(0..=1000))]
    warm_up: u32,
    /// Seed of the order: each round runs all points once, in a random order
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Directory to create, with POINT/RUN.trace and sweep.json [default: WORKLOAD.sweep]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Stop a guest that is not done after SECONDS
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    timeout: Duration,
    /// Print the index as JSON
    #[arg(long)]
    json: bool,
}

impl SweepArgs {
    /// Runs and records all points.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let output = self.output.clone();
        let output = output.unwrap_or_else(|| PathBuf::from(format!("{}.sweep", self.workload)));
        let points = points(&self.over).map_err(|error| Failure::usage(anyhow!(error)))?;
        for point in &points {
            let params: Vec<_> = self.params.iter().chain(point).cloned().collect();
            plan(&self.workload, &params)?;
        }
        recording::check_output(&output)?;
        let cancel = recording::cancel_on_signal()?;
        let sweep = Sweep {
            workload: self.workload,
            params: self.params,
            over: self.over,
            points,
            repeat: self.repeat,
            warm_up: self.warm_up,
            seed: self.seed,
            arguments: vec![
                "--timeout".to_owned(),
                self.timeout.as_secs_f64().to_string(),
            ],
            output,
            quiet: self.json,
        };
        let index = sweep.run(&cancel)?;
        recording::end_on_signal()?;
        if self.json {
            let text = serde_json::to_string_pretty(&index).map_err(anyhow::Error::from)?;
            writeln!(io::stdout().lock(), "{text}")?;
        } else {
            say(&sweep, &index)?;
        }
        ended(&index)
    }
}

/// What there is now, and what to do with it.
fn say(sweep: &Sweep, index: &Index) -> io::Result<()> {
    let runs = index.points.iter().flat_map(|point| &point.runs);
    let done = runs.filter(|run| run.outcome == "done").count();
    let folder = program::quoted(&sweep.output);
    writeln!(
        io::stdout().lock(),
        "{folder}: {done} runs of {} points\nnext: {}",
        index.points.len(),
        program::analyzer_command("sweep", &sweep.output),
    )
}

/// Failed runs are named.
fn ended(index: &Index) -> Result<ExitCode, Failure> {
    let runs = index.points.iter().flat_map(|point| &point.runs);
    let failed: Vec<_> = runs
        .filter(|run| run.outcome == "failed")
        .map(|run| run.trace.as_str())
        .collect();
    if index.end == Some("interrupted") {
        return Err(Failure::failed(anyhow!("the sweep was interrupted")));
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let number = failed.len();
    Err(Failure::failed(anyhow!(
        "{number} runs failed: {}",
        failed.join(" ")
    )))
}
