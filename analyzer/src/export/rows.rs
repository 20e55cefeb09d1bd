//! Rows as CSV or JSON lines, with the names of the trace's columns.

use clap::ValueEnum;
use events::{Seq, VmId};
use serde::Serialize;
use serde_json::Serializer;
use trace::{
    ActRow, ColumnInfo, EntryRow, FaultRow, HostRow, KeyframeRow, LossRow, MarkRow, PageRow,
    RootRow, Row, Trace, WriteRow,
};

use super::{Context, ExportError, Lost, Output, Sink, csv::Csv};

/// How a row is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Comma-separated values with a head.
    Csv,
    /// An object a line.
    Jsonl,
}

/// Which records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Faults, with their phase and what removed the entry before
    Faults,
    /// Entries that changed, other than the leaves of faults
    #[value(alias = "changes")]
    Entries,
    /// Events in the life of shadow pages
    Pages,
    /// Switches of roots
    Roots,
    /// Phases and the ends of keyframes
    Marks,
    /// Pages and entries of keyframes
    Keyframes,
    /// The guest's stores that KVM emulated
    Writes,
    /// What the host did to ranges of memory
    Host,
    /// What KVM did to the tables in one piece
    Acts,
    /// Records that were lost
    Losses,
}

/// A fault, with what the analyzer knows of it.
#[derive(Debug, Serialize)]
struct Fault<'a> {
    #[serde(flatten)]
    row: &'a FaultRow,
    /// The phase; null before the first mark.
    phase: Option<&'a str>,
    /// What removed or weakened the entry that was there before, by the names of `refaults`; null
    /// where the fault is no refault.
    removed_by: Option<&'static str>,
    /// The record of it; null where none shows it.
    removed_seq: Option<Seq>,
    /// 1 where records were missing in between when the fault came: it may have been another.
    removed_over_gap: Option<u8>,
}

/// Names of what a [`Fault`] has beyond the trace's columns.
const MORE: [&str; 4] = ["phase", "removed_by", "removed_seq", "removed_over_gap"];

/// Writes rows.
pub struct Rows {
    to: Output,
    form: Form,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows")
            .field("form", &self.form)
            .finish_non_exhaustive()
    }
}

impl Rows {
    /// For rows of `columns`.
    fn new(
        mut to: Output,
        form: Form,
        columns: &'static [ColumnInfo],
        more: &'static [&'static str],
    ) -> Result<Self, ExportError> {
        if form == Form::Csv {
            let names = columns.iter().map(|column| column.name);
            let head = Csv::head(names.chain(more.iter().copied()));
            to.write_all(head.as_bytes())?;
        }
        Ok(Self { to, form })
    }

    /// For faults.
    pub fn of_faults(to: Output, form: Form) -> Result<Self, ExportError> {
        Self::new(to, form, FaultRow::COLUMNS, &MORE)
    }

    fn add(&mut self, row: &impl Serialize) -> Result<(), ExportError> {
        match self.form {
            Form::Csv => {
                let csv = Csv::default();
                row.serialize(&mut Serializer::with_formatter(&mut self.to, csv))?;
            }
            Form::Jsonl => {
                serde_json::to_writer(&mut self.to, row)?;
                self.to.write_all(b"\n")?;
            }
        }
        Ok(())
    }
}

impl Sink for Rows {
    fn fault(&mut self, of: &Context<'_>, row: &FaultRow) -> Result<(), ExportError> {
        let removal = of.refault.and_then(|refault| refault.removal);
        self.add(&Fault {
            row,
            phase: of.phase,
            removed_by: of.refault.map(|refault| refault.name()),
            removed_seq: removal.map(|removal| removal.seq),
            removed_over_gap: of.refault.map(|refault| u8::from(refault.over_gap)),
        })
    }

    fn finish(&mut self, _: &Lost) -> Result<(), ExportError> {
        Ok(self.to.flush()?)
    }
}

/// Writes every row of a kind, of one VM or of all, as the trace has them: nearly in order. Gives
/// their number.
pub fn write_kind(
    trace: &Trace,
    kind: Kind,
    only: Option<VmId>,
    to: Output,
    form: Form,
) -> Result<u64, ExportError> {
    match kind {
        Kind::Faults => write::<FaultRow>(trace, only, to, form),
        Kind::Entries => write::<EntryRow>(trace, only, to, form),
        Kind::Pages => write::<PageRow>(trace, only, to, form),
        Kind::Roots => write::<RootRow>(trace, only, to, form),
        Kind::Marks => write::<MarkRow>(trace, only, to, form),
        Kind::Keyframes => write::<KeyframeRow>(trace, only, to, form),
        Kind::Writes => write::<WriteRow>(trace, only, to, form),
        Kind::Host => write::<HostRow>(trace, only, to, form),
        Kind::Acts => write::<ActRow>(trace, only, to, form),
        // They name no VM.
        Kind::Losses => write::<LossRow>(trace, None, to, form),
    }
}

fn write<R: Row + Serialize>(
    trace: &Trace,
    only: Option<VmId>,
    to: Output,
    form: Form,
) -> Result<u64, ExportError> {
    let mut rows = Rows::new(to, form, R::COLUMNS, &[])?;
    let mut written = 0;
    for segment in trace.of_kind(R::KIND) {
        let of = trace.segment_rows::<R>(segment)?;
        for row in of
            .iter()
            .filter(|row| only.is_none_or(|only| row.vm() == only))
        {
            rows.add(row)?;
            written += 1;
        }
    }
    rows.to.flush()?;
    Ok(written)
}
