//! A failure: the exit code, what happened, and what to do.

use std::{fmt::Display, path::Path, process::ExitCode};

use trace::TraceError;

use super::{collector, program, word};
use crate::{
    explain::ExplainError,
    fleet,
    study::StudyError,
    sweep::{self, IndexError},
    symbols::SymbolsError,
    table::TableError,
    text::{plain, wrap},
};

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The work failed.
    Failed = 1,
    /// The command line asks for something that does not exist.
    Usage = 2,
}

/// An error on its way to the person who typed the command.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// The command line asks for something that does not exist.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: Code::Usage,
            error: error.into(),
            hint: None,
        }
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Prints to stderr and gives the exit code.
    pub fn report(self) -> ExitCode {
        use std::io::Write as _;
        let mut stderr = std::io::stderr().lock();
        // Nothing is left to do if even this cannot be printed.
        let error = plain(&format!("error: {:#}", self.error));
        let _ = writeln!(stderr, "{}", wrap(&error, "", "  "));
        if let Some(hint) = self.hint {
            // In one line: it may have a command to copy.
            let _ = writeln!(stderr, "hint: {hint}");
        }
        ExitCode::from(self.code as u8)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let code = code(&error);
        let hint = hint(&error);
        Self { code, error, hint }
    }
}

fn code(error: &anyhow::Error) -> Code {
    if let Some(StudyError::NoVm { .. } | StudyError::SeveralVms { .. }) = error.downcast_ref() {
        return Code::Usage;
    }
    if error.is::<SymbolsError>()
        || error.is::<TableError>()
        || matches!(error.downcast_ref(), Some(ExplainError::NoSuch { .. }))
    {
        return Code::Usage;
    }
    Code::Failed
}

fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(error) = error.downcast_ref::<SymbolsError>() {
        return error.hint();
    }
    let hint = match (error.downcast_ref(), error.downcast_ref()) {
        (Some(StudyError::SeveralVms { .. }), _) => "choose one with --vm N",
        (Some(StudyError::NoVm { .. }), _) => "leave --vm out to see all of them",
        (_, Some(TraceError::Damaged { .. })) => {
            let program = program();
            return Some(format!(
                "`{program} summary` shows what is readable before the damage"
            ));
        }
        (_, Some(TraceError::NotATrace { path })) => return Some(instead_of_a_trace(path)),
        _ => match error.downcast_ref() {
            Some(IndexError::NotASweep { folder }) => return Some(instead_of_a_sweep(folder)),
            _ => return None,
        },
    };
    Some(hint.to_owned())
}

/// What to do with a folder that is no trace.
fn instead_of_a_trace(folder: &Path) -> String {
    let name = word(folder);
    let program = program();
    if folder.join(sweep::INDEX).is_file() {
        return format!(
            "it is a sweep: `{program} sweep {name}` reads it, and with -o FILE writes its page; its \
             traces are POINT/RUN.trace in it"
        );
    }
    match fleet::find(folder) {
        Ok(traces) if !traces.is_empty() => {
            format!("traces are in it: `{program} summary {name}` adds them up")
        }
        _ => format!("record one with `{} run WORKLOAD`", collector()),
    }
}

/// What to do with a folder that is no sweep.
fn instead_of_a_sweep(folder: &Path) -> String {
    let name = word(folder);
    match folder.join("meta.json").is_file() {
        true => format!("it is a trace: `{} summary {name}` reads it", program()),
        false => format!("`{} sweep WORKLOAD` records one", collector()),
    }
}
