//! `collector series`.

use std::{
    collections::BTreeSet,
    env,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus, Stdio},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Value, json};

use super::run::{every, param, plan, seconds};
use crate::{failure::Failure, keyframe::Every, program, recording, terminal};

/// Arguments of `series`.
#[derive(Debug, Args)]
pub struct SeriesArgs {
    /// Workloads, each followed by its parameters: remap:pages=64,rounds=3
    #[arg(required = true, value_name = "WORKLOAD[:NAME=VALUE,...]")]
    items: Vec<Item>,
    /// Directory for the traces, one for each workload, named after it
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// Also copy the kernel's shadow tables every SECONDS (always at start and end), or `auto`
    #[arg(long, value_name = "SECONDS", value_parser = every)]
    keyframe_every: Option<Every>,
    /// Stop a guest that is not done after SECONDS
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    timeout: Duration,
    /// Print the outcomes as JSON
    #[arg(long)]
    json: bool,
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

/// How one run ended.
struct Ran {
    status: ExitStatus,
    /// What `run --json` printed.
    outcome: Option<Value>,
}

impl SeriesArgs {
    /// Runs and records one after another. If one fails, the others run all the same.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        self.check()?;
        let all = self.items.len();
        let (mut failed, mut outcomes) = (Vec::new(), Vec::new());
        for (number, item) in (1..).zip(&self.items) {
            if !self.json {
                terminal::say(format_args!("{number} of {all}: {}", item.text));
            }
            let ran = self.run(item, &format!("{number} of {all}"))?;
            if !ran.status.success() {
                failed.push(item.text.as_str());
            }
            outcomes.push(json!({
                "workload": item.text,
                "trace": self.output.join(item.trace()).to_string_lossy(),
                "exit_code": ran.status.code(),
                "outcome": ran.outcome,
            }));
        }
        if self.json {
            writeln!(io::stdout().lock(), "{:#}", Value::from(outcomes))?;
        }
        if failed.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        Err(Failure::failed(anyhow!(
            "{} of {all} workloads failed: {}",
            failed.len(),
            failed.join(" ")
        )))
    }

    /// Before the first one starts: nothing may stop a later one that can be known now.
    fn check(&self) -> Result<(), Failure> {
        if !self.output.is_dir() {
            let error = anyhow!("the output {} is not a directory", self.output.display());
            let directory = program::quoted(&self.output);
            return Err(Failure::usage(error).hint(format!("mkdir {directory}")));
        }
        let mut traces = BTreeSet::new();
        for item in &self.items {
            plan(&item.workload, &item.params)?;
            recording::check_output(&self.output.join(item.trace()))?;
            if !traces.insert(item.trace()) {
                let error = anyhow!("{} is given twice: both would write one trace", item.text);
                return Err(Failure::usage(error).hint("another seed gives another run"));
            }
        }
        Ok(())
    }

    /// Runs one in its own process, since each gives up root for good. `which` is for its progress.
    fn run(&self, item: &Item, which: &str) -> anyhow::Result<Ran> {
        let program = env::current_exe().context("while looking for this program")?;
        let mut command = Command::new(&program);
        if let Some(name) = env::args_os().next() {
            command.arg0(name);
        }
        command
            .env(recording::SERIES, which)
            .args(self.arguments(item))
            .arg("-o")
            .arg(self.output.join(item.trace()));
        if self.json {
            command.arg("--json").stdout(Stdio::piped());
        }
        let output = command
            .stderr(Stdio::inherit())
            .spawn()
            .and_then(|child| child.wait_with_output())
            .with_context(|| format!("while running {}", program.display()))?;
        Ok(Ran {
            status: output.status,
            // A run that failed prints its error instead.
            outcome: serde_json::from_slice(&output.stdout).ok(),
        })
    }

    /// The arguments of `run`.
    fn arguments(&self, item: &Item) -> Vec<String> {
        let mut words = vec!["run".to_owned(), item.workload.clone()];
        for (name, value) in &item.params {
            words.extend(["--param".to_owned(), format!("{name}={value}")]);
        }
        let timeout = self.timeout.as_secs_f64().to_string();
        words.extend(["--timeout".to_owned(), timeout]);
        if let Some(every) = self.keyframe_every {
            words.extend(["--keyframe-every".to_owned(), every.to_string()]);
        }
        words
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
