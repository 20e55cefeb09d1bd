//! Which trace, which VM.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::anyhow;
use clap::Args;
use events::VmId;
use trace::Trace;

use super::{Failure, progress::Progress};
use crate::study::{Study, StudyError, known_vms, vm_numbers};

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
    Ok(Trace::open(path)?)
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
    let vm = vm.map(|vm| check_vm(trace, vm)).transpose()?;
    let mut progress = Progress::new(trace.segments().iter().map(|segment| segment.rows).sum());
    Ok(Study::of(trace, vm, &mut |done| progress.at(done))?)
}

/// The end of a command that read a whole trace: what it said of a damaged one holds only up to
/// the damage, so it failed.
pub fn ended(study: &Study) -> Result<ExitCode, Failure> {
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

    /// Reads the whole trace.
    pub fn study(&self, trace: &Trace) -> Result<Study, Failure> {
        study(trace, self.vm)
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
