//! `analyzer lesson`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use events::{Seq, VmId};
use trace::Trace;

use super::{Failure, output, source};
use crate::{
    explain::{self, Selector},
    lesson::{self, Exits, Guest, LessonError},
    study::vm_numbers,
    text::units::bytes,
};

/// Options of `lesson`.
#[derive(Debug, Args)]
pub struct LessonArgs {
    /// Recordings to show side by side [default: those of the guests linear and demand that come
    /// with the program]
    #[arg(value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// The fault to show, by its record's number [default: the first shadow fault whose leaf entry
    /// a record shows the guest's store to]
    #[arg(long, value_name = "N")]
    seq: Option<u64>,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "lesson.html")]
    output: PathBuf,
}

impl LessonArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let guests = match self.traces.as_slice() {
            [] if self.seq.is_some() => {
                return Err(Failure::usage(anyhow!(
                    "--seq is of a TRACE: none is given"
                )));
            }
            [] => shipped()?,
            traces => traces
                .iter()
                .map(|path| guest(path, self.seq))
                .collect::<Result<_, _>>()?,
        };
        let exits = match self.traces.is_empty() {
            true => Some(Exits::shipped().context("while reading the exits of the guests")?),
            false => None,
        };
        let html = lesson::html(&guests, exits.as_ref())?;
        let file = self.output.display();
        fs::write(&self.output, &html).with_context(|| format!("while writing {file}"))?;
        let size = bytes(html.len() as u64);
        output::print(&format!("{file}: {size}, opens in any browser\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The two guests of the lecture.
fn shipped() -> Result<Vec<Guest>, Failure> {
    let folder = env::temp_dir();
    let what = || format!("while unpacking the recordings into {}", folder.display());
    let unpacked = lesson::unpack(&folder).with_context(what)?;
    let names = lesson::NAMES.iter();
    names
        .map(|name| guest(&unpacked.path(name), None))
        .collect()
}

fn guest(path: &Path, seq: Option<u64>) -> Result<Guest, Failure> {
    let trace = source::open(path)?;
    let vm = one_vm(&trace)?;
    let found = match seq {
        Some(seq) => explain::find(&trace, vm, Selector::Seq(Seq(seq)), &mut |_| {})
            .map_err(LessonError::from),
        None => lesson::choose(&trace, vm),
    };
    let name = path.file_name().unwrap_or(path.as_os_str());
    let found = found.context("while choosing a fault")?;
    let guest = Guest::of(
        &name.to_string_lossy(),
        &trace,
        vm,
        &found,
        Seq(seq.unwrap_or(0)),
    );
    Ok(guest.context("while reading the fault")?)
}

/// The first VM: a class watches one.
fn one_vm(trace: &Trace) -> Result<VmId, Failure> {
    let first = vm_numbers(trace).first().copied();
    let none = || Failure::from(anyhow!("{} names no VM", trace.path().display()));
    first.map(VmId).ok_or_else(none)
}
