//! How a command ends badly: the exit code, what happened, and what to do.

use std::{fmt::Display, process::ExitCode};

use trace::TraceError;

use crate::{explain::ExplainError, study::StudyError, table::TableError};

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The work failed.
    Failed = 1,
    /// The command line asks for something that there is not.
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
    /// The command line asks for something that there is not.
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
        let _ = writeln!(
            stderr,
            "error: {}",
            crate::text::plain(&format!("{:#}", self.error))
        );
        if let Some(hint) = self.hint {
            let _ = writeln!(stderr, "hint: {hint}");
        }
        ExitCode::from(self.code as u8)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let code = code(&error);
        let hint = hint(&error).map(str::to_owned);
        Self { code, error, hint }
    }
}

fn code(error: &anyhow::Error) -> Code {
    if let Some(StudyError::NoVm { .. } | StudyError::SeveralVms { .. }) = error.downcast_ref() {
        return Code::Usage;
    }
    if error.is::<TableError>() || matches!(error.downcast_ref(), Some(ExplainError::NoSuch { .. }))
    {
        return Code::Usage;
    }
    Code::Failed
}

fn hint(error: &anyhow::Error) -> Option<&'static str> {
    match error.downcast_ref() {
        Some(StudyError::SeveralVms { .. }) => return Some("choose one with --vm N"),
        Some(StudyError::NoVm { .. }) => return Some("leave --vm out to see all of them"),
        _ => {}
    }
    match error.downcast_ref() {
        Some(TraceError::Damaged { .. }) => {
            Some("`analyzer summary` shows what is readable before the damage")
        }
        Some(TraceError::NotATrace { .. }) => Some("record one with `collector run WORKLOAD`"),
        _ => None,
    }
}
