//! `collector series`.

use std::{
    collections::BTreeSet,
    env,
    path::PathBuf,
    process::{Command, ExitCode},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::run::{param, plan, seconds};
use crate::{failure::Failure, recording};

/// Arguments of `series`.
#[derive(Debug, Args)]
pub struct SeriesArgs {
    /// Workloads, each with its parameters behind a colon: remap:pages=64,rounds=3
    #[arg(required = true, value_name = "WORKLOAD[:NAME=VALUE,...]")]
    items: Vec<Item>,
    /// Folder for the traces, one for each workload, named after it
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Also copy the kernel's shadow tables every SECONDS (always at start and end)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    keyframe_every: Option<Duration>,
    /// Stop a guest that is not done after SECONDS
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    timeout: Duration,
}

/// A workload with its parameters, as one word.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    /// As it was given.
    text: String,
    workload: String,
    params: Vec<(String, String)>,
}

impl FromStr for Item {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (workload, params) = text.split_once(':').unwrap_or((text, ""));
        let params = params
            .split(',')
            .filter(|pair| !pair.is_empty())
            .map(param)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            text: text.to_owned(),
            workload: workload.to_owned(),
            params,
        })
    }
}

impl Item {
    /// Its trace, whose name is safe in any shell.
    fn trace(&self) -> String {
        format!("{}.trace", self.text.replace([':', '/'], "-"))
    }
}

impl SeriesArgs {
    /// Runs and records one after another; all of them, whatever becomes of one.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        if !self.output.is_dir() {
            let folder = self.output.display();
            let error = anyhow!("the traces are to go to {folder}, which is no folder");
            return Err(Failure::usage(error).hint(format!("mkdir {folder}")));
        }
        let mut traces = BTreeSet::new();
        for item in &self.items {
            plan(&item.workload, &item.params)?;
            recording::check_output(&self.output.join(item.trace()))?;
            if !traces.insert(item.trace()) {
                let error = anyhow!("{} is given twice: its trace would be too", item.text);
                return Err(Failure::usage(error).hint("another seed gives another run"));
            }
        }
        let program = env::current_exe().context("while looking for this program")?;
        let mut failed = Vec::new();
        for item in &self.items {
            // A process of its own: root is given up in each, for good.
            let status = self
                .command(&program, item)
                .status()
                .with_context(|| format!("while starting {}", program.display()))?;
            if !status.success() {
                failed.push(item.text.as_str());
            }
        }
        if failed.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let (count, all) = (failed.len(), self.items.len());
        Err(Failure::failed(anyhow!(
            "{count} of {all} workloads failed: {}",
            failed.join(" ")
        )))
    }

    fn command(&self, program: &PathBuf, item: &Item) -> Command {
        let mut command = Command::new(program);
        command.args(["run", &item.workload]);
        for (name, value) in &item.params {
            command.arg("--param").arg(format!("{name}={value}"));
        }
        let timeout = self.timeout.as_secs_f64().to_string();
        command.args(["--timeout", &timeout]);
        if let Some(every) = self.keyframe_every {
            let seconds = every.as_secs_f64().to_string();
            command.args(["--keyframe-every", &seconds]);
        }
        command.arg("-o").arg(self.output.join(item.trace()));
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_names_its_workload_and_parameters() {
        let item: Item = "mixed:seed=3,vcpus=2".parse().expect("well-formed");
        assert_eq!(item.workload, "mixed");
        let params = [("seed", "3"), ("vcpus", "2")];
        let params = params.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(item.params, params);
        assert_eq!(item.trace(), "mixed-seed=3,vcpus=2.trace");
        assert_eq!("linear".parse::<Item>().map(|item| item.params), Ok(vec![]));
        assert!("linear:pages".parse::<Item>().is_err());
    }
}
