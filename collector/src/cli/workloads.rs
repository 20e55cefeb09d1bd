//! `collector workloads`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Args;
use serde_json::json;
use workloads::Workload;

use crate::failure::Failure;

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
        writeln!(out, "{:<10} {}", workload.name, workload.stresses)?;
    }
    writeln!(
        out,
        "\n`collector workloads NAME` describes one with its parameters."
    )
}

fn describe(out: &mut impl Write, workload: &Workload) -> io::Result<()> {
    writeln!(out, "{}: {}\n", workload.name, workload.stresses)?;
    for param in workload.params {
        writeln!(out, "  --param {}={}", param.name, param.kind)?;
        writeln!(out, "      {} [default: {}]", param.doc, param.default)?;
    }
    writeln!(out, "\n{}", workload.expected)
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
