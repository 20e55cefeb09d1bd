//! Which trace, which VM.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::anyhow;
use clap::Args;
use events::VmId;
use trace::Trace;

use super::{Failure, collector, progress::Progress};
use crate::{
    study::{Follow, Study, StudyError, Subject, VmStudy, known_vms, vm_numbers},
    text::plain,
};

/// The trace that a command reads.
#[derive(Debug, Args)]
pub struct Source {
    /// Folder that `collector` wrote
    #[arg(value_name = "TRACE")]
    pub trace: PathBuf,
    /// Only this VM, by its number in the trace
    #[arg(long, value_name = "N")]
    pub vm: Option<u16>,
}

/// Opens a trace.
pub fn open(path: &Path) -> Result<Trace, Failure> {
    if path.exists() {
        return Ok(Trace::open(path)?);
    }
    let error = anyhow!("there is no trace {}", path.display());
    Err(Failure::usage(error).hint(near(path)))
}

/// Names that are as close as this are offered for a mistyped one.
const NEAR: f64 = 0.6;
/// Names offered at most.
const OFFERED: usize = 5;

/// Which traces are in the folder where `path` was looked for, those of similar names first.
fn near(path: &Path) -> String {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    let Ok(entries) = fs::read_dir(folder) else {
        return format!("there is no folder {}", folder.display());
    };
    let traces = entries
        .flatten()
        .filter(|entry| entry.path().join("meta.json").is_file());
    let mut names: Vec<_> = traces
        .map(|entry| {
            let name = entry.file_name();
            (strsim::jaro_winkler(&wanted, &name.to_string_lossy()), name)
        })
        .collect();
    names.sort_by(|(near, name), (other, than)| other.total_cmp(near).then(name.cmp(than)));
    if names.is_empty() {
        return format!(
            "{} has no traces; record one with `{} run WORKLOAD`",
            folder.display(),
            collector()
        );
    }
    let list = |names: &[(f64, OsString)]| {
        let path = |(_, name): &(f64, OsString)| match path.parent() {
            Some(folder) => folder.join(name),
            None => PathBuf::from(name),
        };
        let names = names.iter().take(OFFERED).map(path);
        let names: Vec<_> = names
            .map(|path| plain(&path.display().to_string()))
            .collect();
        names.join(", ")
    };
    match names.iter().filter(|(near, _)| *near >= NEAR).count() {
        0 => format!("traces there: {}", list(&names)),
        similar => format!(
            "did you mean {}?",
            list(names.get(..similar).unwrap_or_default())
        ),
    }
}

/// Fails if the trace has no shadow tables: one that was imported has only faults and entries.
pub fn check_tables(trace: &Trace) -> Result<(), Failure> {
    if trace.meta().imported.is_none() {
        return Ok(());
    }
    let error = anyhow!(
        "{} was imported from the kernel's trace text, which does not show the shadow tables",
        trace.path().display()
    );
    let hint = "summary, top, faults, changes, timeline and export read such a trace; `collector` \
                records one with tables";
    Err(Failure::usage(error).hint(hint))
}

/// Fails if the trace has no such VM.
fn check_vm(trace: &Trace, asked: u16) -> Result<VmId, Failure> {
    if vm_numbers(trace).contains(&asked) {
        return Ok(VmId(asked));
    }
    let known = known_vms(trace)?;
    if known.iter().any(|known| known.vm == asked) {
        return Ok(VmId(asked));
    }
    Err(StudyError::NoVm { asked, known })?
}

/// Reads a whole trace, with progress; all its VMs, or the one asked for.
pub fn study(trace: &Trace, vm: Option<u16>) -> Result<Study, Failure> {
    follow(trace, vm, VmStudy::new)
}

/// The same, for any analysis.
pub fn follow<F: Follow>(
    trace: &Trace,
    vm: Option<u16>,
    make: impl Fn(&Subject<'_>) -> F,
) -> Result<Study<F>, Failure> {
    let vm = vm.map(|vm| check_vm(trace, vm)).transpose()?;
    let mut progress = Progress::new(trace.segments().iter().map(|segment| segment.rows).sum());
    Ok(Study::with(trace, vm, make, &mut |done| progress.at(done))?)
}

/// How a command that read a whole trace ends: what it printed of a damaged one is true only up to
/// the damage, so it failed.
pub fn ended<F>(study: &Study<F>) -> Result<ExitCode, Failure> {
    match &study.damage {
        None => Ok(ExitCode::SUCCESS),
        Some(damage) => Err(anyhow!("{damage}"))?,
    }
}

impl Source {
    /// Opens the trace.
    pub fn open(&self) -> Result<Trace, Failure> {
        open(&self.trace)
    }

    /// Opens a trace from which the shadow tables can be replayed.
    pub fn open_tables(&self) -> Result<Trace, Failure> {
        let trace = self.open()?;
        check_tables(&trace)?;
        Ok(trace)
    }

    /// Reads the whole trace.
    pub fn study(&self, trace: &Trace) -> Result<Study, Failure> {
        study(trace, self.vm)
    }

    /// Reads the whole trace with other analyses than those of [`Self::study`].
    pub fn follow<F: Follow>(
        &self,
        trace: &Trace,
        make: impl Fn(&Subject<'_>) -> F,
    ) -> Result<Study<F>, Failure> {
        follow(trace, self.vm, make)
    }

    /// The one VM that a command is about.
    pub fn one_vm(&self, trace: &Trace) -> Result<VmId, Failure> {
        match (self.vm, vm_numbers(trace).as_slice()) {
            (Some(asked), _) => check_vm(trace, asked),
            (None, [only]) => Ok(VmId(*only)),
            (None, _) => Err(StudyError::SeveralVms {
                known: known_vms(trace)?,
            })?,
        }
    }
}
