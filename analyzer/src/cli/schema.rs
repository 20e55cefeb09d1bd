//! `analyzer schema`.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use trace::{
    ColumnInfo, EntryRow, FaultRow, HostRow, KeyframeRow, LossRow, MarkRow, PageRow, RootRow, Row,
    WriteRow,
};

use super::{Failure, output};
use crate::text::Grid;

/// Options of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Only this kind of record
    #[arg(value_name = "KIND")]
    kind: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Kind {
    kind: &'static str,
    columns: Vec<Column>,
}

#[derive(Serialize)]
struct Column {
    name: &'static str,
    #[serde(rename = "type")]
    dtype: &'static str,
    nullable: bool,
    doc: &'static str,
}

fn kind<R: Row>() -> Kind {
    let column = |info: &ColumnInfo| Column {
        name: info.name,
        dtype: info.dtype,
        nullable: info.nullable,
        doc: info.doc.trim(),
    };
    Kind {
        kind: R::KIND,
        columns: R::COLUMNS.iter().map(column).collect(),
    }
}

fn kinds() -> Vec<Kind> {
    vec![
        kind::<FaultRow>(),
        kind::<EntryRow>(),
        kind::<PageRow>(),
        kind::<RootRow>(),
        kind::<MarkRow>(),
        kind::<KeyframeRow>(),
        kind::<WriteRow>(),
        kind::<HostRow>(),
        kind::<LossRow>(),
    ]
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
        if self.json {
            output::print_json(&kinds)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut text = String::new();
        for kind in &kinds {
            let mut grid = Grid::new(&["column", "type", "null", "what it says"]);
            for column in &kind.columns {
                let null = if column.nullable { "yes" } else { "" };
                grid.row([column.name, column.dtype, null, column.doc].map(str::to_owned));
            }
            text.push_str(&format!("{}\n{}\n", kind.kind, grid.text(2)));
        }
        output::print(text.trim_end_matches('\n')).and_then(|()| output::print("\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}
