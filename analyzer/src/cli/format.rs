//! The form in which a command prints its tables.

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Failure, output};
use crate::{text::Document, verdict::Line};

/// How to print.
#[derive(Debug, Args)]
pub struct FormatArgs {
    /// Form of the output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Only the table of this name, in any form but json
    #[arg(long, value_name = "NAME", conflicts_with = "json")]
    table: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a terminal
    Text,
    /// Sections and tables for a web page or an issue
    Markdown,
    /// Every row, in nanoseconds and plain numbers
    Csv,
    /// Everything, for programs
    Json,
}

impl FormatArgs {
    /// Whether programs read it: then nothing may be left out for brevity.
    pub(super) fn is_for_programs(&self) -> bool {
        self.is_json() || self.format == Format::Csv
    }

    fn is_json(&self) -> bool {
        self.json || self.format == Format::Json
    }

    /// Prints `json`, or the document below the lines of its verdict.
    pub(super) fn print(
        &self,
        verdict: &[Line],
        document: Document,
        json: &impl Serialize,
    ) -> Result<(), Failure> {
        if self.is_json() {
            return output::print_json(json);
        }
        let (verdict, document) = match &self.table {
            None => (verdict, document),
            Some(name) => (&[][..], only(document, name)?),
        };
        output::print(&match self.format {
            Format::Csv => document.csv(),
            Format::Markdown => {
                let lines = verdict.iter().map(|line| format!("{}\n\n", line.text));
                lines.collect::<String>() + &document.markdown()
            }
            Format::Text | Format::Json => {
                let gap = match verdict.is_empty() || !document.head.is_empty() {
                    true => "",
                    false => "\n",
                };
                output::lines(verdict) + gap + &document.text()
            }
        })
    }
}

fn only(document: Document, name: &str) -> Result<Document, Failure> {
    let names = document.names();
    if names.contains(&name) {
        return Ok(document.only(name));
    }
    let hint = format!("there are {}", names.join(", "));
    Err(Failure::usage(anyhow!("no table `{name}` here")).hint(hint))
}
