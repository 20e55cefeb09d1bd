//! `analyzer table`.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use events::{Gva, Hpa, VmId};
use trace::Trace;

use super::{Failure, Source, number, output, progress::Progress};
use crate::{
    table::{self, Between, Moment, Snapshot, SnapshotError},
    text::fit,
    verdict,
};

/// Options of `table`.
#[derive(Debug, Args)]
pub struct TableArgs {
    #[command(flatten)]
    source: Source,
    /// When: seconds from the start (1.25s, 30ms), ns on the trace's clock, `end`, `phase:NAME`,
    /// `fault:N` or `seq:N`
    #[arg(long, value_name = "T", default_value = "end",
          conflicts_with_all = ["fault", "phase", "seq", "diff"])]
    at: Moment,
    /// Just after the record of this sequence number
    #[arg(long, value_parser = number::seq, value_name = "N",
          conflicts_with_all = ["fault", "phase", "diff"])]
    seq: Option<u64>,
    /// Just after the fault of this number, counted from 0
    #[arg(long, value_name = "N", conflicts_with_all = ["phase", "diff"])]
    fault: Option<u64>,
    /// At the first mark of this phase
    #[arg(long, value_name = "NAME", conflicts_with = "diff")]
    phase: Option<String>,
    /// What changed between two moments, and why; each as for --at
    #[arg(long, num_args = 2, value_names = ["T1", "T2"], conflicts_with_all = ["root", "gva"])]
    diff: Option<Vec<Moment>>,
    /// Only this root, or the tables below this shadow page
    #[arg(long, value_name = "HPA", value_parser = number::hpa)]
    root: Option<Hpa>,
    /// Translate this address, with the entries on the way
    #[arg(long, value_name = "ADDR", value_parser = number::gva)]
    gva: Option<Gva>,
    /// How to show it [default: tree]
    #[arg(long = "as", value_name = "FORM")]
    form: Option<Form>,
    /// The same as --as json
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Tables below tables
    Tree,
    /// Ranges of addresses
    Ranges,
    /// Everything, for programs
    Json,
}

impl TableArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        if let (Some(_), Some(Form::Tree | Form::Ranges)) = (&self.diff, self.form) {
            return Err(Failure::usage(anyhow!(
                "--diff lists changes: it has no form but text (without --as) and --as json"
            )));
        }
        let trace = self.source.open_tables()?;
        let vm = self.source.one_vm(&trace)?;
        let json = self.json || self.form == Some(Form::Json);
        let warning = verdict::cut(&trace).filter(|_| !json);
        let mut text = warning
            .map(|line| output::lines(&[line]))
            .unwrap_or_default();
        if let Some([from, to]) = self.diff.as_deref() {
            let ([before, after], between) = compare(&trace, vm, [from.clone(), to.clone()])?;
            if json {
                output::print_json(&table::changes_json(&before, &after, &between))?;
                return Ok(ExitCode::SUCCESS);
            }
            text.push_str(&table::changes_text(&before, &after, &between));
            output::print(&fit(&text))?;
            return Ok(ExitCode::SUCCESS);
        }
        let moment = match (self.fault, &self.phase, self.seq) {
            (Some(index), ..) => Moment::Fault(index),
            (_, Some(name), _) => Moment::Phase(name.clone()),
            (.., Some(seq)) => Moment::Seq(seq),
            _ => self.at.clone(),
        };
        for snapshot in take(&trace, vm, &[moment])? {
            let roots = snapshot.roots(self.root)?;
            if json {
                match self.gva {
                    Some(gva) => output::print_json(&translations(&snapshot, &roots, gva))?,
                    None => output::print_long_json(&table::json(&snapshot, &roots))?,
                }
                return Ok(ExitCode::SUCCESS);
            }
            text.push_str(&match (self.gva, self.form) {
                (Some(gva), _) => table::translation(&snapshot, &roots, gva),
                (None, Some(Form::Ranges)) => table::ranges(&snapshot, &roots),
                (None, _) => table::tree(&snapshot, &roots),
            });
        }
        output::print(&fit(&text))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The way of an address through each of `roots`.
fn translations(snapshot: &Snapshot, roots: &[Hpa], gva: Gva) -> serde_json::Value {
    let walks: Vec<_> = roots
        .iter()
        .map(|root| {
            let walk = snapshot.vm.walk(*root, gva);
            serde_json::json!({
                "root": root, "walk": walk.steps,
                "pfn": walk.mapping.map(|mapping| mapping.pfn),
                "gfn": table::gfn(snapshot, &walk),
            })
        })
        .collect();
    serde_json::json!({"gva": gva, "seq": snapshot.seq, "roots": walks})
}

fn progress(trace: &Trace) -> Progress {
    Progress::new(trace.segments().iter().map(|segment| segment.rows).sum())
}

/// The tables at some moments.
pub(super) fn take(trace: &Trace, vm: VmId, moments: &[Moment]) -> Result<Vec<Snapshot>, Failure> {
    let mut progress = progress(trace);
    table::snapshots(trace, vm, moments, &mut |done| progress.at(done)).map_err(failure)
}

fn compare(
    trace: &Trace,
    vm: VmId,
    moments: [Moment; 2],
) -> Result<([Snapshot; 2], Between), Failure> {
    let mut progress = progress(trace);
    table::difference(trace, vm, moments, &mut |done| progress.at(done)).map_err(failure)
}

/// Each kind of failure has its own exit code.
fn failure(error: SnapshotError) -> Failure {
    match error {
        SnapshotError::Moment(error) => error.into(),
        SnapshotError::Trace(error) => error.into(),
    }
}
