//! `collector workloads`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use serde_json::json;
use workloads::Workload;

use crate::{failure::Failure, program, terminal};

/// Arguments of `workloads`.
#[derive(Debug, Args)]
pub struct WorkloadsArgs {
    /// Describe this one with all its parameters
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl WorkloadsArgs {
    /// Prints the catalogue, or one entry of it.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let mut out = io::stdout().lock();
        let chosen = match &self.name {
            Some(name) => Some(workloads::find(name).map_err(Failure::usage)?),
            None => None,
        };
        let written = match (chosen, self.json) {
            (Some(workload), false) => describe(&mut out, workload),
            (None, false) => list(&mut out),
            (Some(workload), true) => writeln!(out, "{:#}", as_json(workload)),
            (None, true) => {
                let all: Vec<_> = workloads::all().map(as_json).collect();
                writeln!(out, "{:#}", json!(all))
            }
        };
        written.map_err(anyhow::Error::from)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn list(out: &mut impl Write) -> io::Result<()> {
    for workload in workloads::all() {
        let name = format!("{:<10} ", workload.name);
        writeln!(out, "{}", wrap(workload.stresses, &name, &" ".repeat(11)))?;
    }
    let command = program::command("workloads NAME");
    writeln!(out, "\n`{command}` describes one with its parameters.")
}

fn describe(out: &mut impl Write, workload: &Workload) -> io::Result<()> {
    let title = format!("{}: ", workload.name);
    writeln!(out, "{}\n", wrap(workload.stresses, &title, ""))?;
    for param in workload.params {
        let values = format!("--param {}={}", param.name, param.kind);
        writeln!(out, "{}", wrap(&values, "  ", "      "))?;
        let doc = format!("{} [default: {}]", param.doc, param.default);
        writeln!(out, "{}", wrap(&doc, "      ", "      "))?;
    }
    writeln!(out, "\n{}", wrap(workload.expected, "", ""))
}

/// `text` as wide as the terminal.
fn wrap(text: &str, first: &str, rest: &str) -> String {
    terminal::wrap(text, terminal::width(), first, rest)
}

fn as_json(workload: &Workload) -> serde_json::Value {
    let params: Vec<_> = workload
        .params
        .iter()
        .map(|param| {
            json!({
                "name": param.name,
                "values": param.kind.to_string(),
                "default": param.default,
                "doc": param.doc,
            })
        })
        .collect();
    json!({
        "name": workload.name,
        "stresses": workload.stresses,
        "params": params,
        "expected": workload.expected,
    })
}
