//! What the commands that list records print.

use std::process::ExitCode;

use serde_json::{Value, json};
use trace::Trace;

use super::{Failure, FormatArgs, source};
use crate::{
    study::Study,
    table::TableError,
    text::{Document, Section, Table},
    verdict,
};

/// How an analysis becomes a list.
pub(super) struct Listed<M, T, J> {
    /// A moment that was asked for and did not come.
    pub(super) missing: M,
    /// Its table, with the start of the trace.
    pub(super) table: T,
    /// For programs.
    pub(super) json: J,
}

impl<M, T, J> Listed<M, T, J> {
    /// Prints the list of each VM. Fails if a moment came in none of them.
    pub(super) fn print<F>(
        &self,
        trace: &Trace,
        study: &Study<F>,
        format: &FormatArgs,
    ) -> Result<ExitCode, Failure>
    where
        M: Fn(&F) -> Option<TableError>,
        T: Fn(&F, u64) -> Table,
        J: Fn(&F, u64) -> Value,
    {
        came(study, &self.missing)?;
        let start = study.span_ns[0];
        let sections = study.vms.iter().map(|(vm, of)| Section {
            vm: Some(vm.0),
            title: format!("VM {}", vm.0),
            tables: vec![(self.table)(of, start)],
            ..Section::default()
        });
        let document = Document {
            sections: sections.collect(),
            ..Document::default()
        };
        let vms = study.vms.iter().map(|(vm, of)| {
            let mut listed = (self.json)(of, start);
            listed["vm"] = json!(vm);
            listed
        });
        let vms: Vec<_> = vms.collect();
        let json = json!({"lost": {"records": study.lost_records()}, "vms": vms});
        let lines = verdict::cautions(trace, study);
        format.print(&lines, document, &json)?;
        source::ended(study)
    }
}

/// Fails if a moment that was asked for came in no VM.
pub(super) fn came<F>(
    study: &Study<F>,
    missing: impl Fn(&F) -> Option<TableError>,
) -> Result<(), Failure> {
    let mut missing = study.vms.values().map(missing);
    match missing.next().flatten() {
        Some(error) if missing.all(|of| of.is_some()) => Err(error.into()),
        _ => Ok(()),
    }
}
