//! `analyzer schema`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use trace::{ColumnInfo, KINDS, KindInfo};

use super::{Failure, FormatArgs};
use crate::text::{Cell, Column, Document, Section, Table};

/// Options of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Only this kind of record
    #[arg(value_name = "KIND")]
    kind: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Serialize)]
struct Kind {
    kind: &'static str,
    columns: Vec<Described>,
}

#[derive(Serialize)]
struct Described {
    name: &'static str,
    #[serde(rename = "type")]
    dtype: &'static str,
    nullable: bool,
    doc: &'static str,
}

fn kinds() -> Vec<Kind> {
    let column = |info: &ColumnInfo| Described {
        name: info.name,
        dtype: info.dtype,
        nullable: info.nullable,
        doc: info.doc.trim(),
    };
    let kind = |info: &KindInfo| Kind {
        kind: info.name,
        columns: info.columns.iter().map(column).collect(),
    };
    KINDS.iter().map(kind).collect()
}

impl SchemaArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let mut kinds = kinds();
        if let Some(asked) = &self.kind {
            let names: Vec<_> = kinds.iter().map(|kind| kind.kind).collect();
            kinds.retain(|kind| kind.kind == asked);
            if kinds.is_empty() {
                let error = anyhow::anyhow!("no kind `{asked}` of record");
                return Err(Failure::usage(error).hint(format!("there are {}", names.join(", "))));
            }
        }
        let sections = kinds.iter().map(|kind| Section {
            title: kind.kind.to_owned(),
            tables: vec![kind.table()],
            ..Section::default()
        });
        let document = Document {
            sections: sections.collect(),
            ..Document::default()
        };
        self.format.print(&[], document, &kinds)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Kind {
    fn table(&self) -> Table {
        let columns = [
            Column::code("column"),
            Column::code("type"),
            Column::code("null"),
            Column::words("what it holds"),
        ];
        let mut table = Table::new(self.kind, "", columns);
        for column in &self.columns {
            let null = if column.nullable { "yes" } else { "" };
            table.row([column.name, column.dtype, null, column.doc].map(Cell::words));
        }
        table
    }
}
